"""The inference service as a FastAPI application: one router per protocol, one table of problems, one middleware."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from services.inference.http import probes
from services.inference.http.middleware import Admission
from services.inference.http.payloads import MalformedRequest
from services.inference.http.problems import PROBLEMS, problem_response
from services.inference.predictor import Predictor
from services.inference.protocols import open_inference, scanflow, tensorflow_serving, vertex
from services.inference.settings import Settings
from shared.errors import RejectedScan


def create_app(settings: Settings) -> FastAPI:
    """Return the service; its lifespan loads the release."""
    predictor = Predictor(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await predictor.start()
        yield
        predictor.stop()

    app = FastAPI(
        title="Scanflow inference",
        version="1",
        description="Calibrated probability of a tumour in a brain MRI slice. For research, not a medical device.",
        lifespan=lifespan,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # Prometheus has the metrics
        exception_handlers=dict.fromkeys((*PROBLEMS, RejectedScan, MalformedRequest, HTTPException), _problem),
    )
    app.state.predictor = predictor
    for router in (scanflow.router, probes.router, tensorflow_serving.router, open_inference.router):
        app.include_router(router)
    app.include_router(vertex.vertex_router(settings))
    unchecked = probes.PATHS | open_inference.PROBES | {settings.aip_health_route}
    app.add_middleware(Admission, settings=settings, pool=predictor.pool, probes=unchecked)
    if settings.cors_origins:
        from starlette.middleware.cors import CORSMiddleware  # noqa: PLC0415 - loaded only if it is configured

        app.add_middleware(
            CORSMiddleware, allow_origins=settings.cors_origins, allow_methods=["POST"], allow_headers=["*"]
        )
    return app


async def _problem(_request: Request, error: Exception) -> Response:
    """Return an exception as a problem; Starlette logs the traceback of one that nobody foresaw."""
    return problem_response(error)
