import numpy as np
import pytest

from services.training.modelling import map_statistics


@pytest.mark.parametrize("size", [(8, 8), (32, 32), (5, 7)])
def test_zones_cover_a_map_once_and_stay_when_it_is_mirrored(size):
    *parts, whole = map_statistics.zones(*size)
    zones = np.stack(parts)
    assert (zones.sum(axis=0) == 1).all() and whole.all()
    assert zones.any(axis=(1, 2)).all()
    assert np.array_equal(zones, zones[:, ::-1]) and np.array_equal(zones, zones[:, :, ::-1])
    assert zones[0, size[0] // 2, size[1] // 2] and zones[-1, 0, 0]


def test_features_are_means_and_deviations_by_zone():
    values = np.random.default_rng(0).normal(3, 1, (2, 8, 8, 5)).astype(np.float32)
    parts = np.split(np.asarray(map_statistics.map_statistics([values])), 8, axis=1)
    for zone, mean, deviation in zip(map_statistics.zones(8, 8), parts[::2], parts[1::2], strict=True):
        assert mean == pytest.approx(values[:, zone].mean(axis=1), abs=1e-5)
        assert deviation == pytest.approx(np.sqrt(values[:, zone].var(axis=1) + 1e-5), abs=1e-5)


def test_features_of_whole_maps_come_last():
    values = np.random.default_rng(0).normal(3, 1, (2, 8, 8, 5)).astype(np.float32)
    found = np.asarray(map_statistics.map_statistics([values, 2 * values]))
    assert found.shape == (2, 4 * 20)
    assert found[:, -20:-15] == pytest.approx(values.mean(axis=(1, 2)), abs=1e-5)
    assert found[:, -10:-5] == pytest.approx(2 * values.mean(axis=(1, 2)), abs=1e-5)
