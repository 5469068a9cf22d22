"""What a session has opened: uploads and their answers, kept while a person walks from page to page."""

import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import streamlit as st

from dashboard import inference_client, uploads
from dashboard.inference_client import InferenceError, RefusedFile
from dashboard.queries import scans, series
from dashboard.uploads import Part, Upload
from shared import config
from shared.gcp.bigquery import BigQueryError
from shared.ml.prediction import PredictionResponse

Answer = list[PredictionResponse] | RefusedFile
"""What the service said of a file: one result per page, or why it is no scan."""

_AT_ONCE = 2
_OTHERS_KEPT = 40
"""Answers about samples and scans of the worklist that a session remembers."""


def dropped() -> list[Upload]:
    """Return everything that was dropped in this session, in order."""
    return [*st.session_state.get("kept uploads", []), *st.session_state.get("new uploads", [])]


def refusals() -> list[tuple[str, str]]:
    """Return the names of archives that could not be unpacked, and why."""
    return cast(list[tuple[str, str]], st.session_state.get("refused uploads", []))


def uploader() -> str:
    """Return the key of the uploader in use."""
    return f"files {st.session_state.setdefault('uploader', 0)}"


def take() -> None:
    """Take over what the uploader holds now: a person has dropped something, or taken something away."""
    parts: list[Part] = []
    refused: list[tuple[str, str]] = []
    for file in st.session_state[uploader()]:
        try:
            parts += uploads.unpacked(file.name, file.getvalue())
        except RefusedFile as refusal:
            refused.append((file.name, str(refusal)))
    st.session_state["new uploads"] = uploads.grouped(parts)
    st.session_state["refused uploads"] = refused
    st.query_params.clear()


def keep() -> None:
    """Keep what an uploader that has left the page had held: its next one begins empty."""
    st.session_state["kept uploads"] = dropped()
    st.session_state["new uploads"] = []


def forget() -> None:
    """Forget every upload of this session."""
    st.session_state["uploader"] += 1
    for name in ("kept uploads", "new uploads", "refused uploads", "viewer slices"):
        st.session_state.pop(name, None)


def stored(scan_id: str) -> Upload:
    """Return a scan of the worklist as something to look at."""
    key = f"scan {scan_id}"
    return Upload("Worklist", key, (Part("Scan", key, None),))


def stored_series(series_id: str) -> Upload | None:
    """Return a series that came through the bucket as something to look at; None if there is no such series.

    Raises BigQueryError.
    """
    rows = series.slices(series_id)
    bucket = config.scans_bucket()
    parts = [
        Part("Slice", f"scan {row['scan_id']}", None, f"gs://{bucket}/{row['object_name']}", row["source"])
        for row in rows
    ]
    return Upload("Series", f"series {series_id}", tuple(parts)) if parts else None


def answer(part: Part) -> Answer | None:
    """Return what the service said of a file; None if it was not asked yet."""
    return _answers().get(part.key)


def read(opened: Sequence[Upload]) -> InferenceError | None:
    """Ask the service about every file that it was not asked about yet, in order and with progress.

    Returns why it stopped if the service gave no answer; what was read is kept.
    """
    waiting = [part for upload in opened for part in upload.parts if part.key not in _answers()]
    if not waiting:
        return None
    bar = st.progress(0.0, f"Reading {len(waiting):,} {'file' if len(waiting) == 1 else 'files'}")
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        for place, (part, said) in enumerate(zip(waiting, pool.map(_ask, waiting), strict=True), 1):
            _answers()[part.key] = said
            part.content = None
            if len(waiting) > 1:
                bar.progress(place / len(waiting), f"Read {place:,} of {len(waiting):,}")
    except InferenceError as error:
        return error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        bar.empty()
    _forget_others(opened)
    return None


def reader() -> str:
    """Return who gives feedback: the login where Identity-Aware Proxy names it, or else this session."""
    login = st.context.headers.get("X-Goog-Authenticated-User-Id")
    return str(login or st.session_state.setdefault("reader", uuid.uuid4().hex))


def _ask(part: Part) -> Answer:
    try:
        if part.uri:
            return inference_client.read_uri(part.uri, part.source)
        return inference_client.read_file(part.content) if part.content is not None else _read_stored(part.key)
    except RefusedFile as refusal:
        return refusal


def _read_stored(key: str) -> list[PredictionResponse]:
    try:
        row = scans.scan(key.removeprefix("scan "))
    except BigQueryError as error:
        raise InferenceError("The list of scans cannot be reached. Try again in a moment.") from error
    if row is None:
        raise RefusedFile("No accepted scan has this id. Look for it in the worklist: it may have been rejected.")
    return inference_client.read_uri(f"gs://{config.scans_bucket()}/{row['object_name']}", row["source"])


def _answers() -> dict[str, Answer]:
    return cast(dict[str, Answer], st.session_state.setdefault("answers", {}))


def _forget_others(opened: Sequence[Upload]) -> None:
    """Forget the oldest answers that belong to no upload of this session."""
    held = {part.key for upload in (*dropped(), *opened) for part in upload.parts}
    others = [key for key in _answers() if key not in held]
    for key in others[:-_OTHERS_KEPT]:
        del _answers()[key]
