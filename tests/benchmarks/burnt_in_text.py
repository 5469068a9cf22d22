"""How much text beside the head is found, what is taken for text, and what looking costs.

Draws annotations of eight fonts, six sizes and four contrasts, level and upright, onto real heads. Prints a table and
writes `.local/bench/burnt-in-text.json`. Files that carry text themselves, by eye, are listed in --except.
"""

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from shared.errors import RejectedScan
from shared.imaging import burnt_in_text
from shared.imaging.decoding import decode
from tests.support.annotations import annotated, any_annotation

OUTPUT = Path(".local/bench/burnt-in-text.json")
FOLDERS = ("kaggle/Training/glioma", "kaggle/Training/meningioma", "kaggle/Training/notumor", "br35h/yes", "dicom")
FOLDERS += ("kaggle/Training/pituitary", "brats-t2-flair/yes", "brisc/no", "ds002748/no", "oasis/no", "open-ms/no")
FOLDERS += ("rsna-t1c/yes",)
_SUFFIXES = {".jpg", ".jpeg", ".png", ".dcm"}
_COLD = """
import time, resource
began = time.process_time()
from shared.imaging import burnt_in_text as b
looked = time.process_time()
b._recogniser()
print(looked - began, time.process_time() - looked, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def heads(data: Path, files: int, rng: random.Random) -> list[tuple[str, np.ndarray]]:
    """Return first pages of some files of each folder, by name."""
    found = []
    for folder in FOLDERS:
        names = sorted(path for path in (data / folder).rglob("*") if path.suffix.lower() in _SUFFIXES)
        for path in rng.sample(names, min(files, len(names))):
            try:
                found.append((str(path.relative_to(data)), decode(path.read_bytes()).pages[0]))
            except RejectedScan:
                continue
    return found


def cost(pages: list[np.ndarray], rounds: int = 3) -> dict[str, float]:
    """Return milliseconds of processor time a page, medians of rounds, and how many pages need the recogniser."""
    looking, deciding = [], []
    for _ in range(rounds):
        began = time.process_time()
        proposed = [burnt_in_text.proposals(burnt_in_text.looked_at(page)[0]) for page in pages]
        looking.append(time.process_time() - began)
        began = time.process_time()
        for page in pages:
            burnt_in_text.text_lines(page)
        deciding.append(time.process_time() - began)
    return {
        "proposal_ms": statistics.median(looking) / len(pages) * 1000,
        "ms": statistics.median(deciding) / len(pages) * 1000,
        "recognised_share": sum(map(bool, proposed)) / len(pages),
    }


def main() -> None:
    """Measure."""
    arguments = _parser().parse_args()
    cv2.setNumThreads(1)
    rng = random.Random(arguments.seed)
    pages = heads(arguments.data, arguments.files, rng)
    flagged = [name for name, page in pages if burnt_in_text.text_lines(page)]
    wrong = [name for name in flagged if Path(name).name not in arguments.bearing]
    drawn, missed = 0, Counter[str]()
    for _, page in pages * arguments.annotations:
        annotation = any_annotation(rng)
        made = annotated(page, annotation, rng)
        if made is not None:
            drawn += 1
            lines = burnt_in_text.text_lines(made[0])
            hidden = burnt_in_text.masked(made[0], lines)
            if not (hidden != made[0])[made[1]].any():
                missed[f"{annotation.font}, {annotation.size}, {annotation.contrast}"] += 1
    cold = subprocess.run([sys.executable, "-c", _COLD], capture_output=True, text=True, check=True).stdout.split()
    figures = {
        "annotated": drawn,
        "found_share": 1 - missed.total() / drawn,
        "clean": len(pages) - len(flagged) + len(wrong),
        "flagged_share": len(wrong) / (len(pages) - len(flagged) + len(wrong)),
        **cost([page for _, page in pages]),
        "import_ms": float(cold[0]) * 1000,
        "recogniser_start_ms": float(cold[1]) * 1000,
        "recogniser_start_mib": int(cold[2]) / 1024,
        "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    for name, value in figures.items():
        print(f"| {name} | {value:.4g} |")
    print("flagged:", *flagged, "missed:", *missed.items(), sep="\n  ")
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(figures, indent=1))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--files", type=int, default=40, help="of each folder")
    parser.add_argument("--annotations", type=int, default=1, help="of each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--except", nargs="*", default=[], dest="bearing", help="files that carry text themselves")
    return parser


if __name__ == "__main__":
    main()
