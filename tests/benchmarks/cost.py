"""What the system costs a month: `make cost` computes the tables of docs/operations/cost.md from prices and usage.

Prices are those of docs/operations/prices.toml, usage that of usage.toml beside it. `--write` updates the page.
"""

import argparse
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.optimizer.pushdown_projections import pushdown_projections
from sqlglot.optimizer.qualify import qualify

from dashboard.queries import scans as worklist_queries
from local.stack.terraform_config import declared, schema
from shared.gcp import recent

FOLDER = Path(__file__).parents[2] / "docs" / "operations"
PAGE = FOLDER / "cost.md"
SCANS = (1_000, 100_000, 10_000_000)
MONTH_S = 730 * 3600
GIB = 2**20
"""In KiB."""

BURSTS, SPREAD = ", traffic in bursts", ", traffic spread evenly"
"""Of two ways in which the same scans may come."""

Table = dict[str, list[float]]


def figures(name: str) -> Any:
    """Return a file's sections as attributes."""
    content = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    return SimpleNamespace(
        **{key: SimpleNamespace(**item) if isinstance(item, dict) else item for key, item in content.items()}
    )


PRICES, USAGE = figures("prices"), figures("usage")


def by_scans(scans: int) -> dict[str, float]:
    """Return dollars a month by what they are for, if this many scans arrive in the month."""
    scan = USAGE.scan
    return {
        "functions, traffic in bursts": _functions(scans, scan.function_s_crowded),
        "functions, traffic spread evenly": _functions(scans, scan.function_s_alone),
        "inference, traffic in bursts": _inference(scans, scan.inference_s_crowded),
        "inference, traffic spread evenly": _inference(scans, scan.inference_s_alone),
        "Cloud Storage, operations": scans
        * (scan.class_a * PRICES.storage.class_a_1000 + scan.class_b * PRICES.storage.class_b_1000)
        / 1000,
        "Cloud Storage, what the month adds": scans
        * (2 * scan.kib + scan.prepared_kib)
        / GIB
        * PRICES.storage.gib_month,
        "Pub/Sub": _beyond(scans * moved_kib() / GIB, PRICES.pubsub.free_gib) * PRICES.pubsub.tib / 1024
        + scans * kept_kib_days() / 30 / GIB * PRICES.pubsub.retained_gib_month,
        "BigQuery, rows streamed and kept": scans
        * (scan.rows_inserted_kib * PRICES.bigquery.insert_gib + scan.rows_kib * PRICES.bigquery.storage_gib_month)
        / GIB,
        "BigQuery, series summarised": _series(scans),
        "Cloud Tasks": _tasks(scans),
        "BigQuery, drift and accounts": _checks(scans),
        "Spark": _spark(scans),
        "logs, kept for a year": _beyond(scans * scan.log_kib / GIB, PRICES.logs.free_gib) * PRICES.logs.gib
        + scans * scan.log_kib / GIB * 11 * PRICES.logs.kept_gib_month,
    }


def _beyond(used: float, free: float) -> float:
    return max(0.0, used - free)


def moved_kib() -> float:
    """Return what Pub/Sub moves for a scan: each event is published once and delivered to every subscription."""
    return sum(events * kib * (1 + deliveries(topic)) for topic, events, kib in _events())


def kept_kib_days() -> float:
    """Return KiB for a scan times the days for which topics keep their messages."""
    days = dict.fromkeys(declared()["topics"], 7) | {"scan-uploaded": 2}
    return sum(events * kib * days[topic] for topic, events, kib in _events())


def deliveries(topic: str) -> int:
    """Return how many subscriptions a topic has: those that push to functions, and those that are drained."""
    return pushes(topic) + sum(each["topic"] == topic for each in declared()["pull_subscriptions"].values())


def pushes(topic: str) -> int:
    """Return how many functions a topic drives."""
    return sum(topic in step["topics"] for step in declared()["steps"].values())


def _events() -> list[tuple[str, float, float]]:
    """Return topic, events a scan, and KiB of one."""
    return [(topic, events, vars(USAGE.message_kib)[topic]) for topic, events in vars(USAGE.events_a_scan).items()]


def _inference(scans: int, seconds: float) -> float:
    run = PRICES.run
    return scans * (seconds * (run.vcpu_second + run.gib_second) + run.million_requests / 1e6)


