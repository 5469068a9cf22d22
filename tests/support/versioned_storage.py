"""Cloud Storage with versions of objects, which the stand-in of the stack does not keep.

It speaks the JSON API (https://cloud.google.com/storage/docs/json_api/v1) as far as an erasure needs it: list, read,
write and delete, each with generations.
"""

import base64
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Version = dict[str, Any]
"""An object's resource as the API gives it, and its `content`."""

NOW = "2026-01-01T00:00:00.000Z"


class VersionedStorage(ThreadingHTTPServer):
    """Buckets that keep every version until it is deleted by its generation."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.versions: dict[tuple[str, str], list[Version]] = defaultdict(list)
        self.generations = count(1)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def contents(self, bucket: str) -> list[tuple[str, bytes]]:
        """Return name and content of every version in a bucket."""
        return [
            (each["name"], each["content"]) for (of, _), kept in self.versions.items() for each in kept if of == bucket
        ]

    def live(self, bucket: str, name: str) -> Version | None:
        return next((each for each in self.versions[bucket, name] if "timeDeleted" not in each), None)

    def put(self, bucket: str, content: bytes, resource: dict[str, Any]) -> Version:
        self.archive(bucket, resource["name"])
        digest = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
        made = {name: resource[name] for name in ("name", "contentType", "metadata") if resource.get(name)}
        made |= {"kind": "storage#object", "bucket": bucket, "generation": str(next(self.generations))}
        made |= {"size": str(len(content)), "md5Hash": digest, "timeCreated": NOW, "content": content}
        self.versions[bucket, resource["name"]].append(made)
        return made

    def archive(self, bucket: str, name: str) -> None:
        """What is live becomes an earlier version: Cloud Storage says since when."""
        if there := self.live(bucket, name):
            there["timeDeleted"] = NOW


class _Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: VersionedStorage

    def do_GET(self) -> None:
        bucket, name, query = self._address()
        if not name:
            self._answer(200, {"items": [_resource(each) for each in self._listed(bucket, query)]})
        elif not (found := self._version(bucket, name, query)):
            self._answer(404, {"error": {"message": "Not found"}})
        elif query.get("alt") == "media":
            self._send(200, found["content"], "application/octet-stream")
        else:
            self._answer(200, _resource(found))

    def do_POST(self) -> None:
        bucket, _, query = self._address()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        boundary = self.headers["Content-Type"].partition("boundary=")[2].strip('"').encode()
        described, content = (part.partition(b"\r\n\r\n")[2][:-2] for part in body.split(b"--" + boundary)[1:3])
        resource = json.loads(described)
        there = self.server.live(bucket, resource["name"])
        wanted = query.get("ifGenerationMatch")
        if wanted is not None and wanted != (there["generation"] if there else "0"):
            self._answer(412, {"error": {"message": "Precondition failed"}})
        else:
            self._answer(200, _resource(self.server.put(bucket, content, resource)))

    def do_DELETE(self) -> None:
        bucket, name, query = self._address()
        if "generation" not in query:
            self.server.archive(bucket, name)
        else:
            kept = self.server.versions[bucket, name]
            kept[:] = [each for each in kept if each["generation"] != query["generation"]]
        self._send(204, b"", "application/json")

    def _listed(self, bucket: str, query: dict[str, str]) -> Iterator[Version]:
        for (of, name), kept in sorted(self.server.versions.items()):
            if of == bucket and name.startswith(query.get("prefix", "")):
                yield from (
                    each for each in kept if query.get("versions", "").lower() == "true" or "timeDeleted" not in each
                )

    def _version(self, bucket: str, name: str, query: dict[str, str]) -> Version | None:
        if "generation" not in query:
            return self.server.live(bucket, name)
        kept = self.server.versions[bucket, name]
        return next((each for each in kept if each["generation"] == query["generation"]), None)

    def _address(self) -> tuple[str, str, dict[str, str]]:
        """Return bucket, object and query of `.../b/BUCKET/o/OBJECT?QUERY`."""
        parts = urlsplit(self.path)
        _, bucket, _, *name = parts.path.partition("/storage/v1/")[2].split("/", 3)
        return (
            bucket,
            unquote(name[0]) if name else "",
            {key: values[0] for key, values in parse_qs(parts.query).items()},
        )

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        self._send(status, json.dumps(content).encode(), "application/json")

    def _send(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def _resource(version: Version) -> dict[str, Any]:
    return {name: value for name, value in version.items() if name != "content"}


@contextmanager
def versioned_storage() -> Iterator[VersionedStorage]:
    """Run it until the block ends."""
    server = VersionedStorage()
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
