"""What an operator may set, read once when the service starts; the README lists the variables."""

import os
from dataclasses import dataclass, field

from shared.scan import MAX_BYTES


def _number(name: str, default: float) -> float:
    return float(os.environ.get(name, default))


def _words(name: str) -> tuple[str, ...]:
    return tuple(os.environ.get(name, "").replace(",", " ").split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Each field is the environment variable of the same name in capitals."""

    scans_bucket: str = field(default_factory=lambda: os.environ.get("SCANS_BUCKET", ""))
    """The only bucket that a uri may name; none where empty."""
    models_bucket: str = field(default_factory=lambda: os.environ.get("MODELS_BUCKET", ""))
    """Where `current.json` is watched; the bundled release is served where empty."""
    model_poll_seconds: float = field(default_factory=lambda: _number("MODEL_POLL_SECONDS", 30))
    workers: int = field(default_factory=lambda: int(_number("WORKERS", os.process_cpu_count() or 1)))
    """Threads that decode and predict, one a core."""
    queue_seconds: float = field(default_factory=lambda: _number("QUEUE_SECONDS", 0.15))
    """A request that would wait longer for a worker is refused at once."""
    body_seconds: float = field(default_factory=lambda: _number("BODY_SECONDS", 20))
    """Time in which a request's body must be here."""
    max_request_bytes: int = field(default_factory=lambda: int(_number("MAX_REQUEST_BYTES", MAX_BYTES * 3 // 2)))
    """Of one request. The default lets the largest scan through as base64."""
    max_body_memory: int = field(default_factory=lambda: int(_number("MAX_BODY_MEMORY", 4 * MAX_BYTES)))
    """Bytes of all bodies together that are held at a time."""
    max_concurrency: int = field(default_factory=lambda: int(_number("MAX_CONCURRENCY", 512)))
    """Requests in flight; more are refused."""
    rate_per_second: float = field(default_factory=lambda: _number("RATE_PER_SECOND", 0))
    """Requests a caller may send, twice as many in a burst; 0: no limit."""
    cors_origins: tuple[str, ...] = field(default_factory=lambda: _words("CORS_ORIGINS"))
    """Web pages that may call the service from a browser; none where empty."""
    jwt_issuer: str = field(default_factory=lambda: os.environ.get("JWT_ISSUER", ""))
    """Tokens are checked where this is set. On Cloud Run leave it empty: IAM has checked before."""
    jwt_audience: str = field(default_factory=lambda: os.environ.get("JWT_AUDIENCE", ""))
    jwt_jwks_url: str = field(default_factory=lambda: os.environ.get("JWT_JWKS_URL", ""))
    aip_predict_route: str = field(default_factory=lambda: os.environ.get("AIP_PREDICT_ROUTE", ""))
    aip_health_route: str = field(default_factory=lambda: os.environ.get("AIP_HEALTH_ROUTE", ""))
    aip_storage_uri: str = field(default_factory=lambda: os.environ.get("AIP_STORAGE_URI", ""))
    """Folder of the release that Vertex AI copied for this container."""
