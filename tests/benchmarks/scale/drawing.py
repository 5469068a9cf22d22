"""The figures of docs/scalability.md, drawn from what was measured."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from PIL import Image

from local.stack.terraform_config import ROOT
from tests.benchmarks.scale.law import Law
from tests.benchmarks.scale.workers import HELD_OUT, MOST

FOLDER = ROOT / "docs" / "scalability"
Figures = Mapping[str, Any]
_BLUE, _RED, _GREY = "#2b6cb0", "#c53030", "#718096"


def draw(series: Mapping[str, Any], figures: Figures) -> None:
    """Draw what there are measurements for."""
    mpl.use("Agg")
    sns.set_theme(style="whitegrid", context="notebook", font_scale=0.9)
    FOLDER.mkdir(exist_ok=True)
    drawings: dict[str, tuple[str, Callable[[Any, Figures], Figure]]] = {
        "rest": ("rest", rest),
        "workers": ("workers", workers),
        "pipeline": ("pipeline", pipeline),
        "soak": ("soak", soak),
        "cloud": ("cloud", cloud),
        "overview": ("cloud", overview),
    }
    for name, (part, drawing) in drawings.items():
        if part in series:
            save(drawing(series[part], figures), FOLDER / f"{name}.webp")


def save(figure: Figure, file: Path) -> None:
    """Write a figure as a small WebP."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    Image.open(buffer).convert("RGB").save(file, "WEBP", quality=80, method=6)


def rest(levels: list[dict[str, float]], figures: Figures) -> Figure:
    """Throughput and latency of the inference service over the offered rate."""
    offered = [level["offered"] for level in levels]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    left.plot(offered, offered, ":", color=_GREY, label="offered")
    left.plot(offered, [level["served"] for level in levels], "o-", color=_BLUE, label="answered")
    left.plot(offered, [level["refused"] for level in levels], "s--", color=_RED, label="refused (429, 503)")
    _knee(left, figures["knee_rps"])
    left.set(xlabel="requests per second offered", ylabel="per second")
    left.legend()
    for name, style in (("p50_ms", "o-"), ("p95_ms", "s--"), ("p99_ms", "^:")):
        right.plot(offered, [level[name] for level in levels], style, label=name.removesuffix("_ms"))
    _knee(right, figures["knee_rps"])
    right.set(xlabel="requests per second offered", ylabel="ms, of those answered", yscale="log")
    right.legend()
    return figure


def workers(measured: Mapping[str, float], figures: Figures) -> Figure:
    """The scaling law, the points that it was fitted on and the one held out."""
    law = Law(figures["law_alone_rps"], figures["law_contention"], figures["law_coherence"])
    figure, axes = plt.subplots(figsize=(5, 3.4))
    span = np.linspace(1, MOST, 50)
    axes.plot(span, law(span), color=_BLUE, label="law, fitted without the held-out point")
    axes.plot(span, figures["law_alone_rps"] * span, ":", color=_GREY, label="linear")
    for number, value in measured.items():
        held_out = int(number) == HELD_OUT
        axes.plot(int(number), value, "D" if held_out else "o", color=_RED if held_out else _BLUE)
    axes.set(xlabel="workers", ylabel="requests per second", xticks=range(1, MOST + 1), ylim=(0, None))
    axes.annotate(
        f"held out: missed by {figures['prediction_error']:.1%}",
        (HELD_OUT, measured[str(HELD_OUT)]),
        (HELD_OUT - 0.9, measured[str(HELD_OUT)] * 0.6),
        arrowprops={"arrowstyle": "->", "color": _RED},
    )
    axes.legend()
    return figure


def pipeline(levels: list[dict[str, Any]], figures: Figures) -> Figure:
    """Throughput, queues and processor time of the pipeline over the offered rate."""
    offered = [level["offered"] for level in levels]
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6))
    left.plot(offered, offered, ":", color=_GREY, label="offered")
    left.plot(offered, [level["served"] for level in levels], "o-", color=_BLUE, label="answered")
    _knee(left, figures["pipeline_knee_scans_per_second"])
    left.set(xlabel="uploads per second", ylabel="scans per second")
    left.legend()
    for step in levels[0]["queues"]:
        middle.plot(offered, [level["queues"][step] for level in levels], "o-", label=step)
    middle.set(xlabel="uploads per second", ylabel="scans waiting or in hand at the end", yscale="symlog")
    middle.legend(fontsize=8)
    busiest = max(levels, key=lambda level: level["served"])["processor_ms"]
    names = sorted((name for name in busiest if busiest[name] >= 0.2), key=lambda name: busiest[name])
    right.barh(names, [busiest[name] for name in names], color=_BLUE)
    right.set(xlabel="ms of processor time a scan")
    figure.tight_layout()
    return figure


def soak(samples: Mapping[str, Any], figures: Figures) -> Figure:
    """Memory and open files over time."""
    minutes = np.array(samples["times_s"]) / 60
    total = np.sum(list(samples["rss_mb"].values()), axis=0)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3))
    left.plot(minutes, total, color=_BLUE)
    left.set(xlabel="minutes", ylabel="MB, all processes", ylim=(0, None))
    left.set_title(f"{figures['soak_rss_slope_mb_per_h']:+.0f} MB an hour", fontsize=10)
    right.plot(minutes, samples["descriptors"], color=_BLUE)
    right.set(xlabel="minutes", ylabel="open files, all processes", ylim=(0, None))
    return figure


def cloud(timelines: Mapping[str, list[tuple[float, int, int]]], _: Figures) -> Figure:
    """Messages waiting and instances in the simulated cloud, in a morning peak and in an outage."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 5), sharex="col")
    for column, (name, title) in enumerate(
        (("peak", "a morning peak, 150 a second"), ("outage", "an outage of 30 min"))
    ):
        seconds, waiting, instances = zip(*timelines[name], strict=True)
        minutes = np.array(seconds) / 60
        axes[0][column].plot(minutes, waiting, color=_RED)
        axes[0][column].set(title=title, yscale="symlog", ylabel="messages waiting")
        axes[1][column].plot(minutes, instances, color=_BLUE)
        axes[1][column].set(xlabel="minutes", ylabel="instances")
    figure.tight_layout()
    return figure


def overview(_: Any, figures: Figures) -> Figure:  # its series is another figure's
    """One picture for stakeholders: how long an answer takes and what it costs, from 1 to 10,000 scans a second."""
    rates = (1, 100, 10_000)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
    left.bar(
        [f"{rate:,}" for rate in rates], [figures[f"cloud_{rate}_p95_s"] for rate in rates], color=_BLUE, width=0.5
    )
    left.set(xlabel="scans per second", ylabel="seconds", title="19 of 20 answers are there within")
    dollars = [figures[f"cloud_{rate}_dollars_1000_scans"] * 100 for rate in rates]
    right.bar([f"{rate:,}" for rate in rates], dollars, color=_GREY, width=0.5)
    right.set(xlabel="scans per second", ylabel="cents", title="1,000 scans cost")
    figure.tight_layout()
    return figure


def _knee(axes: Any, rate: float) -> None:
    axes.axvline(rate, color=_GREY, linewidth=1, linestyle="--")
    axes.annotate("knee", (rate, axes.get_ylim()[1]), fontsize=8, color=_GREY, va="top", ha="right")
