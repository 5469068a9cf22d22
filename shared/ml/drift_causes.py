"""What most likely changed, once scans look otherwise than the reference: an attribute, a sequence, image quality."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from shared.ml.drift_records import QUALITY, Finding, Floats, Scans

Map = Callable[[Floats], Floats]

LOOKS = "sequence, as it looks"
"""Attribute of scans whose sequence nobody told, which is all but DICOM."""

_LEAST_OF_A_SEQUENCE = 5
"""Scans by which a sequence's looks are known."""
_NAMED_BELOW = 0.01
"""P-value below which an attribute or a statistic is named, once the inputs have changed: a wrong name is no alarm."""
FOLDS = 5
RIDGE = 0.3
"""Added to every covariance, which is about 1 in each direction: one of little variance must not decide."""


def shares(about: str, *strata: tuple[list[str], list[str]]) -> Finding:
    """Return the G-test of the shares of each value, known against new, summed over strata.

    Values that the reference never saw count as one more kind; empty text, where nothing is told, counts for nothing.
    """
    statistic, freedom, effect = 0.0, 0, 0.0
    for known, new in strata:
        kinds = sorted({*known, *new} - {""})
        table = np.array([[values.count(kind) for kind in kinds] for values in (known, new)])
        if len(kinds) > 1 and table.any(axis=1).all():
            each = table / table.sum(axis=1, keepdims=True)
            found = stats.chi2_contingency(table, correction=True, lambda_="log-likelihood")
            statistic, freedom = statistic + float(found.statistic), freedom + int(found.dof)
            effect = max(effect, float(np.abs(each[0] - each[1]).max()))
    return Finding(about=about, p_value=float(stats.chi2.sf(statistic, freedom)) if freedom else 1.0, effect=effect)


def causes(reference: Scans, window: Scans, classes: Sequence[str]) -> list[Finding]:
    """Return a test for each attribute and pixel statistic, within the predicted classes that have enough scans."""
    tests = []
    for name in window.attributes if classes else ():
        if any(reference.attributes.get(name, ())) and any(window.attributes[name]):
            strata = [(reference.of(kind).attributes[name], window.of(kind).attributes[name]) for kind in classes]
            tests.append(shares(name, *strata))
    for column, name in enumerate(QUALITY):
        within = [_moved(name, reference.of(k).quality[:, column], window.of(k).quality[:, column]) for k in classes]
        tests += [_combined(f"quality: {name}", within)] if within else []
    return tests


def with_looks(told: Scans, reference: Scans, window: Scans, project: Map) -> tuple[Scans, Scans]:
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
    weights = np.linalg.solve(np.cov(within.T) + RIDGE * np.eye(within.shape[1]), means.T)
    scores = project(scans.embeddings) @ weights - (means.T * weights).sum(axis=0) / 2
    return [names[place] for place in scores.argmax(axis=1)]


def _own_looks(told: Scans, names: list[str], project: Map) -> list[str]:
    """Return the same of the told scans themselves, each by the others: as well judged as scans that come."""
    places = np.argsort(told.attributes["sequence"], kind="stable")
    folds, looks = np.empty(len(told), int), np.empty(len(told), object)
    folds[places] = np.arange(len(told)) % FOLDS  # so that each fold holds some of each sequence, and none all of one
    for fold in range(FOLDS):
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


def cause(moved: Sequence[Finding], inputs: Sequence[Finding], tests: Sequence[Finding]) -> str:
    """Return the attribute that explains the drift best; if none that is told does, what is seen in the scans."""
    found = sorted((test for test in tests if test.p_value < _NAMED_BELOW), key=lambda test: test.p_value)
    seen = [test.about for test in found if test.about == LOOKS or test.about.startswith("quality")]
    told = [test.about for test in found if test.about not in seen]
    if told:
        return told[0]
    if seen:
        return "sequence" if seen[0] == LOOKS else "image quality"
    return moved[0].about.removeprefix("inputs: ") if len(moved) == 1 and len(inputs) > 1 else "unknown"
