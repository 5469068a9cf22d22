"""A network read back from a release's graph."""

from pathlib import Path

import keras
import numpy as np
import pytest
from scipy.special import logit

from local.samples import healthy_slices, lesion_slices
from services.training.data.scans import inputs
from services.training.modelling import restoring
from services.training.modelling.export import mirrored_outputs
from shared.ml.model import ModelMismatch, read_release
from tests.support.training_scans import prepared

RELEASE = Path(__file__).parents[4] / "services" / "inference" / "release"


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return prepared(*healthy_slices()[::8], *lesion_slices()[::8])


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return restoring.restored((RELEASE / "model.tflite").read_bytes())


def test_it_computes_what_the_graph_does_and_goes_on_to_once_it_can_learn(network, images):
    model = read_release(RELEASE)
    shipped = [model.predict(scan) for scan in inputs(images)]
    found = mirrored_outputs(network).predict(inputs(images), verbose=0)
    np.testing.assert_allclose(found["embedding"], [one.embedding for one in shipped], atol=1e-3)
    released = logit([one.probability for one in shipped])
    slope, offset = np.polyfit(found["logit"], released, 1)  # the release's calibration, which is not the network's
    np.testing.assert_allclose(slope * found["logit"] + offset, released, atol=1e-3)
    before = network.predict(inputs(images), verbose=0)["logit"]
    learning = restoring.unfolded(network, images)
    np.testing.assert_allclose(learning.predict(inputs(images), verbose=0)["logit"], before, atol=1e-3)
    norms = [layer for layer in learning.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert all(np.ptp(norm.get_weights()[3]) > 0 for norm in norms)  # variances of its inputs, not 1


def test_a_graph_of_another_network_is_refused():
    graph = Path(__file__).parents[4] / "services" / "preprocessing" / "efficientnet-lite0.tflite"
    with pytest.raises(ModelMismatch, match="of another network"):
        restoring.restored(graph.read_bytes())
