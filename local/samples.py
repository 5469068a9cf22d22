"""Sample scans made from the MNI152 template that nilearn ships: healthy slices, drawn lesions, and bad files."""

import importlib.util
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from shared.errors import Reason
from shared.labels import Label

_TEMPLATE = Path("datasets", "data", "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
_LEVELS = range(70, 120, 2)
"""Axial slices through the ventricles and above, in millimetres from the template's lowest."""


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
    healthy, ill = healthy_slices(), lesion_slices()
    duplicate = encode(healthy[0], "JPEG")
    return [
        Sample("JPEG", Label.NON_CANCER, duplicate, 1),
        Sample("exact duplicate", Label.NON_CANCER, duplicate, 1),
        Sample("PNG", Label.NON_CANCER, encode(healthy[4], "PNG"), 1),
        Sample("16-bit TIFF", Label.NON_CANCER, sixteen_bit_tiff(healthy[8]), 1),
        Sample("DICOM", Label.NON_CANCER, dicom(healthy[12]), 1),
        Sample("BMP", Label.UNLABELLED, encode(healthy[16], "BMP"), 1),
        Sample("JPEG with a drawn lesion", Label.CANCER, encode(ill[0], "JPEG"), 1),
        Sample("PNG with a drawn lesion", Label.CANCER, encode(ill[6], "PNG"), 1),
        Sample("multi-page TIFF with drawn lesions", Label.CANCER, multi_page_tiff(ill[9:12]), 3),
        Sample("corrupt TIFF", Label.CANCER, sixteen_bit_tiff(ill[3])[:-9000], Reason.TRUNCATED),
        Sample(
            "text named as JPEG", Label.UNLABELLED, b"Dear colleague, please see the scan.\n" * 9, Reason.NOT_AN_IMAGE
        ),
        Sample("empty file", Label.UNLABELLED, b"", Reason.EMPTY),
    ]


def healthy_slices() -> list[np.ndarray]:
    """Return axial slices of the template, uint8 (233, 197)."""
    package = importlib.util.find_spec("nilearn")  # not imported: that takes seconds
    assert package and package.submodule_search_locations  # noqa: S101 - it is among the requirements
    template = nibabel.load(Path(package.submodule_search_locations[0]) / _TEMPLATE)
    volume = np.asanyarray(template.dataobj)  # type: ignore[attr-defined] # of a NIfTI image
    return [np.rot90(volume[:, :, level]).copy() for level in _LEVELS]


def lesion_slices(seed: int = 7) -> list[np.ndarray]:
    """Return the same slices, each with one drawn lesion: a bright rim round a darker core in a pale swelling."""
    rng = np.random.default_rng(seed)
    return [draw_lesion(pixels, rng) for pixels in healthy_slices()]


def draw_lesion(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a copy of a slice with a lesion of random place and size inside the brain."""
    rows, columns = np.indices(pixels.shape)
    row, column = rng.uniform(0.35, 0.6) * pixels.shape[0], rng.choice([0.33, 0.67]) * pixels.shape[1]
    tall, wide = rng.uniform(13, 20, size=2)
    distance = np.hypot((rows - row) / tall, (columns - column) / wide)
    lesion = 235 * np.exp(-(((distance - 0.8) / 0.2) ** 2)) + 120 * np.exp(-((distance / 0.6) ** 2))
    swelling = 35 * np.exp(-((distance / 1.8) ** 4))
    weight = np.clip(1.6 - distance, 0, 1)
    inside = pixels > 20
    drawn = pixels * (1 - 0.75 * weight) + lesion * inside + swelling * inside
    drawn_over: np.ndarray = np.clip(drawn, 0, 255).astype(np.uint8)
    return drawn_over


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
