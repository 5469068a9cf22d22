"""What was uploaded against what is recorded: an exact account in sorted streams, so that memory does not grow.

An upload is one generation of an object. It is accounted for by rows that name its generation and label, and its
content where both sides know it: generations are microseconds, so that two objects of a burst may share one.
"""

import heapq
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
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
    UNDER_WAY = "under way"
    """Lost or incomplete, and so young that this may change by itself."""
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
    uploaded_at: str
    """RFC 3339 in UTC."""
    detail: str
    """Of an upload its object's name, of a record its State."""


@dataclass(slots=True, kw_only=True)
class Check:
    """The account of one label."""

    label: str
    states: Counter[State] = field(default_factory=Counter)
    source_files: int | None = None
    """Distinct files in the source bucket; None if none is configured."""
    uncopied_files: int = 0
    """Of those, how many are not in the uploads bucket."""
    scans: int = 0
    """Recorded, by their distinct objects."""
    unstored: int = 0
    """Of those, how many have no object."""
    rehashed: int = 0
    """Files of a random sample that were read and hashed again."""
    mismatched: int = 0
    """Of those, how many differ from what is recorded."""

    @property
    def passed(self) -> bool:
        """Whether every upload became exactly what is recorded of it, and everything recorded is there."""
        wrong = [self.states[state] for state in (*UNDONE, State.CONTRADICTED)]
        return not any([*wrong, self.uncopied_files, self.unstored, self.mismatched])

    def row(self) -> dict[str, Any]:
        """Return the check as columns of `ingestion_checks`."""
        uploaded = sum(count for state, count in self.states.items() if state is not State.WITHDRAWN)
        copied = None if self.source_files is None else self.source_files - self.uncopied_files
        return {
            "label": self.label,
            "source_files": self.source_files,
            "ingested_files": copied,
            "uploaded_files": uploaded - self.states[State.UNDER_WAY],
            "recorded_files": self.states[State.ACCEPTED] + self.states[State.REJECTED],
            "rejected_files": self.states[State.REJECTED],
            "incomplete_files": self.states[State.INCOMPLETE],
            "lost_files": self.states[State.LOST],
            "contradicted_files": self.states[State.CONTRADICTED],
            "withdrawn_files": self.states[State.WITHDRAWN],
            "stored_files": self.scans - self.unstored,
            "unstored_files": self.unstored,
            "rehashed": self.rehashed,
            "mismatched": self.mismatched,
            "passed": self.passed,
        }


def upload_key(generation: int, label: str) -> str:
    """Return the key by which an upload and its records find each other."""
    return f"{generation:020d}/{label}"


def upload_states(uploads: Iterable[Entry], records: Iterable[Entry], before: str) -> Iterator[tuple[Entry, State]]:
    """Yield every upload with its state, and every record without an upload as WITHDRAWN. Both are sorted by key.

    An upload made at or after `before` (RFC 3339 in UTC) is not lost yet, but under way.
    """
    for entries, recorded in _matched(uploads, records):
        for entry in entries:
            state = _state(entry, recorded)
            yield entry, State.UNDER_WAY if state in UNDONE and entry.uploaded_at >= before else state
        if not entries:
            yield from ((entry, State.WITHDRAWN) for entry in _distinct(recorded))


def missing(wanted: Iterable[str], there: Iterable[str]) -> Iterator[str]:
    """Yield the distinct keys of one sorted stream that another lacks."""
    blank = ("", "", "", "")
    for entries, others in _matched((Entry(key, *blank) for key in wanted), (Entry(key, *blank) for key in there)):
        if entries and not others:
            yield entries[0].key


def sorted_stream[T](entries: Iterable[T], make: Callable[[Any], T]) -> Iterator[T]:
    """Yield entries sorted, with some 60 MB of memory: sorted runs are merged from temporary files.

    Entries are texts or tuples of texts, which travel as JSON; `make` returns the entry of a text or list.
    """
    runs = [_Run(chunk) for chunk in _chunks(entries)]
    yield from map(make, heapq.merge(*runs))


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
