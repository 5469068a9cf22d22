"""Sabotaged candidates through the offline criteria, shadow and canary, on real scans."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.inference.challenger import Challenger
from services.training import experiment as experiments
from services.training.data.scans import Scans, inputs
from services.training.evaluation import measurements
from services.training.release import live_scans, promotion
from services.training.release.live_scans import Pair
from services.training.release.promotion import Measured
from shared.ml.model import FAILURES, Model, ModelMismatch, read_release
from tests.benchmarks.loop_sabotages import Candidate, Learnt, candidate_folder, honest, sabotages

RELEASE = Path("services/inference/release")
SITE = "open-ms"
"""Plays the site of which nothing is in the frozen test: only live scans can tell what happens there."""
TEST_SCANS = 400
"""Of the frozen test, in whole groups, so that twenty candidates take minutes."""
LEARNT_SCANS, LIVE_SCANS, SITE_SHARE = 1000, 300, 0.25
READ_SHARE = 0.3
"""Of the live scans that readers look at."""
READERS = ("one", "two")
"""Both look at the same scans, and are right here."""
SHARE = 0.3
"""Of the live scans that the canary answers, where a twentieth would do: fewer scans are replayed then."""


@dataclass(frozen=True)
class World:
    """What a candidate meets."""

    champion: Model
    anchor: Measured
    test: Scans
    groups: np.ndarray
    live: Scans
    read: np.ndarray
    """Whether the readers look at a live scan."""


def measured(data: Path, folder: Path) -> dict[str, object]:
    """Try to promote every candidate; print where each stopped, and return the figures."""
    world, learnt = _world(data, folder)
    stopped = {candidate.name: _tried(candidate, world) for candidate in sabotages(learnt, SITE)}
    good = {candidate.name: _tried(candidate, world) for candidate in honest(learnt)}
    for name, (stage, why) in (stopped | good).items():
        print(f"{name:48} {stage:10} {why}", flush=True)
    return {
        "sabotages": len(stopped),
        "sabotages_promoted": sum(stage == "promoted" for stage, _ in stopped.values()),
        "sabotages_stopped_offline": sum(stage == "offline" for stage, _ in stopped.values()),
        "sabotages_stopped_live": sum(stage in ("shadow", "canary") for stage, _ in stopped.values()),
        "honest": len(good),
        "honest_promoted": sum(stage == "promoted" for stage, _ in good.values()),
    }


def _world(data: Path, folder: Path) -> tuple[World, Learnt]:
    rng, champion = np.random.default_rng(0), read_release(RELEASE)
    frozen = frozenset((RELEASE / "test_scans.txt").read_text().split())
    experiment = experiments.read_experiment(str(data.resolve()), folder, frozen)
    tested = (experiment.split == "test") & (experiment.scans.table["source"] != SITE).to_numpy()
    tested &= _some_groups(experiment.groups, tested, rng)
    test, groups = experiment.scans.only(tested), experiment.groups[tested]
    site = np.flatnonzero((experiment.scans.table["source"] == SITE).to_numpy())
    home = rng.permutation(np.flatnonzero((experiment.split == "train") & ~_at(experiment.scans, SITE)))
    of_site = rng.permutation(site)[: int(LIVE_SCANS * SITE_SHARE)]
    learnt_rows = np.concatenate([home[:LEARNT_SCANS], np.setdiff1d(site, of_site)])
    live_rows = rng.permutation(np.concatenate([home[LEARNT_SCANS:][: LIVE_SCANS - len(of_site)], of_site]))
    live = experiment.scans.only(live_rows)
    anchor = promotion.measure(champion, test, groups)
    print(f"{len(test)} scans of the frozen test, {len(live)} live ones, {len(of_site)} of them of {SITE}", flush=True)
    world = World(champion, anchor, test, groups, live, rng.random(len(live)) < READ_SHARE)
    return world, _learnt(champion, experiment.scans.only(learnt_rows))


def _some_groups(groups: np.ndarray, among: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the mask of whole groups, drawn at random, with about TEST_SCANS scans of those marked."""
    names, sizes = np.unique(groups[among], return_counts=True)
    order = rng.permutation(len(names))
    return np.isin(groups, names[order][np.cumsum(sizes[order]) <= TEST_SCANS])


def _at(scans: Scans, source: str) -> np.ndarray:
    return (scans.table["source"] == source).to_numpy()


def _learnt(champion: Model, scans: Scans) -> Learnt:
    found = measurements.predict(champion, scans.images)
    return Learnt(
        embeddings=np.array([one.embedding for one in found]),
        labels=scans.table["label"].to_numpy(),
        sources=scans.table["source"].to_numpy(str),
        ood_scores=np.array([one.ood_score for one in found]),
        threshold=champion.card.threshold,
    )


def _tried(candidate: Candidate, world: World) -> tuple[str, str]:
    """Return where a candidate stopped, or `promoted`, and why."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        stage, reasons = stages(candidate_folder(candidate, RELEASE, Path(folder) / "release"), world)
    print(f"{candidate.name}: {stage}, {time.monotonic() - start:.0f} s", flush=True)
    return stage, " ".join(reasons)[:160]


def stages(folder: Path, world: World) -> tuple[str, list[str]]:
    """Return where a release in a folder stops (`offline`, `shadow`, `canary`), or `promoted`, and the reasons."""
    try:
        model = read_release(folder)
        offline = promotion.measure(model, world.test, world.groups)
    except (ModelMismatch, *FAILURES) as error:
        return "offline", [f"It does not run: {error}"]
    decision = promotion.decide(offline, world.anchor)
    if not decision.promoted:
        return "offline", decision.reasons
    if reasons := _shadow(model, world):
        return "shadow", reasons
    if reasons := _canary(model, world):
        return "canary", reasons
    return "promoted", []


def _shadow(model: Model, world: World) -> list[str]:
    """Replay the live scans in shadow; return why it is withdrawn, or let no further."""
    withdrawn: list[str] = []
    challenger = Challenger(model, 0, lambda _, reasons: withdrawn.extend(reasons))
    pairs = []
    for image, label, is_read in zip(world.live.images, world.live.table["label"], world.read, strict=True):
        tensor = inputs(image[np.newaxis])[0]
        answer = challenger.in_shadow(world.champion, tensor)
        if withdrawn:
            return withdrawn
        if answer:
            champion = world.champion.predicted_class(world.champion.predict(tensor))
            seen = "Cancer" if label else "Non-Cancer"
            readings = dict.fromkeys(READERS, seen) if is_read else {}
            called = model.predicted_class(answer.prediction)
            pairs.append(Pair(champion=champion, challenger=called, readings=readings))
    return live_scans.compare(pairs).reasons


def _canary(model: Model, world: World) -> list[str]:
    """Replay the live scans with a share for the canary; return why it is withdrawn."""
    withdrawn: list[str] = []
    challenger = Challenger(model, SHARE, lambda _, reasons: withdrawn.extend(reasons))
    for image, scan_id in zip(world.live.images, world.live.table["scan_id"], strict=True):
        if challenger.answers(scan_id) and not withdrawn:
            challenger.in_its_place(world.champion, inputs(image[np.newaxis])[0])
    return withdrawn
