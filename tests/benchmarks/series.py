"""How many series the release calls Cancer by the rule of shared/ml/series.py: of healthy people, and with tumours.

The healthy ones: people of ds002748 in three planes, people with multiple sclerosis (open-ms), one whole series of a
real head, and the MNI152 template in three planes. With tumours: people of the glioma sets, the template with a lesion.
"""

import argparse
import csv
import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from local.hospital import study
from local.stack.terraform_config import ROOT
from shared.imaging.decoding import decode_scan
from shared.imaging.preprocessing import prepare
from shared.ml.model import Model, read_release
from shared.ml.series import SeriesPrediction, SlicePrediction, predict_series

_OUTPUT = ROOT / ".local" / "bench" / "series.json"
_PLACED = re.compile(r"(?P<series>.+_(?P<plane>ax|co|sa))(?P<place>[+-]?\d+)\.png")
_PLANES = {"ax": "axial", "co": "coronal", "sa": "sagittal"}
_SPACING_MM = 3
_SHARE = 0.1
"""Either end of the template's planes, where there is no brain, is left out."""


@dataclass(frozen=True)
class Slice:
    """One picture of a series, and where it lies."""

    pixels: np.ndarray
    place_mm: float | None = None
    plane: str | None = None


Series = list[Slice]


def main() -> int:
    """Score every series, print a table and write .local/bench/series.json."""
    parser = argparse.ArgumentParser(prog="make bench-series", description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of real scans")
    parser.add_argument("--release", type=Path, default=ROOT / "services/inference/release", help="folder of the model")
    options = parser.parse_args()
    model = read_release(options.release)
    figures: dict[str, float | str] = {"model_version": model.card.version}
    shown = Table(
        "series", "of", "called Cancer", "share", "slices called Cancer", title=f"Release {model.card.version}"
    )
    totals: dict[str, list[int]] = {"healthy": [0, 0], "tumour": [0, 0]}
    for name, kind, series in _sources(options.data):
        results = [_predict(model, one) for one in series]
        cancer = sum(answer.prediction == "Cancer" for answer, _ in results)
        slices, alone = sum(len(one) for one in series), sum(count for _, count in results)
        shown.add_row(name, str(len(series)), str(cancer), f"{cancer / len(series):.1%}", f"{alone} of {slices}")
        figures |= {f"{name}_series": len(series), f"{name}_cancer": cancer, f"{name}_slices_cancer": alone / slices}
        totals[kind] = [totals[kind][0] + cancer, totals[kind][1] + len(series)]
    figures["false_positives"], figures["found"] = starmap(lambda part, whole: part / whole, totals.values())
    console = Console()
    console.print(shown)
    for kind, (cancer, count) in totals.items():
        console.print(f"{kind}: {cancer} of {count} series called Cancer ({cancer / count:.1%})")
    _OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    _OUTPUT.write_text(json.dumps(figures, indent=2))
    return 0


def _sources(data: Path) -> Iterator[tuple[str, str, list[Series]]]:
    """Yield each source with its name and whether its people are healthy."""
    for folder in ("ds002748", "open-ms"):
        yield folder, "healthy", _placed(data / folder / "no")
    yield "structural-t1", "healthy", [_dicom(data / "dicom" / "structural-t1")]
    yield "template", "healthy", list(_planes(study.head()))
    people = _people(data, {"rsna-t1c", "brats-t2-flair"})
    yield "gliomas", "tumour", people
    yield "drawn", "tumour", list(_planes(study.with_lesion()))


def _placed(folder: Path) -> list[Series]:
    """Return the series of a folder whose file names say person, plane and place."""
    found: dict[str, Series] = defaultdict(list)
    for file in sorted(folder.iterdir()):
        if match := _PLACED.fullmatch(file.name):
            page = decode_scan(file.read_bytes()).pages[0]
            found[match["series"]].append(Slice(page, float(match["place"]), _PLANES[match["plane"]]))
    return list(found.values())


def _dicom(folder: Path) -> Series:
    read = [decode_scan(file.read_bytes()) for file in sorted(folder.iterdir())]
    return [Slice(one.pages[0], one.attributes.slice_position_mm(0), one.attributes.plane) for one in read]


def _planes(volume: np.ndarray) -> Iterator[Series]:
    """Yield the template as an axial, a coronal and a sagittal series."""
    views: dict[str, tuple[int, Callable[[int], np.ndarray]]] = {
        "axial": (2, lambda at: volume[:, :, at]),
        "coronal": (1, lambda at: volume[:, at]),
        "sagittal": (0, lambda at: volume[at]),
    }
    for plane, (axis, cut) in views.items():
        size = volume.shape[axis]
        places = range(int(size * _SHARE), int(size * (1 - _SHARE)), _SPACING_MM)
        yield [Slice(np.ascontiguousarray(np.rot90(cut(at))), float(at), plane) for at in places]


def _people(data: Path, sources: set[str]) -> list[Series]:
    """Return one series for each person and sequence of `sources.csv`, where nobody knows the places."""
    found: dict[tuple[str, str], Series] = defaultdict(list)
    with (data / "sources.csv").open() as rows:
        for row in csv.DictReader(rows):
            if row["source"] in sources and row["person"] and row["label"] == "Cancer":
                page = decode_scan((data / row["file"]).read_bytes()).pages[0]
                found[row["person"], row["sequence"]].append(Slice(page))
    return list(found.values())


def _predict(model: Model, series: Iterable[Slice]) -> tuple[SeriesPrediction, int]:
    """Return the answer of a series, and how many of its slices alone are called Cancer."""
    slices = []
    for number, one in enumerate(series):
        prediction = model.predict(prepare(one.pixels))
        slices.append(
            SlicePrediction(
                scan_id=f"{number:064d}",
                probability=prediction.probability,
                prediction=model.predicted_class(prediction),
                position_mm=one.place_mm,
                plane=one.plane,
            )
        )
    return predict_series(slices, model.card.threshold), sum(one.prediction == "Cancer" for one in slices)


if __name__ == "__main__":
    sys.exit(main())
