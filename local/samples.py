"""Sample scans made from the MNI152 template that nilearn ships: healthy slices, drawn lesions, and bad files."""

import importlib.util
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from local.lesions import Lesion, draw
from shared.errors import Reason
from shared.labels import Label

_TEMPLATE = Path("datasets", "data", "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
_LEVELS = range(70, 120, 2)
"""Axial slices through the ventricles and above, in millimetres from the template's lowest."""
_THICKNESS = 3
"""Voxels in depth that a single slice is drawn as, so that the noise in a lesion is smooth."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A file to upload, and what must become of it."""

    kind: str
    label: Label
    content: bytes
    expected: int | Reason
    """Number of scans it becomes, or why it is rejected."""

    @property
    def object_name(self) -> str:
        """Its name in the uploads bucket."""
        return f"{self.label}/{self.kind.replace(' ', '-')}"


def samples() -> list[Sample]:
    """Return a dozen files that show every way through the pipeline."""
    healthy = healthy_slices()
    duplicate = encode(healthy[0], "JPEG")
    return [
        Sample("JPEG", Label.NON_CANCER, duplicate, 1),
        Sample("exact duplicate", Label.NON_CANCER, duplicate, 1),
        Sample("PNG", Label.NON_CANCER, encode(healthy[4], "PNG"), 1),
        Sample("16-bit TIFF", Label.NON_CANCER, sixteen_bit_tiff(healthy[8]), 1),
        Sample("DICOM", Label.NON_CANCER, dicom(healthy[12]), 1),
        Sample("BMP", Label.UNLABELLED, encode(healthy[16], "BMP"), 1),
        Sample("JPEG with a drawn lesion", Label.CANCER, encode(_with_lesion(0), "JPEG"), 1),
        Sample("PNG with a drawn lesion", Label.CANCER, encode(_with_lesion(6), "PNG"), 1),
        Sample(
            "multi-page TIFF with drawn lesions",
            Label.CANCER,
            multi_page_tiff([_with_lesion(place) for place in (9, 10, 11)]),
            3,
        ),
        Sample("corrupt TIFF", Label.CANCER, sixteen_bit_tiff(_with_lesion(3))[:-9000], Reason.TRUNCATED),
        Sample(
            "text named as JPEG", Label.UNLABELLED, b"Dear colleague, please see the scan.\n" * 9, Reason.NOT_AN_IMAGE
        ),
        Sample("empty file", Label.UNLABELLED, b"", Reason.EMPTY),
    ]


def healthy_slices() -> list[np.ndarray]:
    """Return axial slices of the template, uint8 (233, 197)."""
    return [_slice(level) for level in _LEVELS]


def _slice(level: int) -> np.ndarray:
    return np.rot90(_template()[:, :, level]).copy()


@cache
def _template() -> np.ndarray:
    package = importlib.util.find_spec("nilearn")  # not imported: that takes seconds
    assert package and package.submodule_search_locations  # noqa: S101 - it is among the requirements
    template = nibabel.load(Path(package.submodule_search_locations[0]) / _TEMPLATE)
    volume: np.ndarray = np.asanyarray(template.dataobj)  # type: ignore[attr-defined] # of a NIfTI image
    return volume


def lesion_slices() -> list[np.ndarray]:
    """Return the same slices, each with a drawn lesion of its own."""
    return [_with_lesion(place) for place in range(len(_LEVELS))]


@cache
def _with_lesion(place: int) -> np.ndarray:
    return draw_lesion(_slice(_LEVELS[place]), np.random.default_rng(place))


def draw_lesion(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a copy of a slice with a lesion of random place, size and shape inside the brain."""
    centre = rng.uniform(0.38, 0.58) * pixels.shape[0], rng.choice([0.34, 0.66]) * pixels.shape[1], _THICKNESS // 2
    lesion = Lesion(centre=centre, radius=rng.uniform(14, 20), seed=int(rng.integers(1 << 32)))
    return draw(np.repeat(pixels[..., None], _THICKNESS, axis=2), lesion)[..., _THICKNESS // 2]


def encode(pixels: np.ndarray, file_format: str) -> bytes:
    """Return the slice as a file that Pillow can write."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format)
    return buffer.getvalue()


def sixteen_bit_tiff(pixels: np.ndarray) -> bytes:
    """Return the slice as a 12-bit scanner would write it: 16-bit greys up to 4,080."""
    return encode(pixels.astype(np.uint16) * 16, "TIFF")


def multi_page_tiff(pages: Sequence[np.ndarray]) -> bytes:
    """Return several slices in one file."""
    first, *others = [Image.fromarray(page) for page in pages]
    buffer = io.BytesIO()
    first.save(buffer, "TIFF", save_all=True, append_images=others, compression="tiff_lzw")
    return buffer.getvalue()


def dicom(pixels: np.ndarray, patient: str = "Sample^Person") -> bytes:
    """Return the slice as a 12-bit MR image with a window, under a patient's name that must go nowhere."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[pixels.tobytes().hex()])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset(io.BytesIO(), {}, file_meta=meta, preamble=bytes(128))
    image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    image.PatientName, image.PatientID, image.Modality = patient, "4711", "MR"
    image.Rows, image.Columns = pixels.shape
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PixelRepresentation = 1, "MONOCHROME2", 0
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
    image.WindowCenter, image.WindowWidth = 2040, 4080
    image.PixelData = (pixels.astype("<u2") * 16).tobytes()
    buffer = io.BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
