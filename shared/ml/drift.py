"""Drift: whether the scans of a window still look like those that the release knows, and what changed.

Within each predicted class, a linear discriminant tries to tell the window's embeddings from the reference's. If it
separates them better than it does random halves, the inputs have changed, whatever the case mix: a classifier two-
sample test (Lopez-Paz and Oquab, ICLR 2017) with a p-value from permutations (Kim et al., Annals of Statistics
49:411, 2021). The share of each predicted class is tested by itself: more tumours in a week are reported as case mix,
not as drift.
"""

import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from shared.labels import Label

Floats = NDArray[np.floating]
Map = Callable[[Floats], Floats]
Change = Literal["none", "inputs", "case mix"]

MIN_SCANS = 16
"""Scans of one predicted class below which a window says nothing about that class."""
FALSE_ALARMS_PER_DAY = 1 / 30
"""Budget of false alarms, shared by all checks of a day: one in a month."""
CHECKS_PER_DAY = 8
"""As Terraform schedules them. Fewer checks leave each a larger share of the budget, and so more power."""

_FOLDS = 5
_DIMENSIONS = 64
"""Principal components of the reference that the discriminant sees."""
_RIDGE = 0.3
"""Added to the pooled covariance, which is about 1 in each direction: one of little variance must not decide."""
_PERMUTATIONS = 1999
_LEAST_OF_A_SEQUENCE = 5
"""Scans by which a sequence's looks are known."""
_NAMED_BELOW = 0.01
"""P-value below which an attribute or a statistic is named, once the inputs have changed: a wrong name is no alarm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scans:
    """What is known of some scans, a row each."""

    embeddings: Floats
    """float32 (n, d), of the release."""
    predicted: list[str]
    """Predicted class."""
    attributes: Mapping[str, list[str]]
    """Columns such as source, manufacturer, sequence, format; empty text where unknown."""
    quality: Floats
    """float (n, q): pixel statistics, in the order of QUALITY."""

    def __len__(self) -> int:
        return len(self.predicted)

    def rows(self, chosen: NDArray[np.bool_]) -> Self:
        """Return the chosen rows."""
        kept = np.flatnonzero(chosen)
        return type(self)(
            embeddings=self.embeddings[kept],
            predicted=[self.predicted[i] for i in kept],
            attributes={name: [values[i] for i in kept] for name, values in self.attributes.items()},
            quality=self.quality[kept],
        )

    def to_bytes(self) -> bytes:
        """Return the scans as NumPy's own archive format, without pickles."""
        archive = io.BytesIO()
        columns: dict[str, Any] = {
            f"attribute_{name}": np.array(values, np.str_) for name, values in self.attributes.items()
        }
        np.savez_compressed(
            archive,
            embeddings=self.embeddings.astype(np.float16),
            predicted=np.array(self.predicted, np.str_),
            quality=self.quality.astype(np.float32),
            **columns,
        )
        return archive.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Return the scans from `to_bytes`."""
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return cls(
                embeddings=archive["embeddings"].astype(np.float32),
                predicted=archive["predicted"].tolist(),
                attributes={
                    name.removeprefix("attribute_"): archive[name].tolist()
                    for name in archive.files
                    if name.startswith("attribute_")
                },
                quality=archive["quality"],
            )


LOOKS = "sequence, as it looks"
"""Attribute of scans whose sequence nobody told, which is all but DICOM."""

QUALITY = ("mean", "std", "skewness", "kurtosis")
"""Columns of `features` that say how an image is exposed and how sharp its tones are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One test of the window against the reference."""

    about: str
    """`inputs: Cancer`, `case mix`, `source`, `quality: std`, ..."""
    p_value: float
    effect: float
    """AUC of telling window from reference for inputs; largest difference of shares or of means in stds elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a check concludes."""

    change: Change
    cause: str
    """What most likely changed: the name of an attribute, `image quality`, a predicted class, or `unknown`."""
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
    reference, window = _with_looks(told, reference, window, project)
    like = _of_like_mix(reference, window, np.random.default_rng(seed))
    classes = [name for name in dict.fromkeys(window.predicted) if _enough(like, window, name)]
    inputs, foreign = [], []
    for name in classes:
        known, new = _of(like, name), _of(window, name)
        rng = np.random.default_rng([seed, len(inputs)])
        p_value, auc, scores = _separable(project(known.embeddings), project(new.embeddings), rng)
        inputs.append(Finding(about=f"inputs: {name}", p_value=p_value, effect=auc))
        foreign += list(zip(scores, np.flatnonzero(np.array(window.predicted) == name).tolist(), strict=True))
    mix = _shares("case mix", (reference.predicted, window.predicted))
    causes = _causes(like, window, classes)
    moved = [test for test in inputs if test.p_value * len(inputs) < level]
    change: Change = "inputs" if moved else "case mix" if mix.p_value < level else "none"
    return Verdict(
        change=change,
        cause=_cause(moved, inputs, causes) if moved else "",
        level=level,
        tests=(*inputs, mix, *causes),
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


def _of(scans: Scans, name: str) -> Scans:
    return scans.rows(np.array(scans.predicted) == name)


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
    folds = zip(*(np.array_split(rng.permutation(len(rows)), _FOLDS) for rows in (known, new)), strict=True)
    scores, wins = np.zeros(len(new)), 0.0
    for mine, theirs in folds:
        weights = _discriminant(np.delete(known, mine, axis=0), np.delete(new, theirs, axis=0))
        scores[theirs] = new[theirs] @ weights
        wins += float(stats.mannwhitneyu(scores[theirs], known[mine] @ weights).statistic) / (len(mine) * len(theirs))
    return _permutation_p(known, new, rng), wins / _FOLDS, scores


def _permutation_p(known: Floats, new: Floats, rng: np.random.Generator) -> float:
    pooled = np.concatenate([known, new])
    pooled = pooled - pooled.mean(axis=0)
    covariance = np.cov(pooled.T) + _RIDGE * np.eye(pooled.shape[1])
    white = pooled @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    drawn = np.zeros((_PERMUTATIONS + 1, len(pooled)), np.float32)
    drawn[0, len(known) :] = 1
    for row in drawn[1:]:
        row[rng.choice(len(pooled), len(new), replace=False)] = 1
    separation = np.square(drawn @ white.astype(np.float32)).sum(axis=1)
    return float(np.mean(separation >= separation[0]))


def _discriminant(known: Floats, new: Floats) -> Floats:
    """Return Fisher's linear discriminant (k,), with the covariance of the known rows and a ridge."""
    covariance = np.cov(known.T) + _RIDGE * np.eye(known.shape[1])
    return np.linalg.solve(covariance, new.mean(axis=0) - known.mean(axis=0))


