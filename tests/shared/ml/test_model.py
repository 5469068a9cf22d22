import dataclasses
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from shared.imaging.preprocessing import prepare
from shared.ml.model import Card, Model, ModelMismatch, read_release

RELEASE = Path(__file__).parents[3] / "services" / "inference" / "release"


@pytest.fixture(scope="module")
def model() -> Model:
    return read_release(RELEASE)


@pytest.fixture(scope="module")
def tensors() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [prepare(rng.integers(0, 256, (64, 64), dtype=np.uint8)) for _ in range(8)]


def test_one_pass_answers_everything(model, tensors):
    answer = model.predict(tensors[0])
    assert 0 <= answer.probability <= 1
    assert answer.heat_map.shape == (16, 16)
    assert answer.embedding.ndim == 1
    assert sum(answer.types.values()) == pytest.approx(1, abs=1e-5)
    assert set(answer.types) == {"glioma", "meningioma", "pituitary"}


def test_noise_is_not_a_brain_mri(model, tensors):
    assert model.predicted_class(model.predict(tensors[0])) == "Not a brain MRI"


def test_the_verdict_follows_the_threshold(model, tensors):
    answer = dataclasses.replace(model.predict(tensors[0]), is_brain_mri=True)
    threshold = model.card.threshold
    assert model.predicted_class(dataclasses.replace(answer, probability=threshold)) == "Cancer"
    assert model.predicted_class(dataclasses.replace(answer, probability=threshold - 1e-6)) == "Non-Cancer"


def test_threads_get_the_answers_of_one_thread(model, tensors):
    alone = [model.predict(tensor).probability for tensor in tensors]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda tensor: model.predict(tensor).probability, tensors * 5))
    assert together == alone * 5


def test_another_graph_than_the_card_describes_is_refused(model):
    with pytest.raises(ModelMismatch, match="checksum"):
        Model(model.card, b"another graph")


def test_another_preprocessing_is_refused(model):
    card = dataclasses.replace(model.card, preprocessing_version="0")
    with pytest.raises(ModelMismatch, match="preprocessing"):
        Model(card, (RELEASE / "model.tflite").read_bytes())


def test_a_card_survives_its_json(model):
    assert Card.from_json(model.card.to_json()) == model.card


def test_the_released_graph_is_at_most_sixteen_megabytes():
    assert (RELEASE / "model.tflite").stat().st_size <= 16_000_000


def test_serving_loads_no_tensorflow():
    code = "import sys, shared.ml.model; assert not {'tensorflow', 'keras'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=RELEASE.parents[2])


def test_a_prediction_in_the_band_of_doubt_is_uncertain_and_says_why(model, tensors):
    prediction = dataclasses.replace(model.predict(tensors[0]), is_brain_mri=True)
    band = dataclasses.replace(model.card, uncertain_from=0.25, uncertain_to=0.75)
    doubting = Model(band, (RELEASE / "model.tflite").read_bytes())

    def reason(probability: float) -> str | None:
        return doubting.uncertain_reason(dataclasses.replace(prediction, probability=probability))

    assert [reason(p) is None for p in (0.24, 0.25, 0.5, 0.75, 0.76)] == [True, False, False, False, True]
    assert "0.25 and 0.75" in reason(0.5)
    refused = dataclasses.replace(prediction, probability=0.5, is_brain_mri=False)
    assert doubting.uncertain_reason(refused) is None


def test_a_release_without_a_band_of_doubt_is_never_uncertain(model, tensors):
    unaware = Model(dataclasses.replace(model.card, uncertain_from=None, uncertain_to=None), model._graph)
    assert unaware.uncertain_reason(unaware.predict(tensors[0])) is None
