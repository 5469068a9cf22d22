"""Read a scan: dropped files and series, samples, or a scan of the worklist by `?scan=<id>`."""

from collections.abc import Callable, Sequence
from pathlib import Path

import altair as alt
import pandas as pd
import streamlit as st

from dashboard import export, session, viewer
from dashboard.components import COLOURS, PREDICTIONS, coloured, draw, plain, quiet, short
from dashboard.inference_client import RefusedFile
from dashboard.overlay import Look, is_refused
from dashboard.queries import feedback
from dashboard.uploads import Upload, grouped, part
from shared.gcp.bigquery import BigQueryError, Row
from shared.ml.prediction import CANNOT_TELL, PredictionResponse
from shared.ml.site_calibration import RELEASES_OWN

FOLDER = Path(__file__).parents[1] / "samples"
SAMPLES = {
    "Healthy head": "head.jpg",
    "Drawn lesion": "lesion.png",
    "Five slices": "slices.tif",
    "DICOM": "dicom.dcm",
    "A cat": "cat.jpg",
}
BADGES = {"Cancer": ("red", ":material/error:"), "Non-Cancer": ("green", ":material/check_circle:")}
SEEN = (*PREDICTIONS, CANNOT_TELL)

Read = tuple[Upload, list[PredictionResponse]]


def main() -> None:
    """The page."""
    scan, sample = st.query_params.get("scan", ""), st.query_params.get("sample", "")
    if series := st.query_params.get("series", ""):
        opened = _from_studies(series)
    else:
        opened = _from_worklist(scan) if scan else _from_person(sample)
    failure = session.read(opened)
    if failure:
        st.error(str(failure), icon=":material/cloud_off:")
        st.button("Try again", icon=":material/refresh:")
    read = _answered(opened)
    if not read:
        return
    upload, results = read[_chosen(read)]
    _looked_at(upload, results)
    _whole_drop(read)


def _from_worklist(scan_id: str) -> list[Upload]:
    name, back, forth, files = st.columns([5, 2, 2, 2], vertical_alignment="center")
    listed: list[str] = st.session_state.get("worklist ids", [])
    place = listed.index(scan_id) if scan_id in listed else None
    where = f", {place + 1} of {len(listed)} on its page" if place is not None else ""
    name.markdown(f"From the worklist: scan {short(scan_id)}{where}")
    for column, label, step, key in ((back, "Previous", -1, "p"), (forth, "Next", 1, "n")):
        to = None if place is None or not 0 <= place + step < len(listed) else listed[place + step]
        if column.button(label, shortcut=key, disabled=to is None, width="stretch") and to:
            st.query_params["scan"] = to
            st.rerun()
    if files.button("Read files instead", width="stretch"):
        st.query_params.clear()
        st.rerun()
    return [session.stored(scan_id)]


def _from_studies(series_id: str) -> list[Upload]:
    name, files = st.columns([9, 2], vertical_alignment="center")
    if files.button("Read files instead", width="stretch"):
        st.query_params.clear()
        st.rerun()
    try:
        upload = session.stored_series(series_id)
    except BigQueryError:
        name.error("The list of series cannot be reached. Try again in a moment.", icon=":material/cloud_off:")
        return []
    if upload is None:
        name.error("No series has this id. Look for it among the studies.", icon=":material/block:")
        return []
    name.markdown(f"From the studies: Series of {len(upload.parts)} slices")
    return [upload]


def _from_person(sample: str) -> list[Upload]:
    with st.container(key="drop"):
        left, right = st.columns([2, 3], gap="large")
    with left:
        files = st.file_uploader(
            "Drop scans, a series or a zip of a study. JPEG, PNG, BMP, TIFF, DICOM or NIfTI, up to 32 MiB each.",
            accept_multiple_files=True,
            help="They are read, not stored. A larger study: drop its files, or send them to the uploads bucket.",
            key=session.uploader(),
            on_change=session.take,
        )
        if not files:
            session.keep()
    with right, st.container(key="samples"):
        st.markdown("Or try a sample")
        chosen = viewer.gallery({name: (FOLDER / file).with_suffix(".webp") for name, file in SAMPLES.items()})
    if chosen and chosen != sample:
        st.query_params["sample"] = chosen
        st.rerun()
    return _sample(sample) if sample in SAMPLES else _dropped()


def _sample(name: str) -> list[Upload]:
    if session.dropped() and st.button("Back to your files", icon=":material/arrow_back:"):
        st.query_params.clear()
        st.rerun()
    file = FOLDER / SAMPLES[name]
    return grouped([part(name, file.read_bytes())])


