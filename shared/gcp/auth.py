"""Who we are to another Cloud Run service."""

import google.auth.transport.requests
from google.oauth2 import id_token


def authorization(url: str) -> dict[str, str]:
    """Header that carries an ID token for the service at `url`; none over plain HTTP, where a token would leak."""
    if not url.startswith("https://"):
        return {}
    token = id_token.fetch_id_token(google.auth.transport.requests.Request(), url)
    return {"Authorization": f"Bearer {token}"}
