"""The inference service's REST API, called as any other system calls it."""

import base64
import io
import json
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
import requests
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from shared import config
from shared.gcp import auth

_CONNECT_S, _ANSWER_S = 3, 60
_BUSY = (429, 503)
_RETRY = Retry(
    total=3,
    connect=2,
    read=False,
    backoff_factor=0.3,
    status_forcelist=_BUSY,
    allowed_methods=None,
    raise_on_status=False,
)
"""Prediction changes nothing, so a refused one may be sent again; a service that hangs is not asked twice."""


class InferenceError(Exception):
    """The service gave no answer. Its text is a sentence for the reader that says what to do."""


class RefusedFile(InferenceError):  # noqa: N818 - what happened, not a fault
    """The service has read the file, and no retry will make it a scan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CropBox:
    """The square that the network saw, in the image's pixels; it may reach beyond the image."""

    left: float
    top: float
    side: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionResult:
    """The service's answer for one scan: a file, or a page of one."""

    scan_id: str
    prediction: str
    """Cancer, Non-Cancer or Not a brain MRI."""
    probability: float
    """Calibrated probability of Cancer, 0 to 1."""
    threshold: float
    """Called Cancer at or above it."""
    types: dict[str, float]
    """Probability of each tumour type, given that there is a tumour."""
    model_version: str
    timings_ms: dict[str, float]
    heat_map: list[list[float]]
    """16 x 16 cells of the crop box: evidence for Cancer (positive) or against it (negative)."""
    crop_box: CropBox
    image_png: bytes

    @property
    def image(self) -> np.ndarray:
        """uint8 (h, w) grey or (h, w, 3) RGB: the page as decoded, at most 1,024 pixels a side."""
        return np.asarray(Image.open(io.BytesIO(self.image_png)))

    def record(self) -> dict[str, Any]:
        """The answer without its picture, as it may be kept or sent on."""
        return {name: value for name, value in asdict(self).items() if name != "image_png"}


def read_file(content: bytes) -> list[PredictionResult]:
    """The answer for every page of a file. Raises InferenceError."""
    return _results({"files": {"file": ("scan", content)}})


def read_uri(uri: str) -> list[PredictionResult]:
    """The answer for an object of the scans bucket. Raises InferenceError."""
    return _results({"json": {"uri": uri}})


def model() -> dict[str, Any]:
    """The served release: `version`, `threshold`, and `metrics` as its card holds them. Raises InferenceError."""
    answer = _call("GET", "/v1/models/scanflow/metadata").json()
    card = answer["metadata"]
    return {"version": answer["model_spec"]["version"], "threshold": card["threshold"], "metrics": card["metrics"]}


def is_ready() -> bool:
    """Whether the service takes requests now."""
    try:
        return _session().get(f"{config.inference_url()}/readyz", headers=_headers(), timeout=_CONNECT_S).ok
    except requests.RequestException:
        return False


def metrics() -> list[Sample]:
    """Return what the service counts, as Prometheus reads it. Raises InferenceError."""
    families = text_string_to_metric_families(_call("GET", "/metrics").text)
    return [sample for family in families for sample in family.samples]


def _results(body: dict[str, Any]) -> list[PredictionResult]:
    answer = _call("POST", "/v1/predict", params={"explain": "true"}, **body).json()
    return [_result(scan) for scan in answer.get("scans", [answer])]


def _result(scan: dict[str, Any]) -> PredictionResult:
    heat_map = scan["heat_map"]
    fields = ("scan_id", "prediction", "probability", "threshold", "types", "model_version", "timings_ms")
    return PredictionResult(
        **{name: scan[name] for name in fields},
        heat_map=heat_map["values"],
        crop_box=CropBox(**heat_map["crop_box"]),
        image_png=base64.b64decode(heat_map["image_png"]),
    )


def _call(method: str, path: str, **request: Any) -> requests.Response:  # noqa: ANN401 - handed on to requests
    url = f"{config.inference_url()}{path}"
    try:
        response = _session().request(method, url, headers=_headers(), timeout=(_CONNECT_S, _ANSWER_S), **request)
    except requests.Timeout as error:
        raise InferenceError("The inference service took too long to answer. Try again in a moment.") from error
    except requests.RequestException as error:
        raise InferenceError("The inference service cannot be reached. Try again in a moment.") from error
    if not response.ok:
        raise _error(response)
    return response


def _error(response: requests.Response) -> InferenceError:
    if response.status_code in _BUSY:
        return InferenceError("The inference service is busy. Try again in a few seconds.")
    if response.status_code in (401, 403):
        return InferenceError("The inference service does not let this dashboard in. Tell its operators.")
    kind = RefusedFile if response.status_code in (413, 415, 422) else InferenceError
    return kind(_detail(response))


def _detail(response: requests.Response) -> str:
    """The sentence of the problem details (RFC 9457)."""
    try:
        return str(response.json()["detail"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return f"The inference service failed with status {response.status_code}. Try again, or tell its operators."


def _headers() -> dict[str, str]:
    return auth.authorization(config.inference_url())


@cache
def _session() -> requests.Session:
    session = requests.Session()
    adapter = HTTPAdapter(max_retries=_RETRY)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session
