import pytest

from shared.clock import now, seconds_since


def test_seconds_since_minds_the_time_zone():
    assert seconds_since(now()) < 60
    assert seconds_since("2000-01-01T01:00:00+01:00") - seconds_since("2000-01-01T00:00:10Z") == pytest.approx(
        10, abs=1
    )
