"""The inference service's REST API, called as any other system calls it."""

import json
from functools import cache
from typing import Any

import requests
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from urllib3.util.retry import Retry

from shared import config
from shared.gcp import auth
from shared.ml.prediction import PredictionResponse, parse_predictions

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


class RefusedFile(InferenceError):
    """The service has read the file, and no retry will make it a scan."""


def read_file(content: bytes) -> list[PredictionResponse]:
    """Return the answer for every page of a file. Raises InferenceError."""
    return _results({"files": {"file": ("scan", content)}})


def read_uri(uri: str, source: str = "") -> list[PredictionResponse]:
    """Return the answer for an object of the scans bucket that came from a source. Raises InferenceError."""
    return _results({"json": {"uri": uri}}, source)


def model() -> dict[str, Any]:
    """Return the served release: `version`, `threshold`, and `metrics` as its card says. Raises InferenceError."""
    answer = _call("GET", "/v1/models/scanflow/metadata").json()
    card = answer["metadata"]
    return {"version": answer["model_spec"]["version"], "threshold": card["threshold"], "metrics": card["metrics"]}


def is_ready() -> bool:
    """Return whether the service takes requests now."""
    url = config.inference_url()
    try:
        return _session(url).get(f"{url}/readyz", timeout=_CONNECT_S).ok
    except requests.RequestException:
        return False


def metrics() -> list[Sample]:
    """Return what the service counts, as Prometheus reads it. Raises InferenceError."""
    families = text_string_to_metric_families(_call("GET", "/metrics").text)
    return [sample for family in families for sample in family.samples]


def _results(body: dict[str, Any], source: str = "") -> list[PredictionResponse]:
    asked = {"explain": "true", "source": source}
    return parse_predictions(_call("POST", "/v1/predict", params=asked, **body).json())


def _call(method: str, path: str, **request: Any) -> requests.Response:  # noqa: ANN401 - handed on to requests
    url = config.inference_url()
    try:
        response = _session(url).request(method, f"{url}{path}", timeout=(_CONNECT_S, _ANSWER_S), **request)
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


@cache
def _session(url: str) -> requests.Session:
    return auth.session(url, retries=_RETRY)