def _series(scans: int) -> float:
    """Each time that a series may be complete, the last hours are read, and the names of all that was answered."""
    use, price = USAGE.summarise_series, PRICES.bigquery
    series, an_hour = scans / use.slices, scans / 30 / 24
    touched = an_hour * use.touched_hours * use.key_bytes
    recent = [an_hour * use.hours * each for each in (use.slice_bytes, use.score_bytes, use.answer_bytes / use.slices)]
    read = [touched, touched, *recent, series * use.kept_days / 30 * use.key_bytes]
    mib = sum(max(size / 2**20, price.minimum_mib_a_table) for size in read)
    return min(series * use.asks_a_series, use.most_asks) * mib / 2**20 * price.tib_scanned


def _tasks(scans: int) -> float:
    """A task is made and delivered; many at a time are one, but asking for it counts."""
    operations = 2 * scans / USAGE.summarise_series.slices * USAGE.summarise_series.asks_a_series
    return _beyond(operations, PRICES.tasks.free) * PRICES.tasks.million / 1e6


def _checks(scans: int) -> float:
    """The days of drift's window are read at each check, a month's rows every night."""
    drift, nightly = USAGE.check_drift, USAGE.nightly
    read = drift.calls * scans / 30 * drift.days * drift.row_bytes + nightly.calls * scans * nightly.row_bytes
    return read / 2**40 * PRICES.bigquery.tib_scanned


def function_calls() -> float:
    """Return how many functions a scan drives."""
    return sum(events * pushes(topic) for topic, events, _ in _events())


def _functions(scans: int, seconds: float) -> float:
    calls = scans * function_calls()
    cpu = scans * seconds * (PRICES.run.vcpu_second + 2 * PRICES.run.gib_second)
    return cpu + _beyond(calls, 2e6) * PRICES.run.million_requests / 1e6


def _spark(scans: int) -> float:
    """A batch an hour with new scans, or the core hours of all, whichever is more."""
    batches = min(scans, 730)
    each = USAGE.spark.batch_dcu * USAGE.spark.batch_minutes / 60 * PRICES.spark.dcu_hour
    work = scans / 1e7 * USAGE.spark.core_hours_10m * USAGE.spark.dcu_a_core * PRICES.spark.dcu_hour
    return batches * each + work


def reader(scans: int) -> float:
    """Return dollars a working day of one open, live worklist, if this many scans arrive in a month."""
    use, price = USAGE.reader, PRICES.bigquery
    refreshes = use.hours * 3600 / worklist_queries.REFRESH_S
    read_mib = sum(
        max(price.minimum_mib_a_table, scans / 30 * use.days_read * rows_of(table) * row_bytes(columns) / 2**20)
        for table, columns in columns_read(worklist_query()).items()
    )
    return refreshes * read_mib / 2**20 * price.tib_scanned


def worklist_query() -> str:
    """Return what an open worklist asks, as BigQuery is asked."""
    sql = worklist_queries.worklist_sql(next(iter(worklist_queries.SORTS)), None, {}, 1)
    return recent.expanded(sql).replace("{dataset}", "scanflow")


def columns_read(sql: str) -> dict[str, set[str]]:
    """Return the tables that a query reads, and of each the columns that BigQuery bills it for."""
    parsed = sqlglot.parse_one(sql, dialect="bigquery")
    tables = {table.name for table in parsed.find_all(exp.Table) if table.name.endswith("_raw")}
    known = {
        "scanflow": {
            table: {column["name"]: column["type"] for column in schema(table.removesuffix("_raw"))} for table in tables
        }
    }
    used = pushdown_projections(qualify(parsed, schema=known, dialect="bigquery"))
    read: dict[str, set[str]] = {table: set() for table in tables}
    for select in used.find_all(exp.Select):
        names = {
            source.alias_or_name: source.name for source in select.find_all(exp.Table) if source.parent_select is select
        }
        for column in select.find_all(exp.Column):
            if column.parent_select is select and names.get(column.table) in read:
                read[names[column.table]].add(column.name)
    return read


def row_bytes(columns: set[str]) -> int:
    """Return the bytes that BigQuery bills for these columns of one row: 8, or 2 and the length of a text."""
    texts = vars(USAGE.text_bytes)
    return sum(2 + texts[name] if name in texts else 8 for name in columns)


def rows_of(table: str) -> float:
    """Return the rows of a table for each scan that arrives."""
    return float(vars(USAGE.rows_a_scan)[table.removesuffix("_raw")])


def per_refresh() -> str:
    """Return what one refresh of the worklist reads, table by table, as Markdown."""
    lines = ["| one refresh reads | columns | bytes a row |", "| --- | --- | --- |"]
    for table, columns in sorted(columns_read(worklist_query()).items()):
        named = ", ".join(f"`{name}`" for name in sorted(columns))
        lines.append(f"| `{table}` | {named} | {row_bytes(columns)} |")
    return "\n".join(lines)


