"""Base images and builders are pinned by the digests that a registry tells, wherever they are named."""

import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import requests

from local import base_images

DIGEST = "sha256:" + "a" * 64
LATER = "sha256:" + "b" * 64


class Registry(BaseHTTPRequestHandler):
    """A registry that asks for an anonymous token, as Docker Hub does (the OCI distribution specification)."""

    def do_HEAD(self) -> None:
        if self.headers.get("Authorization") != "Bearer of-library/python":
            realm = f"http://127.0.0.1:{self.server.server_port}/token"
            self.send_response(401)
            self.send_header("WWW-Authenticate", f'Bearer realm="{realm}",service="hub",scope="of-library/python"')
        elif self.path == "/v2/library/python/manifests/3.13" and "image.index" in self.headers["Accept"]:
            self.send_response(200)
            self.send_header("Docker-Content-Digest", DIGEST)
        else:
            self.send_response(404)
        self.end_headers()

    def do_GET(self) -> None:
        assert self.path == "/token?service=hub&scope=of-library%2Fpython"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"token": "of-library/python"}')

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_registry_is_asked_with_the_token_that_it_wants(registry: str) -> None:
    assert base_images.digest(f"{registry}/library/python:3.13") == DIGEST


def test_a_tag_that_is_not_there_is_an_error(registry: str) -> None:
    with pytest.raises(requests.HTTPError):
        base_images.digest(f"{registry}/library/python:2.7")


@pytest.mark.parametrize(
    ("image", "where"),
    [
        ("python:3.13-slim-trixie", ("registry-1.docker.io", "library/python", "3.13-slim-trixie")),
        ("hashicorp/terraform:1.11", ("registry-1.docker.io", "hashicorp/terraform", "1.11")),
        ("gcr.io/cloud-builders/docker", ("gcr.io", "cloud-builders/docker", "latest")),
        ("127.0.0.1:5000/a/b", ("127.0.0.1:5000", "a/b", "latest")),
    ],
)
def test_a_name_is_read_as_docker_reads_it(image: str, where: tuple[str, str, str]) -> None:
    assert base_images.address(image) == where


def test_every_file_that_names_an_image_is_pinned_and_pinned_again() -> None:
    """Nothing but the digests changes, and a second run replaces them."""
    named = set()
    for file in base_images.files(base_images.ROOT):
        text = file.read_text()
        once = base_images.pinned(text, lambda _: DIGEST)
        again = base_images.pinned(once, lambda _: LATER)
        assert base_images.unpinned(again) == []
        assert DIGEST not in again
        assert again.replace(f"@{LATER}", "") == re.sub(r"@sha256:\w{64}", "", text)
        named |= {found["image"] for found in base_images._NAMED.finditer(text)}
    assert {"python:3.13-trixie", "python:3.13-slim-trixie", "hashicorp/terraform:1.11"} <= named
    assert {"gcr.io/cloud-builders/docker", "gcr.io/google.com/cloudsdktool/google-cloud-cli:slim"} <= named


def test_the_check_names_what_is_loose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dashboard").mkdir()
    (tmp_path / "terraform").mkdir()
    (tmp_path / "terraform" / "versions.tf").touch()
    file = tmp_path / "dashboard" / "Dockerfile"
    file.write_text(f"FROM python:3.13 AS build\nFROM python:3.13@{DIGEST}\n")
    monkeypatch.setattr(base_images, "ROOT", tmp_path)
    monkeypatch.setattr("sys.argv", ["base_images", "--check"])
    assert base_images.main() == 1
    assert "python:3.13" in capsys.readouterr().out
    file.write_text(f"FROM python:3.13@{DIGEST} AS build\n")
    assert base_images.main() == 0


LOCK = """
provider "registry.terraform.io/hashicorp/google" {
  version     = "7.46.1"
  constraints = "~> 7.46"
  hashes = [
    "h1:abc=",
    "zh:HASH",
  ]
}
""".replace("HASH", "c" * 64)


def test_the_check_names_providers_without_checksums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the lock file each build would take whatever the registry serves that day."""
    folder = tmp_path / "terraform"
    folder.mkdir()
    (folder / "versions.tf").write_text(
        '    google = { source = "hashicorp/google", version = "~> 7.46" }\n'
        '    time   = { source = "hashicorp/time", version = "~> 0.13" }\n'
    )
    monkeypatch.setattr(base_images, "ROOT", tmp_path)
    monkeypatch.setattr("sys.argv", ["base_images", "--check"])
    assert base_images.main() == 1
    assert "hashicorp/google hashicorp/time" in capsys.readouterr().out
    lock = folder / ".terraform.lock.hcl"
    lock.write_text(LOCK + LOCK.replace("/google", "/time").replace("zh:", "h1:"))
    assert base_images.main() == 1
    assert "lock.hcl: hashicorp/time\n" in capsys.readouterr().out
    lock.write_text(LOCK + LOCK.replace("/google", "/time"))
    assert base_images.main() == 0


def test_every_provider_of_terraform_is_asked_for() -> None:
    versions = (base_images.ROOT / "terraform" / "versions.tf").read_text()
    assert base_images.unlocked(versions, "") == [
        f"hashicorp/{name}" for name in ("archive", "google", "google-beta", "time")
    ]
