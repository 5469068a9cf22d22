"""A file's bytes to its answer: decode, prepare, predict. Runs in the engine's threads and knows nothing of HTTP."""

import base64
from dataclasses import dataclass, field
from time import perf_counter

import cv2
import numpy as np

from services.inference.metrics import PREDICTIONS, STAGES
from shared.imaging.decoding import decode_scan, encode_png
from shared.imaging.preprocessing import crop_box, prepare
from shared.ml.model import Model, PredictedClass, Prediction
from shared.scan import file_id, scan_id

_OVERLAY_SIDE = 384
_PICTURE_SIDE = 1024
"""Of the page beside a heat map, in pixels: what a screen shows of it."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What the network says of one page, and the page as the network saw it."""

    scan_id: str
    page: np.ndarray
    """uint8 (h, w) or (h, w, 3): as decoded."""
    tensor: np.ndarray
    """float32 (128, 128, 3)."""
    prediction: Prediction
    model: Model
    timings_ms: dict[str, float] = field(default_factory=dict)

    @property
    def predicted_class(self) -> PredictedClass:
        """The prediction in words."""
        return self.model.predicted_class(self.prediction)

    def answer(self, explain: bool = False) -> dict[str, object]:
        """The answer as services.inference.schemas.Answer documents it."""
        answer = {
            "scan_id": self.scan_id,
            "prediction": self.predicted_class,
            "probability": self.prediction.probability,
            "threshold": self.model.card.threshold,
            "types": self.prediction.types,
            "novelty": self.prediction.novelty,
            "model_version": self.model.card.version,
            "timings_ms": self.timings_ms,
        }
        return answer | {"heat_map": explanation(self)} if explain else answer


def score(content: bytes, model: Model, known_id: str = "") -> list[Scored]:
    """Every page of a file, scored in order. `known_id` is the scan's id where the bytes are an object of that scan.

    Raises RejectedScan.
    """
    start = perf_counter()
    pages = decode_scan(content).pages
    decoded = _observed("decode", start) / len(pages)
    whole = known_id or file_id(content)
    ids = [whole] if known_id else [scan_id(whole, page, len(pages)) for page in range(len(pages))]
    return [_scored(name, page, model, decoded) for name, page in zip(ids, pages, strict=True)]


def score_tensor(tensor: np.ndarray, model: Model) -> Scored:
    """The score of a scan that the caller has prepared: float32 (128, 128, 3) in [0, 1]."""
    start = perf_counter()
    prediction = model.predict(tensor)
    timings = {"network": _milliseconds(_observed("network", start))}
    page = np.rint(tensor * 255).astype(np.uint8)
    return _counted(Scored(file_id(tensor.tobytes()), page, tensor, prediction, model, timings))


def explanation(scored: Scored) -> dict[str, object]:
    """The heat map raw and laid over the prepared scan as a PNG, both of the cropped square that the network saw.

    Beside them the page as decoded, and where in it that square lies: for viewers that show the whole scan.
    """
    image, scale = _picture(scored.page)
    left, top, side = (value * scale for value in crop_box(scored.page))
    return {
        "image_png": base64.b64encode(encode_png(image)).decode(),
        "frame": {"left": left, "top": top, "side": side},
        "values": scored.prediction.heat_map.tolist(),
        "overlay_png": base64.b64encode(overlay(scored.tensor, scored.prediction.heat_map)).decode(),
    }


def _picture(page: np.ndarray) -> tuple[np.ndarray, float]:
    """The page at a size for screens, and by what its sides were multiplied."""
    scale = min(_PICTURE_SIDE / max(page.shape), 1.0)
    size = (max(round(page.shape[1] * scale), 1), max(round(page.shape[0] * scale), 1))
    return (page if scale == 1 else cv2.resize(page, size, interpolation=cv2.INTER_AREA)), scale


def overlay(tensor: np.ndarray, heat_map: np.ndarray) -> bytes:
    """PNG, 384 x 384: the evidence for Cancer in colour over the prepared scan, the stronger the less transparent.

    Evidence against Cancer stays uncoloured: that is Grad-CAM's rectifier (arXiv 1610.02391).
    """
    size = (_OVERLAY_SIDE, _OVERLAY_SIDE)
    scan = cv2.resize(np.rint(tensor * 255).astype(np.uint8), size, interpolation=cv2.INTER_CUBIC)
    heat = cv2.resize(np.maximum(heat_map, 0) / max(float(np.abs(heat_map).max()), 1e-12), size)
    colours = cv2.applyColorMap(np.rint(heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    weight = 0.6 * heat[:, :, np.newaxis]
    return cv2.imencode(".png", (scan * (1 - weight) + colours * weight).astype(np.uint8))[1].tobytes()


def _scored(name: str, page: np.ndarray, model: Model, decoded: float) -> Scored:
    start = perf_counter()
    tensor = prepare(page)
    prepared = _observed("prepare", start)
    start = perf_counter()
    prediction = model.predict(tensor)
    seconds = {"decode": decoded, "prepare": prepared, "network": _observed("network", start)}
    return _counted(Scored(name, page, tensor, prediction, model, {k: _milliseconds(s) for k, s in seconds.items()}))


def _counted(scored: Scored) -> Scored:
    PREDICTIONS[scored.predicted_class].inc()
    return scored


def _observed(stage: str, start: float) -> float:
    """Seconds since the start, also put into the stage's histogram."""
    seconds = perf_counter() - start
    STAGES[stage].observe(seconds)
    return seconds


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
