"""The report of a site's commissioning: two pages, figures first, drawings behind."""

import io
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from sklearn.metrics import roc_curve

from services.training.commissioning.site_figures import Figures
from shared.ml.model import Card, Model
from shared.ml.site_calibration import SiteCalibration

A4 = (8.27, 11.69)
COLOURS = {"Cancer": "#c8553d", "Non-Cancer": "#2a8799"}
"""As the dashboard has them."""
ROWS = {
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "auc_roc": "AUC",
    "uncertain": "Called uncertain",
    "accuracy_where_sure": "Right where not uncertain",
}
_NOT_MEASURED = "not measured"


def as_pdf(
    calibration: SiteCalibration, table: pd.DataFrame, kept: pd.DataFrame, crossed: pd.DataFrame | None, model: Model
) -> bytes:
    """Return the report as PDF. `table`, `kept` and `crossed` as `site_figures` takes them."""
    pages = [_figures(calibration, model.card), _drawings(calibration, table, kept, crossed, model.card)]
    file = io.BytesIO()
    with PdfPages(file, metadata={"Title": f"Commissioning of {calibration.source}", "Creator": "Scanflow"}) as pdf:
        for page in pages:
            pdf.savefig(page)
            plt.close(page)
    return file.getvalue()


def _page(title: str, calibration: SiteCalibration) -> Figure:
    page = plt.figure(figsize=A4)
    page.text(0.08, 0.95, title, fontsize=16, weight="bold")
    page.text(0.08, 0.93, f"Release {calibration.model_version}, calibration {calibration.name}", fontsize=9)
    page.text(0.08, 0.03, "For research use. Not a medical device.", fontsize=8, color="#586268")
    return page


def _figures(calibration: SiteCalibration, card: Card) -> Figure:
    """The first page: what was found, in words and as tables."""
    figures = calibration.figures
    page = _page(f"Commissioning of {calibration.source}", calibration)
    page.text(0.08, 0.90, "\n\n".join(fill(line, 96) for line in sentences(calibration, card)), va="top", fontsize=9.5)
    columns = {"as the release ships": figures["release"], "with the site's calibration": figures.get("site", {})}
    together = pd.DataFrame(
        {title: [_cell(each, name) for name in ROWS] for title, each in columns.items()}, index=[*ROWS.values()]
    )
    _table(page, (0.08, 0.43, 0.84, 0.17), "All sequences", together)
    if figures["by_sequence"]:
        apart = _by_sequence(figures)
        height = 0.05 + 0.026 * len(apart)
        _table(page, (0.08, 0.37 - height, 0.84, height), "By sequence (tumours + healthy)", apart)
    return page


