"""The code and Terraform name the same things: what one uses the other declares, and nothing is declared for nobody."""

import ast
import json
import re
import tomllib
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest
from cronsim import CronSim

from local.stack.provision import dead_letter_topic
from local.stack.terraform_config import TERRAFORM, declared, parsed, schema, seconds
from shared.events import DeadLetter, ScanAccepted, ScanRejected, ScanScored, SeriesSummarised
from tests.terraform.code import deployable
from tests.terraform.tools import ROOT

FUNCTIONS = sorted(folder.name for folder in (ROOT / "functions").iterdir() if (folder / "main.py").exists())
SERVICES = ("inference", "dashboard", "training")
STEPS = declared()["steps"] | declared()["scheduled"]
EVENTS = (ScanAccepted, ScanRejected, ScanScored, SeriesSummarised)
GROW_WITH_SCANS = {
    *("scans", "rejections", "predictions", "features", "cnn_features", "series", "series_slices", "slice_scores")
}
"""Tables with a row a scan or a series."""
GIVEN_TO_ALL = {"GOOGLE_CLOUD_PROJECT", "NAME_PREFIX"}
"""What Terraform sets for every function and service, whether it reads it or not; a prefix only if there is one."""


def test_every_function_is_a_step_and_every_step_a_function():
    assert sorted(STEPS) == FUNCTIONS


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_given_the_settings_it_reads(name):
    required, optional = deployable(name).settings()
    given = STEPS[name]["environment"].keys() | STEPS[name].get("secrets", {}).keys() | GIVEN_TO_ALL
    assert required - given == set(), "the code cannot do without them"
    assert given - required - optional - GIVEN_TO_ALL == set(), "nobody reads them"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_given_the_settings_it_reads(name):
    code = deployable(name)
    required, optional = code.settings()
    given = _service_environment(name)
    used = optional | set(code.strings()) | set(re.findall(r"\$(\w+)", _dockerfile(name)))
    assert required - given == set()
    assert given - required - used - GIVEN_TO_ALL == set()


def test_the_spark_job_is_given_the_settings_it_reads():
    required, _ = deployable("preprocessing").settings()
    passed_on, _ = deployable("start_preprocessing").settings()
    assert required <= passed_on


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_called_as_it_expects(name):
    """Topics push CloudEvents, Cloud Scheduler sends plain requests; the decorator decides which a function takes."""
    door = ast.parse((ROOT / "functions" / name / "main.py").read_text())
    (function,) = [node for node in door.body if isinstance(node, ast.FunctionDef) and node.name == name]
    expected = "cloud_event" if name in declared()["steps"] else "http"
    assert [ast.unparse(decorator) for decorator in function.decorator_list] == [f"functions_framework.{expected}"]


def test_every_topic_is_published_and_read():
    published = {event.TOPIC for event in EVENTS} | {_notified_topic()}
    pushed = {topic for step in declared()["steps"].values() for topic in step["topics"]}
    pulled = {subscription["topic"] for subscription in declared()["pull_subscriptions"].values()}
    assert set(declared()["topics"]) == published == (pushed | pulled) - _dead_letter_topics()


def test_every_dead_letter_is_recorded_but_those_of_the_recorder():
    recorder = declared()["steps"]["record_dead_letter"]
    assert set(recorder["topics"]) == _dead_letter_topics() - {dead_letter_topic("record_dead_letter")}


def test_a_scheduled_step_never_overlaps_itself():
    """Two at once would list and copy the same, or publish twice."""
    for name, step in declared()["scheduled"].items():
        calls = CronSim(step["schedule"], datetime(2026, 1, 1, tzinfo=UTC))
        first, second = next(calls), next(calls)
        assert step["max_instances"] == 1, name
        assert step["timeout"] <= (second - first).total_seconds() or step["concurrency"] == 1, name


def test_a_schedule_is_written_as_cloud_scheduler_reads_it():
    """Steps go with `*` or a range, as in 7-59/15: https://cloud.google.com/scheduler/docs/configuring/cron-job-schedules."""
    for name, step in declared()["scheduled"].items():
        assert re.fullmatch(r"((\*|\d+-\d+)(/\d+)?|\d+)( ((\*|\d+-\d+)(/\d+)?|\d+)){4}", step["schedule"]), name


