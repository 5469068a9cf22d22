"""What the cost page counts of Terraform is what Terraform makes."""

from local.stack.terraform_config import TERRAFORM, declared
from shared.ml.series_summary import BUCKET_S
from tests.benchmarks.cost import USAGE
from tests.terraform.conftest import Tested
from tests.terraform.tools import ROOT


def test_alert_conditions_and_schedules_are_as_many_as_are_applied(tested: Tested) -> None:
    (state,) = [message["test_state"] for message in tested("three_variables.tftest.hcl")["test_state"]]
    modules = [state["root_module"], *state["root_module"]["child_modules"]]
    made = [each for module in modules for each in module["resources"]]
    alerts = [each["values"]["conditions"] for each in made if each["type"] == "google_monitoring_alert_policy"]
    assert sum(map(len, alerts)) == USAGE.fixed.alert_conditions
    assert sum(each["type"] == "google_cloud_scheduler_job" for each in made) == USAGE.fixed.scheduler_jobs


def test_calls_on_schedule_are_counted_as_scheduled() -> None:
    """A month has 730 hours."""
    scheduled = declared()["scheduled"]
    assert scheduled["summarise_series"]["schedule"] == "* * * * *"
    assert USAGE.summarise_series.calls == 730 * 60
    assert scheduled["check_pipeline"]["schedule"].endswith("/15 * * * *")
    assert USAGE.check_pipeline.calls == 730 * 4


def test_the_hours_and_days_that_are_read_of_series_are_counted() -> None:
    days = USAGE.summarise_series.kept_days
    assert f"? {days} * 24 * 3600 * 1000 : null" in (TERRAFORM / "bigquery.tf").read_text()
    assert USAGE.summarise_series.most_asks * BUCKET_S == 730 * 3600
    code = (ROOT / "functions" / "summarise_series" / "main.py").read_text()
    assert f"_KEPT = timedelta(days={days})" in code
    assert f"_RECENT = timedelta(hours={int(USAGE.summarise_series.hours)})" in code
    assert f"_LOOK_BACK = timedelta(hours={int(USAGE.summarise_series.touched_hours)})" in code