def _dropped() -> list[Upload]:
    for name, sentence in session.refusals():
        st.error(f"{plain(name)}: {sentence}", icon=":material/block:")
    uploads = session.dropped()
    if uploads and st.button("Forget these files", icon=":material/delete:", type="tertiary"):
        session.forget()
        st.rerun()
    return uploads


def _answered(opened: Sequence[Upload]) -> list[Read]:
    """Return what was read, and say of every file that was not why."""
    read = []
    for upload in opened:
        results: list[PredictionResponse] = []
        for each in upload.parts:
            said = session.answer(each)
            if isinstance(said, RefusedFile):
                st.error(f"{plain(each.name)}: {said}", icon=":material/block:")
            elif said:
                results += said
        if results:
            read.append((upload, results))
    return read


def _chosen(read: Sequence[Read]) -> int:
    """Return which file to look at: the one chosen before, or else the most urgent."""
    if len(read) == 1:
        return 0
    worst = [results[_most_urgent(results)] for _, results in read]
    st.markdown("## File to look at")
    table = pd.DataFrame(
        {
            "File": [upload.title for upload, _ in read],
            "Slices": [len(results) for _, results in read],
            "Answer": [result.prediction for result in worst],
            "Probability of cancer": ["" if is_refused(r) else export.percent(r.probability) for r in worst],
            "Look twice": [bool(export.doubt(result)) for result in worst],
        }
    )
    event = st.dataframe(
        table,
        hide_index=True,
        selection_mode="single-row",
        on_select="rerun",
        key="chosen file",
        alt="Files that were read, one per row: name, slices, answer, probability of cancer",
    )
    keys = [upload.key for upload, _ in read]
    if event.selection.rows:
        st.session_state["looked at"] = keys[event.selection.rows[0]]
    if st.session_state.get("looked at") in keys:
        return keys.index(st.session_state["looked at"])
    return _most_urgent(worst)


def _most_urgent(results: Sequence[PredictionResponse]) -> int:
    return max(range(len(results)), key=lambda place: (not is_refused(results[place]), results[place].probability))


@st.fragment
def _looked_at(upload: Upload, results: list[PredictionResponse]) -> None:
    """The answer, the pictures, and what a person may do with them; stepping through slices runs this alone."""
    head = st.container()
    view = viewer.stack_viewer(upload.key, results, _most_urgent(results), upload.extent_mm)
    result = results[view.place]
    with head:
        charts = _answer(result)
    left, right = st.columns(2, gap="large")
    with left:
        _feedback(result)
    with right:
        _downloads(result, view.look)
    charts()  # last, because a browser takes longer to draw them than all the rest


def _answer(result: PredictionResponse) -> Callable[[], None]:
    """The answer in words; what comes back draws it beside them."""
    colour, icon = BADGES.get(result.prediction, ("gray", ":material/help:"))
    with st.container(border=True, key="answer"):
        left, right = st.columns([3, 2], gap="large")
        left.markdown(f"## :{colour}[{icon} {result.prediction}]")
        left.markdown(export.sentence(result))
        if doubt := export.doubt(result):
            left.warning(doubt, icon=":material/visibility:")
        if result.calibration_note:
            left.warning(plain(result.calibration_note), icon=":material/tune:")
        with st.expander("Model, scan and timings"):
            timings = " · ".join(f"{stage} {ms:.1f} ms" for stage, ms in result.timings_ms.items())
            own = "" if result.calibration == RELEASES_OWN else f", calibration {result.calibration}"
            st.caption(f"Model {result.model_version}{own} · {timings}  \nScan {result.scan_id}")

    def charts() -> None:
        if not is_refused(result):
            with left:
                draw(_probability(result), export.sentence(result))
        if types := export.tumour_types(result):
            with right:
                _types(types)

    return charts


def _probability(result: PredictionResponse) -> alt.LayerChart:
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
    rule = alt.Chart(mark).mark_tick(thickness=3, size=40, color=quiet()).encode(alt.X("threshold:Q", scale=domain))
    align = "left" if result.threshold < 0.8 else "right"
    name = rule.mark_text(align=align, dx=6 if align == "left" else -6, dy=-19, color=quiet()).encode(text="name")
    chart: alt.LayerChart = (filled + rule + name).properties(height=120)
    return chart


