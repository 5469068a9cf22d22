"""The dashboard: `streamlit run dashboard/app.py`, with the repository's root on PYTHONPATH."""

import streamlit as st

NOTICE = "**For research use. Not a medical device.** No answer on these pages may guide the care of a patient."

st.set_page_config(page_title="Scanflow", page_icon=":material/neurology:", layout="wide")
page = st.navigation(
    [
        st.Page("views/read.py", title="Read a scan", icon=":material/radiology:", default=True),
        st.Page("views/worklist.py", title="Worklist", icon=":material/list_alt:"),
        st.Page("views/model.py", title="Model", icon=":material/model_training:"),
        st.Page("views/data.py", title="Data", icon=":material/dataset:"),
        st.Page("views/operations.py", title="Operations", icon=":material/monitor_heart:"),
    ],
    position="top",  # a worklist needs the width
)
st.title(page.title)
st.caption(f":material/science: {NOTICE}")
page.run()
