"""Whether drift is found, and nothing else taken for it: streams of real scans replayed into the released model.

Prints a table and writes `.local/bench/drift.json`. Beside the permutation test stand two others on the same windows:
the maximum mean discrepancy of the embeddings, with permutations too, and what the charts of Operations show, a
Kolmogorov-Smirnov test on the probabilities.

Every draw splits the known scans anew into a reference and those that may come: windows against one reference share
its chance differences, and are no independent draws. What `shared.ml.drift` does was settled on draws 0 to 199; those
that are reported come from another `--seed`. The files that are read stay the same.
"""

import argparse
import json
import os
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
from scipy import stats

from shared.ml import drift, drift_records
from shared.ml.model import read_release
from shared.ml.release_files import REFERENCE_FILE, TEST_FILE
from tests.benchmarks.drift_streams import AWAY, HOME, Stream, TooFewScans, as_coarse_tiff, mixed, read, sharpened

RELEASE = Path("services/inference/release")
OUTPUT = Path(".local/bench/drift.json")
WINDOW = 50
SIZES = (20, 25, 30, 40, 50, 75, 100)
"""Of windows, tried upwards until 95 in 100 raise the alarm."""
DAYS, SCANS_A_DAY = 30, 200

Figures = dict[str, float | int | None]
Draw = Callable[[int, int], tuple[Stream, Stream]]
"""Reference and window of a seed and a number of scans."""


def main() -> None:
    """Measure every stream."""
    arguments = _parser().parse_args()
    seeds = range(arguments.seed, arguments.seed + arguments.draws)
    home, streams = _streams(arguments.data)
    figures: Figures = {}
    for name, (draw, cause) in streams.items():
        found = {f"{name}, {test}": share for test, share in _measured(draw, seeds, cause).items()}
        figures |= _told_of(found | {f"{name}, scans until the alarm at 95%": _scans_until(draw, seeds, cause)})
    figures |= _told_of(
        {
            "half_swapped_found_within_50": figures["half from other sources, inputs"],
            "case_mix_named": figures["case mix only, named case mix"],
            "false_alarms_30_days": _quiet_month(home, arguments.seed),
            "accuracy_estimate_error": _estimate_error(home, seeds),
            "draws": arguments.draws,
            "first_seed": arguments.seed,
            "window": WINDOW,
        }
    )
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(figures, indent=1))


