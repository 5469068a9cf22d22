"""ID tokens for calls to other Cloud Run services."""

from functools import cache

import requests
from google.auth.credentials import Credentials
from google.auth.transport.requests import AuthorizedSession
from google.oauth2 import id_token
from requests.adapters import HTTPAdapter, Retry


def session(url: str, connections: int = 10, retries: Retry | None = None) -> requests.Session:
    """Return a session for the service at `url`, whose requests carry an ID token that is fetched again as it expires.

    Over plain HTTP, where a token would leak, they carry none.
    """
    made = requests.Session()
    if url.startswith("https://"):
        made = AuthorizedSession(_credentials(url))  # type: ignore[no-untyped-call]
    made.trust_env = False  # or it looks for ~/.netrc and proxies at every call
    for scheme in ("http://", "https://"):
        made.mount(scheme, HTTPAdapter(pool_maxsize=connections, max_retries=retries or 0))
    return made


@cache
def _credentials(audience: str) -> Credentials:
    found: Credentials = id_token.fetch_id_token_credentials(audience)  # type: ignore[no-untyped-call]
    return found