def _by_sequence(figures: Figures) -> pd.DataFrame:
    """Sensitivity and specificity of each sequence, the first ten, as shipped and with the site's calibration."""
    site, rows = figures.get("site_by_sequence", {}), {}
    for name, shipped in list(figures["by_sequence"].items())[:10]:
        rows[f"{name} ({shipped['tumours']} + {shipped['healthy']})"] = {
            f"{ROWS[kind]}, {title}": _cell(of, kind)
            for title, of in (("release", shipped), ("site", site.get(name, {})))
            for kind in ("sensitivity", "specificity")
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def sentences(calibration: SiteCalibration, card: Card) -> list[str]:
    """Return what the report says in words."""
    figures = calibration.figures
    healthy = calibration.scans - calibration.tumours
    low, high = card.uncertain_from, card.uncertain_to
    band = "no band of doubt" if low is None or high is None else f"doubt from {low:.2f} to {high:.2f}"
    crossed = (
        "Figures with the site's calibration are cross-fitted: each person's scans are judged by a calibration that "
        "was fitted on the others'."
        if "site" in figures
        else "Figures with the site's calibration are not given: all scans of one kind are of one person."
    )
    return [
        f"{figures['scans']} scans of {figures['persons']} persons or groups of copies; the release takes "
        f"{figures['refused']} for no brain MRI. The calibration rests on the other {calibration.scans}: "
        f"{calibration.tumours} with a tumour, {healthy} without.",
        f"The release calls a scan Cancer from {card.threshold:.3f} on, with {band}. For {calibration.source} it is "
        f"{calibration.threshold:.3f}, with doubt from {calibration.uncertain_from:.2f} to "
        f"{calibration.uncertain_to:.2f}, of the site's own probability: sigmoid({calibration.slope:.3f} x logit of "
        f"the release's {calibration.offset:+.3f}), which assumes that half of the scans show a tumour.",
        "The threshold leaves 95% of the healthy scans below itself, or all of them where fewer than 20 healthy "
        "persons are known. Nine tenths of either kind of scan lie on their own side of the band's far end; where the "
        "scans are too few to tell, the band reaches to the end of the scale.",
        crossed,
        "Brackets hold 95% intervals: Wilson's, counting persons; of the AUC by bootstrap over persons. Few scans have "
        "wide intervals, and only scans that were chosen without regard to the answer have right ones.",
        "Another release does not use this calibration, and says so: commission the site again for it.",
    ]


def _table(page: Figure, place: tuple[float, float, float, float], title: str, cells: pd.DataFrame) -> None:
    axes = page.add_axes(place)
    axes.axis("off")
    axes.set_title(title, loc="left", fontsize=11, weight="bold")
    drawn = axes.table(
        [[name, *row] for name, row in zip(cells.index, cells.to_numpy(str).tolist(), strict=True)],
        colLabels=["", *cells.columns],
        colWidths=[0.24, *[0.76 / cells.shape[1]] * cells.shape[1]],
        cellLoc="center",
        bbox=Bbox.from_bounds(0, 0, 1, 1),
    )
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(7.5)


def _cell(figures: Figures, name: str) -> str:
    if name not in figures:
        return _NOT_MEASURED
    low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
    return f"{figures[name]:.2f} ({low:.2f} to {high:.2f})"


def _drawings(
    calibration: SiteCalibration, table: pd.DataFrame, kept: pd.DataFrame, crossed: pd.DataFrame | None, card: Card
) -> Figure:
    """The second page: distributions before and after, ROC, reliability."""
    page = _page("What the answers look like", calibration)
    places = page.subplots(3, 2, gridspec_kw={"left": 0.1, "right": 0.95, "top": 0.87, "bottom": 0.09, "hspace": 0.45})
    site = kept["released"].map(calibration.probability)
    shipped = (card.threshold, card.uncertain_from or card.threshold, card.uncertain_to or card.threshold)
    own = (calibration.threshold, calibration.uncertain_from, calibration.uncertain_to)
    _distribution(places[0, 0], "The release's probability", kept.assign(probability=kept["released"]), shipped)
    _distribution(places[0, 1], "The site's probability", kept.assign(probability=site), own)
    _roc(places[1, 0], kept, crossed, card.threshold)
    _reliability(places[1, 1], kept, crossed)
    _curve(places[2, 0], calibration)
    _refusal(places[2, 1], table, card)
    return page


def _distribution(axes: Axes, title: str, scans: pd.DataFrame, point: tuple[float, float, float]) -> None:
    """Draw the probabilities of both classes; `point` is the threshold and the ends of the band of doubt."""
    threshold, low, high = point
    named = scans.assign(label=scans["label"].map({1: "Cancer", 0: "Non-Cancer"}))
    sns.histplot(
        named, x="probability", hue="label", bins=np.linspace(0, 1, 21), multiple="dodge", palette=COLOURS, ax=axes
    )
    axes.axvspan(low, high, color="#8d989e", alpha=0.25, zorder=0)
    axes.axvline(threshold, color="black", linestyle="--", linewidth=1)
    axes.set(title=title, xlabel="Dashed: threshold. Grey: doubt.", ylabel="Scans", xlim=(0, 1))


def _roc(axes: Axes, kept: pd.DataFrame, crossed: pd.DataFrame | None, threshold: float) -> None:
    wrong, right, _ = roc_curve(kept["label"], kept["released"])
    axes.plot(wrong, right, color="black", linewidth=1)
    points = {"release": kept["released"] >= threshold}
    if crossed is not None:
        points["site, cross-fitted"] = crossed["probability"] >= crossed["threshold"]
    for (name, called), marker in zip(points.items(), "os", strict=False):
        tumour = kept["label"] == 1
        axes.plot(called[~tumour].mean(), called[tumour].mean(), marker, label=name)
    axes.set(title="ROC", xlabel="1 - specificity", ylabel="Sensitivity", xlim=(-0.02, 1), ylim=(0, 1.02))
    axes.legend(loc="lower right", fontsize=8)


def _reliability(axes: Axes, kept: pd.DataFrame, crossed: pd.DataFrame | None) -> None:
    axes.plot([0, 1], [0, 1], "--", color="grey", linewidth=1)
    curves = {"release": kept["released"]} | ({} if crossed is None else {"site, cross-fitted": crossed["probability"]})
    for name, values in curves.items():
        order = np.argsort(values.to_numpy())
        bins = np.array_split(order, min(5, max(len(order) // 8, 1)))
        axes.plot(
            [values.to_numpy()[rows].mean() for rows in bins], [kept["label"].to_numpy()[rows].mean() for rows in bins],
            "o-", label=name,
        )  # fmt: skip
    axes.set(title="Calibration, equally filled bins", xlabel="Probability", ylabel="Share with a tumour")
    axes.legend(loc="upper left", fontsize=8)


def _curve(axes: Axes, calibration: SiteCalibration) -> None:
    released = np.linspace(0.001, 0.999, 200)
    axes.plot([0, 1], [0, 1], "--", color="grey", linewidth=1)
    axes.plot(released, [calibration.probability(value) for value in released], color=COLOURS["Non-Cancer"])
    axes.set(title="From the release's to the site's", xlabel="The release's probability", ylabel="The site's")


def _refusal(axes: Axes, table: pd.DataFrame, card: Card) -> None:
    sns.histplot(x=table["ood_score"].to_numpy(), bins=20, color="#8a7fb0", ax=axes)
    axes.axvline(card.ood_limit, color="black", linestyle="--", linewidth=1)
    axes.set(title="How unlike a brain MRI", xlabel="OOD score. Dashed: refused from here on.", ylabel="Scans")