def _shares(about: str, *strata: tuple[list[str], list[str]]) -> Finding:
    """Return the G-test of the shares of each value, known against new, summed over strata.

    Values that the reference never saw count as one more kind; empty text, where nothing is told, counts for nothing.
    """
    statistic, freedom, effect = 0.0, 0, 0.0
    for known, new in strata:
        kinds = sorted({*known, *new} - {""})
        table = np.array([[values.count(kind) for kind in kinds] for values in (known, new)])
        if len(kinds) > 1 and table.any(axis=1).all():
            shares = table / table.sum(axis=1, keepdims=True)
            found = stats.chi2_contingency(table, correction=True, lambda_="log-likelihood")
            statistic, freedom = statistic + float(found.statistic), freedom + int(found.dof)
            effect = max(effect, float(np.abs(shares[0] - shares[1]).max()))
    return Finding(about=about, p_value=float(stats.chi2.sf(statistic, freedom)) if freedom else 1.0, effect=effect)


def _causes(reference: Scans, window: Scans, classes: Sequence[str]) -> list[Finding]:
    """Return a test for each attribute and pixel statistic, within the predicted classes that have enough scans."""
    tests = []
    for name in window.attributes if classes else ():
        if any(reference.attributes.get(name, ())) and any(window.attributes[name]):
            within = [(_of(reference, kind).attributes[name], _of(window, kind).attributes[name]) for kind in classes]
            tests.append(_shares(name, *within))
    for column, name in enumerate(QUALITY):
        within = [
            _moved(name, _of(reference, k).quality[:, column], _of(window, k).quality[:, column]) for k in classes
        ]
        tests += [_combined(f"quality: {name}", within)] if within else []
    return tests


