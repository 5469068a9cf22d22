"""What several pages show alike: colours, and a sentence where a source does not answer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import altair as alt
import streamlit as st

from dashboard.inference_client import InferenceError
from shared.gcp.bigquery import BigQueryError
from shared.gcp.storage import StorageError

PREDICTIONS = ("Cancer", "Non-Cancer", "Not a brain MRI")
LABELS = ("Cancer", "Non-Cancer", "Unlabelled")
COLOURS = {"Cancer": "#c8553d", "Non-Cancer": "#2a8799", "Not a brain MRI": "#8a7fb0", "Unlabelled": "#8d989e"}
"""Of predictions and labels. Every place that uses them also says the word."""
QUIET = "#888f94"
"""Of marks and words that must be read on white and on black."""


def coloured(field: str, names: Sequence[str], legend: bool = True) -> alt.Color:
    """The colours of these predictions or labels."""
    scale = alt.Scale(domain=list(names), range=[COLOURS[name] for name in names])
    return alt.Color(f"{field}:N", scale=scale, title=None, legend=alt.Legend(orient="top") if legend else None)


def tabs(key: str, parts: Mapping[str, Callable[[], None]]) -> None:
    """Tabs of which only the open one is drawn, and asks for what it shows; the address names it as `key`."""
    for tab, (name, part) in zip(st.tabs(list(parts), key=key, bind="query-params"), parts.items(), strict=True):
        if tab.open:
            with tab, asking(name):
                part()


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
