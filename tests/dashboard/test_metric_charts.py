"""A report's figures as tables and curves."""

from datetime import UTC, datetime, timedelta

import pandas as pd

from dashboard import metric_charts

NOW = datetime.now(UTC)


def chart(**points: int) -> dict:
    """The drawing of so many points of each kind."""
    rows = [
        {"at": NOW - timedelta(minutes=place), "files": place, "kind": kind}
        for kind, count in points.items()
        for place in range(count)
    ]
    drawn = metric_charts.over_time(pd.DataFrame(rows), "files", "kind", "Files", (NOW - timedelta(hours=1), NOW))
    return drawn.to_dict()


def kinds(drawn: dict, mark: str) -> set[str]:
    """Which kinds a layer of this mark draws."""
    (layer,) = [layer for layer in drawn["layer"] if layer["mark"]["type"] == mark]
    return {row["kind"] for row in drawn["datasets"][layer["data"]["name"]]}


def test_two_points_are_not_joined_by_a_line() -> None:
    drawn = chart(two=2, three=3)
    assert kinds(drawn, "line") == {"three"}
    assert kinds(drawn, "point") == {"two", "three"}


def test_series_on_each_other_are_told_apart_by_more_than_colour() -> None:
    line, point = (layer["encoding"] for layer in chart(one=3, other=3)["layer"])
    assert len({str(dash) for dash in line["strokeDash"]["scale"]["range"]}) >= 4
    assert len(set(point["shape"]["scale"]["range"])) >= 4


def test_points_on_each_other_are_all_seen() -> None:
    """What is drawn later is smaller."""
    drawn = chart(two=2, three=3, one=1)
    (layer,) = [layer for layer in drawn["layer"] if layer["mark"]["type"] == "point"]
    scale = layer["encoding"]["size"]["scale"]
    order = list(dict.fromkeys(row["kind"] for row in drawn["datasets"][layer["data"]["name"]]))
    assert order == scale["domain"] == ["one", "three", "two"]
    assert scale["range"] == sorted(scale["range"], reverse=True)


def test_a_figure_has_its_interval() -> None:
    figures = {"accuracy": 0.9, "accuracy_low": 0.88, "accuracy_high": 0.92}
    assert metric_charts.interval(figures, "accuracy") == "0.900 (0.880 to 0.920)"
    assert metric_charts.interval(figures, "recall") == "not measured"
