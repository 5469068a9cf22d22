"""DICOM to pixels. Imported at the first such file only; of all that a file says, nothing but pixels and technical
attributes leaves.
"""

from collections.abc import Callable, Iterator

from pydicom import Dataset

from shared.errors import Reason, RejectedScan
from shared.imaging.dicom_attributes import attributes_of
from shared.imaging.dicom_codecs import Frame, PixelFormat, frame_reader
from shared.imaging.dicom_dataset import ERRORS, Source, open_source
from shared.imaging.dicom_display import shown
from shared.imaging.dicom_mosaic import Mosaic, mosaic_of
from shared.imaging.dicom_values import merged, number, numbers, word
from shared.imaging.geometry import aspect_of, square_pixels, squared_size
from shared.imaging.intensity import Pixels
from shared.imaging.limits import check_pages, check_size, decoder_calls
from shared.imaging.metadata import Attributes

_RLE = "1.2.840.10008.1.2.5"


def read(content: bytes) -> tuple[Attributes, Iterator[Pixels]]:
    """Return what a file says of itself, and its pages as a viewer shows them, decoded one by one as they are taken.

    Both raise RejectedScan.
    """
    source = open_source(content)
    with decoder_calls(*ERRORS):
        form = _pixel_format(source)
        mosaic = mosaic_of(source.dataset, form.rows, form.columns)
    height, width = mosaic.tile if mosaic else (form.rows, form.columns)
    check_size(width, height)
    check_pages(form.frames * (mosaic.slices if mosaic else 1), form.frames * form.rows * form.columns, volume=True)
    with decoder_calls(*ERRORS):
        aspect = _aspect(source.dataset)
        attributes = attributes_of(source, form.frames, mosaic)
    check_size(*squared_size(width, height, aspect))
    return attributes, _pages(source, form, mosaic, aspect)


def _pages(source: Source, form: PixelFormat, mosaic: Mosaic | None, aspect: float) -> Iterator[Pixels]:
    with decoder_calls(*ERRORS):
        read_frame = frame_reader(source, form)
    for index in range(form.frames):
        with decoder_calls(*ERRORS):
            page = _shown(read_frame, source.dataset, form, index)
            parts = mosaic.split(page) if mosaic else [page]
            pages = [square_pixels(part, aspect) for part in parts]
        yield from pages


def _shown(read_frame: Callable[[int], Frame], dataset: Dataset, form: PixelFormat, index: int) -> Pixels:
    return shown(read_frame(index), dataset, form, index)


def _pixel_format(source: Source) -> PixelFormat:
    """The Image Pixel module, the obvious for what is missing or cannot be (PS3.3, C.7.6.3). Raises RejectedScan."""
    dataset = source.dataset
    rows, columns = (int(number(dataset, keyword, 0)) for keyword in ("Rows", "Columns"))
    frames = max(int(number(dataset, "NumberOfFrames", 1)), 1)
    samples = int(number(dataset, "SamplesPerPixel", 1))
    if not rows or not columns or samples not in (1, 3):
        raise RejectedScan(Reason.CORRUPT if rows and columns else Reason.NOT_AN_IMAGE)
    photometric = word(dataset, "PhotometricInterpretation") or ("MONOCHROME2" if samples == 1 else "RGB")
    allocated = int(number(dataset, "BitsAllocated", _bits_of(source, rows * columns * frames * samples)))
    stored = int(number(dataset, "BitsStored", allocated))
    stored = stored if 0 < stored <= allocated else allocated
    high_bit = int(number(dataset, "HighBit", stored - 1))
    return PixelFormat(
        rows=rows,
        columns=columns,
        frames=frames,
        samples=samples,
        allocated=allocated,
        stored=stored,
        high_bit=high_bit if stored - 1 <= high_bit < allocated else stored - 1,
        signed=number(dataset, "PixelRepresentation", 0) == 1,
        photometric=photometric,
        planar=number(dataset, "PlanarConfiguration", 0) == 1,
    )


def _bits_of(source: Source, values: int) -> int:
    """Bits allocated by the number of bytes, for a data set that does not say it."""
    return 8 if not source.encapsulated and len(source.pixels) < 2 * values else 16


def _aspect(dataset: Dataset) -> float:
    """Height by width of a pixel, by the first of the elements that say it (PS3.3, 10.7.1.1 and C.7.6.3.1.7)."""
    first = merged(dataset, 0, "PixelMeasuresSequence")
    pairs = [numbers(first, keyword)[:2] for keyword in ("PixelSpacing", "PixelAspectRatio")]
    return next((aspect_of(*pair) for pair in pairs if len(pair) == 2 and None not in pair), 1.0)
