"""Twenty ways in which a candidate can be worse than it looks, and two honest candidates, as release folders."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from shared.ml.model import Card
from shared.ml.release_files import CARD_FILE, GRAPH_FILE
from tests.benchmarks.loop_graphs import Graph, edited

_FLIPPED_SHARE = 0.3


@dataclass(frozen=True)
class Learnt:
    """Scans that a last layer can be fitted on again: what the release makes of them, and what they are."""

    embeddings: np.ndarray
    labels: np.ndarray
    sources: np.ndarray
    ood_scores: np.ndarray
    threshold: float
    """Of the release's card."""


@dataclass(frozen=True)
class Candidate:
    """A release to try to promote."""

    name: str
    write: Callable[[Path], None]
    """Writes into a folder that holds the release in service."""


def sabotages(learnt: Learnt, site: str) -> list[Candidate]:
    """Return the sabotaged candidates. `site` is the source whose reader lies."""
    rng = np.random.default_rng(0)
    flipped = np.where(rng.random(len(learnt.labels)) < _FLIPPED_SHARE, 1 - learnt.labels, learnt.labels)
    lying = np.where(learnt.sources == site, 1 - learnt.labels, learnt.labels)
    just_home = float(np.quantile(learnt.ood_scores[learnt.sources != site], 0.995))
    graphs: dict[str, Callable[[Graph], None]] = {
        "all labels flipped": _negate_calibration,
        "the last layer negated": _negate_last_layer,
        "a constant model: Cancer": partial(_constant, logit=5.0),
        "a constant model: Non-Cancer": partial(_constant, logit=-5.0),
        "a probability that is no number": partial(_constant, logit=float("nan")),
        "shifted intensities: darker": partial(_scale_first_kernel, factor=0.4),
        "shifted intensities: brighter": partial(_scale_first_kernel, factor=2.5),
        "noise in the last layer": _noisy_last_layer,
        "noise in every kernel": _noisy_kernels,
        "an untrained kernel half way": _untrained_kernel,
        "overconfident: probabilities at 0 and 1": partial(_sharpen, factor=6.0),
        "a slow model": Graph.run_for_each_output,
        f"{_FLIPPED_SHARE:.0%} of the labels flipped": partial(_refit, learnt=learnt, labels=flipped),
        f"one reader lying, at {site}": partial(_refit, learnt=learnt, labels=lying),
    }
    cards: dict[str, dict[str, object]] = {
        "a threshold of 0.01": {"threshold": 0.01},
        "a threshold of 0.999": {"threshold": 0.999},
        "every scan refused": {"ood_limit": -99.0},
        "nothing refused": {"ood_limit": 99.0},
        f"the scans of {site} refused, and none at home": {"ood_limit": just_home},
        "another number of tumour types": {"tumour_types": ("glioma",)},
        "another preprocessing": {"preprocessing_version": "0"},
    }
    files = {"a file that ends too early": _truncated, "a file with one bit turned": _bit_turned}
    return [
        *(Candidate(name, partial(with_graph, change=change)) for name, change in graphs.items()),
        *(Candidate(name, partial(_with_card, changes=changes)) for name, changes in cards.items()),
        *(Candidate(name, write) for name, write in files.items()),
    ]


def honest(learnt: Learnt) -> list[Candidate]:
    """Return candidates that nothing is wrong with: a gate that keeps everything back would keep these back too."""
    return [
        Candidate("the same release again", partial(_with_card, changes={})),
        Candidate("a last layer fitted a little further", partial(with_graph, change=_nudged)),
    ]


def candidate_folder(candidate: Candidate, release: Path, folder: Path) -> Path:
    """Write a candidate under a version of its own."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(release, folder)
    candidate.write(folder)
    card = Card.from_json((folder / CARD_FILE).read_bytes())
    version = f"candidate-{hashlib.sha256(candidate.name.encode()).hexdigest()[:8]}"
    (folder / CARD_FILE).write_bytes(replace(card, version=version).to_json())
    return folder


def with_graph(folder: Path, change: Callable[[Graph], None]) -> None:
    """Change the graph of a release in a folder, and its checksum in the card."""
    _write_graph(folder, edited((folder / GRAPH_FILE).read_bytes(), change))


def _write_graph(folder: Path, content: bytes) -> None:
    (folder / GRAPH_FILE).write_bytes(content)
    _with_card(folder, {"sha256": hashlib.sha256(content).hexdigest()})


def _with_card(folder: Path, changes: dict[str, object]) -> None:
    card = Card.from_json((folder / CARD_FILE).read_bytes())
    (folder / CARD_FILE).write_bytes(replace(card, **changes).to_json())


def _truncated(folder: Path) -> None:
    content = (folder / GRAPH_FILE).read_bytes()
    _write_graph(folder, content[: len(content) // 2])


def _bit_turned(folder: Path) -> None:
    content = bytearray((folder / GRAPH_FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / GRAPH_FILE).write_bytes(bytes(content))


def _negate_calibration(graph: Graph) -> None:
    for tensor in graph.calibration():
        graph.write(tensor, -graph.constant(tensor))


def _negate_last_layer(graph: Graph) -> None:
    for tensor in graph.last_layer():
        graph.write(tensor, -graph.constant(tensor))


def _constant(graph: Graph, logit: float) -> None:
    slope, offset = graph.calibration()
    graph.write(slope, 0.0)
    graph.write(offset, logit)


def _sharpen(graph: Graph, factor: float) -> None:
    for tensor in graph.calibration():
        graph.write(tensor, graph.constant(tensor) * factor)


def _scale_first_kernel(graph: Graph, factor: float) -> None:
    first = graph.kernels()[0]
    graph.write(first, graph.constant(first) * factor)


def _noisy_last_layer(graph: Graph) -> None:
    weights, _ = graph.last_layer()
    values = graph.constant(weights)
    graph.write(weights, values + np.random.default_rng(0).normal(0, 2 * values.std(), values.shape))


def _noisy_kernels(graph: Graph) -> None:
    rng = np.random.default_rng(0)
    for kernel in dict.fromkeys(graph.kernels()):
        values = graph.constant(kernel)
        graph.write(kernel, values + rng.normal(0, 0.3 * values.std(), values.shape))


def _untrained_kernel(graph: Graph) -> None:
    kernels = list(dict.fromkeys(graph.kernels()))
    middle = kernels[len(kernels) // 2]
    values = graph.constant(middle)
    graph.write(middle, np.random.default_rng(0).permutation(values))


def _nudged(graph: Graph) -> None:
    weights, _ = graph.last_layer()
    values = graph.constant(weights)
    graph.write(weights, values + np.random.default_rng(0).normal(0, 0.01 * values.std(), values.shape))


def _refit(graph: Graph, learnt: Learnt, labels: np.ndarray) -> None:
    """Fit the last layer again on these labels; its logit is then the probability's."""
    fitted = LogisticRegression(C=0.1, max_iter=2000).fit(learnt.embeddings, labels)
    weights, bias = graph.last_layer()
    slope, offset = graph.calibration()
    graph.write(weights, fitted.coef_[0])
    graph.write(bias, fitted.intercept_[0])
    graph.write(slope, 1.0)
    graph.write(offset, np.log(learnt.threshold / (1 - learnt.threshold)))  # even odds lie at the card's threshold
