"""What the Pub/Sub stand-in remembers: topics, subscriptions and every message still to be acknowledged."""

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

_UNHURRIED = 0.05  # seconds
_SCHEMA = """
CREATE TABLE IF NOT EXISTS topics (name TEXT PRIMARY KEY, resource BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS subscriptions (name TEXT PRIMARY KEY, resource BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS deliveries (
    subscription TEXT NOT NULL, message_id INTEGER NOT NULL, failures INTEGER NOT NULL, message BLOB NOT NULL,
    PRIMARY KEY (subscription, message_id)
) WITHOUT ROWID;
"""


class Store:
    """SQLite in the event loop's own thread. All that is waited for in one turn of the loop shares a transaction.

    What nobody waits for, such as an acknowledged push, rides along with the next publish or goes a moment later: lost
    to a `kill -9` it costs a second delivery, no message. The write-ahead log reaches the operating system at every
    commit and the disk at every checkpoint: what `committed` has answered survives `kill -9`, though not a power cut.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(folder / "pubsub.sqlite3", isolation_level=None, timeout=0)
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")  # a second process on the same folder fails at once
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_SCHEMA)
        self._commit: asyncio.Future[None] | None = None
        self._hurried = False

    def resources(self, table: str) -> Iterator[bytes]:
        """Serialised topics or subscriptions."""
        return (row[0] for row in self._db.execute(f"SELECT resource FROM {table} ORDER BY name"))  # noqa: S608

    def put(self, table: str, name: str, resource: bytes) -> None:
        """Remember a topic or subscription, in place of an earlier one of that name."""
        self._write(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", name, resource)  # noqa: S608

    def remove(self, table: str, name: str) -> None:
        """Forget a topic, or a subscription with all that it has yet to deliver."""
        self._write(f"DELETE FROM {table} WHERE name = ?", name)  # noqa: S608
        self._write("DELETE FROM deliveries WHERE subscription = ?", name)

    def deliveries(self, subscription: str) -> Iterator[tuple[int, bytes]]:
        """Failures so far and serialised message of every unacknowledged delivery, oldest first."""
        return self._db.execute(
            "SELECT failures, message FROM deliveries WHERE subscription = ? ORDER BY message_id", (subscription,)
        )

    def last_message(self) -> int:
        """The highest number of a message that is still to be acknowledged; 0 if there is none."""
        return int(self._db.execute("SELECT IFNULL(MAX(message_id), 0) FROM deliveries").fetchone()[0])

    def add(self, subscription: str, message_id: int, message: bytes) -> None:
        """Owe a message to a subscription."""
        self._write("INSERT INTO deliveries VALUES (?, ?, 0, ?)", subscription, message_id, message)

    def settle(self, subscription: str, message_id: int) -> None:
        """Owe it no longer."""
        self._write("DELETE FROM deliveries WHERE subscription = ? AND message_id = ?", subscription, message_id)

    def count_failures(self, subscription: str, message_id: int, failures: int) -> None:
        """Remember how often a delivery has failed."""
        self._write(
            "UPDATE deliveries SET failures = ? WHERE subscription = ? AND message_id = ?",
            failures,
            subscription,
            message_id,
        )

    async def committed(self) -> None:
        """Wait until all that was written before is safe from `kill -9`."""
        if not self._commit:
            return
        if not self._hurried:
            self._hurried = True
            asyncio.get_running_loop().call_soon(self._end, self._commit)
        await asyncio.shield(self._commit)

    def close(self) -> None:
        """Commit and let go of the folder."""
        if self._commit:
            self._end(self._commit)
        self._db.close()

    def _write(self, statement: str, *values: str | int | bytes) -> None:
        if not self._commit:
            self._db.execute("BEGIN")
            loop = asyncio.get_running_loop()
            self._commit, self._hurried = loop.create_future(), False
            loop.call_later(_UNHURRIED, self._end, self._commit)
        self._db.execute(statement, values)

    def _end(self, commit: asyncio.Future[None]) -> None:
        if commit.done():
            return
        self._commit = None
        try:
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            commit.set_exception(error)  # refuses every publish that waits; a full disk is the likely reason
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        else:
            commit.set_result(None)
