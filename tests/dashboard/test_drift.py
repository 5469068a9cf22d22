"""Drift: what the newest check found is said first."""

import itertools
import json
import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
from streamlit.testing.v1 import AppTest

from local.stack.system import Stack
from shared.gcp import bigquery
from tests.dashboard.conftest import NOW

Page = Callable[..., AppTest]


LATER = itertools.count(1)


def record_check(**columns: object) -> list[str]:
    """Write what check_drift writes, as the newest check of all. Its foreign scans come back."""
    at = (NOW + timedelta(days=next(LATER))).isoformat()
    foreign = [uuid.uuid4().hex * 2 for _ in range(12)]
    check = {"check_id": str(uuid.uuid4()), "model_version": "test-1", "change": "inputs", "cause": "source: ward-9"}
    figures = {"p_value": 0.0005, "level": 0.0042, "scans": 120, "expected_accuracy": None}
    tests = json.dumps([{"about": "inputs called Cancer", "p_value": 0.0005, "effect": 0.81}])
    row = check | figures | {"tests": tests, "foreign_scans": foreign, "since": NOW.isoformat(), "checked_at": at}
    bigquery.append("drift_checks", row | columns, key=check["check_id"])
    return foreign


def test_a_small_p_value_is_not_nothing(page: Page, system: Stack) -> None:
    record_check(tests=json.dumps([{"about": "source", "p_value": 0.00004, "effect": 0.48}]))
    assert list(page("drift").table[0].value["p-value"]) == ["below 0.0001"]


def test_the_verdict_stands_first_with_its_cause_and_since_when(page: Page, system: Stack) -> None:
    foreign = record_check()
    app = page("drift")
    assert not app.exception
    assert "The inputs have changed" in app.warning[0].value
    assert "ward" in app.warning[0].value
    assert f"since {NOW:%Y-%m-%d %H:%M} UTC" in app.warning[0].value
    links = [link.proto.label for link in app.get("page_link")]
    assert links == [f"{place}. {scan_id[:8]}" for place, scan_id in enumerate(foreign[:10], 1)]
    assert "0.81" in app.table[0].value.to_numpy()


@pytest.mark.parametrize(
    ("columns", "kind", "said"),
    [
        ({"change": "case mix", "cause": "Cancer"}, "info", "The case mix has changed"),
        ({"change": "none", "cause": ""}, "success", "No drift found"),
        ({"change": "none", "cause": "", "tests": "[]", "foreign_scans": []}, "info", "Too few scans to tell"),
    ],
)
def test_each_verdict_has_its_sentence(
    page: Page, system: Stack, columns: dict[str, object], kind: str, said: str
) -> None:
    record_check(**columns)
    app = page("drift")
    assert not app.exception
    assert said in app.get(kind)[0].value
