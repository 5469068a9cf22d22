"""What an operator may set, read once when the service starts; docs/guides/rest.md lists the variables."""

import os
from dataclasses import dataclass, field

from shared.scan import MAX_BYTES


def _number(name: str, default: float) -> float:
    return float(os.environ.get(name, default))


def _words(name: str) -> tuple[str, ...]:
    return tuple(os.environ.get(name, "").replace(",", " ").split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Fields without a plain default are read from the environment variable of the same name in capitals."""

    scans_bucket: str = field(default_factory=lambda: os.environ.get("SCANS_BUCKET", ""))
    """The only bucket that a uri may name; none if empty."""
    models_bucket: str = field(default_factory=lambda: os.environ.get("MODELS_BUCKET", ""))
    """Where `current.json` is watched; the bundled release is served if empty."""
    dataset: str = field(default_factory=lambda: os.environ.get("DATASET", ""))
    """Where the withdrawal of a challenger is recorded; nowhere if empty."""
    model_poll_seconds: float = field(default_factory=lambda: _number("MODEL_POLL_SECONDS", 30))
    workers: int = field(default_factory=lambda: int(_number("WORKERS", os.process_cpu_count() or 1)))
    """Threads that decode and predict, one per core."""
    queue_seconds: float = field(default_factory=lambda: _number("QUEUE_SECONDS", 0.15))
    """A request that would wait longer for a worker is refused at once."""
    body_seconds: float = field(default_factory=lambda: _number("BODY_SECONDS", 20))
    """Time in which a request's body must be here."""
    max_request_bytes: int = MAX_BYTES * 3 // 2
    """Of one request: the largest scan gets through as base64."""
    max_body_memory: int = 4 * MAX_BYTES
    """Bytes of all bodies together that are held at a time."""
    max_concurrency: int = 512
    """Requests in flight; more are refused."""
    cors_origins: tuple[str, ...] = field(default_factory=lambda: _words("CORS_ORIGINS"))
    """Web pages that may call the service from a browser; none if empty."""
    jwt_issuer: str = field(default_factory=lambda: os.environ.get("JWT_ISSUER", ""))
    """Tokens are checked if this is set. On Cloud Run leave it empty: IAM has checked before."""
    jwt_audience: str = field(default_factory=lambda: os.environ.get("JWT_AUDIENCE", ""))
    jwt_jwks_url: str = field(default_factory=lambda: os.environ.get("JWT_JWKS_URL", ""))
    aip_predict_route: str = field(default_factory=lambda: os.environ.get("AIP_PREDICT_ROUTE", ""))
    aip_health_route: str = field(default_factory=lambda: os.environ.get("AIP_HEALTH_ROUTE", ""))
    aip_storage_uri: str = field(default_factory=lambda: os.environ.get("AIP_STORAGE_URI", ""))
    """Folder of the release that Vertex AI copied for this container."""
