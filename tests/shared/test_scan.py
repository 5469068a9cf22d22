"""Names of scans: content is identity, folders are labels, and free text goes nowhere."""

import pytest

from shared.labels import LABEL_MAP, Label, label_of, mapped_label, parse_label_map
from shared.scan import file_id, file_id_of, scan_id, source_of, unread_file_id


def test_same_bytes_are_the_same_file() -> None:
    assert file_id(b"scan") == file_id(b"scan") != file_id(b"scan!")


def test_unread_file_is_known_by_where_it_lies_without_naming_it() -> None:
    first = unread_file_id("uploads", "Cancer/Doe.tiff", 1)
    assert first != unread_file_id("uploads", "Cancer/Doe.tiff", 2)
    assert "Doe" not in first


@pytest.mark.parametrize(("page", "pages", "suffix"), [(0, 1, ""), (0, 3, "-0001"), (2, 3, "-0003")])
def test_pages_of_a_file_are_numbered_from_one(page: int, pages: int, suffix: str) -> None:
    content_id = file_id(b"pages")
    assert scan_id(content_id, page, pages) == content_id + suffix
    assert file_id_of(content_id + suffix) == content_id


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Cancer/a.png", Label.CANCER),
        ("Non-Cancer/a/b.png", Label.NON_CANCER),
        ("Unlabelled/a.png", Label.UNLABELLED),
        ("a.png", Label.UNLABELLED),
        ("cancer/a.png", Label.CANCER),
        ("glioma/patient1/a.png", Label.CANCER),
        ("Other/Cancer/a.png", Label.CANCER),
        ("Other/a.png", Label.UNLABELLED),
    ],
)
def test_bucket_labels_by_the_same_folders_as_uploading_and_training(name: str, label: Label) -> None:
    assert label_of(name) == label


@pytest.mark.parametrize("source", ["", "Jane Doe", "../x", "a" * 33, "Ward", "-ward"])
def test_source_that_could_be_free_text_is_unknown(source: str) -> None:
    assert source_of({"source": source}) == "unknown"
    assert source_of({}) == "unknown"


def test_source_of_plain_words_is_kept() -> None:
    assert source_of({"source": "ward-3"}) == "ward-3"


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("Training/glioma/a.jpg", Label.CANCER),
        ("Testing/notumor/a.jpg", Label.NON_CANCER),
        ("br35h/yes/a.jpg", Label.CANCER),
        ("Non-Cancer/yes/a.jpg", Label.CANCER),
        ("glioma", None),
        ("inbox/a.jpg", None),
    ],
)
def test_deepest_known_folder_gives_the_label(path: str, label: Label | None) -> None:
    assert mapped_label(path, LABEL_MAP) == label


def test_label_map_is_read_from_text() -> None:
    assert parse_label_map("A=Cancer, yes = Non-Cancer") == LABEL_MAP | {"a": Label.CANCER, "yes": Label.NON_CANCER}
    assert parse_label_map("") == LABEL_MAP


@pytest.mark.parametrize("text", ["glioma", "glioma=Tumour", "=", "a=Cancer,,"])
def test_label_map_that_cannot_be_read_says_how_one_looks(text: str) -> None:
    with pytest.raises(ValueError, match="folder=Label"):
        parse_label_map(text)
