"""What every request passes before its route: token, concurrency and size; and what is counted of it."""

from time import perf_counter

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.inference.http.auth import KeysUnavailable, TokenVerifier, Unauthorised
from services.inference.http.body_limits import BodyLimits, LimitedBody, RequestTooLarge
from services.inference.http.payloads import MalformedRequest
from services.inference.http.problems import problem_response
from services.inference.metrics import IN_FLIGHT, RESPONSES, STAGES
from services.inference.settings import Settings
from services.inference.worker_pool import Overloaded, WorkerPool

_REFUSALS = (Unauthorised, KeysUnavailable, MalformedRequest, RequestTooLarge, Overloaded)


class Admission:
    """ASGI middleware: admits a request, or answers it with a problem. Probes pass unchecked."""

    def __init__(self, app: ASGIApp, settings: Settings, pool: WorkerPool, probes: frozenset[str]) -> None:
        """`probes`: paths that pass."""
        self._app, self._pool, self._probes = app, pool, probes
        self._concurrency = settings.max_concurrency
        self._limits = BodyLimits(
            seconds=settings.body_seconds, one=settings.max_request_bytes, together=settings.max_body_memory
        )
        self._tokens = (
            TokenVerifier(issuer=settings.jwt_issuer, audience=settings.jwt_audience, jwks_url=settings.jwt_jwks_url)
            if settings.jwt_issuer
            else None
        )
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with a problem."""
        if scope["type"] != "http" or scope["path"] in self._probes:
            return await self._app(scope, receive, send)
        try:
            body = await self._admit(scope, receive)
        except _REFUSALS as error:
            response = problem_response(error)
            RESPONSES.labels(response.status_code).inc()
            return await response(scope, receive, send)
        return await (self._run(scope, body, send) if body else self._app(scope, receive, send))

    async def _admit(self, scope: Scope, receive: Receive) -> LimitedBody | None:
        """Return the limited body of a POST, None for other methods. Raises one of _REFUSALS."""
        headers = Headers(scope=scope)
        if self._tokens:
            await self._tokens.verify(headers.get("authorization", ""))
        if scope["method"] != "POST":
            return None
        if self._in_flight >= self._concurrency or self._pool.is_busy:
            raise Overloaded
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise MalformedRequest("The header Content-Length is no number. Let the client library set it.")
        return LimitedBody(self._limits, receive, int(length))

    async def _run(self, scope: Scope, body: LimitedBody, send: Send) -> None:
        start = perf_counter()
        status: int | str = 500  # of a request whose route raises what nobody foresaw

        async def counting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if not body.complete and (b"connection", b"close") not in message["headers"]:
                    message["headers"].append((b"connection", b"close"))  # what the client still sends is not awaited
            await send(message)

        self._in_flight += 1
        IN_FLIGHT.inc()
        try:
            await self._app(scope, body, counting_send)
        except ClientDisconnect:
            status = "none"
        finally:
            body.release()
            self._in_flight -= 1
            IN_FLIGHT.dec()
            RESPONSES.labels(status).inc()
            STAGES["request"].observe(perf_counter() - start)
