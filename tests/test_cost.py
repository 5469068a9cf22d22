"""The cost page is what the prices and the usage come to."""

import re
from datetime import date
from types import SimpleNamespace

import pytest

from local.stack.terraform_config import declared
from shared.events import SeriesSummarised
from tests.benchmarks import cost
from tests.support.events import scan_accepted, scan_rejected, scan_scored


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


def test_every_topic_is_counted() -> None:
    assert vars(cost.USAGE.events_a_scan).keys() == vars(cost.USAGE.message_kib).keys() == set(declared()["topics"])


def test_messages_are_as_large_as_they_are_counted() -> None:
    """A DICOM slice's, which says the most; attributes add some 50 bytes."""
    ids = dict.fromkeys(("study_id", "series_id"), "d" * 64)
    said = {"plane": "axial", "sequence": "FLAIR", "manufacturer": "Some maker", "slice_position_mm": -12.5}
    embedding = [0.12345678806304932] * 160
    accepted = scan_accepted(**ids, **said, accession_id="e" * 64, content_md5="f" * 24, generation=1764230400000000)
    events = [accepted, scan_rejected(), scan_scored(**ids, bucket="scans", name="a" * 80, embedding=embedding)]
    for event in events:
        kib = (len(event.to_json()) + 50) / 1024
        assert kib <= vars(cost.USAGE.message_kib)[event.TOPIC] <= 2 * kib, event.TOPIC


def test_what_moves_follows_the_subscriptions() -> None:
    """scan-accepted drives two functions and Spark's pull subscription."""
    assert (cost.pushes("scan-accepted"), cost.deliveries("scan-accepted")) == (2, 3)
    assert SeriesSummarised.TOPIC in declared()["topics"]


def test_inference_is_billed_by_what_is_measured() -> None:
    """docs/benchmarks.md, processor time a request: two vCPU are billed while one works."""
    page = (cost.FOLDER.parent / "benchmarks.md").read_text()
    measured = float(re.search(r"processor time a request, two in flight \| ([\d.]+) ms", page)[1])
    assert cost.USAGE.scan.inference_s_crowded == pytest.approx(2 * measured / 1000, rel=0.05)
