"""Errors as RFC 9457 problem details. The types are stable: clients may switch on them."""

import json
from dataclasses import dataclass
from http import HTTPStatus

from services.inference.asgi import Send, respond
from shared.errors import Reason, RejectedScan

MEDIA_TYPE = "application/problem+json"

_REJECTED = {
    Reason.EMPTY: (422, "The file is empty. Export the scan again and send it once more."),
    Reason.NOT_AN_IMAGE: (415, "This is not an image. Send a JPEG, PNG, BMP, TIFF or DICOM file."),
    Reason.TRUNCATED: (422, "The file ends too early. Copy it again and compare its size with the original's."),
    Reason.CORRUPT: (422, "The file is damaged. Export the scan again from where it came from."),
    Reason.UNSUPPORTED_FORMAT: (415, "This kind of image is not read. Send a JPEG, PNG, BMP, TIFF or DICOM file."),
    Reason.TOO_LARGE: (413, "The file is over 64 MiB. Send fewer pages at a time, or a smaller export."),
    Reason.TOO_LARGE_VOLUME: (413, "The file is over 192 MiB. Send a part of the volume, or a compressed one."),
    Reason.TOO_MANY_PIXELS_IN_ALL: (413, "The pages have over 100 million pixels together. Send fewer at a time."),
    Reason.TOO_MANY_PIXELS: (
        413,
        "The image has over 50 million pixels. Send fewer pages at a time, or a smaller one.",
    ),
    Reason.TOO_MANY_PAGES: (413, "The file has over 1,000 pages. Send fewer of them at a time."),
    Reason.ANIMATED: (422, "The image is animated. Send a still one."),
    Reason.TOO_SMALL: (422, "The image is under 32 pixels a side. Send the scan itself, not its thumbnail."),
    Reason.BLANK: (422, "The image is blank. Choose a slice that shows the head."),
    Reason.NO_PICTURE: (422, "This DICOM object holds no picture of a patient. Send the images it was made from."),
    Reason.NOT_MR: (422, "The file says of itself that it is not magnetic resonance. Send a brain MRI."),
    Reason.OTHER_BODY_PART: (422, "The file says of itself that it shows another part of the body. Send a brain MRI."),
    Reason.LOCALIZER: (422, "The file says of itself that it is a localizer. Send the series planned on it."),
    Reason.PARAMETRIC_MAP: (422, "The file says of itself that it is a phase or parametric map. Send the images."),
}


@dataclass(eq=False)
class Problem(Exception):  # noqa: N818 - the RFC's own word
    """An answer other than success."""

    status: int
    slug: str
    """Last part of the problem's type, in words joined by dashes."""
    detail: str
    """A sentence that says what to do."""
    retry_after: int | None = None
    """Seconds."""

    def body(self) -> dict[str, object]:
        """The members of the problem details; `error` says the same to TensorFlow Serving's and Triton's clients."""
        return {
            "type": f"urn:scanflow:problem:{self.slug}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "error": self.detail,
        }

    @property
    def content(self) -> bytes:
        """The problem details as JSON."""
        return json.dumps(self.body()).encode()

    @property
    def headers(self) -> dict[str, str]:
        """What the problem says beside its body."""
        headers = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["www-authenticate"] = "Bearer"
        if self.status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONTENT_TOO_LARGE):
            headers["connection"] = "close"  # what the client may still send is not waited for
        return headers

    async def send(self, send: Send) -> None:
        """The problem as a response."""
        await respond(send, self.status, self.content, MEDIA_TYPE, self.headers)


def rejected(rejection: RejectedScan) -> Problem:
    """The problem of a file that can never become a scan."""
    status, detail = _REJECTED[rejection.reason]
    return Problem(status, rejection.reason.name.lower().replace("_", "-"), detail)


def malformed(detail: str) -> Problem:
    """The problem of a request that is not formed as its route documents."""
    return Problem(400, "malformed-request", detail)


def overloaded(detail: str = "The service is busy. Try again in a second.") -> Problem:
    """The problem of a request that cannot be answered in time."""
    return Problem(503, "overloaded", detail, retry_after=1)