def test_what_is_asked_several_times_a_day_reads_partitions_and_not_whole_tables():
    """BigQuery bills what a query reads, and refuses more than MAX_BYTES_BILLED: a view reads its whole table."""
    for name, step in declared()["scheduled"].items():
        calls = CronSim(step["schedule"], datetime(2026, 1, 1, tzinfo=UTC))
        if next(calls) + timedelta(days=1) <= next(calls):
            continue
        for sql in deployable(name).strings():
            read = [table.removesuffix("_raw") for table in re.findall(r"(?:FROM|JOIN) \{dataset\}\.(\w+)", sql)]
            growing = [table for table in read if table in GROW_WITH_SCANS]
            assert sql.count("recorded_at >= @") >= len(growing), f"{name}: {sql}"


def test_the_dashboard_takes_no_larger_file_than_cloud_run_lets_through():
    """HTTP/1 requests have 32 MiB at most: https://cloud.google.com/run/quotas."""
    settings = tomllib.loads((ROOT / "dashboard" / ".streamlit" / "config.toml").read_text())
    assert settings["server"]["maxUploadSize"] <= 32
    for guide in ("guides/rest.md", "operations/limits.md"):
        assert "32 MiB" in (ROOT / "docs" / guide).read_text(), "a caller has to know"


def test_a_message_outlives_two_hours_of_trouble_and_the_alert_comes_long_before():
    delivery = declared()["delivery"]
    least, most = seconds(delivery["minimum_backoff"]), seconds(delivery["maximum_backoff"])
    waits = [min(least * 2**gap, most) for gap in range(delivery["max_delivery_attempts"] - 1)]
    assert sum(waits) > 2 * 3600
    module = (TERRAFORM / "modules" / "step" / "main.tf").read_text()
    condition = module.partition("The oldest message has waited")[2].partition("aggregations")[0]
    age, lasting = re.search(r'threshold_value = (\d+)\s+duration\s+= "(\d+)s"', condition).groups()
    assert int(age) + int(lasting) < 300


def test_every_pull_subscription_is_drained():
    names = [argument.value for name in FUNCTIONS for argument in deployable(name).calls.get(("pubsub", "pull"), [])]
    delivered = {text for text in deployable("gateway").strings() if text.startswith("deliver-")}
    assert sorted([*names, *delivered]) == sorted(declared()["pull_subscriptions"])


def test_every_bucket_has_a_setting_and_every_setting_a_bucket():
    named = {text for name in (*FUNCTIONS, *SERVICES, "preprocessing") for text in deployable(name).settings()[0]}
    assert {f"{bucket.upper()}_BUCKET" for bucket in declared()["buckets"]} == {
        text for text in named | _service_environment("training") if text.endswith("_BUCKET")
    }


def test_every_table_is_written_and_every_table_written_is_declared():
    writers = [deployable(name) for name in (*FUNCTIONS, *SERVICES, "preprocessing", "operations", "erase")]
    written = {table for code in writers for table in code.written("append") | code.written("load")}
    assert written == set(declared()["tables"])


def test_every_table_read_is_declared():
    read = {table for name in (*FUNCTIONS, "dashboard") for table in deployable(name).tables()}
    assert read <= set(declared()["tables"])


@pytest.mark.parametrize("table", declared()["tables"])
def test_a_table_has_its_columns_and_a_file_of_its_own(table):
    columns = [column["name"] for column in schema(table)]
    entry = declared()["tables"][table]
    assert set(entry["key"]) | set(entry["cluster"]) | {"recorded_at"} <= set(columns)
    assert len(columns) == len(set(columns))


def test_every_schema_is_a_table():
    assert {file.stem for file in (TERRAFORM / "schemas").glob("*.json")} == set(declared()["tables"])


def test_the_rows_of_events_are_the_columns():
    accepted = {field.name for field in fields(ScanAccepted)} - {"bucket", "name"} | {"object_name", "recorded_at"}
    rejected = {field.name for field in fields(ScanRejected)} | {"recorded_at"}
    given_up = {field.name for field in fields(DeadLetter)} | {"recorded_at"}
    assert {column["name"] for column in schema("scans")} == accepted
    assert {column["name"] for column in schema("rejections")} == rejected
    assert {column["name"] for column in schema("dead_letters")} == given_up


@pytest.mark.parametrize("table", declared()["tables"])
def test_every_column_is_given_a_value_by_code(table):
    """Whether the values fit is for the tests that insert rows into a BigQuery that refuses what does not."""
    folders = ("shared", "functions", "services", "dashboard")
    given = {name for folder in folders for file in (ROOT / folder).rglob("*.py") for name in _values_named_in(file)}
    assert {column["name"] for column in schema(table)} <= given


def test_a_word_in_a_comment_gives_no_column_a_value(tmp_path):
    file = tmp_path / "code.py"
    file.write_text(
        '"""Word docstring."""\nword = "word"  # word\nrow = {"key": word, **dict(keyword=1)}\nrow["item"] = 1\n'
    )
    assert _values_named_in(file) == {"key", "keyword", "item"}


