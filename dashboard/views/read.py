"""Read a scan: files, sample scans, or a scan of the worklist by `?scan=<id>`."""

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import export, inference_client, overlay
from dashboard.components import COLOURS, PREDICTIONS, QUIET, coloured
from dashboard.inference_client import InferenceError, PredictionResult, RefusedFile
from dashboard.overlay import Look
from dashboard.queries import feedback, scans
from shared import config
from shared.gcp.bigquery import BigQueryError

SAMPLES = {
    "Healthy head": "head.jpg",
    "Drawn lesion": "lesion.png",
    "Five slices": "slices.tif",
    "DICOM": "dicom.dcm",
    "A cat": "cat.jpg",
}
FOLDER = Path(__file__).parents[1] / "samples"
MAX_FILES = 20  # at a time, because each holds its pictures in this session's memory
BADGES = {"Cancer": ("red", ":material/error:"), "Non-Cancer": ("green", ":material/check_circle:")}
SEEN = (*PREDICTIONS, "Cannot tell")


@dataclass(frozen=True, slots=True)
class Item:
    """Something to read."""

    title: str
    key: str
    """Same content, same key."""
    read: Callable[[], list[PredictionResult]]


def main() -> None:
    """The page."""
    opened = st.query_params.get("scan", "")
    items = [_from_worklist(opened)] if opened else _from_reader()
    read = [(item, results) for item in items if (results := _results(item))]
    if not read:
        return
    item, results = read[_chosen(read)]
    _viewer(item.key, results)


def _from_worklist(scan_id: str) -> Item:
    left, right = st.columns([5, 1], vertical_alignment="center")
    left.markdown(f"From the worklist: scan `{scan_id[:12]}…`" if scan_id.isascii() and scan_id.isalnum() else "")
    if right.button("Read files instead", width="stretch"):
        del st.query_params["scan"]
        st.rerun()
    return Item("Worklist", f"scan {scan_id}", lambda: _stored(scan_id))


def _stored(scan_id: str) -> list[PredictionResult]:
    try:
        row = scans.scan(scan_id)
    except BigQueryError as error:
        raise InferenceError("The list of scans cannot be reached. Try again in a moment.") from error
    if row is None:
        raise RefusedFile("No accepted scan has this id. Look for it in the worklist: it may have been rejected.")
    return inference_client.read_uri(f"gs://{config.scans_bucket()}/{row['object_name']}")


def _from_reader() -> list[Item]:
    left, right = st.columns([2, 3], gap="large")
    with left:
        files = st.file_uploader(
            "Drop scans here",
            accept_multiple_files=True,
            help="JPEG, PNG, BMP, TIFF or DICOM, single or multi-page, up to 64 MiB each. They are read, not stored.",
            key="files",
        )
    with right:
        _gallery()
    if len(files) > MAX_FILES:
        st.warning(f"The first {MAX_FILES} files are read. Take some away to read the others.")
    items = [_of_bytes(f"File {place}", file.getvalue()) for place, file in enumerate(files[:MAX_FILES], 1)]
    if (sample := st.session_state.get("sample")) and not items:
        items.append(_of_bytes(sample, (FOLDER / SAMPLES[sample]).read_bytes()))
    return items


def _gallery() -> None:
    st.markdown("Or try a sample")
    for column, (title, file) in zip(st.columns(len(SAMPLES)), SAMPLES.items(), strict=True):
        column.image(str(FOLDER / Path(file).with_suffix(".webp")), width="stretch", alt=title)
        if column.button(title, key=f"sample {file}", type="tertiary", width="stretch"):
            st.session_state.sample = title
    st.session_state.setdefault("sample", None)


def _of_bytes(title: str, content: bytes) -> Item:
    return Item(title, hashlib.sha256(content).hexdigest(), lambda: inference_client.read_file(content))


def _results(item: Item) -> list[PredictionResult]:
    """What the service answered, asked once a session; empty, and a sentence shown, where it gave no answer."""
    kept: dict[str, list[PredictionResult] | RefusedFile] = st.session_state.setdefault("results", {})
    try:
        if item.key not in kept:
            with st.spinner(f"{item.title}: reading"):
                kept[item.key] = item.read()
            for forgotten in list(kept)[: -2 * MAX_FILES]:
                del kept[forgotten]
    except RefusedFile as refusal:
        kept[item.key] = refusal
    except InferenceError as error:
        st.error(f"{item.title}: {error}", icon=":material/cloud_off:")
        st.button("Try again", key=f"again {item.key}", icon=":material/refresh:")
        return []
    answer = kept[item.key]
    if isinstance(answer, RefusedFile):
        st.error(f"{item.title}: {answer}", icon=":material/block:")
        return []
    return answer


