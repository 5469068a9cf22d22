"""Received instances, kept in the uploads bucket before anybody is told that they arrived."""

import hashlib
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_file_meta_info
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from shared import config
from shared.gcp import storage
from shared.labels import Label
from shared.pseudonyms import pseudonym
from shared.results.identity import MANUFACTURER, uid_of

SOURCE = "gateway"
"""Of everything received here, by which an answer is known to belong to a study of the hospital's."""
_READ = ["Manufacturer", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "Modality"]
_READ_TAGS: list[BaseTag | int] = [Tag(keyword) for keyword in _READ]
_PIXELS = 0x7FE00008
"""The first of the elements that hold pixels."""
_UNREADABLE = (
    ArithmeticError,
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What pydicom raises for bytes that are no DICOM file."""
_WITHIN_S = 20
"""Senders wait 30 seconds for an answer, as a rule: then they are better told to send again."""
_IMPLEMENTATION = uid_of("implementation")


class Unidentified(Exception):
    """An object does not say which study, series and instance it is, so it cannot be kept."""


class Outcome(Enum):
    """What became of a received object."""

    STORED = auto()
    KNOWN = auto()
    """The same instance was stored before."""
    RETURNED = auto()
    """A result of ours that the PACS sent back: not scanned, so not stored."""


@dataclass(frozen=True, slots=True)
class Instance:
    """A received object and what it says of itself."""

    header: Dataset
    dataset: bytes
    """Encoded, without preamble and file meta information."""
    transfer_syntax: str

    @classmethod
    def of_file(cls, content: bytes) -> "Instance":
        """Parse a DICOM file. Raises Unidentified."""
        header = header_of(content)
        try:
            start = 144 + header.file_meta.FileMetaInformationGroupLength
            return cls(header, content[start:], str(header.file_meta.TransferSyntaxUID))
        except AttributeError:
            raise Unidentified("Send DICOM files with their file meta information.") from None

    @classmethod
    def of_dataset(cls, content: bytes, transfer_syntax: str) -> "Instance":
        """Parse a data set as C-STORE carries it, without file meta information. Raises Unidentified."""
        return cls(_header_of_dataset(content, UID(transfer_syntax)), content, transfer_syntax)

    def file(self) -> bytes:
        """Return a DICOM file with file meta information of our own.

        Senders write theirs differently each time; this way the same instance always has the same bytes.
        """
        meta = FileMetaDataset()
        meta.FileMetaInformationVersion = b"\x00\x01"
        meta.MediaStorageSOPClassUID = UID(self.header.SOPClassUID)
        meta.MediaStorageSOPInstanceUID = UID(self.header.SOPInstanceUID)
        meta.TransferSyntaxUID = UID(self.transfer_syntax)
        meta.ImplementationClassUID = UID(_IMPLEMENTATION)
        buffer = DicomBytesIO(bytes(128) + b"DICM")
        buffer.seek(132)
        write_file_meta_info(buffer, meta, enforce_standard=True)
        return buffer.getvalue() + self.dataset


def header_of(content: bytes) -> Dataset:
    """Return what a DICOM file says of itself, no more than its UIDs and maker. Raises Unidentified."""
    try:
        return dcmread(io.BytesIO(content), stop_before_pixels=True, specific_tags=_READ)
    except _UNREADABLE:
        raise Unidentified("Send DICOM files: preamble, file meta information and data set.") from None


def _header_of_dataset(content: bytes, syntax: UID) -> Dataset:
    try:
        plain = zlib.decompress(content, -zlib.MAX_WBITS) if syntax.is_deflated else content
        return read_dataset(
            io.BytesIO(plain),
            syntax.is_implicit_VR,
            syntax.is_little_endian,
            stop_when=lambda tag, _, __: tag >= _PIXELS,
            specific_tags=_READ_TAGS,
        )
    except _UNREADABLE:
        raise Unidentified("The data set cannot be read.") from None


def keep(instance: Instance) -> Outcome:
    """Store an instance, unless it is there; returns once it is durable. Raises Unidentified or StorageError."""
    header = instance.header
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        if not header.get(keyword):
            raise Unidentified(f"The object has no {keyword}.")
    if header.get("Manufacturer") == MANUFACTURER:
        return Outcome.RETURNED
    content = instance.file()
    name = series_folder(header.StudyInstanceUID, header.SeriesInstanceUID) + _file(hashlib.sha256(content).hexdigest())
    stored = storage.create(
        config.uploads_bucket(), name, content, "application/dicom", {"source": SOURCE}, within_s=_WITHIN_S
    )
    return Outcome.STORED if stored else Outcome.KNOWN


def received(series_id: str | None, study_id: str | None, file_id: str) -> bytes:
    """Return the file of a slice that was received here, by the pseudonyms of its series. Raises StorageError."""
    return storage.read(config.uploads_bucket(), f"{Label.UNLABELLED}/{study_id}/{series_id}/{_file(file_id)}")


def study_folder(study_uid: str) -> str:
    """Return the prefix of a study's objects in the uploads bucket, made of its pseudonym."""
    return f"{Label.UNLABELLED}/{pseudonym(config.pseudonym_key(), study_uid)}/"


def series_folder(study_uid: str, series_uid: str) -> str:
    """Return the prefix of a series' objects in the uploads bucket."""
    return f"{study_folder(study_uid)}{pseudonym(config.pseudonym_key(), series_uid)}/"


def headers(study_uid: str, limit: int) -> Iterator[Dataset]:
    """Yield what the instances of a study say of themselves, `limit` of them at most. Raises StorageError."""
    bucket = config.uploads_bucket()
    for number, blob in enumerate(storage.objects(bucket, study_folder(study_uid))):
        if number == limit:
            return
        yield dcmread(io.BytesIO(storage.read(bucket, blob.name)), stop_before_pixels=True, specific_tags=_READ)


def _file(file_id: str) -> str:
    return f"{file_id}.dcm"
