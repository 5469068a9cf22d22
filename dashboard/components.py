"""What several pages show alike: colours, patience, and a sentence where a source does not answer."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import altair as alt
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.scriptrunner import add_script_run_ctx, get_script_run_ctx

from dashboard.export import percent
from dashboard.inference_client import InferenceError
from shared.gcp.bigquery import BigQueryError
from shared.gcp.storage import StorageError
from shared.scan import page_of

PREDICTIONS = ("Cancer", "Non-Cancer", "Not a brain MRI")
LABELS = ("Cancer", "Non-Cancer", "Unlabelled")
COLOURS = {"Cancer": "#c8553d", "Non-Cancer": "#2a8799", "Not a brain MRI": "#8a7fb0", "Unlabelled": "#8d989e"}
"""Of predictions and labels, for marks. Every place that uses them also says the word."""
_TEXT_COLOURS = {
    "light": {"Cancer": "#a8402a", "Non-Cancer": "#1a6b7b", "Not a brain MRI": "#665a92", "quiet": "#586268"},
    "dark": {"Cancer": "#f0937e", "Non-Cancer": "#6cc4d4", "Not a brain MRI": "#b7acd8", "quiet": "#a9b4b9"},
}
"""The same for words: at least 4.5 to 1 on the theme's backgrounds."""
_SLOW_S = 5
"""A person who has waited so long is told for what."""


def text_colours() -> Mapping[str, str]:
    """Return the colours of words in the session's theme."""
    return _TEXT_COLOURS["dark" if st.context.theme.type == "dark" else "light"]


def quiet() -> str:
    """Return the colour of marks and words that stand back."""
    return text_colours()["quiet"]


def coloured(field: str, names: Sequence[str], legend: bool = True) -> alt.Color:
    """Return the colours of these predictions or labels."""
    scale = alt.Scale(domain=list(names), range=[COLOURS[name] for name in names])
    return alt.Color(f"{field}:N", scale=scale, title=None, legend=alt.Legend(orient="top") if legend else None)


def bar(probability: float) -> str:
    """Return a probability as a bar of eight blocks and in words."""
    full = round(probability * 8)
    return f"{'█' * full}{'░' * (8 - full)} {percent(probability)}"


def short(scan_id: str) -> str:
    """Return the beginning of a scan's id, and its page where its file has several; nothing for what is no id."""
    if not re.fullmatch(r"[0-9a-f]{64}(-[0-9]{4})?", scan_id):
        return ""
    page = page_of(scan_id)
    return scan_id[:8] if page is None else f"{scan_id[:8]} p. {page + 1}"


def plain(text: str) -> str:
    """Return text that Markdown shows as it is: a file's name must not become a link or a picture."""
    return re.sub(r"([^\w\s])", r"\\\1", text).replace("\n", " ")


def is_phone() -> bool:
    """Return whether the browser says that it is one of a phone."""
    return "Mobi" in (st.context.headers.get("User-Agent") or "")


def draw(chart: alt.Chart | alt.LayerChart, says: str) -> None:
    """Show a chart whose words can be read in both themes; `says` is what it shows, for those who do not see it."""
    words = quiet()
    st.altair_chart(
        chart.configure_axis(labelColor=words, titleColor=words).configure_legend(labelColor=words), alt=says
    )


def table(frame: pd.DataFrame, rows: str) -> None:
    """Show a small table whose first column, called `rows`, is the frame's index.

    A wide one scrolls on a phone, and only Streamlit's other kind of table can then be scrolled by keyboard.
    """
    named = frame.rename_axis(rows).rename_axis(None, axis=1).reset_index()
    if frame.shape[1] > 4:
        st.dataframe(named, hide_index=True, alt=f"{rows}: {', '.join(map(str, frame.columns))}")
    else:
        st.table(named, hide_index=True)


def tabs(key: str, parts: Mapping[str, Callable[[], None]]) -> None:
    """Show tabs of which only the open one is drawn, and asks for what it shows; the address names it as `key`."""
    for tab, (name, part) in zip(st.tabs(list(parts), key=key, bind="query-params"), parts.items(), strict=True):
        if tab.open:
            with tab, asking(name):
                part()


def patiently[T](ask: Callable[[], T], known: str) -> T:
    """Return what `ask` returns: a skeleton stands there at once, and a sentence after 5 s. Raises what `ask` raises.

    From the second time on, what stood there stays until the answer comes; `known` is the session's name for it.
    """
    place = st.empty()
    if known not in st.session_state:
        place.skeleton(height=300)
    pool = ThreadPoolExecutor(1, initializer=add_script_run_ctx, initargs=(None, get_script_run_ctx()))
    try:
        waiting = pool.submit(ask)
        try:
            answer = waiting.result(_SLOW_S)
        except TimeoutError:
            if waiting.done():
                raise
            slow_sentence(place)
            answer = waiting.result()
    finally:
        pool.shutdown(wait=False)
        place.empty()
    st.session_state[known] = True
    return answer


def slow_sentence(place: DeltaGenerator) -> None:
    """Say what is waited for."""
    place.info("BigQuery has not answered for 5 seconds. It is still asked.", icon=":material/hourglass:")


@contextmanager
def asking(key: str) -> Iterator[None]:
    """Show what is asked for within, or a sentence and a button to try again."""
    try:
        yield
    except BigQueryError:
        _failed(key, "BigQuery does not answer. Try again in a moment.")
    except StorageError:
        _failed(key, "The models bucket does not answer. Try again in a moment.")
    except InferenceError as error:
        _failed(key, str(error))


def _failed(key: str, sentence: str) -> None:
    st.error(sentence, icon=":material/cloud_off:")
    st.button("Try again", key=f"again {key}", icon=":material/refresh:")
