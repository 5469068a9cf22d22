"""The pages over the running local stack: its inference service and its BigQuery stand-in."""

import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from local.stack.system import Stack
from shared.gcp import bigquery

ROOT = Path(__file__).parents[2]
NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    """What an earlier test was answered is not what this one is, and no test leaves the app as this process's program.

    AppTest puts the app into `sys.modules` as `__main__`, which a process started by `multiprocessing` would run again.
    """
    st.cache_data.clear()
    program = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = program


@pytest.fixture
def system(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """The stack, where the dashboard's process finds it."""
    monkeypatch.setenv("INFERENCE_URL", stack.url("inference"))
    return stack


@pytest.fixture
def page(system: Stack) -> Callable[..., AppTest]:
    """A page of the app as a person opens it, with what the address says after the question mark."""

    def opened(view: str, **query: str) -> AppTest:
        app = AppTest.from_file(str(ROOT / "dashboard" / "app.py"), default_timeout=120)
        if view != "read":  # which is where the app begins
            app.switch_page(f"views/{view}.py")
        app.query_params.update(query)
        return app.run()

    return opened


def record_scan(source: str, place: int = 0, probability: float | None = None, **columns: object) -> str:
    """Write what the corridor writes for one scan; without a probability it is not scored yet. Its id comes back."""
    scan_id = uuid.uuid4().hex * 2
    at = (NOW + timedelta(seconds=place)).isoformat()
    scan = {
        "scan_id": scan_id,
        "label": "Unlabelled",
        "source": source,
        "object_name": f"Unlabelled/{scan_id}.png",
        "content_sha256": scan_id,
        "format": "PNG",
        "page": 0,
        "pages": 1,
        "width": 224,
        "height": 224,
        "size": 9000,
        "uploaded_at": at,
        "accepted_at": at,
    }
    bigquery.append("scans", scan | columns, key=scan_id)
    if probability is not None:
        record_prediction(scan_id, probability, at)
    return scan_id


def record_prediction(scan_id: str, probability: float, at: str, model_version: str = "test-1") -> None:
    """Write what score_scan writes."""
    row = {
        "scan_id": scan_id,
        "model_version": model_version,
        "prediction": "Cancer" if probability >= 0.5 else "Non-Cancer",
        "probability": probability,
        "threshold": 0.5,
        "uploaded_at": at,
        "predicted_at": at,
    }
    bigquery.append("predictions", row, key=f"{scan_id}/{model_version}")


def record_features(scan_id: str, source: str, embedding: list[float]) -> None:
    """Write what write_features writes."""
    row = {
        "scan_id": scan_id,
        "feature_version": f"test-{len(embedding)}",
        "label": "Unlabelled",
        "source": source,
        "mean": 0.2,
        "std": 0.2,
        "skewness": 1.0,
        "kurtosis": 3.0,
        "standardised_quantiles": [-1.0, -0.5, 0.0, 0.5, 1.0],
        "embedding": embedding,
    }
    bigquery.append("features", row, key=f"{scan_id}/features")


def record_rejection(source: str, reason: str) -> str:
    """Write what record_scan writes for a rejected file. Its id comes back."""
    file_id = uuid.uuid4().hex * 2
    at = NOW.isoformat()
    row = {"file_id": file_id, "label": "Unlabelled", "source": source, "reason": reason, "generation": 17, "size": 9}
    bigquery.append("rejections", row | {"uploaded_at": at, "rejected_at": at}, key=file_id)
    return file_id


def record_dead_letter(subscription: str, scan_id: str | None, generation: int | None = None) -> None:
    """Write what record_dead_letter writes."""
    at = NOW.isoformat()
    row = {"dead_letter_id": uuid.uuid4().hex, "subscription": subscription, "attempts": 10, "scan_id": scan_id}
    times = {"published_at": at, "exhausted_at": at}
    bigquery.append("dead_letters", row | {"generation": generation} | times, key=row["dead_letter_id"])


def words(app: AppTest) -> str:
    """Everything that a page says."""
    kinds = (app.title, app.markdown, app.caption, app.text, app.error, app.info, app.success, app.warning, app.code)
    return "\n".join(str(element.value) for kind in kinds for element in kind)
