"""The worklist as it is written first: every row into one table, which the browser sorts."""

import pandas as pd
import streamlit as st

from shared.gcp.bigquery import query

st.title("Naive worklist")
rows = query("SELECT * FROM `{dataset}.scans` LEFT JOIN `{dataset}.predictions` AS p USING (scan_id)")
st.dataframe(pd.DataFrame(rows).sort_values("uploaded_at", ascending=False))
