"""The one permanent failure. Everything else that goes wrong is retried."""

from enum import StrEnum


class Reason(StrEnum):
    """Why a file can never become a scan. The values are stored and shown, so they never change."""

    EMPTY = "empty"
    NOT_AN_IMAGE = "not an image"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    UNSUPPORTED_FORMAT = "unsupported format"
    TOO_LARGE = "over 64 MiB"
    TOO_LARGE_VOLUME = "over 192 MiB"
    TOO_MANY_PIXELS = "over 50 megapixels"
    TOO_MANY_PIXELS_IN_ALL = "over 100 megapixels in all pages"
    TOO_MANY_PAGES = "over 1,000 pages"
    ANIMATED = "animated"
    TOO_SMALL = "under 32 pixels a side"
    BLANK = "blank"
    NO_PICTURE = "a DICOM object without a picture of a patient"
    NOT_MR = "not magnetic resonance"
    OTHER_BODY_PART = "another part of the body"
    LOCALIZER = "localizer"
    PARAMETRIC_MAP = "phase or parametric map"
    BURNT_IN_TEXT = "text burnt into the pixels"


class Note(StrEnum):
    """What a reader should know of a scan that was accepted. Stored and shown, so the values never change."""

    BURNT_IN_TEXT = "text burnt into the pixels"
    MASKED_TEXT = "text burnt into the pixels was painted over"


class RejectedScan(Exception):
    """A file that no retry can turn into a scan: quarantine it, publish scan-rejected, acknowledge."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason
