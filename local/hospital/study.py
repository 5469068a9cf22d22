"""A study made by the project: the MNI152 head as an axial MR series, with a drawn glioma. No person's."""

import importlib.util
import io
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import nibabel
import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

from local.lesions import Lesion, draw
from shared.results.identity import uid_of

_TEMPLATE = Path("datasets", "data", "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
_DARKENED = 0.7
"""So that the rim of a lesion can be brighter than white matter."""
_SPACING_MM = 3
_LOWEST, _HIGHEST = 20, 150
"""Slices from the cerebellum to the vertex."""
LESION = Lesion(centre=(132, 120, 98), radius=17)


def head() -> np.ndarray:
    """Return the template's head, uint8 (197, 233, 189): right to left, back to front, foot to head, 1 mm voxels."""
    spec = importlib.util.find_spec("nilearn")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("nilearn ships the template; `make hospital` installs it.")
    file = Path(spec.submodule_search_locations[0]) / _TEMPLATE
    volume = np.asanyarray(nibabel.Nifti1Image.from_filename(file).dataobj)
    return np.asarray((volume * _DARKENED).astype(np.uint8))


def with_lesion() -> np.ndarray:
    """Return the head with the lesion of the sample study."""
    return draw(head(), LESION)


def series(volume: np.ndarray, name: str, at: datetime) -> list[bytes]:
    """Return the axial slices of a volume as DICOM files of one series; `name` sets its UIDs, and is the patient's."""
    levels = range(_LOWEST, _HIGHEST, _SPACING_MM)
    return [_file(volume, level, number, name, at) for number, level in enumerate(levels, start=1)]


def study_uid(name: str) -> str:
    """Return the Study Instance UID of the series of that name."""
    return uid_of("sample", name, "study")


def _file(volume: np.ndarray, level: int, number: int, name: str, at: datetime) -> bytes:
    # Rows run front to back and columns from the patient's right to left, as radiologists look at a head.
    pixels = np.rot90(volume[:, :, level]).astype("<u2") * 16
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = UID(uid_of("sample", name, str(number)))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    image.SOPClassUID, image.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    _describe(image, name, at)
    _place(image, volume.shape, level, number)
    image.Rows, image.Columns = pixels.shape
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PixelRepresentation = 1, "MONOCHROME2", 0
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
    image.WindowCenter, image.WindowWidth = 1600, 3200
    image.PixelData = pixels.tobytes()
    buffer = io.BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _describe(image: FileDataset, name: str, at: datetime) -> None:
    day, time = at.strftime("%Y%m%d"), at.strftime("%H%M%S")
    image.PatientName, image.PatientID = f"Sample^{name}", f"SAMPLE-{name}"
    image.PatientBirthDate, image.PatientSex = "19700101", "O"
    image.StudyInstanceUID, image.SeriesInstanceUID = study_uid(name), uid_of("sample", name, "series")
    image.FrameOfReferenceUID = uid_of("sample", name, "frame of reference")
    image.StudyDate = image.SeriesDate = image.AcquisitionDate = image.ContentDate = day
    image.StudyTime = image.SeriesTime = image.AcquisitionTime = image.ContentTime = time
    image.StudyID, image.AccessionNumber, image.ReferringPhysicianName = "1", f"ACC-{name}"[:16], ""
    image.StudyDescription, image.SeriesDescription = "Brain MRI (drawn, no person)", "T1 with contrast, axial"
    image.Modality, image.Manufacturer, image.BodyPartExamined = "MR", "None (sample)", "BRAIN"
    image.SeriesNumber, image.PatientPosition = 1, "HFS"
    image.ScanningSequence, image.SequenceVariant, image.ScanOptions = "SE", "NONE", ""
    image.MRAcquisitionType, image.RepetitionTime, image.EchoTime, image.EchoTrainLength = "2D", 500, 10, 1
    image.ContrastBolusAgent, image.MagneticFieldStrength = "drawn", 1.5
    image.ImageType = ["DERIVED", "SECONDARY", "OTHER"]


def _place(image: FileDataset, shape: Sequence[int], level: int, number: int) -> None:
    width, depth = shape[0], shape[1]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.ImagePositionPatient = [-width / 2, -depth / 2, level - 72]
    image.PixelSpacing, image.SliceThickness, image.SpacingBetweenSlices = [1, 1], _SPACING_MM, _SPACING_MM
    image.InstanceNumber, image.PositionReferenceIndicator = number, ""
