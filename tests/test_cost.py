"""The cost page is what the prices and the usage come to."""

import re
from datetime import date
from types import SimpleNamespace

import pytest

from tests.benchmarks import cost


def test_the_page_is_computed_from_todays_prices_and_usage() -> None:
    assert cost.tables() in cost.PAGE.read_text(), "stale: run `make cost` and commit the page"


def test_prices_have_a_date() -> None:
    assert date.fromisoformat(cost.PRICES.date) < date.today()


def test_the_page_says_of_when_the_prices_are_and_how_to_renew_them() -> None:
    page = cost.PAGE.read_text()
    assert f"Prices of {cost.PRICES.date}" in page
    assert "## Renew the prices" in page
    assert {"source", "read", "checked", "date"} <= set(
        re.findall(r"`(\w+)`", page.partition("## Renew the prices")[2])
    )


def test_every_price_has_a_page_a_date_and_says_whether_it_was_checked() -> None:
    sections = [section for section in vars(cost.PRICES).values() if isinstance(section, SimpleNamespace)]
    assert len(sections) == 9
    for section in sections:
        assert all(page.startswith("https://cloud.google.com/") for page in section.source)
        assert date.fromisoformat(section.read) < date.today()
        assert isinstance(section.checked, bool)


@pytest.mark.parametrize("scans", cost.SCANS)
def test_no_cost_is_negative_and_each_grows_with_the_scans(scans: int) -> None:
    less, more = cost.by_scans(scans), cost.by_scans(2 * scans)
    assert all(0 <= less[name] <= more[name] for name in less)


def test_a_free_tier_is_free_up_to_its_end() -> None:
    assert cost.by_scans(1)["logs, kept for a year"] < 1e-5, "only keeping them longer costs"


def test_a_warm_instance_costs_what_its_seconds_cost() -> None:
    """2 vCPU and 2 GiB at 2.5e-6 a second each, 2.628 million seconds a month."""
    assert cost.fixed()["one warm inference instance (`inference_min_instances`)"][1] == pytest.approx(26.28)


def test_an_open_page_is_billed_the_minimum_of_every_table_without_a_scan() -> None:
    assert cost.reader(0) == pytest.approx(960 * 40 / 1024 / 1024 * 6.25, rel=1e-3)


def test_an_open_worklist_costs_at_most_a_dollar_a_day_at_ten_million_scans_a_month() -> None:
    assert cost.reader(10_000_000) <= 1


def test_columns_are_counted_as_bigquery_bills_them() -> None:
    """What is chosen, compared or ordered by, through nested selections, and nothing else."""
    sql = """
    WITH latest AS (
      SELECT * FROM `scanflow.feedback_raw` WHERE recorded_at >= @since
      QUALIFY ROW_NUMBER() OVER (PARTITION BY feedback_id ORDER BY given_at DESC) = 1)
    SELECT scan_id, COUNTIF(agrees) AS agreed FROM latest GROUP BY scan_id
    """
    read = cost.columns_read(sql)
    assert read == {"feedback_raw": {"recorded_at", "feedback_id", "given_at", "scan_id", "agrees"}}
    assert cost.row_bytes(read["feedback_raw"] - {"agrees"}) == 8 + 38 + 8 + 66
