"""What counts as drift, what as case mix, and what is named as the cause."""

import numpy as np
import pytest

from shared.ml import drift, drift_records
from shared.ml.drift_records import Scans

CLASSES = ("Cancer", "Non-Cancer")


def scans(
    rng: np.random.Generator, n: int, *, cancer: float = 0.7, shift: float = 0.0, source: str = "ward-1"
) -> Scans:
    """Scans whose embeddings tell the classes apart, moved by `shift` stds in ten of forty directions."""
    predicted = rng.choice(CLASSES, n, p=[cancer, 1 - cancer])
    embeddings = rng.normal(size=(n, 40)).astype(np.float32)
    embeddings[predicted == "Cancer", 20] += 6
    embeddings[:, :10] += shift
    return Scans(
        embeddings=embeddings,
        predicted=predicted.tolist(),
        attributes={"source": [source] * n, "sequence": [""] * n},
        quality=rng.normal(size=(n, len(drift_records.QUALITY))),
    )


@pytest.fixture
def reference() -> Scans:
    return scans(np.random.default_rng(0), 600)


def test_the_same_scans_raise_no_alarm_more_often_than_the_budget_says(reference):
    found = [drift.check(reference, scans(np.random.default_rng(seed), 80)) for seed in range(1, 61)]
    alarms = sum(verdict.change == "inputs" for verdict in found)
    assert alarms <= 2  # 60 checks at 1/240 each expect 0.25; three or more have a probability of 0.002


def test_another_source_is_found_and_named(reference):
    verdict = drift.check(reference, scans(np.random.default_rng(1), 60, shift=1.0, source="ward-2"))
    assert (verdict.change, verdict.cause) == ("inputs", "source")
    assert verdict.p_value < verdict.level


def test_more_tumours_are_case_mix_and_not_drift(reference):
    verdict = drift.check(reference, scans(np.random.default_rng(2), 100, cancer=0.3))
    assert (verdict.change, verdict.cause) == ("case mix", "")


def called(rng: np.random.Generator, tumours: int, others: int) -> Scans:
    """Scans of which one other in sixteen is called Cancer wrongly, and lies between the two."""
    label = np.array(["Cancer"] * tumours + ["Non-Cancer"] * others)
    wrongly = (label == "Non-Cancer") & (np.arange(len(label)) % 16 == 0)
    embeddings = rng.normal(size=(len(label), 40)).astype(np.float32)
    embeddings[label == "Cancer", 20] += 6
    embeddings[wrongly, 20:22] += 3
    return Scans(
        embeddings=embeddings,
        predicted=np.where(wrongly, "Cancer", label).tolist(),
        attributes={"label": label.tolist()},
        quality=rng.normal(size=(len(label), len(drift_records.QUALITY))),
    )


def test_what_fewer_tumours_leave_of_a_predicted_class_is_no_drift():
    """Half of what is called Cancer is called so wrongly in such a window, and one in fifty in the reference."""
    reference = called(np.random.default_rng(7), 600, 200)
    found = [drift.check(reference, called(np.random.default_rng(seed), 18, 250)).change for seed in range(8)]
    assert found == ["case mix"] * 8


def slices(rng: np.random.Generator, *sequences: str, told: bool) -> Scans:
    """Scans whose sequence moves five directions; told as by DICOM, or not as of any other format."""
    embeddings = rng.normal(size=(len(sequences), 40)).astype(np.float32)
    for place, name in enumerate(("T1", "T2", "FLAIR")):
        embeddings[np.array(sequences) == name, place * 5 : place * 5 + 5] += 1.5
    return Scans(
        embeddings=embeddings,
        predicted=["Cancer"] * len(sequences),
        attributes={"source": ["ward-1"] * len(sequences), "sequence": [name if told else "" for name in sequences]},
        quality=rng.normal(size=(len(sequences), len(drift_records.QUALITY))),
    )


def test_a_sequence_that_nobody_tells_is_named_by_its_looks():
    reference = slices(np.random.default_rng(8), *["T1"] * 300, *["T2"] * 20, *["FLAIR"] * 20, told=True)
    window = slices(np.random.default_rng(9), *["T1"] * 30, *["FLAIR"] * 30, told=False)
    verdict = drift.check(reference, window)
    assert (verdict.change, verdict.cause) == ("inputs", "sequence")


def test_scans_of_untold_sequence_are_not_of_another_one():
    reference = slices(np.random.default_rng(10), *["T1"] * 200, *["T2"] * 100, told=True)
    window = slices(np.random.default_rng(11), *["T1"] * 40, *["T2"] * 20, told=False)
    window.embeddings[:, 30:] += 1.5
    verdict = drift.check(reference, window)
    assert (verdict.change, verdict.cause) == ("inputs", "unknown")


def test_darker_images_are_named_image_quality(reference):
    window = scans(np.random.default_rng(3), 80, shift=1.0)
    window.quality[:, 0] -= 3
    assert drift.check(reference, window).cause == "image quality"


def test_one_class_that_changed_is_named(reference):
    window = scans(np.random.default_rng(4), 100)
    window.embeddings[np.array(window.predicted) == "Cancer", :10] += 1.5
    assert drift.check(reference, window).cause == "Cancer"


def test_the_most_foreign_scans_come_first(reference):
    window = scans(np.random.default_rng(5), 80)
    window.embeddings[:40, :10] += 3
    verdict = drift.check(reference, window)
    assert len(verdict.foreign) == 10
    assert all(row < 40 for row in verdict.foreign)


def test_a_few_scans_say_nothing(reference):
    assert drift.check(reference, scans(np.random.default_rng(6), 10, shift=3)).change == "none"


def test_scans_survive_being_written_and_read(reference):
    copy = Scans.from_bytes(reference.to_bytes())
    np.testing.assert_allclose(copy.embeddings, reference.embeddings, atol=2e-2)
    assert (copy.predicted, copy.attributes) == (reference.predicted, reference.attributes)


def test_calibrated_probabilities_promise_their_accuracy():
    rng = np.random.default_rng(7)
    probabilities = rng.beta(0.5, 0.5, 20_000)
    labels = rng.random(20_000) < probabilities
    accuracy = np.mean((probabilities >= 0.5) == labels)
    assert drift.expected_accuracy(probabilities) == pytest.approx(accuracy, abs=0.01)
