"""A reading to take away: JSON, CSV, and one page of PDF."""

import csv
import io
import json
from datetime import UTC, datetime

from fpdf import FPDF
from PIL import Image

from dashboard import overlay
from dashboard.inference_client import PredictionResult
from dashboard.overlay import Look

_FIELDS = ("scan_id", "prediction", "probability", "threshold", "model_version")
_NOTICE = "For research use. Not a medical device. This page may not guide the care of a patient."
_BAR = (20.0, 62.0, 170.0, 6.0)
"""Left, top, width and height of the confidence bar, in millimetres of an A4 page."""


def as_json(results: list[PredictionResult]) -> str:
    """Every answer of a file, heat maps included."""
    return json.dumps([result.record() for result in results], indent=2)


def as_csv(results: list[PredictionResult]) -> str:
    """One line a scan, with a column for each tumour type."""
    types = sorted({name for result in results for name in result.types})
    lines = io.StringIO()
    writer = csv.writer(lines)
    writer.writerow([*_FIELDS, *types])
    writer.writerows([*(getattr(r, field) for field in _FIELDS), *(r.types.get(t) for t in types)] for r in results)
    return lines.getvalue()


def as_pdf(result: PredictionResult, look: Look) -> bytes:
    """One A4 page: the answer, the scan, and the scan with the heat map."""
    page = FPDF()
    page.set_title("Scanflow reading")
    page.set_margin(20)
    page.add_page()
    _heading(page, result)
    if result.prediction in ("Cancer", "Non-Cancer"):
        _confidence_bar(page, result)
    for left, caption, pixels in (
        (20, "Scan", overlay.original(result, look)),
        (107, f"Evidence {look.evidence}", overlay.overlay(result, look)),
    ):
        page.image(Image.fromarray(pixels), x=left, y=84, w=83, h=83, keep_aspect_ratio=True)
        page.set_xy(left, 168)
        page.cell(text=caption)
    _facts(page, result)
    return bytes(page.output())


def _heading(page: FPDF, result: PredictionResult) -> None:
    page.set_font("Helvetica", "B", 11)
    page.set_text_color(150, 40, 30)
    page.cell(text=_NOTICE, new_x="LMARGIN", new_y="NEXT")
    page.set_text_color(20, 30, 36)
    page.set_font("Helvetica", "B", 24)
    page.cell(h=18, text=result.prediction, new_x="LMARGIN", new_y="NEXT")
    page.set_font("Helvetica", size=10)
    page.multi_cell(w=170, text=sentence(result))


def _confidence_bar(page: FPDF, result: PredictionResult) -> None:
    left, top, width, height = _BAR
    page.set_fill_color(226, 232, 235)
    page.rect(left, top, width, height, style="F")
    page.set_fill_color(*((200, 85, 61) if result.prediction == "Cancer" else (42, 127, 142)))
    page.rect(left, top, width * result.probability, height, style="F")
    threshold = left + width * result.threshold
    page.set_draw_color(20, 30, 36)
    page.line(threshold, top - 2, threshold, top + height + 2)
    for x, align, text in ((left, "L", "0%"), (left + width - 20, "R", "100%")):
        page.set_xy(x, top - 6)
        page.cell(w=20, text=text, align=align)
    page.set_xy(min(threshold - 30, left + width - 60), top + height + 3)
    page.cell(w=60, text=f"operating threshold {result.threshold:.1%}", align="C")


def _facts(page: FPDF, result: PredictionResult) -> None:
    page.set_xy(20, 182)
    types = ", ".join(f"{name} {share:.0%}" for name, share in result.types.items())
    facts = {
        "Tumour type, given that there is one": types if result.prediction == "Cancer" else "",
        "Scan": result.scan_id,
        "Model": result.model_version,
        "Printed": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    }
    for name, value in ((name, value) for name, value in facts.items() if value):
        page.set_font("Helvetica", "B", 9)
        page.cell(h=6, text=name, new_x="LMARGIN", new_y="NEXT")
        page.set_font("Helvetica", size=9)
        page.multi_cell(w=170, h=5, text=value, new_x="LMARGIN", new_y="NEXT")


def sentence(result: PredictionResult) -> str:
    """The answer in words."""
    if result.prediction not in ("Cancer", "Non-Cancer"):
        return "This image does not look like a brain MRI, so the model gives no answer about a tumour."
    side = "at or above" if result.probability >= result.threshold else "below"
    return (
        f"Calibrated probability of cancer: {result.probability:.1%}, {side} the operating threshold of "
        f"{result.threshold:.1%} from which this model says Cancer."
    )
