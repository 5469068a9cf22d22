"""Released models in the models bucket: versions that never change, and one pointer that says which is current."""

import json
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from shared import config
from shared.clock import now
from shared.gcp import bigquery, storage
from shared.ml.model import CARD_FILE, GRAPH_FILE, TEST_FILE, Card, read_release

POINTER = "current.json"

GATED = {"auc_roc": 1, "sensitivity_at_95_specificity": 1, "ece": -1}
"""Figures on the frozen test that a new version must keep, and whether more (1) or less (-1) of them is better."""


class Refused(Exception):  # noqa: N818 - the gate's answer, not a fault
    """The gate keeps the current version, or another promotion came first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the gate found, kept beside the version with both cards."""

    promoted: bool
    reasons: list[str]
    candidate: dict
    current: dict | None


def gate(candidate: Card, current: Card | None) -> Decision:
    """Whether a candidate is no worse than the current version: each figure within the current one's interval.

    Both cards hold figures on the same frozen test (`metrics["test"]` and `metrics["test_manifest"]`).
    """
    reasons = [] if current is None else _reasons(candidate.metrics, current.metrics)
    return Decision(
        promoted=not reasons,
        reasons=reasons,
        candidate=asdict(candidate),
        current=None if current is None else asdict(current),
    )


def promote(folder: Path) -> str:
    """Put a release (card.json, model.tflite) into the models bucket and make it current. Answers its version.

    Raises Refused where the gate says no, with the reasons; the decision is stored either way, in full beside the
    release and as a row of `release_decisions`.
    """
    card = read_release(folder).card
    pointer, generation = _pointer()
    current = _card(pointer["version"]) if pointer else None
    before = current.version if current else None
    decision = gate(card, current)
    bucket, prefix = config.models_bucket(), f"releases/{card.version}"
    storage.create(bucket, f"{prefix}/{GRAPH_FILE}", (folder / GRAPH_FILE).read_bytes(), "application/octet-stream")
    storage.create(bucket, f"{prefix}/{CARD_FILE}", card.to_json(), "application/json")
    storage.create(bucket, f"{prefix}/{TEST_FILE}", (folder / TEST_FILE).read_bytes(), "text/plain")
    storage.create(bucket, f"{prefix}/decision.json", json.dumps(asdict(decision)).encode(), "application/json")
    if not decision.promoted:
        _record(card.version, "kept back", before, decision)
        raise Refused(f"Version {card.version} stays a candidate: {' '.join(decision.reasons)}")
    if before != card.version:
        _point(card.version, before, generation)
    _record(card.version, "promoted", before, decision)
    return card.version


def frozen_test() -> frozenset[str]:
    """Scan ids that the current version was tested on, for the next one to be tested on; none before the first."""
    pointer, _ = _pointer()
    if not pointer:
        return frozenset()
    content = storage.read(config.models_bucket(), f"releases/{pointer['version']}/{TEST_FILE}")
    return frozenset(content.decode().split())


def rollback() -> str:
    """Make the previous version current again. Answers its version. Raises Refused where there is none."""
    pointer, generation = _pointer()
    if not pointer or not pointer["previous"]:
        raise Refused("There is no previous version to go back to.")
    _point(pointer["previous"], pointer["version"], generation)
    _record(pointer["previous"], "rolled back to", pointer["version"])
    return pointer["previous"]


def _reasons(candidate: dict, current: dict) -> list[str]:
    if candidate.get("test_manifest") != current.get("test_manifest"):
        return ["It was measured on another test than the current version: measure both on the frozen manifest."]
    return [
        f"{name} is {candidate['test'][name]:.4f}, outside the current version's interval "
        f"({current['test'][f'{name}_low']:.4f} to {current['test'][f'{name}_high']:.4f})."
        for name, better in GATED.items()
        if better * candidate["test"][name] < better * current["test"][f"{name}_{'low' if better > 0 else 'high'}"]
    ]


def _card(version: str) -> Card:
    return Card.from_json(storage.read(config.models_bucket(), f"releases/{version}/{CARD_FILE}"))


def _pointer() -> tuple[dict | None, int]:
    """The pointer and the generation it was read at; None and 0 before the first release."""
    for blob in storage.objects(config.models_bucket(), POINTER):
        return json.loads(storage.read(config.models_bucket(), POINTER, blob.generation)), blob.generation
    return None, 0


def _point(version: str, previous: str | None, generation: int) -> None:
    content = json.dumps({"version": version, "previous": previous}).encode()
    moved = storage.replace(config.models_bucket(), POINTER, content, "application/json", generation=generation)
    if not moved:
        raise Refused("Somebody else moved the pointer meanwhile: look at what is current, then try again.")


def _record(version: str, outcome: str, before: str | None, decision: Decision | None = None) -> None:
    row = {
        "decision_id": str(uuid.uuid4()),
        "version": version,
        "outcome": outcome,
        "before": before,
        "reasons": decision.reasons if decision else [],
        "figures": json.dumps(decision.candidate["metrics"]["test"]) if decision else None,
        "decided_at": now(),
    }
    bigquery.append("release_decisions", row, key=row["decision_id"])
