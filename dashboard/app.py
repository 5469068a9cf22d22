"""What every page has in common: its name, the notice, and the way to the others."""

from pathlib import Path

import streamlit as st
from streamlit import config

from dashboard import page_times

FOLDER = Path(__file__).parent
NOTICE = "**For research use. Not a medical device.** No answer on these pages may guide the care of a patient."

# Streamlit would show the value of a lone expression, such as the docstring under a constant. Set here and not in the
# configuration file, which is read only if the app was started beside it.
config.set_option("runner.magicEnabled", False)
# A file of our own: Streamlit would fetch a named icon from another host, which closed networks do not reach.
st.set_page_config(page_title="Scanflow", page_icon=str(FOLDER / "icon.png"), layout="wide")
page = st.navigation(
    [
        st.Page("views/read.py", title="Read a scan", icon=":material/radiology:", default=True),
        st.Page("views/worklist.py", title="Worklist", icon=":material/list_alt:"),
        st.Page("views/review.py", title="Review", icon=":material/rule:"),
        st.Page("views/studies.py", title="Studies", icon=":material/stacks:"),
        st.Page("views/model.py", title="Model", icon=":material/model_training:"),
        st.Page("views/data.py", title="Data", icon=":material/dataset:"),
        st.Page("views/drift.py", title="Drift", icon=":material/trending_up:"),
        st.Page("views/operations.py", title="Operations", icon=":material/monitor_heart:"),
    ],
    position="top",  # a worklist needs the width
)
st.title(page.title)
st.caption(f":material/science: {NOTICE}")
with page_times.timed(page.title):
    page.run()
