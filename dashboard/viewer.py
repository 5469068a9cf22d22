"""The slice viewer and the gallery of samples: this project's own controls in the page."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from dashboard import overlay
from dashboard.components import COLOURS
from dashboard.export import sentence
from dashboard.overlay import Look
from shared.ml.prediction import PredictionResponse

_FOLDER = Path(__file__).parent / "viewer"


def _asset(name: str) -> str:
    return (_FOLDER / name).read_text()


_viewer = st.components.v2.component(
    "scanflow_viewer", html=_asset("viewer.html"), css=_asset("viewer.css"), js=_asset("viewer.js")
)
_gallery = st.components.v2.component(
    "scanflow_gallery", html=_asset("gallery.html"), css=_asset("gallery.css"), js=_asset("gallery.js")
)


@dataclass(frozen=True, slots=True)
class View:
    """What a person looks at, and how."""

    place: int
    """Slice, from 0."""
    look: Look


def stack_viewer(key: str, results: Sequence[PredictionResponse], urgent: int, extent_mm: float | None = None) -> View:
    """Show the slices of an upload with their heat maps, and return what is looked at.

    `urgent` is the place of the most suspicious slice, which is shown first; `extent_mm` is the length of
    the image's longer side.
    """
    shown = _viewer(
        key="viewer",
        data={
            "id": key,
            "start": urgent,
            "urgent": urgent,
            "extent_mm": extent_mm,
            "slices": _slices(key, results),
            "colours": {name: overlay.table(name).tolist() for name in overlay.COLOUR_MAPS},
        },
        on_slice_change=_nothing,
        on_look_change=_nothing,
    )
    told: Mapping[str, Any] = shown.get("slice") or {}
    look = {name: value for name, value in (shown.get("look") or {}).items() if name in Look.__dataclass_fields__}
    place = int(told["place"]) if told.get("id") == key else urgent
    return View(min(place, len(results) - 1), Look(**look))


def gallery(samples: Mapping[str, Path]) -> str | None:
    """Show samples, whose pictures are buttons, and return the one that was just chosen."""
    pictures = [
        {"name": name, "picture": base64.b64encode(file.read_bytes()).decode()} for name, file in samples.items()
    ]
    chosen = _gallery(key="gallery", data={"samples": pictures}, on_chosen_change=_nothing).get("chosen")
    return chosen if chosen in samples else None


def _slices(key: str, results: Sequence[PredictionResponse]) -> list[dict[str, Any]]:
    """Return what the browser needs of every slice, worked out once for the upload that is looked at."""
    kept: tuple[str, list[dict[str, Any]]] = st.session_state.get("viewer slices", ("", []))
    if kept[0] != key:
        kept = (key, [_slice(place, len(results), result) for place, result in enumerate(results, 1)])
        st.session_state["viewer slices"] = kept
    return kept[1]


def _slice(place: int, places: int, result: PredictionResponse) -> dict[str, Any]:
    heat = overlay.signed_heat(result)
    words = f"{result.prediction}. {sentence(result)}"
    return {
        "image": result.heat_map.image_png if result.heat_map else "",
        "heat": None if heat is None else base64.b64encode(overlay.png(_grey(heat))).decode(),
        "height": 0.0 if overlay.is_refused(result) else result.probability,
        "colour": COLOURS[result.prediction],
        "sentence": words if places == 1 else f"Slice {place} of {places}: {words}",
    }


def _grey(heat: np.ndarray) -> np.ndarray:
    """Return signed heat as grey: 128 is no evidence."""
    return np.rint(128 + 127 * heat).astype(np.uint8)


def _nothing() -> None:
    """Streamlit asks for a callback where the value itself is all that is wanted."""
