"""Files that hold a patient's name in every place where their format can hold one."""

import gzip
import io
import struct
import zipfile
import zlib

import nibabel
import numpy as np
import tifffile
from PIL import Image
from pydicom import Dataset, Sequence
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

NAME = "Hypatia"
_NAME = NAME.encode()
_PIXELS = (np.add.outer(np.arange(72), np.arange(60)) + np.arange(60) % 7 * 9).astype(np.uint8)


def _saved(file_format: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(_PIXELS).save(file, file_format)
    return file.getvalue()


def _segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _exif() -> bytes:
    block = Image.Exif()
    block[0x010E] = block[0x013B] = block[0x8298] = NAME
    return block.tobytes()


def jpeg() -> bytes:
    """A JPEG with EXIF, XMP, IPTC, ICC, comment, every other application segment, and bytes behind its end."""
    xmp = b"http://ns.adobe.com/xap/1.0\0<x:xmpmeta>" + _NAME + b"</x:xmpmeta>"
    iptc = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", 12) + b"\x1c\x02\x78\0\x07" + _NAME
    icc = b"ICC_PROFILE\0\x01\x01" + b"\0" * 128 + b"desc" + _NAME
    segments = [_segment(0xFE, _NAME), _segment(0xE1, _exif()), _segment(0xE1, xmp), _segment(0xED, iptc)]
    segments += [_segment(0xE2, icc), *(_segment(0xE0 + number, _NAME) for number in range(16))]
    plain = _saved("JPEG")
    return plain[:20] + b"".join(segments) + plain[20:] + _NAME


def png() -> bytes:
    """A PNG with text of every kind, EXIF, a profile's name, a private chunk, and bytes behind its end."""
    chunks = [_chunk(b"tEXt", b"Author\0" + _NAME), _chunk(b"zTXt", b"Author\0\0" + zlib.compress(_NAME))]
    chunks += [_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + _NAME), _chunk(b"eXIf", _exif()[6:])]
    chunks += [_chunk(b"iCCP", _NAME + b"\0\0" + zlib.compress(b"profile")), _chunk(b"naMe", _NAME)]
    plain = _saved("PNG")
    return plain[:33] + b"".join(chunks) + plain[33:] + _NAME


def bmp() -> bytes:
    """A BMP with bytes between its palette and its pixels, and behind them."""
    plain = _saved("BMP")
    (start,) = struct.unpack_from("<I", plain, 10)
    return plain[:10] + struct.pack("<I", start + len(_NAME)) + plain[14:start] + _NAME + plain[start:] + _NAME


def tiff() -> bytes:
    """A TIFF with description, artist, document and page name, host, XMP, IPTC, ICC and a private tag."""
    texts = [(tag, "s", 0, NAME, True) for tag in (269, 285, 315, 316, 33432, 65000)]
    blocks = [(tag, "B", len(_NAME), _NAME, True) for tag in (700, 33723, 34675)]
    file = io.BytesIO()
    tifffile.imwrite(file, _PIXELS, description=NAME, software=NAME, extratags=texts + blocks)
    return file.getvalue() + _NAME


def dicom() -> bytes:
    """A DICOM file with the name in standard elements, in a sequence, in private tags, before and behind the rest."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = MRImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = "1.2.3"
    made.file_meta.SourceApplicationEntityTitle = NAME
    texts = (
        "PatientName",
        "PatientID",
        "OtherPatientIDs",
        "InstitutionName",
        "ReferringPhysicianName",
        "OperatorsName",
    )
    texts += (
        "StudyDescription",
        "SeriesDescription",
        "ProtocolName",
        "PatientComments",
        "ImageComments",
        "StationName",
    )
    texts += ("AccessionNumber", "Manufacturer", "ContrastBolusAgent", "DeviceSerialNumber", "PatientAddress")
    for keyword in texts:
        setattr(made, keyword, NAME)
    made.BodyPartExamined, made.Modality = NAME.upper(), "MR"
    made.ImageType = ["ORIGINAL", "PRIMARY", NAME.upper()]
    person = Dataset()
    person.PersonName = person.CodeMeaning = NAME
    made.PhysiciansOfRecordIdentificationSequence = made.AnatomicRegionSequence = Sequence([person])
    block = made.private_block(0x0019, NAME, create=True)
    block.add_new(0x01, "LO", NAME)
    block.add_new(0x02, "UN", _NAME)
    made.Rows, made.Columns = _PIXELS.shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation = 7, 0
    made.PixelData = _PIXELS.tobytes()
    made["PixelData"].VR = "OB"
    made.DataSetTrailingPadding = _NAME
    file = io.BytesIO()
    made.save_as(file, enforce_file_format=True)
    return _NAME.ljust(128, b"\0") + file.getvalue()[128:]  # the preamble is anybody's, too


def nifti() -> bytes:
    """A compressed NIfTI volume with the name in its header, in an extension and as the compressed file's own name."""
    volume = nibabel.Nifti1Image(np.dstack([_PIXELS] * 3), np.diag([1.0, 1.0, 5.0, 1.0]))
    for field in ("descrip", "aux_file", "intent_name", "db_name"):
        volume.header[field] = _NAME
    volume.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", _NAME))
    file = io.BytesIO()
    with gzip.GzipFile(f"{NAME}.nii", "wb", fileobj=file) as packed:
        packed.write(volume.to_bytes())
    return file.getvalue()


def archive() -> bytes:
    """A ZIP archive of a file of that name, which is no image."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr(f"{NAME}.jpg", jpeg())
        packed.comment = _NAME
    return file.getvalue()


NAMED = {made.__name__: made() for made in (jpeg, png, bmp, tiff, dicom, nifti, archive)}
"""Each file by its kind, and every kind damaged too."""
NAMED |= {f"{kind}, cut": content[: len(content) * 2 // 3] for kind, content in NAMED.items()}
NAMED |= {"a name alone": _NAME * 99}