def _with_looks(told: Scans, reference: Scans, window: Scans, project: Map) -> tuple[Scans, Scans]:
    """Return reference and window with the sequence that each scan looks like, if enough is told of two or more."""
    names = _sequences(told)
    if len(names) < 2 or not len(window):
        return reference, window
    own = _own_looks(told, names, project) if told is reference else _looks(told, names, reference, project)
    return _with(reference, LOOKS, own), _with(window, LOOKS, _looks(told, names, window, project))


def _with(scans: Scans, name: str, values: list[str]) -> Scans:
    return replace(scans, attributes={**scans.attributes, name: values})


def _sequences(told: Scans) -> list[str]:
    """Return the sequences that enough scans are told to have."""
    counts = Counter(filter(None, told.attributes.get("sequence", ())))
    return sorted(name for name, count in counts.items() if count >= _LEAST_OF_A_SEQUENCE)


def _looks(told: Scans, names: list[str], scans: Scans, project: Map) -> list[str]:
    """Return which of some sequences each scan looks like: a linear discriminant on the embeddings, no one favoured."""
    known = told.rows(np.isin(told.attributes["sequence"], names))
    sequences, embeddings = np.array(known.attributes["sequence"]), project(known.embeddings)
    means = np.stack([embeddings[sequences == name].mean(axis=0) for name in names])
    within = embeddings - means[np.searchsorted(names, sequences)]
    weights = np.linalg.solve(np.cov(within.T) + _RIDGE * np.eye(within.shape[1]), means.T)
    scores = project(scans.embeddings) @ weights - (means.T * weights).sum(axis=0) / 2
    return [names[place] for place in scores.argmax(axis=1)]


def _own_looks(told: Scans, names: list[str], project: Map) -> list[str]:
    """Return the same of the told scans themselves, each by the others: as well judged as scans that come."""
    folds, looks = np.arange(len(told)) % _FOLDS, np.empty(len(told), object)
    for fold in range(_FOLDS):
        looks[folds == fold] = _looks(told.rows(folds != fold), names, told.rows(folds == fold), project)
    return [str(name) for name in looks]


def _moved(name: str, known: Floats, new: Floats) -> Finding:
    found = stats.mannwhitneyu(new, known)
    effect = float((new.mean() - known.mean()) / max(float(known.std()), 1e-9))
    return Finding(about=name, p_value=float(found.pvalue), effect=effect)


def _combined(about: str, tests: Sequence[Finding]) -> Finding:
    """Return the strongest of some tests, Bonferroni-corrected."""
    best = min(tests, key=lambda test: test.p_value)
    return Finding(about=about, p_value=min(1.0, best.p_value * len(tests)), effect=best.effect)


def _cause(moved: Sequence[Finding], inputs: Sequence[Finding], causes: Sequence[Finding]) -> str:
    """Return the attribute that explains the drift best; if none that is told does, what is seen in the scans."""
    found = sorted((test for test in causes if test.p_value < _NAMED_BELOW), key=lambda test: test.p_value)
    seen = [test.about for test in found if test.about == LOOKS or test.about.startswith("quality")]
    told = [test.about for test in found if test.about not in seen]
    if told:
        return told[0]
    if seen:
        return "sequence" if seen[0] == LOOKS else "image quality"
    return moved[0].about.removeprefix("inputs: ") if len(moved) == 1 and len(inputs) > 1 else "unknown"
