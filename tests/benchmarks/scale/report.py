"""The tables of docs/scalability.md, written from what was measured: a part that was not measured says so."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from local.stack.terraform_config import ROOT

PAGE = ROOT / "docs" / "scalability.md"
Figures = Mapping[str, Any]
_CLOUD = {
    "1": "1 a second, as deployed",
    "100": "100, as deployed",
    "1000_as_deployed": "1,000 for two minutes, as deployed",
    "10000": "10,000, quota raised",
    "peak": "a morning peak to 150, as deployed",
    "outage": "20, all services down for 30 minutes",
}


def write(series: Mapping[str, Any], figures: Figures) -> None:
    """Write the tables of the parts that were measured into the page."""
    PAGE.write_text(page(PAGE.read_text(), series, figures))


def page(text: str, series: Mapping[str, Any], figures: Figures) -> str:
    """Return the page with the table of each measured part between its marks."""
    for part in _TABLES:
        if part in series:
            text = _between(text, part, _part(part, series[part], figures))
    return text


def _part(part: str, series: Any, figures: Figures) -> str:  # each table knows its own series
    table = _TABLES[part](series, figures)
    if part in ("cloud", "check"):
        return table
    return f"{table}\n\nLoad average of the machine before: {figures[f'{part}_load_before']:g}."


def _between(text: str, mark: str, content: str) -> str:
    pattern = rf"(<!-- {mark} -->\n).*?(<!-- end -->)"
    return re.sub(pattern, lambda found: f"{found[1]}\n{content}\n\n{found[2]}", text, flags=re.DOTALL)


def _rest(levels: Sequence[Figures], figures: Figures) -> str:
    names = ("offered", "served", "refused", "p50_ms", "p95_ms", "p99_ms", "processors")
    heads = ("offered a second", "answered", "refused", "p50, ms", "p95, ms", "p99, ms", "processors busy")
    rows = [[f"{level[name]:.1f}" for name in names] for level in levels]
    return f"{_table(heads, rows)}\n\nThe knee: {figures['knee_rps']:.0f} requests a second."


def _workers(_: object, figures: Figures) -> str:
    rows = [[str(count), f"{figures[f'workers_{count}_rps']:.1f}"] for count in (1, 2, 3, 4)]
    law = (
        f"Fitted on 1, 2 and 4: {figures['law_alone_rps']:.1f} a second alone, contention "
        f"{figures['law_contention']:.3f}, coherence {figures['law_coherence']:.4f}; 3 workers predicted "
        f"{figures['prediction_rps']:.1f}, missed by {figures['prediction_error']:.1%}. Each worker had "
        f"{figures['worker_share_of_a_processor']:.0%} of a processor."
    )
    return f"{_table(('workers', 'requests a second'), rows)}\n\n{law}"


def _pipeline(levels: Sequence[Figures], figures: Figures) -> str:
    steps = list(levels[0]["queues"])
    heads = ("uploads a second", "answered", "p50, s", "p95, s", *(f"queue of `{step}`" for step in steps))
    rows = [
        [f"{level['offered']:g}", f"{level['served']:.1f}", f"{level['p50_s']:.2f}", f"{level['p95_s']:.2f}"]
        + [str(level["queues"][step]) for step in steps]
        for level in levels
    ]
    shares = {name: figures[f"processor_ms_{name}"] for name in ("validate_scan", "record_scan", "score_scan")}
    shares |= {name: figures[f"processor_ms_{name}"] for name in ("write_features", "inference", "stand_ins")}
    told = ", ".join(f"`{name}` {value:.1f}" for name, value in shares.items())
    knee, most = figures["pipeline_knee_scans_per_second"], figures["pipeline_most_scans_per_second"]
    said = (
        f"The knee: {knee:g} scans a second, most {most:.1f}. `{figures['saturating_step']}` saturates: beyond it "
        f"{figures['saturating_step_queue']} scans waited for it or were in its hands. Processor time of a scan, ms: "
        f"{told}; `{figures['busiest_process']}` took most. One alone: {figures['alone_s']:.2f} s."
    )
    return f"{_table(heads, rows)}\n\n{said}"


def _listed(title: str, names: Mapping[str, str], figures: Figures) -> str:
    """A line for each named figure."""
    return _table((title, ""), [[name, _number(figures[figure])] for name, figure in names.items()])


def _burst(_: object, figures: Figures) -> str:
    names = {
        "files at once": "burst_scans",
        "seconds to upload them": "burst_upload_s",
        "seconds from the last upload to the last row": "burst_drain_s",
        "files a second, from first to last": "burst_scans_per_second",
        "lost": "burst_lost",
        "doubled": "burst_doubled",
        "accepted and rejected": "burst_contradicted",
        "altered": "burst_altered",
    }
    return _listed("burst", names, figures)


def _soak(_: object, figures: Figures) -> str:
    names = {
        "minutes": "soak_minutes",
        "scans a second": "soak_scans_per_second",
        "scans": "soak_scans",
        "lost": "soak_lost",
        "processes that died": "soak_restarts",
        "memory at the end, MB, all processes": "soak_rss_mb",
        "its slope, MB an hour": "soak_rss_slope_mb_per_h",
        "open files at the end": "soak_descriptors",
        "their slope an hour": "soak_descriptors_slope_per_h",
        "scans done an hour, by slope": "soak_rows_slope_per_h",
    }
    steepest = (
        f"Most of the slope: `{figures['soak_rss_steepest']}`, {figures['soak_rss_steepest_mb_per_h']:.0f} MB an hour."
    )
    return f"{_listed('soak', names, figures)}\n\n{steepest}"


def _accounts(_: object, figures: Figures) -> str:
    names = {
        "account, s": "account_s",
        "of it processor time, s": "account_processor_s",
        "its memory at most, MB": "account_rss_mb",
        "the worklist's query, s": "worklist_s",
        "of it processor time of the BigQuery stand-in, s": "worklist_processor_s",
    }
    sizes = (100_000, 1_000_000)
    rows = [
        [name, *(_number(figures[f"accounts_{size}_{figure}"]) for size in sizes)] for name, figure in names.items()
    ]
    return _table(("uploads", *(f"{size:,}" for size in sizes)), rows)


def _check(_: object, figures: Figures) -> str:
    names = {
        "scans a second at most": ("most_scans_per_second", "pipeline_most_scans_per_second"),
        "seconds of one alone": ("alone_s", "alone_s"),
        "files a second in the burst": ("burst_scans_per_second", "burst_scans_per_second"),
    }
    rows = [
        [
            name,
            f"{figures[f'simulated_{simulated}']:.2f}",
            f"{figures[measured]:.2f}",
            f"{figures[f'simulation_error_{simulated}']:.0%}",
        ]
        for name, (simulated, measured) in names.items()
        if f"simulated_{simulated}" in figures
    ]
    return _table(("this machine", "simulated", "measured", "missed by"), rows)


def _cloud(_: object, figures: Figures) -> str:
    names = {
        "p50, s": "p50_s",
        "p95, s": "p95_s",
        "longest, s": "longest_s",
        "messages waiting at most": "most_waiting",
        "instances at most": "instances",
        "drained after, s": "drained_s",
        "dead letters": "dead_letters",
        "unfinished": "unfinished",
        "$ an hour": "dollars_an_hour",
        "$ per 1,000 scans": "dollars_1000_scans",
    }
    rows = [
        [title, *(_number(figures[f"cloud_{scenario}_{name}"]) for name in names.values())]
        for scenario, title in _CLOUD.items()
    ]
    rates = (1, 100, 10_000)
    limits = {
        "of 20 vCPU": "share_of_vcpu",
        "of 1,000 writes a second to a cold bucket": "share_of_bucket_writes",
        "of 300 MB of streamed rows a second": "share_of_streamed_rows",
    }
    shares = [[name, *(_number(figures[f"cloud_{rate}_{limit}"]) for rate in rates)] for name, limit in limits.items()]
    spark = {
        "batches an hour": "batches_an_hour",
        "cores that an hour of scans needs": "cores",
        "an hour's scans prepared after its end, s": "lag_s",
        "$ an hour": "dollars_an_hour",
    }
    batches = [
        [name, *(_number(figures[f"cloud_{rate}_spark_{figure}"]) for rate in rates)] for name, figure in spark.items()
    ]
    heads = [f"{rate:,} a second" for rate in rates]
    return "\n\n".join(
        (
            _table(("scans a second", *names), rows),
            _table(("share of a new project's limits", *heads), shares),
            _table(("Spark", *heads), batches),
        )
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", "| --- |" + " --- |" * (len(heads) - 1)]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


_TABLES: dict[str, Callable[[Any, Figures], str]] = {
    "rest": _rest,
    "workers": _workers,
    "pipeline": _pipeline,
    "burst": _burst,
    "soak": _soak,
    "accounts": _accounts,
    "check": _check,
    "cloud": _cloud,
}
