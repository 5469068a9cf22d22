"""The dashboard's server: `streamlit run dashboard/server.py`, with the repository's root on PYTHONPATH."""

from pathlib import Path

import streamlit as st
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from dashboard import page_times

PAGES = ("/", "/worklist", "/review", "/studies", "/model", "/data", "/drift", "/operations")

# A page opened by its address would first look for the server under that address, and log the two misses as errors.
_AT_THE_ROOT = "<head><script>window.__streamlit = {BACKEND_BASE_URL: new URL('/', location.href).href}</script>"
# Our styles stand in the page: they hold from the first paint on, and come after those that Streamlit adds to the head.
_STYLES = f"<body><style>{Path(__file__).with_name('app.css').read_text()}</style>"
_SHELL = (
    Path(st.__file__)
    .with_name("static")
    .joinpath("index.html")
    .read_text()
    .replace("<head>", _AT_THE_ROOT, 1)
    .replace("<body>", _STYLES, 1)
)


async def shell(_: Request) -> HTMLResponse:
    """Return the page into which Streamlit draws."""
    return HTMLResponse(_SHELL, headers={"Cache-Control": "no-cache"})


page_times.configure()
app = st.App("app.py", routes=[Route(path, shell) for path in PAGES])