def _chosen(read: list[tuple[Item, list[PredictionResult]]]) -> int:
    """Which file to look at: the most urgent first, where there are several."""
    if len(read) == 1:
        return 0
    table = pd.DataFrame(
        {
            "File": item.title,
            "Slices": len(results),
            "Answer": _most_urgent(results).prediction,
            "Probability of cancer": _most_urgent(results).probability,
        }
        for item, results in read
    )
    percent = st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1)
    columns = {"Probability of cancer": percent}
    st.dataframe(table, hide_index=True, column_config=columns, alt="Every file with its answer")
    order = sorted(range(len(read)), key=lambda place: -_most_urgent(read[place][1]).probability)
    return st.selectbox("File to look at", order, format_func=lambda place: read[place][0].title)


def _most_urgent(results: list[PredictionResult]) -> PredictionResult:
    return max(results, key=lambda result: (result.prediction != "Not a brain MRI", result.probability))


@st.fragment
def _viewer(key: str, results: list[PredictionResult]) -> None:
    """One file's answer: only this part runs again when a slider moves."""
    result = results[_slice(key, results)]
    charts = _answer(result)
    look = _pictures(result)
    feedback, downloads = st.columns([3, 2], gap="large")
    with feedback:
        _feedback(result)
    with downloads:
        _downloads(results, result, look)
    charts()  # last, because a browser takes longer to draw them than all the rest


