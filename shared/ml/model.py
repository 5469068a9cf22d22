"""The released graph: one forward pass from a prepared scan to probability, heat map and embedding."""

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from ai_edge_litert.interpreter import Interpreter, SignatureRunner

from shared.imaging.preprocessing import PREPROCESSING_VERSION, SIDE
from shared.ml.prediction import PredictedClass
from shared.ml.release_files import CARD_FILE, GRAPH_FILE
from shared.ml.site_calibration import SiteCalibration

FAILURES = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What json, a card's fields and LiteRT raise on a bad release."""


class ModelMismatch(Exception):
    """The graph is not the one that its card describes, or needs another preprocessing: do not serve it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a release says of itself."""

    version: str
    sha256: str
    """Of the graph's bytes."""
    threshold: float
    """Calibrated probability from which a scan is called Cancer."""
    ood_limit: float
    """Out-of-distribution (OOD) score above which an image is not taken for a brain MRI."""
    tumour_types: tuple[str, ...]
    """Names of the graph's type probabilities, in order."""
    preprocessing_version: str
    created_at: str
    """RFC 3339."""
    uncertain_from: float | None = None
    uncertain_to: float | None = None
    """Calibrated probabilities between which a prediction is uncertain, both included; None in older releases."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """The figures of reports/current/metrics.json at release."""

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """The card from its JSON; fields that this code does not know are ignored."""
        known = {name: value for name, value in json.loads(content).items() if name in cls.__dataclass_fields__}
        return cls(**known | {"tumour_types": tuple(known["tumour_types"])})

    def to_json(self) -> bytes:
        """The card as indented JSON."""
        return json.dumps(asdict(self), indent=2).encode() + b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What the graph says of one scan."""

    probability: float
    """Calibrated probability of Cancer."""
    heat_map: np.ndarray
    """float32 (16, 16): each cell's share in the evidence for Cancer (positive) or against it (negative).

    It is Grad-CAM before its rectifier, for the class Cancer; the class Non-Cancer's is its negative.
    """
    embedding: np.ndarray
    """float32 (d,): the pooled features that the last layer weighs."""
    types: dict[str, float]
    """Probability of each tumour type, given that there is a tumour; they sum to 1."""
    ood_score: float
    """How unlike a brain MRI the image is."""
    is_brain_mri: bool
    """Whether the OOD score is within the card's limit."""


class Model:
    """A released graph, ready to run from any number of threads."""

    def __init__(self, card: Card, graph: bytes, threads: int = 1) -> None:
        """Check the graph against its card, and load it. Raises ModelMismatch."""
        if hashlib.sha256(graph).hexdigest() != card.sha256:
            raise ModelMismatch(
                f"Release {card.version}: the graph's checksum differs from its card's. Copy both again."
            )
        if card.preprocessing_version != PREPROCESSING_VERSION:
            raise ModelMismatch(
                f"Release {card.version} needs preprocessing {card.preprocessing_version}, this code has "
                f"{PREPROCESSING_VERSION}. Deploy the code and the release together."
            )
        self.card = card
        self._graph = graph
        self._threads = threads
        self._idle = [self._interpreter()]
        names = self._idle[0].get_output_details()
        self._ood_output = "ood_score" if "ood_score" in names else "novelty"  # the name in releases before 2026-11-27
        self._most_threads = (os.cpu_count() or 1) + 1  # a comparison in an idle moment holds up no worker
        self._cores = threading.Semaphore(self._most_threads)

    def predict(self, tensor: np.ndarray) -> Prediction:
        """Run the graph once on a prepared scan, float32 (128, 128, 3) in [0, 1]."""
        with self._runner() as run:
            outputs = {name: np.array(value[0]) for name, value in run(scan=tensor[np.newaxis]).items()}
        ood_score = float(outputs[self._ood_output])
        return Prediction(
            probability=float(outputs["probability"]),
            heat_map=outputs["heat_map"],
            embedding=outputs["embedding"],
            types=dict(zip(self.card.tumour_types, outputs["types"].tolist(), strict=True)),
            ood_score=ood_score,
            is_brain_mri=ood_score <= self.card.ood_limit,
        )

    def warm(self, threads: int) -> None:
        """Make the interpreters that as many threads need and run each once, so that no prediction waits for one."""
        with ExitStack() as held:
            for run in [held.enter_context(self._runner()) for _ in range(min(threads, self._most_threads))]:
                run(scan=np.zeros((1, SIDE, SIDE, 3), np.float32))

    def predicted_class(self, prediction: Prediction, site: SiteCalibration | None = None) -> PredictedClass:
        """Return the predicted class at the card's operating threshold, or at the site's that made the probability."""
        if not prediction.is_brain_mri:
            return "Not a brain MRI"
        return "Cancer" if prediction.probability >= (site or self.card).threshold else "Non-Cancer"

    def uncertain_reason(self, prediction: Prediction, site: SiteCalibration | None = None) -> str | None:
        """Return a sentence that says why the prediction is uncertain, None if it is not or the card cannot tell.

        `site`: the calibration that made the probability, if it is not the release's own.
        """
        low, high = (site or self.card).uncertain_from, (site or self.card).uncertain_to
        if low is None or high is None or not prediction.is_brain_mri or not low <= prediction.probability <= high:
            return None
        where = f"among the scans that {site.source} was commissioned by" if site else "in its release's test"
        return (
            f"Scans with a probability between {low:.2f} and {high:.2f} turned out either way too often {where}. "
            "Let a reader decide."
        )

    def _interpreter(self) -> SignatureRunner:
        return Interpreter(model_content=self._graph, num_threads=self._threads).get_signature_runner()

    @contextmanager
    def _runner(self) -> Iterator[SignatureRunner]:
        """An interpreter that no other thread uses meanwhile: there are never more of them than cores."""
        with self._cores:
            try:
                runner = self._idle.pop()
            except IndexError:
                runner = self._interpreter()
            try:
                yield runner
            finally:
                self._idle.append(runner)


def read_release(folder: Path) -> Model:
    """The release in a folder (model.tflite, card.json). Raises ModelMismatch, or OSError where one is missing."""
    return Model(Card.from_json((folder / CARD_FILE).read_bytes()), (folder / GRAPH_FILE).read_bytes())
