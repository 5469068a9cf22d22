"""What was uploaded against what is recorded: an exact account in sorted streams, so that memory does not grow.

An upload is one generation of an object. It is accounted for by rows that name its generation and label, and its
content where both sides know it: generations are microseconds, so that two objects of a burst may share one.
"""

import heapq
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby
from typing import IO, Any, NamedTuple

_RUN = 200_000
"""Entries that are sorted in memory at a time, some 60 MB; the rest lies in a temporary file."""


class State(StrEnum):
    """What became of an upload."""

    ACCEPTED = "accepted"
    """Every page of it is recorded as a scan."""
    REJECTED = "rejected"
    CONTRADICTED = "accepted and rejected"
    INCOMPLETE = "incomplete"
    """Some of its pages are recorded."""
    LOST = "lost"
    """Nothing is recorded."""
    WITHDRAWN = "withdrawn"
    """Recorded, and since then deleted or overwritten by its owner."""


UNDONE = (State.LOST, State.INCOMPLETE)
"""States in which an upload is announced again."""


class Entry(NamedTuple):
    """One upload, or what is recorded of one. Entries sort by key, then by the rest."""

    key: str
    content: str
    """MD5 in base64 as Cloud Storage gives it; empty if unknown."""
    label: str
    detail: str
    """Of an upload its name and what else its notification says, as JSON; of a record its State."""


@dataclass(slots=True)
class LabelAccount:
    """The counts of one label."""

    label: str
    states: dict[State, int] = field(default_factory=lambda: dict.fromkeys(State, 0))

    @property
    def uploaded(self) -> int:
        """Uploads that lie in the bucket."""
        return sum(count for state, count in self.states.items() if state is not State.WITHDRAWN)

    @property
    def complete(self) -> bool:
        """Whether every upload is accepted or rejected, and none both."""
        return not any(self.states[state] for state in (*UNDONE, State.CONTRADICTED))


def upload_key(generation: int, label: str) -> str:
    """Return the key by which an upload and its records find each other."""
    return f"{generation:020d}/{label}"


def upload_states(uploads: Iterable[Entry], records: Iterable[Entry]) -> Iterator[tuple[Entry, State]]:
    """Yield every upload with its state, and every record without an upload as WITHDRAWN. Both are sorted by key."""
    for entries, recorded in _matched(uploads, records):
        yield from ((entry, _state(entry, recorded)) for entry in entries)
        if not entries:
            yield from ((entry, State.WITHDRAWN) for entry in _distinct(recorded))


def missing(wanted: Iterable[str], there: Iterable[str]) -> Iterator[str]:
    """Yield the distinct keys of one sorted stream that another lacks."""
    blank = ("", "", "")
    for entries, others in _matched((Entry(key, *blank) for key in wanted), (Entry(key, *blank) for key in there)):
        if entries and not others:
            yield entries[0].key


def sorted_stream[T: Sequence[Any]](entries: Iterable[T], make: type[T] | None = None) -> Iterator[T]:
    """Yield entries (of JSON values) sorted, with some 60 MB of memory: sorted runs are merged from temporary files.

    `make` turns a list back into an entry; without it entries are lists.
    """
    runs = [_Run(chunk) for chunk in _chunks(entries)]
    for values in heapq.merge(*runs):
        yield make(*values) if make else values  # type: ignore[misc]


class _Run:
    """A sorted part of a stream in a temporary file that nobody else sees and that goes with the process."""

    def __init__(self, entries: list[Any]) -> None:
        self._file: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - read lazily
        for entry in sorted(entries):
            self._file.write(json.dumps(entry) + "\n")
        self._file.seek(0)

    def __iter__(self) -> Iterator[list[Any]]:
        with self._file:
            yield from map(json.loads, self._file)


def _chunks[T](entries: Iterable[T]) -> Iterator[list[T]]:
    chunk: list[T] = []
    for entry in entries:
        chunk.append(entry)
        if len(chunk) == _RUN:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _matched(left: Iterable[Entry], right: Iterable[Entry]) -> Iterator[tuple[list[Entry], list[Entry]]]:
    """Entries of two sorted streams by their key; one side's list is empty where it lacks the key."""
    sides = heapq.merge(((entry.key, 0, entry) for entry in left), ((entry.key, 1, entry) for entry in right))
    for _, group in groupby(sides, key=lambda item: item[0]):
        found: tuple[list[Entry], list[Entry]] = ([], [])
        for _, side, entry in group:
            found[side].append(entry)
        yield found


def _state(upload: Entry, recorded: list[Entry]) -> State:
    said = {State(record.detail) for record in recorded if _same_content(upload, record)}
    if not said:
        return State.LOST
    if State.REJECTED in said and State.ACCEPTED in said:
        return State.CONTRADICTED
    return next(state for state in (State.ACCEPTED, State.REJECTED, State.INCOMPLETE) if state in said)


def _same_content(upload: Entry, record: Entry) -> bool:
    return upload.content == record.content or not upload.content or not record.content


def _distinct(recorded: list[Entry]) -> list[Entry]:
    """One record for each content: a file recorded twice was withdrawn once."""
    return list({record.content: record for record in recorded}.values())
