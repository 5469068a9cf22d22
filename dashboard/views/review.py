"""Review: the scans that a reader's eye is worth most on, one after another, with one key for each opinion."""

from collections.abc import Mapping

import streamlit as st

from dashboard import export, session, viewer
from dashboard.components import asking, plain, short
from dashboard.inference_client import RefusedFile
from dashboard.queries import drift, feedback, review, scans
from shared.gcp.bigquery import BigQueryError, Row
from shared.ml.prediction import CANNOT_TELL, PredictionResponse
from shared.review_sample import SAMPLE_SHARE

MEANING = {
    "Uncertain": "Answers in the band of doubt, nearest to the threshold first.",
    "Foreign": "Refused as no brain MRI, or named by the last drift check as unlike the release's own scans.",
    "Contradicted": "Their folder or a reader says otherwise, or two readers disagree. The surest answers come first.",
    "Challenged": "A release in shadow answers otherwise: readers decide which is right, and no one of them alone. "
    "Scans that others have read come first.",
    "Random sample": f"{SAMPLE_SHARE:.0%} of all scans, by a hash of the id: they measure the model, and it never "
    "learns from them. Read them in the order they come, the plain ones too.",
}
OPINIONS: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    "Cancer": (("Agree", "a", "Cancer"), ("Disagree", "d", "Non-Cancer"), ("Not a brain MRI", "n", "Not a brain MRI")),
    "Non-Cancer": (
        ("Agree", "a", "Non-Cancer"),
        ("Disagree", "d", "Cancer"),
        ("Not a brain MRI", "n", "Not a brain MRI"),
    ),
    "Not a brain MRI": (
        ("Agree", "a", "Not a brain MRI"),
        ("Disagree: tumour", "d", "Cancer"),
        ("Disagree: none", "h", "Non-Cancer"),
    ),
}
"""For each answer: what a reader may say of it, the key, and what the reader then sees."""


def main() -> None:
    """The page."""
    kind = st.segmented_control(
        "Which scans", list(review.KINDS), default="Uncertain", required=True, key="kind", bind="query-params"
    )
    st.caption(MEANING[kind])
    with asking("review"):
        source = st.selectbox(
            "Source", scans.sources("Last 30 days"), index=None, placeholder="Any", key="review source"
        )
        waiting = _waiting(kind, source or "")
        if not waiting:
            st.success("Nothing waits here. What you have read does not come again.", icon=":material/done_all:")
            return
        _one(waiting[0])


def _waiting(kind: str, source: str) -> list[Row]:
    """The next scans that were not read, or put off, in this session. Raises BigQueryError."""
    checks = drift.checks() if kind == "Foreign" else []
    foreign = list(checks[0]["foreign_scans"]) if checks else []
    done: set[str] = st.session_state.setdefault("reviewed", set())
    rows = review.queue(kind, source, feedback.reader_id(session.reader()), foreign)
    waiting = [row for row in rows if row["scan_id"] not in done]
    if rows:
        st.caption(f"{rows[0]['total'] - (len(rows) - len(waiting)):,} to read · last 30 days")
    return waiting


def _one(row: Row) -> None:
    """The scan, what the release answers, what readers have said, and the keys."""
    upload = session.stored(row["scan_id"])
    failure = session.read([upload])
    if failure:
        st.error(str(failure), icon=":material/cloud_off:")
        st.button("Try again", key="again scan", icon=":material/refresh:")
        return
    said = session.answer(upload.parts[0])
    if said is None or isinstance(said, RefusedFile):
        st.error(str(said or "This scan cannot be shown."), icon=":material/block:")
        st.button("Next", shortcut="s", on_click=_put_off, args=(row["scan_id"],))
        return
    (result, *_) = said
    keys = st.container()
    _heard(row)
    viewer.stack_viewer(upload.key, [result], 0, upload.extent_mm)
    with keys:
        _opinions(result)


def _heard(row: Row) -> None:
    """What the folder and other readers say."""
    said = {"Cancer": row["cancer"], "Non-Cancer": row["healthy"], "Not a brain MRI": row["no_brain_mri"]}
    seen = [f"{count} {name}" for name, count in said.items() if count]
    unsure = f", {row['cannot_tell']} cannot tell" if row["cannot_tell"] else ""
    if len(seen) > 1:
        st.warning(f"Readers disagree: {', '.join(seen)}{unsure}. Yours may decide.", icon=":material/groups:")
    elif seen or unsure:
        st.caption(f"Other readers: {', '.join(seen) or 'none could say'}{unsure}.")
    st.caption(f"{row['label']} folder, from {plain(row['source'])} · scan {short(row['scan_id'])}")


def _opinions(result: PredictionResponse) -> None:
    st.markdown(f"## {result.prediction}")
    st.markdown(export.sentence(result))
    if doubt := export.doubt(result):
        st.caption(doubt)
    choices = (*OPINIONS[result.prediction], (CANNOT_TELL, "t", CANNOT_TELL))
    columns = st.columns(len(choices) + 1)
    for column, (label, key, seen) in zip(columns, choices, strict=False):
        column.button(label, shortcut=key, width="stretch", key=f"opinion {key}", on_click=_say, args=(result, seen))
    columns[-1].button("Later", shortcut="s", width="stretch", on_click=_put_off, args=(result.scan_id,))
    if st.session_state.pop("review failed", False):
        st.error("Your opinion could not be stored. Press the key again in a moment.", icon=":material/cloud_off:")


def _say(result: PredictionResponse, seen: str) -> None:
    """Store an opinion and go on to the next scan."""
    try:
        feedback.give_feedback(session.reader(), result, seen, "")
    except BigQueryError:
        st.session_state["review failed"] = True
        return
    _put_off(result.scan_id)


def _put_off(scan_id: str) -> None:
    st.session_state.setdefault("reviewed", set()).add(scan_id)


main()
