"""The inference service: `uvicorn services.inference.main:app`, or `python -m services.inference`.

The probes and `/v1/predict` are answered here without a framework. FastAPI documents and answers everything else; since
its import takes as long as all the rest of a cold start, it is loaded when it is first needed.
"""

import asyncio
from urllib.parse import parse_qs

from services.inference.asgi import App, Receive, Scope, Send, header, read, respond
from services.inference.gate import Gate
from services.inference.problems import Problem, malformed, overloaded, rejected
from services.inference.service import Service
from services.inference.settings import Settings
from shared.errors import RejectedScan

_PROBES = frozenset({"/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


class Front:
    """The service as an ASGI application, behind the gate."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._api: App | None = None
        self._loading = asyncio.Lock()
        self._hot = {
            ("GET", "/healthz"): self._alive,
            ("GET", "/readyz"): self._ready,
            ("POST", "/v1/predict"): self._predict,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or go through the service's life."""
        if scope["type"] == "lifespan":
            return await self._live(receive, send)
        hot = self._hot.get((scope.get("method"), scope["path"]))
        if hot is None:
            return await (await self._loaded_api())(scope, receive, send)
        try:
            await hot(scope, receive, send)
        except RejectedScan as rejection:
            await rejected(rejection).send(send)
        except Problem as problem:
            await problem.send(send)
        except MemoryError:
            await overloaded().send(send)

    async def _alive(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await respond(send, 200)

    async def _ready(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        self._service.model  # noqa: B018 - raises where there is none yet
        await respond(send, 200)

    async def _predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read(receive)
        explain = bool(scope["query_string"]) and _flag(scope["query_string"], "explain")
        answer = await self._service.predicted(header(scope, b"content-type"), body, explain)
        await respond(send, 200, answer, "application/json")

    async def _loaded_api(self) -> App:
        async with self._loading:
            if self._api is None:
                self._api = await asyncio.to_thread(_api, self._service)
        return self._api

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await self._service.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._service.stop()
        await send({"type": "lifespan.shutdown.complete"})


def create_app(settings: Settings) -> App:
    """The service as an ASGI application; its lifespan loads the release."""
    service = Service(settings)
    app = Gate(Front(service), settings, service.engine, _PROBES | {settings.aip_health_route})
    if not settings.cors_origins:
        return app
    from starlette.middleware.cors import CORSMiddleware  # noqa: PLC0415 - loaded only where it is configured

    return CORSMiddleware(app, allow_origins=settings.cors_origins, allow_methods=["POST"], allow_headers=["*"])


def _api(service: Service) -> App:
    from services.inference.api import create_api  # noqa: PLC0415 - half of a cold start

    return create_api(service)


def _flag(query: bytes, name: str) -> bool:
    """A parameter of the address that is true or false. Raises Problem (400)."""
    values = parse_qs(query.decode("latin-1"), keep_blank_values=True).get(name, ["false"])
    if values[-1].lower() not in _FLAGS:
        raise malformed(f"The parameter {name} is true or false.")
    return _FLAGS[values[-1].lower()]


app = create_app(Settings())
