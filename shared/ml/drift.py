"""Drift: whether the scans of a window still look like those that the release knows, and what changed.

Within each predicted class, a linear discriminant tries to tell the window's embeddings from the reference's. If it
separates them better than it does random halves, the inputs have changed, whatever the case mix: a classifier two-
sample test (Lopez-Paz and Oquab, ICLR 2017) with a p-value from permutations (Kim et al., Annals of Statistics
49:411, 2021). The share of each predicted class is tested by itself: more tumours in a week are reported as case mix,
not as drift. Since a predicted class holds more wrong calls the rarer its label is, the reference is first thinned to
the window's case mix.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from shared.labels import Label
from shared.ml.drift_causes import FOLDS, RIDGE, Map, cause, causes, shares, with_looks
from shared.ml.drift_records import Finding, Floats, Scans

Change = Literal["none", "inputs", "case mix"]

MIN_SCANS = 16
"""Scans of one predicted class below which a window says nothing about that class."""
FALSE_ALARMS_PER_DAY = 1 / 30
"""Budget of false alarms, shared by all checks of a day: one in a month."""
CHECKS_PER_DAY = 8
"""As Terraform schedules them. Fewer checks leave each a larger share of the budget, and so more power."""

_DIMENSIONS = 64
"""Principal components of the reference that the discriminant sees."""
_PERMUTATIONS = 1999


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a check concludes."""

    change: Change
    cause: str
    """What most likely changed: an attribute, `sequence`, `image quality`, a predicted class, or `unknown`."""
    level: float
    """P-value below which this check alarms."""
    tests: tuple[Finding, ...]
    foreign: tuple[int, ...]
    """Rows of the window that look least like the reference, most foreign first, at most ten."""

    @property
    def p_value(self) -> float:
        """Return the smallest p-value of the inputs' tests, corrected for their number; 1 where none could be made."""
        values = [test.p_value for test in self.tests if test.about.startswith("inputs")]
        return min(1.0, min(values, default=1.0) * len(values))


def check(
    reference: Scans,
    window: Scans,
    checks_per_day: float = CHECKS_PER_DAY,
    seed: int = 0,
    told: Scans | None = None,
) -> Verdict:
    """Return whether the window's inputs or its case mix differ from the reference, and what changed.

    `told` are the scans that say along which axes embeddings differ, and what sequences look like: the reference itself
    unless it is too small for either.

    A check alarms where a p-value, Bonferroni-corrected over its classes, falls below the day's budget divided by the
    number of checks in a day: no more than FALSE_ALARMS_PER_DAY are expected whatever the dependence between checks.
    """
    level = FALSE_ALARMS_PER_DAY / checks_per_day
    told = reference if told is None else told
    project = _projection(told.embeddings)
    reference, window = with_looks(told, reference, window, project)
    like = _of_like_mix(reference, window, np.random.default_rng(seed))
    classes = [name for name in dict.fromkeys(window.predicted) if _enough(like, window, name)]
    inputs: list[Finding] = []
    foreign: list[tuple[float, int]] = []
    for name in classes:
        known, new = like.of(name), window.of(name)
        rng = np.random.default_rng([seed, len(inputs)])
        p_value, auc, scores = _separable(project(known.embeddings), project(new.embeddings), rng)
        inputs.append(Finding(about=f"inputs: {name}", p_value=p_value, effect=auc))
        foreign += list(zip(scores, np.flatnonzero(np.array(window.predicted) == name).tolist(), strict=True))
    mix = shares("case mix", (reference.predicted, window.predicted))
    tests = causes(like, window, classes)
    moved = [test for test in inputs if test.p_value * len(inputs) < level]
    change: Change = "inputs" if moved else "case mix" if mix.p_value < level else "none"
    return Verdict(
        change=change,
        cause=cause(moved, inputs, tests) if moved else "",
        level=level,
        tests=(*inputs, mix, *tests),
        foreign=tuple(row for _, row in sorted(foreign, reverse=True)[:10]) if moved else (),
    )


