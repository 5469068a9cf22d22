"""The steps of a release towards the scans, and back: each is one write of the pointer and one row of its decision."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from services.training.data.scans import Scans
from services.training.release import live_scans, promotion
from services.training.release.live_scans import Comparison
from services.training.release.promotion import Refused
from shared.gcp import release_decisions
from shared.gcp.registry import RELEASES, Pointer, PointerMoved, move_pointer, read_pointer, set_challenger


def shadow(folder: Path, scans: Scans, groups: np.ndarray) -> str:
    """Let a release that meets the offline criteria answer in shadow; return its version.

    The first release of all becomes current: there is nothing to compare it with. `scans` are the frozen test's.
    Raises Refused if the criteria are not met, if another challenger answers, or if the pointer moved meanwhile.
    """
    pointer = read_pointer(RELEASES)
    if pointer.challenger:
        raise Refused(f"Version {pointer.challenger} answers in shadow: promote it or roll it back first.")
    decision = promotion.judged(folder, scans, groups)
    version = decision.candidate
    if not decision.promoted:
        release_decisions.record(version, "kept back", pointer.version, decision.reasons, decision.figures)
        raise Refused(f"Version {version} stays a candidate: {' '.join(decision.reasons)}")
    if pointer.version == version:
        raise Refused(f"Version {version} is current already.")
    if pointer.version is None:
        _written(lambda: move_pointer(RELEASES, version, pointer))
        release_decisions.record(version, "promoted", None, figures=decision.figures)
    else:
        _written(lambda: set_challenger(RELEASES, version, 0, pointer))
        release_decisions.record(version, "in shadow", pointer.version, figures=decision.figures)
    return version


def canary(share: float) -> str:
    """Let the challenger answer a share of the scans, above 0 and below 1; return its version.

    Raises Refused if the live scans speak against it, or if the pointer moved meanwhile.
    """
    pointer, challenger = _challenged()
    comparison = _passed(pointer, challenger)
    _written(lambda: set_challenger(RELEASES, challenger, share, pointer))
    release_decisions.record(challenger, "canary", pointer.version, figures=comparison.figures | {"share": share})
    return challenger


def promote() -> str:
    """Make the challenger current after its canary; return its version.

    Raises Refused if it has had none, if the live scans speak against it, or if the pointer moved meanwhile.
    """
    pointer, challenger = _challenged()
    if not pointer.share:
        raise Refused(f"Version {challenger} answers in shadow alone: let it answer a share of the scans first.")
    comparison = _passed(pointer, challenger)
    _written(lambda: move_pointer(RELEASES, challenger, pointer))
    release_decisions.record(challenger, "promoted", pointer.version, figures=comparison.figures)
    return challenger


def rollback() -> str:
    """Undo the last step; return the version that answers everybody from now on.

    A challenger is withdrawn; without one the previous version becomes current again. Raises Refused if there is
    neither, or if the pointer moved meanwhile.
    """
    pointer = read_pointer(RELEASES)
    if pointer.challenger and pointer.version:
        _written(lambda: set_challenger(RELEASES, None, 0, pointer))
        release_decisions.record(pointer.challenger, "withdrawn", pointer.version, ["An operator rolled it back."])
        return pointer.version
    previous = pointer.previous
    if not previous:
        raise Refused("There is no previous version to go back to.")
    _written(lambda: move_pointer(RELEASES, previous, pointer))
    release_decisions.record(previous, "rolled back to", pointer.version)
    return previous


def _challenged() -> tuple[Pointer, str]:
    pointer = read_pointer(RELEASES)
    if not pointer.challenger:
        raise Refused("No release answers in shadow: `python -m services.training shadow` puts one there.")
    return pointer, pointer.challenger


def _passed(pointer: Pointer, challenger: str) -> Comparison:
    """Return the comparison on live scans. Raises Refused if it does not let the challenger further.

    That is recorded if the scans speak against it; if more scans or another reader are waited for, nothing is decided.
    """
    comparison = live_scans.compared(pointer.version or "", challenger)
    if comparison.is_open:
        raise Refused(" ".join(comparison.reasons))
    if comparison.reasons:
        release_decisions.record(challenger, "kept back", pointer.version, comparison.reasons, comparison.figures)
        raise Refused(f"Version {challenger} goes no further: {' '.join(comparison.reasons)}")
    return comparison


def _written(write: Callable[[], None]) -> None:
    try:
        write()
    except PointerMoved as moved:
        raise Refused(str(moved)) from moved
