import threading

import numpy as np
import pytest

from services.training.data.scans import Scans
from services.training.modelling import augmentation, lesions
from services.training.modelling.batches import Batches, lesion_shares, sampling_weights
from services.training.modelling.schedule import Schedule
from tests.support.training_scans import head, prepared, scans

COUNT = 40
LABELS = np.repeat([0, 1], COUNT // 2)


@pytest.fixture(scope="module")
def known() -> Scans:
    """Healthy heads of a source with tumours and of one without; tumours of two sources, one of them with boxes."""
    images = np.repeat(prepared(*(head(seed) for seed in range(4))), COUNT // 4, axis=0)
    sources = ["kaggle"] * 10 + ["oasis"] * 10 + ["kaggle"] * 10 + ["rsna-t1c"] * 10
    boxes = np.where(np.arange(COUNT) >= 30, 30.0, 0.0)
    types = [""] * 20 + ["glioma"] * 20
    return scans(
        images, label=LABELS, type=types, source=sources, box_x=64.0, box_y=64.0, box_width=boxes, box_height=boxes
    )


def test_tumours_and_their_sources_have_their_shares(known):
    weights = sampling_weights(known, np.arange(COUNT))
    assert weights[20:30].sum() == pytest.approx(0.18)
    assert weights[30:].sum() == pytest.approx(0.18)


def test_a_source_without_tumours_shows_as_many_as_it_shows_healthy_heads(known):
    shares = lesion_shares(known)
    assert set(shares[10:20]) == {0.5}
    assert shares[:10].max() < 0.5
    assert not shares[20:].any()


def test_many_copies_of_one_picture_are_tamed(known):
    copies = np.concatenate([np.zeros(4, int), np.arange(1, COUNT - 3)])
    weights = sampling_weights(known, copies)
    assert weights[:4].sum() == pytest.approx(2**0.5 * weights[5], rel=1e-6)


def test_many_slices_of_one_person_are_tamed(known):
    table = known.table.assign(person=["ann"] * 9 + ["bob"] + [""] * 30, person_from="told")
    weights = sampling_weights(Scans(table, known.images), np.arange(COUNT))
    assert weights[:9].sum() == pytest.approx(3 * weights[9])


def test_people_of_whom_nothing_is_known_are_not_taken_for_one(known):
    table = known.table.assign(person=["kaggle"] * 9 + ["bob"] + [""] * 30, person_from="source")
    weights = sampling_weights(Scans(table, known.images), np.arange(COUNT))
    assert weights[0] == pytest.approx(weights[9])


def test_a_batch_is_the_same_in_every_run_and_another_one_is_not(known):
    plan = Schedule(epochs=2, steps=3, batch=8, small=64)
    one, other = (Batches(known, np.arange(COUNT), plan, first=4) for _ in range(2))
    first, second = next(iter(one)), next(iter(other))
    assert np.array_equal(first[0], second[0])
    assert not np.array_equal(first[0], one.batch(5)[0])


def test_images_and_cells_have_the_side_of_their_epoch(known):
    batches = Batches(known, np.arange(COUNT), Schedule(epochs=2, steps=3, batch=4, small=64))
    assert (batches.batch(2)[0].shape[1], batches.batch(2)[1]["cells"].shape[1]) == (64, 8)
    assert (batches.batch(3)[0].shape[1], batches.batch(3)[1]["cells"].shape[1]) == (128, 16)


def test_a_real_tumour_with_a_box_says_where_it_is_and_one_without_does_not(known):
    plan = Schedule(epochs=2, steps=3, batch=8, small=64)
    placed = known.only(np.flatnonzero(known.table["box_width"] > 0))
    _, expected, weights = Batches(placed, np.arange(10), plan).batch(0)
    assert weights["cells"].tolist() == [1] * 8
    assert (expected["cells"].max(axis=(1, 2)) > 0.5).all()
    unplaced = known.only(np.arange(20, 30))
    assert not Batches(unplaced, np.arange(10), plan).batch(0)[2]["cells"].any()


def test_the_type_counts_only_if_it_is_known(known):
    plan = Schedule(epochs=2, steps=3, batch=8, small=64)
    healthy, tumours = known.only(np.arange(20)), known.only(np.arange(20, 40))
    assert not Batches(healthy, np.arange(20), plan).batch(0)[2]["types"].any()
    assert Batches(tumours, np.arange(20), plan).batch(0)[2]["types"].all()


def without(known: Scans, part: str) -> Batches:
    return Batches(known, np.arange(len(known)), Schedule(epochs=2, steps=3, batch=32, small=64, without=part))


def test_without_lesions_only_tumours_are_positive_and_without_boxes_no_place_of_a_tumour_is_told(known):
    healthy, boxed = known.only(np.arange(20)), known.only(np.arange(30, 40))
    assert without(healthy, "").batch(0)[1]["logit"].any()
    assert not without(healthy, "lesions").batch(0)[1]["logit"].any()
    assert without(boxed, "").batch(0)[2]["cells"].all()
    assert not without(boxed, "boxes").batch(0)[2]["cells"].any()


@pytest.mark.parametrize(
    ("part", "module", "function"),
    [
        ("look-alikes", lesions, "look_alike"),
        ("tones", augmentation, "retoned"),
        ("tones", augmentation, "with_amplitude_of"),
        ("tones", lesions, "with_contrast"),
        ("stripping", augmentation, "stripped"),
    ],
)
def test_a_part_that_is_left_out_is_never_applied(known, monkeypatch, part, module, function):
    applied, unchanged = [], getattr(module, function)

    def noted(*arguments):
        if threading.current_thread() is threading.main_thread():  # others prepare batches of this and other tests
            applied.append(function)
        return unchanged(*arguments)

    monkeypatch.setattr(module, function, noted)
    known = Scans(known.table.assign(sequence="T1", skull="present"), known.images)
    for given, expected in ((part, False), ("", True)):
        batches = without(known, given)
        for number in range(4):
            batches.batch(number)
        assert bool(applied) is expected


def test_in_the_control_a_label_says_its_source_alone(known):
    control = without(known, "labels")
    drawn = [control.batch(number) for number in range(12)]
    assert not any(weights[name].any() for _, _, weights in drawn for name in ("types", "cells"))
    labels = np.concatenate([expected["logit"] for _, expected, _ in drawn])
    assert 0.3 < labels.mean() < 0.75
    oasis = Batches(known.only(np.arange(10, 20)), np.arange(10), control.schedule)
    share = np.mean([oasis.batch(number)[1]["logit"] for number in range(12)])
    assert share == pytest.approx(0.5, abs=0.1)
