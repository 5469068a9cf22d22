"""Dead-letter messages moved back to their step alone, with a record of it."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from shared.clock import now
from shared.events import DeadLetter, ScanUploaded, event_of, original_attributes
from shared.gcp import bigquery, pubsub
from shared.gcp.pubsub import Pulled

_MOST = 100_000
"""Messages of one replay: run it again for more."""
_REPLAYS = "replays"
"""Attribute that counts how often a message was replayed."""
_MOST_REPLAYS = 3
"""What failed after so many replays goes round no more: mend its cause, then upload the file again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What a replay did, or with `dry` would do: a row of `replays`."""

    replay_id: str
    step: str
    reason: str
    """Why, in the operator's words."""
    since: str | None
    """Only messages that were first published since then, RFC 3339 in UTC."""
    found: int
    replayed: int
    set_aside: int
    """Foreign or poisonous messages: they stay where they are, and their rows of `dead_letters` say why."""
    replayed_at: str


def replay(step: str, *, since: str | None = None, reason: str = "", dry: bool = False) -> Replay:
    """Publish a step's dead-letter messages (`score_scan`) on its own replay topic, attributes intact, and record it.

    Messages that the step can never read, or that were replayed three times, are set aside. With `dry` nothing moves.
    """
    dashed = step.replace("_", "-")
    subscription = f"{dashed}-dead-letter"
    pulled = pubsub.pull(subscription, _MOST)
    chosen = [each for each in pulled if since is None or _published_at(each) >= since]
    faults = {each.ack_id: fault for each in chosen if (fault := _fault(step, each))}
    good = [each for each in chosen if each.ack_id not in faults]
    done = Replay(
        replay_id=str(uuid.uuid4()),
        step=step,
        reason=reason,
        since=since,
        found=len(pulled),
        replayed=len(good),
        set_aside=len(faults),
        replayed_at=now(),
    )
    if not dry:
        pubsub.publish_messages(_messages(f"{dashed}-replay", good))
        pubsub.acknowledge(subscription, good)
        bigquery.append("replays", asdict(done), key=done.replay_id)
        _record_faults(chosen, faults)
    kept = pulled if dry else [each for each in pulled if each not in good]
    pubsub.release(subscription, kept)
    return done


def _messages(topic: str, pulled: list[Pulled]) -> Iterator[tuple[str, bytes, dict[str, str]]]:
    for each in pulled:
        count = int(each.attributes.get(_REPLAYS, "0")) + 1
        yield topic, each.data, original_attributes(each.attributes) | {_REPLAYS: str(count)}


def _fault(step: str, message: Pulled) -> str | None:
    """Why a message must not go back to its step; None if it may."""
    try:
        if int(message.attributes.get(_REPLAYS, "0")) >= _MOST_REPLAYS:
            return f"replayed {_MOST_REPLAYS} times"
        if step == "validate_scan":
            ScanUploaded.from_notification(json.loads(message.data))
        elif step != "record_dead_letter":
            event_of(message.attributes, message.data)
    except (KeyError, TypeError, ValueError) as error:
        return f"not a message of this step: {type(error).__name__}"
    return None


def _record_faults(pulled: list[Pulled], faults: dict[str, str]) -> None:
    for each in pulled:
        if fault := faults.get(each.ack_id):
            row = replace(DeadLetter.from_message(each.data, each.attributes, each.published_at), reason=fault)
            bigquery.append("dead_letters", asdict(row), key=row.dead_letter_id)


def _published_at(message: Pulled) -> str:
    return message.attributes.get("CloudPubSubDeadLetterSourceTopicPublishTime", message.published_at)
