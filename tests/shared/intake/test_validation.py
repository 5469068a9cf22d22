"""What becomes of a file with text burnt into it, in each mode."""

import io
import random
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from shared.errors import Note, Reason, RejectedScan
from shared.events import ScanUploaded
from shared.imaging.decoding import decode
from shared.intake.validation import BurntInText, validated
from shared.scan import Placement, file_id, placement_of
from tests.support.annotations import Annotation, annotated
from tests.support.heads import encoded, head

_CLEAN = head(420, 400)
_TEXT = Annotation("DOE^JANE 4711", "DejaVuSans", 18, 200, False)
_PAGE, _INK = annotated(_CLEAN, _TEXT, random.Random(1))
_UPLOAD = ScanUploaded(
    bucket="uploads",
    name="Unlabelled/a.png",
    generation=1,
    size=1,
    source="ward-3",
    uploaded_at="2026-11-26T12:00:00Z",
)


def _validated(page: np.ndarray, text: BurntInText):
    content = encoded(page, "PNG")
    ((event, stored),) = validated(_UPLOAD, content, "scans", bytes(32), text)
    return event.note, stored == content, decode(stored).pages[0]


@pytest.mark.parametrize("text", BurntInText)
def test_scan_without_text_is_stored_as_it_came(text: BurntInText) -> None:
    assert _validated(_CLEAN, text)[:2] == (None, True)


def test_nobody_looks_for_text_when_off() -> None:
    assert _validated(_PAGE, BurntInText.OFF)[:2] == (None, True)


def test_flagged_scan_is_stored_as_it_came_with_a_note() -> None:
    assert _validated(_PAGE, BurntInText.FLAG)[:2] == (Note.BURNT_IN_TEXT, True)


def test_masked_scan_is_stored_without_the_text_and_with_a_note() -> None:
    note, as_it_came, stored = _validated(_PAGE, BurntInText.MASK)
    assert (note, as_it_came) == (Note.MASKED_TEXT, False)
    assert np.abs(stored[_INK].astype(int) - _CLEAN[0, 0]).max() < 12
    changed = stored != _CLEAN
    assert not (changed & (_CLEAN > 60)).any()


def test_file_with_text_on_one_of_its_pages_is_quarantined_before_any_page_is_stored() -> None:
    made = io.BytesIO()
    Image.fromarray(_CLEAN).save(made, "TIFF", save_all=True, append_images=[Image.fromarray(_PAGE)])
    with pytest.raises(RejectedScan) as rejected:
        next(validated(_UPLOAD, made.getvalue(), "scans", bytes(32), BurntInText.QUARANTINE))
    assert rejected.value.reason is Reason.BURNT_IN_TEXT


def test_single_picture_lies_where_its_uploader_put_it() -> None:
    placed = replace(_UPLOAD, placement=Placement("a" * 64, 12.5))
    ((event, _),) = validated(placed, encoded(_CLEAN, "PNG"), "scans", bytes(32), BurntInText.OFF)
    assert (event.series_id, event.slice_position_mm) == ("a" * 64, 12.5)


def test_what_says_itself_where_it_belongs_is_not_moved() -> None:
    placed = replace(_UPLOAD, placement=Placement("a" * 64, 12.5))
    made = io.BytesIO()
    Image.fromarray(_CLEAN).save(made, "TIFF", save_all=True, append_images=[Image.fromarray(_CLEAN[::-1])])
    pages = list(validated(placed, made.getvalue(), "scans", bytes(32), BurntInText.OFF))
    assert {(event.series_id, event.slice_position_mm) for event, _ in pages} == {(file_id(made.getvalue()), None)}


@pytest.mark.parametrize(
    "metadata",
    [{}, {"series": "Hypatia", "slice-position-mm": "1"}, {"series": "a" * 64}]
    + [{"series": "a" * 64, "slice-position-mm": position} for position in ("", "nan", "1e9", "Hypatia", "-1")],
)
def test_placement_that_could_name_somebody_is_none(metadata: dict[str, str]) -> None:
    assert placement_of(metadata) is None
    assert placement_of(Placement("b" * 64, 0.5).metadata()) == Placement("b" * 64, 0.5)
