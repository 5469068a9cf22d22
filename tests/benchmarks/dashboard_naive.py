"""The worklist as it is written first: every row into one table, which the browser sorts."""

import pandas as pd
import streamlit as st

from shared.gcp.bigquery import client

SQL = """
SELECT scan_id, label, s.source, s.uploaded_at, prediction, probability
FROM scanflow.scans AS s LEFT JOIN scanflow.predictions USING (scan_id)
"""

st.title("Naive worklist")
st.dataframe(pd.DataFrame([dict(row) for row in client().query_and_wait(SQL)]).sort_values("uploaded_at"))
