"""Results to take away: JSON and CSV of a whole drop, PNG and one page of PDF of what is looked at."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from fpdf import FPDF
from PIL import Image

from dashboard import overlay
from dashboard.overlay import Look, is_refused
from shared.ml.prediction import PredictionResponse

NOTICE = "For research use. Not a medical device. Nothing here may guide the care of a patient."
Named = tuple[str | None, PredictionResponse]
"""A file's name, if the person who dropped it asks for it, and the answer."""

_BAR = (20.0, 62.0, 170.0, 6.0)
"""Left, top, width and height of the probability bar, in millimetres of an A4 page."""


def as_json(results: Sequence[Named]) -> str:
    """Return every answer with its heat map."""
    return json.dumps({"notice": NOTICE, "scans": [_record(*named) for named in results]}, indent=2)


def as_csv(results: Sequence[Named]) -> str:
    """Return one line per scan, with a column for each tumour type."""
    records = [_record(*named) for named in results]
    types = sorted({name for record in records for name in record.get("types", {})})
    fields = ["scan_id", "prediction", "probability", "threshold", "uncertain", "model_version", *types, "notice"]
    if any(name for name, _ in results):
        fields = ["file", *fields]
    lines = io.StringIO()
    writer = csv.DictWriter(lines, fields, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(record | record.get("types", {}) | {"notice": NOTICE} for record in records)
    return lines.getvalue()


def as_png(result: PredictionResponse, look: Look) -> bytes:
    """Return the scan with its heat map, and beneath it the notice, the scan's id, the version and the answer."""
    lines = [NOTICE, f"{result.prediction}{_probability(result)}. Model {result.model_version}.", result.scan_id]
    return overlay.png(overlay.captioned(overlay.overlay(result, look), lines))


def as_pdf(result: PredictionResponse, look: Look) -> bytes:
    """Return one A4 page: the answer, the scan, and the scan with the heat map if there is an answer."""
    page = FPDF()
    page.set_title("Scanflow result")
    page.set_margin(20)
    page.add_page()
    _heading(page, result)
    pictures = [("Scan", overlay.original(result, look))]
    if not is_refused(result):
        _probability_bar(page, result)
        pictures.append((f"Evidence {look.evidence}", overlay.overlay(result, look)))
    for left, (caption, pixels) in zip((20, 107), pictures, strict=False):
        page.image(Image.fromarray(pixels), x=left, y=84, w=83, h=83, keep_aspect_ratio=True)
        page.set_xy(left, 168)
        page.cell(text=caption)
    _facts(page, result)
    return bytes(page.output())


def sentence(result: PredictionResponse) -> str:
    """Return the answer in words."""
    if is_refused(result):
        return "This image does not look like a brain MRI, so the model gives no answer about a tumour."
    side = "at or above" if result.probability >= result.threshold else "below"
    return (
        f"Calibrated probability of cancer: {percent(result.probability)}, {side} the operating threshold of "
        f"{percent(result.threshold)} from which this model says Cancer."
    )


def doubt(result: PredictionResponse) -> str | None:
    """Return a sentence if a reader should look before anybody relies on the answer."""
    if is_refused(result) or not result.uncertain:
        return None
    return result.uncertain_reason or "The model is not certain here: a reader should look before anybody relies on it."


def tumour_types(result: PredictionResponse) -> dict[str, float]:
    """Return the probabilities of tumour types; none unless the answer is Cancer without doubt."""
    return result.types if result.prediction == "Cancer" and not result.uncertain else {}


def percent(probability: float) -> str:
    """Return a probability in whole per cent: its calibration deserves no more digits."""
    if probability > 0.99:
        return "over 99%"
    return "under 1%" if probability < 0.01 else f"{probability:.0%}"


def _record(name: str | None, result: PredictionResponse) -> dict[str, Any]:
    """Return an answer as it may be sent on: without its picture, and without a word on cancer if it is refused."""
    record = {key: value for key, value in asdict(result).items() if key not in ("embedding", "heat_map")}
    if is_refused(result):
        for key in ("probability", "threshold", "types"):
            del record[key]
    elif result.heat_map:
        record["heat_map"] = {"values": result.heat_map.values, "crop_box": asdict(result.heat_map.crop_box)}
    record["types"] = tumour_types(result)
    return ({"file": name} if name else {}) | record


def _probability(result: PredictionResponse) -> str:
    return "" if is_refused(result) else f", probability of cancer {percent(result.probability)}"


def _heading(page: FPDF, result: PredictionResponse) -> None:
    page.set_font("Helvetica", "B", 11)
    page.set_text_color(150, 40, 30)
    page.cell(text=NOTICE, new_x="LMARGIN", new_y="NEXT")
    page.set_text_color(20, 30, 36)
    page.set_font("Helvetica", "B", 24)
    page.cell(h=18, text=result.prediction, new_x="LMARGIN", new_y="NEXT")
    page.set_font("Helvetica", size=10)
    page.multi_cell(w=170, text=" ".join(filter(None, (sentence(result), doubt(result)))))


def _probability_bar(page: FPDF, result: PredictionResponse) -> None:
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
    page.cell(w=60, text=f"operating threshold {percent(result.threshold)}", align="C")


def _facts(page: FPDF, result: PredictionResponse) -> None:
    page.set_xy(20, 182)
    types = ", ".join(f"{name} {share:.0%}" for name, share in tumour_types(result).items())
    facts = {
        "Tumour type, given that there is one": types,
        "Scan": result.scan_id,
        "Model": result.model_version,
        "Printed": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    }
    for name, value in ((name, value) for name, value in facts.items() if value):
        page.set_font("Helvetica", "B", 9)
        page.cell(h=6, text=name, new_x="LMARGIN", new_y="NEXT")
        page.set_font("Helvetica", size=9)
        page.multi_cell(w=170, h=5, text=value, new_x="LMARGIN", new_y="NEXT")
