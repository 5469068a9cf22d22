"""What every request passes before its route: token, rate, concurrency and size; and what is counted of it."""

from time import perf_counter

from services.inference.access import Rates, Tokens
from services.inference.asgi import App, Disconnected, Message, Receive, Scope, Send, header
from services.inference.bodies import Body, Limits
from services.inference.engine import Engine
from services.inference.metrics import IN_FLIGHT, RESPONSES, STAGES
from services.inference.problems import Problem, malformed, overloaded
from services.inference.settings import Settings


class Gate:
    """ASGI middleware. Probes pass unchecked."""

    def __init__(self, app: App, settings: Settings, engine: Engine, probes: frozenset[str]) -> None:
        self._app, self._engine, self._probes = app, engine, probes
        self._concurrency = settings.max_concurrency
        self._limits = Limits(
            seconds=settings.body_seconds, one=settings.max_request_bytes, together=settings.max_body_memory
        )
        self._rates = Rates(settings.rate_per_second) if settings.rate_per_second else None
        self._tokens = (
            Tokens(issuer=settings.jwt_issuer, audience=settings.jwt_audience, jwks_url=settings.jwt_jwks_url)
            if settings.jwt_issuer
            else None
        )
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a problem, or pass the request on."""
        if scope["type"] != "http" or scope["path"] in self._probes:
            return await self._app(scope, receive, send)
        try:
            await self._let_in(scope)
            if scope["method"] != "POST":
                return await self._app(scope, receive, send)
            await self._counted(scope, Body(self._limits, receive, _length(scope)), send)
        except Problem as problem:
            RESPONSES.labels(problem.status).inc()
            await problem.send(send)
        except Disconnected:
            RESPONSES.labels("none").inc()

    async def _let_in(self, scope: Scope) -> None:
        caller = scope["client"][0] if scope["client"] else ""
        if self._tokens:
            caller = await self._tokens.subject(header(scope, b"authorization"))
        if self._rates:
            self._rates.take(caller)
        if scope["method"] == "POST" and (self._in_flight >= self._concurrency or self._engine.busy):
            raise overloaded()

    async def _counted(self, scope: Scope, body: Body, send: Send) -> None:
        start = perf_counter()

        async def counting_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                RESPONSES.labels(message["status"]).inc()
                if (
                    not body.complete and (b"connection", b"close") not in message["headers"]
                ):  # what the client still sends is not waited for
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        self._in_flight += 1
        IN_FLIGHT.inc()
        try:
            await self._app(scope, body, counting_send)
        finally:
            body.release()
            self._in_flight -= 1
            IN_FLIGHT.dec()
            STAGES["request"].observe(perf_counter() - start)


def _length(scope: Scope) -> int:
    text = header(scope, b"content-length") or "0"
    if not (text.isascii() and text.isdigit()):
        raise malformed("The header Content-Length is no number.")
    return int(text)
