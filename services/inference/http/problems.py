"""One table from exception to problem (RFC 9457). The types are stable: clients may switch on them."""

from dataclasses import dataclass
from http import HTTPStatus

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from services.inference.http.auth import KeysUnavailable, Unauthorised
from services.inference.http.body_limits import RequestTooLarge, SlowBody
from services.inference.http.payloads import MalformedRequest, UnsupportedMediaType
from services.inference.http.schemas import ProblemDetails
from services.inference.predictor import BucketNotAllowed, NoSuchScan, ScansUnavailable, SeveralPages
from services.inference.served_models import NoSuchVersion, NotReady
from services.inference.worker_pool import Overloaded
from shared.errors import Reason, RejectedScan

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Problem:
    """What an exception is to the caller."""

    status: int
    slug: str
    """Last part of the problem's type, in words joined by dashes."""
    detail: str
    """A sentence that says what to do."""
    retry_after: int | None = None
    """Seconds."""

    @property
    def details(self) -> ProblemDetails:
        """The members of the problem details."""
        return ProblemDetails(
            type=f"urn:scanflow:problem:{self.slug}",
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            detail=self.detail,
            error=self.detail,
        )

    @property
    def headers(self) -> dict[str, str]:
        """The headers that the problem adds to its response."""
        headers = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["www-authenticate"] = "Bearer"
        if self.status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONTENT_TOO_LARGE):
            headers["connection"] = "close"  # what the client may still send is not waited for
        return headers


_OVERLOADED = Problem(503, "overloaded", "The service is busy. Try again in a second.", 1)

PROBLEMS: dict[type[Exception], Problem] = {
    Overloaded: _OVERLOADED,
    MemoryError: _OVERLOADED,
    NotReady: Problem(503, "overloaded", "The service is starting. Try again in a second.", 1),
    NoSuchVersion: Problem(404, "no-such-version", "This version of the model is not loaded. Name the served one."),
    BucketNotAllowed: Problem(
        403, "bucket-not-allowed", "Only scans of this service's own scans bucket are read. Check the uri."
    ),
    NoSuchScan: Problem(404, "no-such-scan", "The scans bucket has no such scan. Check the uri."),
    SeveralPages: Problem(
        422, "several-pages", "A file has several pages. Send it to /v1/predict, or one page at a time."
    ),
    ScansUnavailable: Problem(503, "storage-unavailable", "The scans bucket cannot be read. Try again.", 5),
    Unauthorised: Problem(401, "unauthorised", "Send a valid token in the header `Authorization: Bearer <token>`."),
    KeysUnavailable: Problem(503, "keys-unavailable", "The issuer's keys cannot be read. Try again.", 5),
    RequestTooLarge: Problem(413, "request-too-large", "The request is too large. Send fewer or smaller files."),
    SlowBody: Problem(408, "slow-body", "The request's body did not arrive in time. Send it again."),
    UnsupportedMediaType: Problem(
        415,
        "unsupported-media-type",
        "Send multipart/form-data with a file, the file itself as image/*, or JSON.",
    ),
    RequestValidationError: Problem(
        400, "malformed-request", "A parameter of the address is not valid. See the routes at /docs."
    ),
    Exception: Problem(500, "internal-error", "This is the service's fault. Tell its operators."),
}
"""The problem of each exception that says the same every time; the others are in `problem_of`."""

FILE_ERRORS = (RejectedScan, Overloaded, NotReady, BucketNotAllowed, NoSuchScan, ScansUnavailable)
"""What predicting one file of a batch may raise; the others go on."""

_REJECTED = {
    Reason.EMPTY: (422, "The file is empty. Export the scan again and send it once more."),
    Reason.NOT_AN_IMAGE: (415, "This is not an image. Send a JPEG, PNG, BMP, TIFF, DICOM or NIfTI file."),
    Reason.TRUNCATED: (422, "The file ends too early. Copy it again and compare its size with the original's."),
    Reason.CORRUPT: (422, "The file is damaged. Export the scan again from where it came from."),
    Reason.UNSUPPORTED_FORMAT: (
        415,
        "This kind of image is not read. Send a JPEG, PNG, BMP, TIFF, DICOM or NIfTI file.",
    ),
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
    Reason.BURNT_IN_TEXT: (422, "Text is burnt into the image. Export it without annotations."),
}


def problem_of(error: Exception) -> Problem:
    """Return the problem of an exception; an unknown one is the service's own fault (500)."""
    match error:
        case RejectedScan(reason=reason):
            status, detail = _REJECTED[reason]
            return Problem(status, reason.name.lower().replace("_", "-"), detail)
        case MalformedRequest():
            return Problem(400, "malformed-request", str(error))
        case HTTPException(status_code=status, detail=detail):
            slug = HTTPStatus(status).phrase.lower().replace(" ", "-")
            return Problem(status, slug, f"{detail}. The routes are listed at /docs.")
    return next(PROBLEMS[kind] for kind in type(error).__mro__ if kind in PROBLEMS)


def problem_response(error: Exception) -> Response:
    """Return the response that tells an exception to the caller."""
    problem = problem_of(error)
    return JSONResponse(problem.details.model_dump(), problem.status, problem.headers, MEDIA_TYPE)
