"""What becomes of an uploaded file: scans with their facts, or a rejection with its reason."""

import base64
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from enum import StrEnum

from shared import scan
from shared.clock import now
from shared.errors import Note, Reason, RejectedScan
from shared.events import ScanAccepted, ScanRejected, ScanUploaded
from shared.imaging.decoding import Decoded, decode_scan, encode_png
from shared.imaging.formats import HEAD_BYTES, VOLUMES, format_of
from shared.imaging.limits import check_bytes
from shared.pseudonyms import pseudonym

__all__ = ["HEAD_BYTES", "BurntInText", "check_readable", "content_md5", "rejection", "validated"]


class BurntInText(StrEnum):
    """What becomes of a file with text burnt into its pixels, which may name a patient."""

    OFF = "off"
    """Nobody looks."""
    FLAG = "flag"
    """Its scans carry a note."""
    MASK = "mask"
    """The text is painted over before anything is stored, and the scans carry a note."""
    QUARANTINE = "quarantine"
    """The file is rejected."""


def check_readable(size: int, read_head: Callable[[], bytes]) -> None:
    """Raise RejectedScan for a file too large to be read: over 64 MiB, and over 192 MiB if it is DICOM or NIfTI.

    Only a file between the two limits is looked into: `read_head` returns its first HEAD_BYTES.
    """
    check_bytes(size, volume=True)
    if size > scan.MAX_BYTES:
        check_bytes(size, volume=_is_volume(read_head()))


def validated(
    upload: ScanUploaded, content: bytes, scans_bucket: str, pseudonym_key: bytes, text: BurntInText
) -> Iterator[tuple[ScanAccepted, bytes]]:
    """Yield each page of a file with the bytes to store of it, once the whole of it has proved good.

    A JPEG or PNG of one plain picture is stored as it is but for its metadata, everything else as PNG. DICOM's study
    and series become pseudonyms under the key. Raises RejectedScan before the first page.
    """
    decoded, notes = _without_text(decode_scan(content), text)
    file_id = scan.file_id(content)
    md5 = content_md5(content)
    study_id, series_id = _membership(upload, decoded, file_id, pseudonym_key)
    number_said = decoded.attributes.accession_number
    accession_id = pseudonym(pseudonym_key, number_said) if number_said else None
    for number in range(len(decoded.pages)):
        stored, extension = _stored(decoded, number)
        event = _accepted(upload, decoded, number, scans_bucket, stored, extension, file_id, md5)
        yield (
            replace(event, study_id=study_id, accession_id=accession_id, series_id=series_id, note=notes[number]),
            stored,
        )


def _without_text(decoded: Decoded, text: BurntInText) -> tuple[Decoded, list[Note | None]]:
    """Return a file with its pages as they may be stored, and the note of each page. Raises RejectedScan."""
    if text is BurntInText.OFF:
        return decoded, [None] * len(decoded.pages)
    from shared.imaging.burnt_in_text import masked, text_lines  # noqa: PLC0415 - OpenCV, which not every caller has

    found = [text_lines(page) for page in decoded.pages]
    if text is BurntInText.QUARANTINE and any(found):
        raise RejectedScan(Reason.BURNT_IN_TEXT)
    if text is BurntInText.MASK and any(found):
        pages = tuple(masked(page, lines) for page, lines in zip(decoded.pages, found, strict=True))
        decoded = replace(decoded, pages=pages, stripped=None)
    note = Note.MASKED_TEXT if text is BurntInText.MASK else Note.BURNT_IN_TEXT
    return decoded, [note if lines else None for lines in found]


def rejection(upload: ScanUploaded, content: bytes | None, reason: Reason) -> ScanRejected:
    """Return the fact that a file can never become a scan; `content` is None for one too large to be read."""
    unread = scan.unread_file_id(upload.bucket, upload.name, upload.generation)
    return ScanRejected(
        file_id=unread if content is None else scan.file_id(content),
        label=upload.label,
        source=upload.source,
        reason=reason,
        generation=upload.generation,
        size=upload.size,
        uploaded_at=upload.uploaded_at,
        rejected_at=now(),
        content_md5=None if content is None else content_md5(content),
    )


def content_md5(content: bytes) -> str:
    """Return the MD5 of a file as Cloud Storage gives it: in base64."""
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


def _membership(upload: ScanUploaded, decoded: Decoded, file_id: str, key: bytes) -> tuple[str | None, str | None]:
    """Return study and series id: of a DICOM file its own; a volume, or a stack of pages, is a series itself."""
    said, placement = decoded.attributes, _placement(upload, decoded)
    study_id = pseudonym(key, said.study_uid) if said.study_uid else None
    if said.series_uid:
        return study_id, pseudonym(key, said.series_uid)
    if placement:
        return study_id, placement.series_id
    return study_id, file_id if len(decoded.pages) > 1 else None


def _placement(upload: ScanUploaded, decoded: Decoded) -> scan.Placement | None:
    """Return where its uploader put a single picture that does not say itself which series it belongs to."""
    is_silent = len(decoded.pages) == 1 and not decoded.attributes.series_uid
    return upload.placement if is_silent else None


def _position_mm(upload: ScanUploaded, decoded: Decoded, number: int) -> float | None:
    """Return where a page lies along the slices' normal."""
    placement = _placement(upload, decoded)
    return placement.position_mm if placement else decoded.attributes.slice_position_mm(number)


def _is_volume(head: bytes) -> bool:
    try:
        return format_of(head) in VOLUMES
    except RejectedScan:
        return False


def _stored(decoded: Decoded, number: int) -> tuple[bytes, str]:
    """Bytes and extension of the object that keeps a page."""
    if decoded.stripped is not None:
        return decoded.stripped, decoded.format.lower()
    return encode_png(decoded.pages[number]), "png"


def _accepted(  # noqa: PLR0913, PLR0917 - what an event says of a page
    upload: ScanUploaded,
    decoded: Decoded,
    number: int,
    bucket: str,
    stored: bytes,
    extension: str,
    file_id: str,
    md5: str,
) -> ScanAccepted:
    pages, said = len(decoded.pages), decoded.attributes
    scan_id = scan.scan_id(file_id, number, pages)
    height, width = decoded.pages[number].shape[:2]
    return ScanAccepted(
        scan_id=scan_id,
        label=upload.label,
        source=upload.source,
        bucket=bucket,
        name=scan.scan_object(upload.label, scan_id, extension),
        content_sha256=scan.file_id(stored),
        format=decoded.format,
        page=number,
        pages=pages,
        width=width,
        height=height,
        size=len(stored),
        uploaded_at=upload.uploaded_at,
        accepted_at=now(),
        content_md5=md5,
        generation=upload.generation,
        slice_position_mm=_position_mm(upload, decoded, number),
        modality=said.modality,
        body_part=said.body_part,
        plane=said.plane,
        sequence=said.sequence,
        contrast=said.contrast,
        manufacturer=said.manufacturer,
        field_strength_t=said.field_strength_t,
        pixel_spacing_mm=said.pixel_spacing_mm,
        slice_thickness_mm=said.slice_thickness_mm,
    )