def _values_named_in(file: Path) -> set[str]:
    """Return the names that code gives values to in rows: dictionary keys, keywords, assigned items, record fields."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Dict():
                names |= {key.value for key in node.keys if isinstance(key, ast.Constant)}
            case ast.keyword():
                names.add(node.arg)
            case ast.Subscript(slice=ast.Constant(), ctx=ast.Store()):
                names.add(node.slice.value)
            case ast.ClassDef():
                names |= {each.target.id for each in node.body if isinstance(each, ast.AnnAssign)}
    return {name for name in names if isinstance(name, str)}


def test_the_environments_set_variables_that_there_are():
    variables = {name.strip('"') for block in _blocks("variable") for name in block}
    for file in (TERRAFORM / "environments").glob("*.tfvars"):
        assert parsed(file.read_text()).keys() <= variables, file.name


def test_the_dashboard_is_json_of_metrics_that_there_are():
    text = (TERRAFORM / "dashboard.json").read_text().replace("${underscored}", "")
    ours = {
        block["name"].strip('"').removeprefix("${local.underscored}")
        for block in _resources("google_logging_metric").values()
    }
    used = {name.replace("scanflow_", "scanflow/", 1) for name in re.findall(r"user[/_](scanflow[/_]\w+)", text)}
    assert json.loads(text)["mosaicLayout"]["tiles"]
    assert {name.removesuffix("_count") for name in used} == ours


def test_the_logs_that_are_counted_are_written():
    """A metric counts entries by their message and fields; each must be one that the function logs."""
    for metric in _resources("google_logging_metric").values():
        steps = re.findall(r"(?:module\.step\[\\?\"|google_cloud_run_v2_service\.)(\w+)", metric["filter"])
        messages = re.findall(r"jsonPayload\.message=\\*\"([\w ]+)", metric["filter"])
        wanted = set(re.findall(r"jsonPayload\.(\w+)\)", json.dumps(metric)))
        first, *others = [_logged(*pair) for pair in zip(steps, messages, strict=True)]
        assert wanted <= first
        value = set(re.findall(r"jsonPayload\.(\w+)\)", metric.get("value_extractor", "")))
        assert all(value <= logged for logged in others)


def _logged(step: str, message: str) -> set[str]:
    """Fields of a function's log entry with this message."""
    for node in deployable(step).reached.values():
        for call in ast.walk(node):
            if isinstance(call, ast.Call) and ast.unparse(call.func).startswith("logger.") and _first(call) == message:
                (extra,) = [keyword.value for keyword in call.keywords if keyword.arg == "extra"]
                return {key.value for key in extra.keys}
    return set()


def _first(call: ast.Call) -> object:
    return next((part.value for part in call.args if isinstance(part, ast.Constant)), None)


def _dockerfile(name: str) -> str:
    folder = ROOT if name == "dashboard" else ROOT / "services"
    return (folder / name / "Dockerfile").read_text()


def _service_environment(name: str) -> set[str]:
    kind = "google_cloud_run_v2_job" if name == "training" else "google_cloud_run_v2_service"
    resource = str(_resources(kind)[name])
    secrets = re.findall(r"""'name': '"?([A-Z_]+)"?', 'value_source'""", resource)
    return {*re.findall(r"\b([A-Z_]+) = (?:var|local)\.", resource), *secrets}


def _dead_letter_topics() -> set[str]:
    return {dead_letter_topic(name) for name in [*declared()["steps"], *declared()["pull_subscriptions"]]}


def _notified_topic() -> str:
    (notification,) = _resources("google_storage_notification").values()
    return re.search(r"this\[\"?([\w-]+)", notification["topic"].replace("\\", ""))[1]


def _resources(kind: str) -> dict[str, dict]:
    """Resources of a type in the root module, by name."""
    return {
        name.strip('"'): body
        for block in _blocks("resource")
        for found, resources in block.items()
        if found.strip('"') == kind
        for name, body in resources.items()
    }


def _blocks(kind: str) -> list[dict]:
    return [block for file in sorted(TERRAFORM.glob("*.tf")) for block in parsed(file.read_text()).get(kind, [])]


def test_spark_is_the_runtimes():
    """The runtime mounts its own Spark into the container: the one that is tested has to be the same."""
    spark_of_runtime = {"3.0": "4.0", "2.3": "3.5", "2.2": "3.5"}
    runtime = re.search(r'version\s+= "([\d.]+)"', (TERRAFORM / "dataproc.tf").read_text())[1]
    assert version("pyspark").rpartition(".")[0] == spark_of_runtime[runtime]