def _slice(key: str, results: list[PredictionResult]) -> int:
    if len(results) == 1:
        return 0
    urgent = results.index(_most_urgent(results))
    place = st.slider("Slice", 1, len(results), urgent + 1, key=f"slice {key}")
    slices = pd.DataFrame(
        {
            "slice": range(1, len(results) + 1),
            "probability": [result.probability for result in results],
            "prediction": [result.prediction for result in results],
        }
    )
    bars = alt.Chart(slices).encode(
        alt.X("slice:O", title=None, axis=alt.Axis(labelAngle=0, labelOverlap=True)),
        alt.Y("probability:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=3)),
        coloured("prediction", PREDICTIONS, legend=False),
        opacity=alt.condition(alt.datum.slice == place, alt.value(1), alt.value(0.45)),
        tooltip=["slice", "prediction", alt.Tooltip("probability", format=".1%")],
    )
    st.altair_chart(bars.mark_bar().properties(height=130), alt="Probability of cancer of every slice")
    return place - 1


def _answer(result: PredictionResult) -> Callable[[], None]:
    """The answer in words; what comes back draws it beside them."""
    colour, icon = BADGES.get(result.prediction, ("gray", ":material/help:"))
    with st.container(border=True):
        left, right = st.columns([3, 2], gap="large")
        left.markdown(f"## :{colour}[{icon} {result.prediction}]")
        left.markdown(export.sentence(result))
        timings = " · ".join(f"{stage} {ms:.1f} ms" for stage, ms in result.timings_ms.items())
        st.caption(f"Model {result.model_version} · {timings} · scan {result.scan_id}")

    def charts() -> None:
        if result.prediction in BADGES:
            left.altair_chart(_confidence(result), alt=export.sentence(result))
        if result.prediction == "Cancer" and result.types:
            with right:
                _types(result)

    return charts


def _confidence(result: PredictionResult) -> alt.LayerChart:
    """Probability of cancer from 0 to 1, with the operating threshold marked."""
    domain = alt.Scale(domain=[0, 1])
    bar = pd.DataFrame({"probability": [result.probability], "prediction": [result.prediction]})
    axis = alt.Axis(format="%", tickCount=5, grid=False, title="Calibrated probability of cancer")
    filled = (
        alt.Chart(bar)
        .mark_bar(size=22, cornerRadiusEnd=3)
        .encode(alt.X("probability:Q", scale=domain, axis=axis), coloured("prediction", PREDICTIONS, legend=False))
    )
    mark = pd.DataFrame({"threshold": [result.threshold], "name": [f"threshold {result.threshold:.0%}"]})
    rule = alt.Chart(mark).mark_tick(thickness=3, size=40, color=QUIET).encode(alt.X("threshold:Q", scale=domain))
    align = "left" if result.threshold < 0.8 else "right"
    name = rule.mark_text(align=align, dx=6 if align == "left" else -6, dy=-19, color=QUIET).encode(text="name")
    return (filled + rule + name).properties(height=120)


def _types(result: PredictionResult) -> None:
    types = pd.DataFrame({"type": list(result.types), "share": list(result.types.values())})
    scale = alt.Scale(domain=[0, 1])
    base = alt.Chart(types).encode(
        alt.X("share:Q", scale=scale, axis=None),
        alt.Y("type:N", sort="-x", title=None),
        tooltip=["type", alt.Tooltip("share", format=".1%")],
    )
    labels = base.mark_text(align="left", dx=4, color=QUIET).encode(text=alt.Text("share:Q", format=".0%"))
    st.markdown("Tumour type, given that there is one")
    st.altair_chart(
        (base.mark_bar(size=14, color=COLOURS["Cancer"]) + labels).properties(height=96),
        alt="Probability of each tumour type",
    )


def _pictures(result: PredictionResult) -> Look:
    plain, covered, controls = st.columns([4, 4, 3], gap="medium")
    with controls:
        look = _look()
    _picture(plain, overlay.original(result, look), "The scan", "The scan as it was sent")
    seen = f"Evidence {look.evidence}"
    _picture(covered, overlay.overlay(result, look), seen, f"The scan with the evidence {look.evidence} in colour")
    return look


def _picture(place: DeltaGenerator, pixels: np.ndarray, caption: str, alt: str) -> None:
    """Lossless: left to itself Streamlit makes a JPEG of it."""
    place.image(overlay.png(pixels), caption, width="stretch", output_format="PNG", alt=alt)


def _look() -> Look:
    with st.container(border=True):
        evidence = st.segmented_control(
            "Heat map shows evidence", list(overlay.EVIDENCE), default="for cancer", required=True, key="evidence"
        )
        opacity = st.slider("Opacity of the heat map", 0.0, 1.0, 0.6, 0.05, key="opacity", format="percent")
        colours = st.selectbox("Colours", list(overlay.COLOUR_MAPS), key="colours")
        st.image(
            overlay.legend(colours),
            "none · weak · strong",
            width="stretch",
            alt="Legend: from no evidence at the left to the strongest of this scan at the right",
        )
    with st.expander("Window and zoom"):
        level = st.slider("Window level", 0, 255, 128, key="level", help="The grey that is shown half bright")
        width = st.slider("Window width", 2, 512, 256, key="width", help="Fewer grey levels, more contrast")
        zoom = st.slider("Zoom", 1.0, 8.0, 1.0, 0.25, key="zoom", format="%.2f ×")
        across = st.slider("Left to right", 0.0, 1.0, 0.5, 0.05, key="across", disabled=zoom == 1, format="percent")
        down = st.slider("Top to bottom", 0.0, 1.0, 0.5, 0.05, key="down", disabled=zoom == 1, format="percent")
    return Look(
        level=level,
        width=width,
        zoom=zoom,
        across=across,
        down=down,
        opacity=opacity,
        colours=colours,
        evidence=evidence,
    )


def _feedback(result: PredictionResult) -> None:
    st.markdown("#### Do you agree?")
    opinion = st.segmented_control(
        "Do you agree?", ("Agree", "Disagree"), key=f"opinion {result.scan_id}", label_visibility="collapsed"
    )
    if opinion is None:
        st.caption("Your opinion is stored with the scan's id and helps to train the next model.")
        return
    with st.form(f"feedback {result.scan_id}", border=False):
        seen = result.prediction
        if opinion == "Disagree":
            others = [answer for answer in SEEN if answer != result.prediction]
            seen = st.selectbox("What do you see?", others, key=f"seen {result.scan_id}")
        reason = st.text_area("Why? Name no patient.", max_chars=500, key=f"reason {result.scan_id}", height=90)
        if not st.form_submit_button("Send", type="primary"):
            return
    try:
        feedback.give_feedback(st.session_state.setdefault("reader", uuid.uuid4().hex), result, seen, reason.strip())
    except BigQueryError:
        st.error("Your opinion could not be stored. What you wrote is still here: press Send again in a moment.")
        return
    st.success("Stored. Sending again replaces it.", icon=":material/check:")


def _downloads(results: list[PredictionResult], result: PredictionResult, look: Look) -> None:
    st.markdown("#### Take it along")
    name = f"scanflow-{result.scan_id[:12]}{result.scan_id[64:]}"
    kinds = (
        ("PDF, one page", "pdf", "application/pdf", lambda: export.as_pdf(result, look)),
        ("PNG with heat map", "png", "image/png", lambda: overlay.png(overlay.overlay(result, look))),
        ("JSON", "json", "application/json", lambda: export.as_json(results)),
        ("CSV", "csv", "text/csv", lambda: export.as_csv(results)),
    )
    for column, (label, extension, mime, content) in zip(st.columns(2) * 2, kinds, strict=True):
        column.download_button(label, content, f"{name}.{extension}", mime, on_click="ignore", width="stretch")


main()