def _types(shares: dict[str, float]) -> None:
    types = pd.DataFrame({"type": list(shares), "share": list(shares.values())})
    base = alt.Chart(types).encode(
        alt.X("share:Q", scale=alt.Scale(domain=[0, 1]), axis=None),
        alt.Y("type:N", sort="-x", title=None),
        tooltip=["type", alt.Tooltip("share", format=".0%")],
    )
    labels = base.mark_text(align="left", dx=4, color=quiet()).encode(text=alt.Text("share:Q", format=".0%"))
    st.markdown("Tumour type, given that there is one")
    draw(
        (base.mark_bar(size=14, color=COLOURS["Cancer"]) + labels).properties(height=96),
        "Probability of each tumour type",
    )


def _feedback(result: PredictionResponse) -> None:
    st.markdown("## Do you agree?")
    place = st.container()
    key, own = f"{result.scan_id} {result.model_version}", None
    try:
        own = _known_feedback(place, result)
    except BigQueryError:
        place.caption("What readers said of this scan cannot be looked up now.")
    agreement = st.segmented_control(
        "Do you agree?", ("Agree", "Disagree"), key=f"agreement {key}", label_visibility="collapsed"
    )
    if agreement is None:
        st.caption("Choose again to change it." if own else "It is stored with the scan's id, for the next training.")
        return
    with st.form(f"feedback {key}", border=False):
        seen: str = result.prediction
        if agreement == "Disagree":
            others = [answer for answer in SEEN if answer != result.prediction]
            seen = st.selectbox("What do you see?", others, key=f"seen {key}")
        reason = st.text_area("Why? Name no patient.", max_chars=500, key=f"reason {key}", height=90)
        if not st.form_submit_button("Send", type="primary"):
            return
    try:
        feedback.give_feedback(session.reader(), result, seen, reason.strip())
    except BigQueryError:
        st.error("Your feedback could not be stored. What you wrote is still here: press Send again in a moment.")
        return
    st.success("Stored. Sending again replaces it.", icon=":material/check:")


def _known_feedback(place: st.delta_generator.DeltaGenerator, result: PredictionResponse) -> Row | None:
    """Say what readers, and this one among them, have said of the scan. Raises BigQueryError."""
    rows = feedback.of_scan(result.scan_id)
    mine = feedback.feedback_id(session.reader(), result.scan_id, result.model_version)
    own = next((row for row in rows if row["feedback_id"] == mine), None)
    if own:
        unsure = own["reading"] == CANNOT_TELL
        disagreed = "could not tell" if unsure else f"disagreed, and see {own['reading']}"
        said = "agreed" if own["agrees"] else disagreed
        reason = f": {plain(own['reason'])}" if own["reason"] else "."
        place.info(f"On {own['given_at']:%Y-%m-%d %H:%M} UTC you {said}{reason}", icon=":material/history:")
    others = [row for row in rows if row is not own]
    if others:
        agreed = sum(row["agrees"] for row in others)
        undecided = sum(row["reading"] == CANNOT_TELL for row in others)
        could_not = f", {undecided} could not tell" if undecided else ""
        place.caption(f"Other readers: {agreed} agreed, {len(others) - agreed - undecided} disagreed{could_not}.")
    return own


def _downloads(result: PredictionResponse, look: Look) -> None:
    st.markdown("## Take this slice along")
    name = f"scanflow-{result.scan_id[:12]}{result.scan_id[64:]}"
    picture = "PNG" if is_refused(result) else "PNG with heat map"
    pdf, png = st.columns(2)
    pdf.download_button(
        "PDF, one page",
        lambda: export.as_pdf(result, look),
        f"{name}.pdf",
        "application/pdf",
        on_click="ignore",
        width="stretch",
    )
    png.download_button(
        picture, lambda: export.as_png(result, look), f"{name}.png", "image/png", on_click="ignore", width="stretch"
    )


def _whole_drop(read: Sequence[Read]) -> None:
    """All answers on the page in one file."""
    total = sum(len(results) for _, results in read)
    st.markdown("## Take all answers along")
    names, left, right = st.columns([2, 1, 1], vertical_alignment="center")
    with_names = names.checkbox("With the files' names", key="export names", help="A name may tell who the patient is.")
    results = [(upload.title if with_names else None, result) for upload, each in read for result in each]
    stem = f"scanflow-{total}-{'answer' if total == 1 else 'answers'}"
    left.download_button(
        "JSON", lambda: export.as_json(results), f"{stem}.json", "application/json", on_click="ignore", width="stretch"
    )
    right.download_button(
        "CSV", lambda: export.as_csv(results), f"{stem}.csv", "text/csv", on_click="ignore", width="stretch"
    )


main()
