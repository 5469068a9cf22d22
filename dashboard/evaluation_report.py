"""A release's own report: figures as JSON, pictures as files, in the models bucket beside the release.

The release that ships with the code has its report in reports/current; every other one has it under
`releases/<version>/report/`. A version without a report has no figures: another one's are never shown for it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from dashboard.export import percent
from shared import config
from shared.gcp import storage

SPLITS = ("validation", "test")
"""What the release itself was measured on, at its threshold; folds have models of their own."""
_ABILITIES = {
    "leave_one_source_out": "On scans from a source that its training left out",
    "test": "on test scans from the sources it was trained on",
}
"""What is said first of a release: splits, and what they are in words."""
SHIPPED = Path(__file__).parents[1] / "reports" / "current"
"""Report of the release that ships with the code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A drawing of the report."""

    title: str
    meaning: str
    """What it shows, in a sentence."""
    file: str
    """Its name beside the report's other files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationReport:
    """What a release was measured to do. A part that the report lacks is empty."""

    version: str
    metrics: dict[str, Any]
    curves: dict[str, dict[str, Any]]
    """ROC and calibration by split."""
    reference: dict[str, Any]
    """Moments of the training scans' statistics, and the test scans' probabilities in tenths."""
    card: str
    """The model card, Markdown."""
    pictures: tuple[Picture, ...]

    def abilities(self) -> str:
        """Return one sentence on what the release can do, sources that it never saw first; empty if not measured."""
        said = []
        for name, scans in _ABILITIES.items():
            split = self.metrics.get(name, {})
            if split.get("recall") is not None and split.get("specificity") is not None:
                found, cleared = percent(split["recall"]), percent(split["specificity"])
                said.append(f"{scans} it finds {found} of the tumours and clears {cleared} of the scans without one")
        return "; ".join(said) + "." if said else ""

    def drawn_curves(self) -> dict[str, dict[str, Any]]:
        """Return the curves with the operating threshold's exact pair among the ROC's points."""
        drawn = {}
        for name, curve in self.curves.items():
            roc = list(curve.get("roc") or ())
            if roc and name in SPLITS and name in self.metrics:
                split = self.metrics[name]
                exact = {"sensitivity": split["recall"], "specificity": split["specificity"]}
                roc.append({"threshold": self.metrics["threshold"]} | exact)
            if roc:
                drawn[name] = curve | {"roc": roc}
        return drawn


@st.cache_data(ttl=60, max_entries=4, show_spinner=False)
def of_release(version: str) -> EvaluationReport | None:
    """Return a release's own report; None if it has none. Raises StorageError."""
    metrics = _json(version, "metrics.json")
    if metrics is None:
        return None
    return EvaluationReport(
        version=version,
        metrics=metrics,
        curves=_json(version, "curves.json") or {},
        reference=_json(version, "reference.json") or {},
        card=(file(version, "model_card.md") or b"").decode(),
        pictures=tuple(Picture(**picture) for picture in _json(version, "pictures.json") or ()),
    )


@st.cache_data(ttl=600, max_entries=16, show_spinner=False)
def file(version: str, name: str) -> bytes | None:
    """Return one file of a release's report; None if it has none of that name. Raises StorageError."""
    if version == shipped_version():
        path = SHIPPED / name
        return path.read_bytes() if path.is_file() else None
    try:
        return storage.read(config.models_bucket(), f"releases/{version}/report/{name}")
    except storage.MissingObject:
        return None


def shipped_version() -> str:
    """Return the version whose report ships with the code; empty if none does."""
    path = SHIPPED / "metrics.json"
    return json.loads(path.read_text())["model_version"] if path.is_file() else ""


def operating_point(roc: list[dict[str, float]], threshold: float) -> tuple[float, float]:
    """Return sensitivity and specificity of calling Cancer from `threshold` on, interpolated along the curve."""
    points = sorted(roc, key=lambda point: point["threshold"])
    thresholds = [point["threshold"] for point in points]
    sensitivity, specificity = (
        float(np.interp(threshold, thresholds, [point[name] for point in points]))
        for name in ("sensitivity", "specificity")
    )
    return sensitivity, specificity


def predictive_values(sensitivity: float, specificity: float, prevalence: float) -> tuple[float, float]:
    """Return PPV and NPV by Bayes' theorem; `prevalence` is the share of Cancer among the scanned, in (0, 1)."""
    true, false = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    cleared, missed = specificity * (1 - prevalence), (1 - sensitivity) * prevalence
    return _share(true, false), _share(cleared, missed)


def _share(part: float, rest: float) -> float:
    return part / (part + rest) if part + rest else float("nan")


def _json(version: str, name: str) -> Any:  # noqa: ANN401 - whatever the report's JSON holds
    content = file(version, name)
    return None if content is None else json.loads(content)
