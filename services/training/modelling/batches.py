"""Batches to learn from: scans drawn by source and person, half of the healthy ones with a lesion put in."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from queue import Queue

import cv2
import numpy as np

from services.training.data.scans import TYPES, Scans, inputs
from services.training.data.split import strata
from services.training.modelling import augmentation, lesions
from services.training.modelling.schedule import Schedule

TUMOURS = 0.36
"""Share of the draws that are real tumours; the healthy ones that get a lesion come on top."""
LESION_WITHOUT_TUMOURS = 0.5
LESION_BESIDE_TUMOURS = 0.33
"""Share of a healthy stratum's draws that get a lesion: half if its source has no tumour: it predicts nothing."""
STRIPPED = 0.12
"""Share of the heads with a skull, where no tumour sits at it, that lose the outer ring of the head."""
DE_ENHANCED = 0.35
CONTRASTED = 0.2
LOOK_ALIKE, LOOK_ALIKE_BESIDE_LESION = 0.22, 0.08
STYLED = 0.12
CELL = 8
"""Pixels of the input a side that one cell of the network's map stands for."""

Batch = tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]


@dataclass
class _Draw:
    """One scan on its way into a batch."""

    image: np.ndarray
    mask: np.ndarray
    label: int
    weight: float = 1.0


class Batches:
    """An endless, prefetched stream of batches from a batch number on; batch i is the same in every run."""

    def __init__(self, scans: Scans, copies: np.ndarray, schedule: Schedule, first: int = 0) -> None:
        self.scans, self.schedule = scans, schedule
        self.weights = sampling_weights(scans, copies)
        self.lesion_share = lesion_shares(scans) * (schedule.without != "lesions")
        self._tumour_share = _tumour_shares(scans, self.weights, self.lesion_share)
        self.type_weight = _type_weights(scans, self.weights)
        table = scans.table
        self._labels, self._types = table["label"].to_numpy(), table["type"].to_numpy(str)
        self._sequences, self._skulls = table["sequence"].to_numpy(str), table["skull"].to_numpy(str)
        self._boxes = table[["box_x", "box_y", "box_width", "box_height"]].to_numpy(float) * (
            schedule.without != "boxes"
        )
        self._donors = np.flatnonzero(self._boxes[:, 2] > 0)
        self.waited = 0.0
        self._ready: list[Queue[Batch]] = [Queue(maxsize=4) for _ in range(2)]
        for worker, queue in enumerate(self._ready):
            threading.Thread(target=self._fill, args=(queue, first + worker), daemon=True).start()

    def __iter__(self) -> Iterator[Batch]:
        while True:
            for queue in self._ready:
                started = time.perf_counter()
                batch = queue.get()
                self.waited += time.perf_counter() - started
                yield batch

    def _fill(self, queue: Queue[Batch], number: int) -> None:
        while True:
            queue.put(self.batch(number))
            number += len(self._ready)

    def batch(self, number: int) -> Batch:
        """Return batch `number`: inputs, expected outputs and the weight of each."""
        rng = np.random.default_rng([self.schedule.seed, number])
        side = self.schedule.side(number // self.schedule.steps)
        rows = rng.choice(len(self.scans), self.schedule.batch, p=self.weights)
        draws = [self._drawn(row, side, rng) for row in rows]
        types = (self._types[rows][:, None] == np.array(TYPES)).astype(np.float32)
        cells = _sized([draw.mask for draw in draws], side // CELL) / np.float32(255)
        expected = {"logit": np.array([draw.label for draw in draws], np.float32), "types": types, "cells": cells}
        weights = {
            "logit": np.array([draw.weight for draw in draws], np.float32),
            "types": types @ self.type_weight,
            "cells": cells.any(axis=(1, 2)).astype(np.float32),
        }
        if self.schedule.without == "labels":
            expected["logit"] = (rng.random(len(rows)) < self._tumour_share[rows]).astype(np.float32)
            weights |= dict.fromkeys(("types", "cells"), np.zeros(len(rows), np.float32))
        return inputs(_sized([draw.image for draw in draws], side)), expected, weights

    def _drawn(self, row: int, side: int, rng: np.random.Generator) -> _Draw:
        draw = self._tumour(row, rng) if self._labels[row] else self._healthy(row, rng)
        if self._drawn_on("tones", STYLED, rng):
            other = self.scans.images[rng.integers(len(self.scans))]
            draw.image = augmentation.with_amplitude_of(draw.image, other, rng)
        moved = augmentation.placed(np.dstack([draw.image, draw.mask]), rng)
        plain, draw.mask = np.ascontiguousarray(moved[..., 0]), np.ascontiguousarray(moved[..., 1])
        added = bool(draw.label) and not self._labels[row]
        for _ in range(3):
            draw.image = plain if self.schedule.without == "tones" else augmentation.retoned(plain, rng)
            if not added or lesions.visible(*_sized([draw.image, draw.mask], side)):
                return draw
        draw.weight = 0.0
        return draw

    def _tumour(self, row: int, rng: np.random.Generator) -> _Draw:
        image, box = self.scans.images[row], self._boxes[row]
        mask = lesions.box_mask(box) if box[2] > 0 else np.zeros_like(image)
        if box[2] > 0 and rng.random() < DE_ENHANCED:
            image = lesions.without_enhancement(image, mask, rng)
        if self._types[row] in {"", "glioma"} and box[2] == 0:
            image = self._perhaps_stripped(row, image, rng)
        return _Draw(image, mask, 1)

    def _healthy(self, row: int, rng: np.random.Generator) -> _Draw:
        image = self._perhaps_stripped(row, self.scans.images[row], rng)
        if self._sequences[row] == "T1" and self._drawn_on("tones", CONTRASTED, rng):
            image = lesions.with_contrast(image, rng)
        mask = np.zeros_like(image)
        carries = rng.random() < self.lesion_share[row]
        if self._drawn_on("look-alikes", LOOK_ALIKE_BESIDE_LESION if carries else LOOK_ALIKE, rng):
            image = lesions.look_alike(image, rng)
        if carries:
            image, mask = self._with_lesion(image, rng)
        return _Draw(image, mask, int(mask.any()))

    def _with_lesion(self, image: np.ndarray, rng: np.random.Generator) -> lesions.Drawn:
        kind = rng.random()
        if kind < 0.45:
            return lesions.infiltrating(image, rng)
        if kind < 0.75 or not len(self._donors):
            return lesions.drawn(image, rng)
        donor = rng.choice(self._donors)
        return lesions.transplanted(image, self.scans.images[donor], self._boxes[donor], rng)

    def _perhaps_stripped(self, row: int, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self._skulls[row] == "stripped" or not self._drawn_on("stripping", STRIPPED, rng):
            return image
        return augmentation.stripped(image, rng)

    def _drawn_on(self, part: str, share: float, rng: np.random.Generator) -> bool:
        """Whether this part of the recipe comes upon this draw."""
        return rng.random() < share and part != self.schedule.without


def _sized(images: list[np.ndarray], side: int) -> np.ndarray:
    return np.stack([cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in images])


def sampling_weights(scans: Scans, copies: np.ndarray) -> np.ndarray:
    """Return each scan's probability to be drawn: strata alike within a class, copies and persons by square roots.

    A healthy stratum beside tumours of its own source counts twice: fewer of its draws get a lesion. A picture with
    sixty copies, or a person with sixty slices, counts for eight.
    """
    kinds, labels = strata(scans.table), scans.table["label"].to_numpy()
    persons = scans.table["person"].to_numpy(str).astype(object)
    alone = (persons == "") | (scans.table["person_from"] == "source").to_numpy()
    persons[alone] = [f"copies {group}" for group in copies[alone]]
    weights = _tamed(_tamed(np.ones(len(scans)), copies), persons.astype(str))
    beside = _beside_tumours(scans)
    for label, share in ((0, 1 - TUMOURS), (1, TUMOURS)):
        mine = np.unique(kinds[labels == label])
        parts = np.array([2.0 if label == 0 and beside[kinds == kind].any() else 1.0 for kind in mine])
        for kind, part in zip(mine, parts, strict=True):
            weights[kinds == kind] *= share * part / parts.sum() / weights[kinds == kind].sum()
    return weights / weights.sum()


def _tamed(weights: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Weights divided by the root of what all rows of the same name weigh together."""
    _, place = np.unique(names, return_inverse=True)
    return weights / np.sqrt(np.bincount(place, weights))[place]


def _beside_tumours(scans: Scans) -> np.ndarray:
    """Whether each scan's source has a tumour."""
    return (scans.table.groupby("source")["label"].transform("max") == 1).to_numpy()


def lesion_shares(scans: Scans) -> np.ndarray:
    """Return the share of each scan's draws that get a lesion put in; 0 for tumours."""
    shares = np.where(_beside_tumours(scans), LESION_BESIDE_TUMOURS, LESION_WITHOUT_TUMOURS)
    return np.where(scans.table["label"] == 1, 0.0, shares)


def _tumour_shares(scans: Scans, weights: np.ndarray, lesion_share: np.ndarray) -> np.ndarray:
    """Return for each scan the share of its source's draws that show a tumour or get a lesion, (n,)."""
    _, source = np.unique(scans.table["source"].to_numpy(str), return_inverse=True)
    showing = np.where(scans.table["label"] == 1, 1.0, lesion_share)
    return (np.bincount(source, weights * showing) / np.bincount(source, weights))[source]


def _type_weights(scans: Scans, weights: np.ndarray) -> np.ndarray:
    """One weight per tumour type, so that all types weigh alike, float32 (3,); 0 for a type without a scan."""
    shares = np.array([weights[scans.table["type"] == kind].sum() for kind in TYPES])
    smallest = shares[shares > 0].min(initial=1.0)
    return np.divide(smallest, shares, out=np.zeros(len(TYPES)), where=shares > 0).astype(np.float32)