def fixed() -> Table:
    """Return dollars a month that are there without a scan, in dev and in prod."""
    use, run, other = USAGE.fixed, PRICES.run, PRICES.other
    warm = MONTH_S * (use.warm_vcpu * run.idle_vcpu_second + use.warm_gib * run.idle_gib_second)
    machine = use.training_vcpu * run.instance_vcpu_second + use.training_gib * run.instance_gib_second
    training = use.training_hours * 3600 * machine
    watching = use.alert_conditions * other.alert_condition
    watching += _beyond(use.scheduler_jobs, other.scheduler_free) * other.scheduler_job
    return {
        "one warm inference instance (`inference_min_instances`)": [0, warm],
        "training, an hour a week on 8 vCPU": [training, training],
        "the same with an L4 (`training_gpu`), beside that": [0, use.training_hours * 3600 * run.l4_second],
        "alert conditions, scheduler jobs": [watching, watching],
        "series asked for every minute": [_asking(USAGE.summarise_series)] * 2,
        "known files, every quarter of an hour": [
            _asking(USAGE.check_pipeline) + one_by_one(USAGE.check_pipeline.calls * USAGE.check_pipeline.scans)
        ]
        * 2,
        "images kept for a way back": [use.registry_gib * other.registry_gib_month] * 2,
    }


def _asking(use: SimpleNamespace) -> float:
    """Return dollars of a function that asks BigQuery on schedule: its own time, and 10 MB a table."""
    run, price = PRICES.run, PRICES.bigquery
    own = use.calls * use.seconds * (run.vcpu_second + run.gib_second / 2)
    return own + use.calls * use.tables * price.minimum_mib_a_table / 2**20 * price.tib_scanned


def one_by_one(scans: int) -> float:
    """Return what scans cost that come one by one, without batches of Spark."""
    month = by_scans(scans)
    return sum(value for name, value in month.items() if not name.endswith(BURSTS) and name != "Spark")


def build() -> float:
    """Return dollars a build."""
    return USAGE.build.minutes * PRICES.build.e2_highcpu_8_minute + USAGE.build.image_scans * PRICES.build.image_scan


def tables() -> str:
    """Return the tables as Markdown."""
    months = [by_scans(scans) for scans in SCANS]
    used = {name: [month[name] for month in months] for name in months[0]}
    for title, other in (("**sum, in bursts**", SPREAD), ("**sum, spread evenly**", BURSTS)):
        used[title] = [sum(value for name, value in month.items() if not name.endswith(other)) for month in months]
    standing = fixed()
    standing["**sum**"] = [sum(column) for column in zip(*standing.values(), strict=True)]
    readers = {"one live worklist, open for a working day": [reader(scans) for scans in SCANS]}
    readers["the same for a month of working days"] = [reader(scans) * USAGE.reader.days for scans in SCANS]
    parts = [
        _table("a month", [f"{scans:,} scans" for scans in SCANS], used),
        _table("a reader", [f"{scans:,} scans a month" for scans in SCANS], readers),
        per_refresh(),
        _table("a month, without a scan", ["dev", "prod"], standing),
        f"A build costs {build():.2f}. {_age()}",
    ]
    return "\n\n".join(parts)


def _age() -> str:
    """Return of when the prices are, and whether somebody has compared them with their pages."""
    sections = [section for section in vars(PRICES).values() if isinstance(section, SimpleNamespace)]
    checked = sum(section.checked for section in sections)
    return f"Prices of {PRICES.date}; {checked} of {len(sections)} sections were compared with Google's pages."


def _table(corner: str, columns: list[str], rows: Table) -> str:
    lines = [f"| {' | '.join([corner, *columns])} |", "| --- |" + " --- |" * len(columns)]
    lines += [f"| {name} | {' | '.join(_dollars(value) for value in values)} |" for name, values in rows.items()]
    return "\n".join(lines)


def _dollars(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}"


def page() -> str:
    """Return the page with its tables computed again."""
    return re.sub(
        r"(<!-- computed by make cost -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}\n{tables()}\n\n{found[2]}",
        PAGE.read_text(),
        flags=re.DOTALL,
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.cost", description=__doc__)
    parser.add_argument("--write", action="store_true", help="update docs/operations/cost.md too")
    if parser.parse_args().write:
        PAGE.write_text(page())
    print(tables())


if __name__ == "__main__":
    main()
