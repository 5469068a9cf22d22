"""The released model's report, as the repository ships it under reports/current."""

import base64
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

PARTS = ("validation", "test")
"""What the released model itself was measured on, at its threshold; folds have models of their own."""
FOLDER = Path(__file__).parents[1] / "reports" / "current"


@st.cache_data(ttl=60, show_spinner=False)
def read(name: str) -> dict[str, Any]:
    """A JSON file of the report; empty where the report has none of that name."""
    file = FOLDER / name
    return json.loads(file.read_text()) if file.is_file() else {}


def text(name: str) -> str:
    """A text file of the report; empty where the report has none of that name."""
    file = FOLDER / name
    return file.read_text() if file.is_file() else ""


@st.cache_data(ttl=60, show_spinner=False)
def drawings() -> dict[str, tuple[str, bytes]]:
    """Pictures of the report by their titles: what it says of each, and a PNG."""
    pattern = r'<h2>([^<]*)</h2><p>([^<]*)</p><img[^>]* src="data:image/png;base64,([^"]+)"'
    return {
        unescape(title): (unescape(meaning), base64.b64decode(picture))
        for title, meaning, picture in re.findall(pattern, text("report.html"))
    }


def curves() -> dict[str, dict[str, Any]]:
    """ROC and calibration of each part of the scans, the operating threshold's exact pair among the ROC's points."""
    metrics = read("metrics.json")
    drawn = {name: curve for name, curve in read("curves.json").items() if curve.get("roc")}
    for name, curve in drawn.items():
        if name in PARTS and name in metrics:
            exact = {"sensitivity": metrics[name]["recall"], "specificity": metrics[name]["specificity"]}
            curve["roc"] = [*curve["roc"], {"threshold": metrics["threshold"]} | exact]
    return drawn


def operating_point(roc: list[dict[str, float]], threshold: float) -> tuple[float, float]:
    """Sensitivity and specificity of calling Cancer from `threshold` on, between the curve's points."""
    points = sorted(roc, key=lambda point: point["threshold"])
    thresholds = [point["threshold"] for point in points]
    sensitivity, specificity = (
        float(np.interp(threshold, thresholds, [point[name] for point in points]))
        for name in ("sensitivity", "specificity")
    )
    return sensitivity, specificity


def predictive_values(sensitivity: float, specificity: float, prevalence: float) -> tuple[float, float]:
    """PPV and NPV by Bayes' theorem; `prevalence` is the share of Cancer among the scanned, above 0 and below 1."""
    true, false = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    cleared, missed = specificity * (1 - prevalence), (1 - sensitivity) * prevalence
    return _share(true, false), _share(cleared, missed)


def _share(part: float, rest: float) -> float:
    return part / (part + rest) if part + rest else float("nan")