def _told_of(figures: Figures) -> Figures:
    for name, value in figures.items():
        print(f"{name:60} {'more than can be drawn' if value is None else f'{value:.3f}'}", flush=True)
    return figures


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("SCANFLOW_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=default, help="folder of real scans (default: %(default)s)")
    parser.add_argument("--draws", type=int, default=200, help="windows of each stream (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1000, help="of the first draw (default: %(default)s)")
    return parser


def _streams(data: Path) -> tuple[Stream, dict[str, tuple[Draw, str]]]:
    """Return the known scans, and by name of a stream how it is drawn and what its cause should be called."""
    model, rng = read_release(RELEASE), np.random.default_rng(0)
    home, away = (read(model, data, folders, rng) for folders in (HOME, AWAY))
    sharp, coarse = (read(model, data, HOME, rng, change) for change in (sharpened, as_coarse_tiff))
    one, others = _sequences(away)
    return home, {
        "half from other sources": (partial(_half_swapped, home, away), "source"),
        "half sharpened": (partial(_half_swapped, home, sharp), "image quality"),
        "half in another file format": (partial(_half_swapped, home, coarse), "format"),
        "half of another sequence": (partial(_half_swapped, one, others, known=0.6, tumours=0.4), "sequence"),
        "case mix only": (partial(_fewer_tumours, home), "case mix"),
    }


def _sequences(away: Stream) -> tuple[Stream, Stream]:
    """Return T1, and FLAIR and T2 of the same two sources; none of the release's test, which tells their looks."""
    tested = (RELEASE / TEST_FILE).read_text().split()
    both = away.where("source", "brats-t2-flair", "open-ms")
    new = both.take(~np.isin(both.files, tested))
    return new.where("sequence", "T1", "T1c"), new.where("sequence", "FLAIR", "T2")


def _half_swapped(
    own: Stream, other: Stream, seed: int, n: int, *, known: float = 0.5, tumours: float = 0.8
) -> tuple[Stream, Stream]:
    """Return a share of the own scans as the reference, and n of the others with half from the other stream."""
    rng = np.random.default_rng([seed, 1])
    reference, pool = own.parted(known, rng)
    return reference, mixed(pool, other, 0.5, rng, n=n, tumours=tumours)


def _fewer_tumours(own: Stream, seed: int, n: int) -> tuple[Stream, Stream]:
    rng = np.random.default_rng([seed, 1])
    reference, pool = own.parted(0.5, rng)
    return reference, mixed(pool, pool, 0.0, rng, n=n, tumours=0.3)


@cache
def _told() -> drift_records.Scans:
    """Return the release's own reference, which tells what sequences look like."""
    return drift_records.Scans.from_bytes((RELEASE / REFERENCE_FILE).read_bytes())


def _checked(reference: Stream, window: Stream, seed: int) -> drift.Verdict:
    return drift.check(reference.scans, window.arrived(), seed=seed, told=_told())


def _called(verdict: drift.Verdict) -> str:
    """Return what a verdict names."""
    return verdict.cause if verdict.change == "inputs" else verdict.change


def _measured(draw: Draw, seeds: Sequence[int], cause: str) -> dict[str, float]:
    """Return the share of windows that each test finds changed, all at the same level, and of those named rightly."""
    hits = []
    for seed in seeds:
        reference, window = draw(seed, WINDOW)
        verdict = _checked(reference, window, seed)
        known = reference.scans.embeddings[np.random.default_rng([seed, 2]).permutation(len(reference.files))[:200]]
        hits.append(
            {
                "inputs": verdict.change == "inputs",
                f"named {cause}": _called(verdict) == cause,
                "MMD": _mmd_p(known, window.scans.embeddings, seed) < verdict.level,
                "KS on probabilities": _ks_p(reference, window) < verdict.level,
            }
        )
    return {name: float(np.mean([hit[name] for hit in hits])) for name in hits[0]}


def _scans_until(draw: Draw, seeds: Sequence[int], cause: str) -> int | None:
    """Return the fewest scans of which 95 in 100 windows raise the alarm; None if no size that is tried will do."""
    expected = "case mix" if cause == "case mix" else "inputs"
    for size in SIZES:
        try:
            if _found_in_most(draw, seeds, size, expected):
                return size
        except TooFewScans:
            return None
    return None


def _found_in_most(draw: Draw, seeds: Sequence[int], size: int, expected: str) -> bool:
    missed = 0
    for seed in seeds:
        missed += _checked(*draw(seed, size), seed).change != expected
        if missed > 0.05 * len(seeds):
            return False
    return True


def _ks_p(home: Stream, window: Stream) -> float:
    """Return how likely the probabilities of Cancer are those of the home stream, as the chart shows it."""
    return float(stats.ks_2samp(window.probabilities, home.probabilities).pvalue)


def _mmd_p(known: np.ndarray, new: np.ndarray, seed: int, permutations: int = 499) -> float:
    """Return the permutation p-value of the maximum mean discrepancy (Gretton et al. 2012), median bandwidth."""
    rng = np.random.default_rng(seed)
    pooled = np.concatenate([known, new])
    squares = np.square(pooled).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * pooled @ pooled.T, 0)
    kernel = np.exp(-distances / np.median(distances[distances > 0]))
    weights = np.full((permutations + 1, len(pooled)), -1 / len(known))
    weights[0, len(known) :] = 1 / len(new)
    for row in weights[1:]:
        row[rng.choice(len(pooled), len(new), replace=False)] = 1 / len(new)
    found = np.einsum("ij,ij->i", weights @ kernel, weights)
    return float(np.mean(found >= found[0]))


def _quiet_month(home: Stream, seed: int) -> int:
    """Return the alarms of a month in which nothing changes: each check sees the newest 100 of 200 scans a day."""
    rng = np.random.default_rng([seed, 3])
    reference, pool = home.parted(0.5, rng)
    alarms = 0
    for _ in range(DAYS):
        day = mixed(pool, pool, 0.0, rng, n=SCANS_A_DAY, tumours=0.75)
        order = rng.permutation(SCANS_A_DAY)
        for check in range(drift.CHECKS_PER_DAY):
            newest = np.roll(order, check * SCANS_A_DAY // drift.CHECKS_PER_DAY)[:100]
            alarms += _checked(reference, day.take(newest), check).change == "inputs"
    return alarms


def _estimate_error(home: Stream, seeds: Sequence[int]) -> float:
    """Return the mean distance between promised and true accuracy in windows of 200 scans that nothing changed."""
    errors = []
    for seed in seeds:
        rng = np.random.default_rng([seed, 4])
        window = mixed(home, home, 0.0, rng, n=SCANS_A_DAY)
        accuracy = np.mean((window.probabilities >= 0.5) == window.tumours)
        errors.append(abs(drift.expected_accuracy(window.probabilities) - accuracy))
    return float(np.mean(errors))


if __name__ == "__main__":
    main()
