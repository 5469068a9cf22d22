"""Small drawn pictures, and files of them, for tests of the readers."""

import io

import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, JPEGBaseline8Bit, MRImageStorage, generate_uid

HEIGHT, WIDTH = 72, 60
GREY = (np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)) + np.arange(WIDTH) % 7 * 9).astype(np.uint8)
RGB = np.dstack([GREY, 255 - GREY, GREY // 2])
DEEP = GREY.astype(np.uint16) * 13 + 5
PATIENT = "Hypatia^Alexandria"


def saved(pixels, file_format, mode=None, **options):
    """A picture as Pillow writes it."""
    image = Image.fromarray(pixels)
    file = io.BytesIO()
    (image.convert(mode) if mode else image).save(file, file_format, **options)
    return file.getvalue()


def dataset(values, frames=None, syntax=ExplicitVRLittleEndian, **tags):
    """A brain MR image of these values, (h, w), (h, w, 3) or, with `frames`, (frames, h, w)."""
    bits = values.dtype.itemsize * 8
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = MRImageStorage
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    made.PatientName, made.PatientID = PATIENT, PATIENT
    made.Rows, made.Columns = values.shape[1 if frames else 0 :][:2]
    made.SamplesPerPixel = 3 if values.ndim == 3 and not frames else 1
    made.PhotometricInterpretation = "RGB" if made.SamplesPerPixel == 3 else "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = bits
    made.HighBit, made.PixelRepresentation = bits - 1, int(values.dtype.kind == "i")
    if made.SamplesPerPixel == 3:
        made.PlanarConfiguration = 0
    if frames:
        made.NumberOfFrames = frames
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    made.PixelData = values.astype(values.dtype.newbyteorder(order)).tobytes()
    made["PixelData"].VR = "OW"
    for keyword, value in tags.items():
        setattr(made, keyword, value)
    return made


def written(made):
    """The bytes of a DICOM file."""
    file = io.BytesIO()
    made.save_as(file, enforce_file_format=True)
    return file.getvalue()


def dicom(values, *arguments, **tags):
    """A DICOM file of `dataset`."""
    return written(dataset(values, *arguments, **tags))


def compressed(frames, syntax, shape=GREY.shape, **tags):
    """A DICOM file of frames that are compressed already."""
    made = dataset(np.zeros(shape, np.uint8), **tags)
    made.file_meta.TransferSyntaxUID = syntax
    made.PixelData = encapsulate(frames)
    return written(made)


def jpeg_dicom(pixels):
    """A DICOM file of one baseline JPEG frame."""
    return compressed([saved(pixels, "JPEG", quality=95)], JPEGBaseline8Bit)