def expected_accuracy(probabilities: Floats) -> float:
    """Return the accuracy that calibrated probabilities of Cancer (n,) promise: the mean of max(p, 1 - p).

    It holds as long as the probabilities are calibrated for these scans: no drift of inputs supports that, and drift
    refutes it (Guillory et al., ICCV 2021, "average confidence").
    """
    return float(np.maximum(probabilities, 1 - probabilities).mean())


def _of_like_mix(reference: Scans, window: Scans, rng: np.random.Generator) -> Scans:
    """Return the reference with so many of its tumours, or of its other scans, that its case mix is the window's.

    The fewer tumours there are, the more of what is called Cancer is called so wrongly, and looks it: without this,
    another case mix is taken for other inputs. The window's share of tumours follows from its share of Cancer and from
    how often the reference's labels are called so (Lipton et al., ICML 2018). A reference without labels stays as is.
    """
    labels = np.array(reference.attributes.get("label", [""] * len(reference)))
    tumours, others = (np.flatnonzero(labels == label) for label in (Label.CANCER, Label.NON_CANCER))
    if not (len(tumours) and len(others) and len(window)):
        return reference
    called = np.array(reference.predicted) == Label.CANCER
    found, wrongly = called[tumours].mean(), called[others].mean()
    share = np.mean(np.array(window.predicted) == Label.CANCER)
    share = np.clip((share - wrongly) / max(found - wrongly, 1e-9), 1e-9, 1 - 1e-9)
    odds = share / (1 - share)
    kept = rng.permutation(tumours)[: round(odds * len(others))], rng.permutation(others)[: round(len(tumours) / odds)]
    return reference.rows(np.isin(np.arange(len(labels)), np.concatenate(kept)))


def _enough(reference: Scans, window: Scans, name: str) -> bool:
    return min(list(scans.predicted).count(name) for scans in (reference, window)) >= MIN_SCANS


def _projection(embeddings: Floats) -> Map:
    """Return the map to the reference's standardised principal components."""
    mean = embeddings.mean(axis=0, dtype=np.float64)
    centred = embeddings - mean
    variances, axes = np.linalg.eigh(centred.T @ centred / len(embeddings))  # far quicker than the matrix's own SVD
    kept = np.flatnonzero(variances > variances[-1] * 1e-8)[-_DIMENSIONS:][::-1]
    weights = axes[:, kept] / np.sqrt(variances[kept])
    return lambda new: (new - mean) @ weights


def _separable(known: Floats, new: Floats, rng: np.random.Generator) -> tuple[float, float, Floats]:
    """Return p-value and AUC of telling new (m, k) from known (n, k), and the new rows' scores, out of fold both.

    The p-value is that of the discriminant's separation (Hotelling's T squared with a ridge) among random relabellings.
    """
    folds = zip(*(np.array_split(rng.permutation(len(rows)), FOLDS) for rows in (known, new)), strict=True)
    scores, wins = np.zeros(len(new)), 0.0
    for mine, theirs in folds:
        weights = _discriminant(np.delete(known, mine, axis=0), np.delete(new, theirs, axis=0))
        scores[theirs] = new[theirs] @ weights
        wins += float(stats.mannwhitneyu(scores[theirs], known[mine] @ weights).statistic) / (len(mine) * len(theirs))
    return _permutation_p(known, new, rng), wins / FOLDS, scores


def _permutation_p(known: Floats, new: Floats, rng: np.random.Generator) -> float:
    pooled = np.concatenate([known, new])
    pooled = pooled - pooled.mean(axis=0)
    covariance = np.cov(pooled.T) + RIDGE * np.eye(pooled.shape[1])
    white = pooled @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    drawn = np.zeros((_PERMUTATIONS + 1, len(pooled)), np.float32)
    drawn[0, len(known) :] = 1
    for row in drawn[1:]:
        row[rng.choice(len(pooled), len(new), replace=False)] = 1
    separation = np.square(drawn @ white.astype(np.float32)).sum(axis=1)
    return float(np.mean(separation >= separation[0]))


def _discriminant(known: Floats, new: Floats) -> Floats:
    """Return Fisher's linear discriminant (k,), with the covariance of the known rows and a ridge."""
    covariance = np.cov(known.T) + RIDGE * np.eye(known.shape[1])
    return np.linalg.solve(covariance, new.mean(axis=0) - known.mean(axis=0))
