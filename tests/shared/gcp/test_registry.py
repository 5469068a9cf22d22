"""Versions never change, and their pointer moves only for the writer who saw it last."""

import json
import uuid
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from local.stack.provision import RELEASE, make_buckets, make_release
from local.stack.system import Stack
from local.stack.terraform_config import TERRAFORM
from shared.gcp import registry, storage
from shared.gcp.registry import BASES, RELEASES, PointerMoved
from shared.ml.release_files import RELEASE_FILES


@pytest.fixture
def bucket(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = f"registry-{uuid.uuid4().hex[:8]}"
    make_buckets({"models": name})
    monkeypatch.setenv("MODELS_BUCKET", name)
    monkeypatch.setenv("PREPARED_BUCKET", name)
    yield name


def test_nothing_is_current_before_the_first_version(bucket: str) -> None:
    assert registry.read_pointer(RELEASES) == registry.Pointer(None, None, 0)
    assert registry.current_version(RELEASES) is None
    assert registry.current_basis() is None
    with pytest.raises(LookupError, match="promote"):
        registry.current_model()


def test_version_is_stored_once_and_read_by_its_name(bucket: str) -> None:
    registry.add_version(RELEASES, "1", {"card.json": b"first"})
    registry.add_version(RELEASES, "1", {"card.json": b"other", "report.json": b"added"})
    assert registry.read_file(RELEASES, "1", "card.json") == b"first"
    assert registry.read_file(RELEASES, "1", "report.json") == b"added"


def test_of_two_writers_who_saw_the_same_pointer_one_is_refused(bucket: str) -> None:
    seen = registry.read_pointer(BASES)
    registry.move_pointer(BASES, "1", seen)
    with pytest.raises(PointerMoved):
        registry.move_pointer(BASES, "2", seen)
    assert registry.read_pointer(BASES).version == "1"


def test_who_moves_the_pointer_sees_it_at_once_and_another_process_a_minute_later(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 6_000_000.0
    monkeypatch.setattr(registry, "time", SimpleNamespace(monotonic=lambda: clock))
    for version in ("1", "2"):
        registry.move_pointer(RELEASES, version, registry.read_pointer(RELEASES))
        assert registry.current_version(RELEASES) == version
    seen = registry.read_pointer(RELEASES)
    moved = json.dumps({"version": "3"}).encode()
    assert storage.replace(bucket, RELEASES.pointer, moved, "application/json", generation=seen.generation)
    assert registry.current_version(RELEASES) == "2"
    clock += 60
    assert registry.current_version(RELEASES) == "3"


def test_pointer_remembers_the_version_before(bucket: str) -> None:
    for version in ("1", "2"):
        registry.move_pointer(RELEASES, version, registry.read_pointer(RELEASES))
    pointer = registry.read_pointer(RELEASES)
    assert (pointer.version, pointer.previous) == ("2", "1")
    assert registry.current_version(RELEASES) == "2"


def test_kinds_of_artefact_do_not_share_a_pointer(bucket: str) -> None:
    registry.move_pointer(RELEASES, "model", registry.read_pointer(RELEASES))
    registry.move_pointer(BASES, "basis", registry.read_pointer(BASES))
    assert (registry.current_version(RELEASES), registry.current_version(BASES)) == ("model", "basis")


def test_new_system_starts_with_every_file_of_a_release(bucket: str) -> None:
    make_release(bucket, RELEASE)
    version = registry.current_version(RELEASES)
    for file in RELEASE_FILES:
        assert registry.read_file(RELEASES, version, file) == (RELEASE / file).read_bytes()
    assert registry.current_model().card.version == version


def test_terraform_uploads_every_file_of_the_bundled_release() -> None:
    assert 'for_each = fileset(local.release_folder, "*")' in (TERRAFORM / "services.tf").read_text()
    assert {file.name for file in RELEASE.iterdir()} >= set(RELEASE_FILES)


def test_unreadable_pointer_is_an_error_not_a_new_system(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS_BUCKET", "no-such-bucket-anywhere")
    storage.write(bucket, RELEASES.pointer, b"{", "application/json")
    monkeypatch.setenv("MODELS_BUCKET", bucket)
    with pytest.raises(ValueError):
        registry.read_pointer(RELEASES)
