"""Streams of real scans as the pipeline would know them, and windows drawn from them."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import tifffile

from services.training.data.sources import read_sources
from shared.imaging.decoding import decode
from shared.imaging.preprocessing import prepare
from shared.labels import Label
from shared.ml import drift_records
from shared.ml.features import pixel_statistics
from shared.ml.model import Model
from shared.scan import file_id

FILES = 400
"""Read of each folder, at most."""
HOME = {
    f"kaggle/Training/{name}": Label.NON_CANCER if name == "notumor" else Label.CANCER
    for name in ("glioma", "meningioma", "pituitary", "notumor")
}
AWAY = {
    **dict.fromkeys(("br35h/yes", "rsna-t1c/yes", "brats-t2-flair/yes"), Label.CANCER),
    **dict.fromkeys(("ds002748/no", "oasis/no", "open-ms/no"), Label.NON_CANCER),
}

Pixels = np.ndarray
Change = Callable[[bytes], bytes]


class TooFewScans(Exception):
    """There are not so many scans to draw."""


@dataclass(frozen=True)
class Stream:
    """Scans that were read once: what the pipeline would know of each, and what is told of it besides."""

    scans: drift_records.Scans
    """As of a reference: with label and sequence as told."""
    probabilities: np.ndarray
    files: np.ndarray
    """Ids."""

    @property
    def tumours(self) -> np.ndarray:
        """Whether each shows a tumour."""
        return np.array(self.scans.attributes["label"]) == Label.CANCER

    def take(self, rows: np.ndarray) -> "Stream":
        """Return some rows, in their order here."""
        chosen = np.zeros(len(self.files), bool)
        chosen[rows] = True
        return Stream(self.scans.rows(chosen), self.probabilities[chosen], self.files[chosen])

    def where(self, name: str, *values: str) -> "Stream":
        """Return the rows whose attribute has one of these values."""
        return self.take(np.isin(self.scans.attributes[name], values))

    def parted(self, share: float, rng: np.random.Generator) -> tuple["Stream", "Stream"]:
        """Return a random share, and the rest."""
        order, first = rng.permutation(len(self.files)), round(share * len(self.files))
        return self.take(order[:first]), self.take(order[first:])

    def arrived(self) -> drift_records.Scans:
        """Return what check_drift reads of such files: no label, no sequence, which only DICOM tells; none refused."""
        scans = self.scans.rows(np.array(self.scans.predicted) != "Not a brain MRI")
        known = {name: scans.attributes[name] for name in ("source", "format")}
        return replace(scans, attributes=known | {"sequence": [""] * len(scans)})


def read(
    model: Model, data: Path, folders: dict[str, Label], rng: np.random.Generator, change: Change | None = None
) -> Stream:
    """Return some files of each folder, changed first if asked."""
    told, rows = read_sources(data), []
    for folder, label in folders.items():
        for path in _files(data / folder, rng):
            content = path.read_bytes()
            sequence = told.get(f"{folder}/{path.name}", {}).get("sequence", "")
            known = {"source": folder.split("/")[0], "sequence": sequence, "label": str(label)}
            rows.append((file_id(content), known, *_seen(model, change(content) if change else content)))
    ids, known, formats, embeddings, predicted, quality, probabilities = zip(*rows, strict=True)
    attributes = {name: [each[name] for each in known] for name in known[0]}
    scans = drift_records.Scans(
        embeddings=np.array(embeddings),
        predicted=list(predicted),
        attributes=attributes | {"format": list(formats)},
        quality=np.array(quality),
    )
    return Stream(scans, np.array(probabilities), np.array(ids))


def _files(folder: Path, rng: np.random.Generator) -> Iterator[Path]:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    yield from (files[i] for i in rng.permutation(len(files))[:FILES])


def _seen(model: Model, content: bytes) -> tuple[str, np.ndarray, str, list[float], float]:
    """Return a file's format, and its first page's embedding, predicted class, pixel statistics and probability."""
    decoded = decode(content)
    tensor = prepare(next(iter(decoded.pages)))
    prediction, statistics = model.predict(tensor), pixel_statistics(tensor)
    quality = [statistics[name] for name in drift_records.QUALITY]
    predicted = model.predicted_class(prediction)
    return decoded.format, prediction.embedding, predicted, quality, prediction.probability


def sharpened(content: bytes) -> bytes:
    """Return the file's page after an unsharp mask, as JPEG of the highest quality."""
    page = decode(content).pages[0]
    sharp = cv2.addWeighted(page, 2.5, cv2.GaussianBlur(page, (0, 0), 2), -1.5, 0)
    return cv2.imencode(".jpg", sharp, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()


def as_coarse_tiff(content: bytes) -> bytes:
    """Return the file's page as a TIFF with coarse JPEG in it."""
    file = io.BytesIO()
    tifffile.imwrite(file, decode(content).pages[0], compression="jpeg", compressionargs={"level": 20})
    return file.getvalue()


def mixed(
    own: Stream, other: Stream, share: float, rng: np.random.Generator, *, n: int, tumours: float = 0.8
) -> Stream:
    """Return n scans, a share of them tumours, a share of each from the other stream; none twice.

    Raises TooFewScans if a stream has fewer.
    """
    parts = []
    for has_tumour, of_label in ((True, tumours), (False, 1 - tumours)):
        wanted = round(n * of_label)
        foreign = round(wanted * share)
        for stream, count in ((own, wanted - foreign), (other, foreign)):
            rows = np.flatnonzero(stream.tumours == has_tumour)
            if len(rows) < count:
                raise TooFewScans
            parts.append(stream.take(rng.choice(rows, count, replace=False)))
    return _joined(parts)


def _joined(parts: list[Stream]) -> Stream:
    scans = drift_records.Scans(
        embeddings=np.concatenate([part.scans.embeddings for part in parts]),
        predicted=[name for part in parts for name in part.scans.predicted],
        attributes={
            name: [value for part in parts for value in part.scans.attributes[name]]
            for name in parts[0].scans.attributes
        },
        quality=np.concatenate([part.scans.quality for part in parts]),
    )
    files = np.concatenate([part.files for part in parts])
    return Stream(scans, np.concatenate([part.probabilities for part in parts]), files)
