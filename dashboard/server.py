"""The dashboard's server: `streamlit run dashboard/server.py`, with the repository's root on PYTHONPATH."""

import json
from pathlib import Path

import streamlit as st
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from dashboard import page_times

PAGES = ("/", "/worklist", "/review", "/studies", "/model", "/data", "/drift", "/operations")

_STATIC = Path(st.__file__).with_name("static")
_PARTS = ("DataFrame", "FileUploader", "BidiComponent", "Selectbox", "Pagination")
"""Streamlit's parts that our first pages are made of: each is a file, which it fetches when a page first needs it."""

# A page opened by its address would first look for the server under that address, and log the two misses as errors.
# With the rest of what the server would say of its host, it need not be asked for it before the session begins.
_AT_THE_ROOT = """<head><script>window.__streamlit = {
  BACKEND_BASE_URL: new URL("/", location.href).href,
  HOST_CONFIG: {allowedOrigins: [location.origin], useExternalAuthToken: false},
};</script>"""
# While a person reads the first page, or its query runs, the browser has time to fetch what the others need.
_AHEAD = """<script>addEventListener("load", async () => {
  for (const part of %s) {
    await new Promise((resume) => (window.requestIdleCallback ?? setTimeout)(resume));
    await import(part).catch(() => {}); // it is fetched again when it is needed
  }
});</script></head>"""
# Our styles stand in the page: they hold from the first paint on, and come after those that Streamlit adds to the head.
_STYLES = f"<body><style>{Path(__file__).with_name('app.css').read_text()}</style>"


def _address(part: str) -> str:
    """Return where Streamlit serves a part: its file's name holds a hash."""
    (file,) = (_STATIC / "static" / "js").glob(f"{part}.*.js")
    return f"/static/js/{file.name}"


_SHELL = (
    (_STATIC / "index.html")
    .read_text()
    .replace("<head>", _AT_THE_ROOT, 1)
    .replace("</head>", _AHEAD % json.dumps([_address(part) for part in _PARTS]), 1)
    .replace("<body>", _STYLES, 1)
)


async def shell(_: Request) -> HTMLResponse:
    """Return the page into which Streamlit draws."""
    return HTMLResponse(_SHELL, headers={"Cache-Control": "no-cache"})


page_times.configure()
app = st.App("app.py", routes=[Route(path, shell) for path in PAGES])
