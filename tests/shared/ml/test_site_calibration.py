"""A site's calibration, as inference applies it."""

import dataclasses

import pytest

from shared.ml.site_calibration import SiteCalibration


def calibration(**changed: object) -> SiteCalibration:
    known = {"source": "ward-3", "version": "1", "model_version": "m", "slope": 1.0, "offset": 0.0, "threshold": 0.5}
    known |= {
        "uncertain_from": 0.4,
        "uncertain_to": 0.6,
        "scans": 30,
        "tumours": 12,
        "created_at": "2026-11-26T00:00:00",
    }
    return SiteCalibration(**known | changed)


def test_slope_one_and_offset_nought_change_nothing():
    assert [calibration().probability(value) for value in (0.001, 0.3, 0.97)] == pytest.approx([0.001, 0.3, 0.97])


def test_the_order_of_scans_stays_and_the_offset_moves_them_all():
    moved = calibration(slope=0.5, offset=-1.0)
    values = [moved.probability(value) for value in (0.0, 0.1, 0.5, 0.9, 1.0)]
    assert values == sorted(values)
    assert values[2] == pytest.approx(0.2689, abs=1e-4)  # sigmoid(-1)
    assert 0 < values[0] < values[-1] < 1


def test_it_survives_its_json_and_fields_of_later_code():
    known = calibration(figures={"persons": 9})
    later = known.to_json().replace(b'"source"', b'"from_later": 1, "source"', 1)
    assert SiteCalibration.from_json(later) == known


@pytest.mark.parametrize(
    "spoilt", [b"[]", b"{}", b"nothing", dataclasses.replace(calibration(), slope=float("nan")).to_json()]
)
def test_what_is_no_calibration_is_refused(spoilt):
    with pytest.raises((AttributeError, TypeError, ValueError)):
        SiteCalibration.from_json(spoilt)
