"""The inference service: `uvicorn services.inference.main:app`, or `python -m services.inference`."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, StreamingResponse

from services.inference import open_inference, problems, schemas, serving_protocols
from services.inference.bodies import Source, file_of, files_of
from services.inference.gate import Gate
from services.inference.problems import Problem
from services.inference.service import Service, in_order, one_or_several, service_of
from services.inference.settings import Settings
from shared.errors import RejectedScan

_PROBES = frozenset({"/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})

router = APIRouter(tags=["Scanflow"])


@router.post(
    "/v1/predict",
    summary="Predict one file",
    response_model=schemas.Answer | schemas.Answers,
    responses=schemas.PREDICTION_PROBLEMS,
    openapi_extra=schemas.FILE_REQUEST,
)
async def predict(request: Request, explain: bool = False) -> Response:
    """A file in a form, as the raw body, or named by a `gs://` uri; several pages answer `scans`."""
    answers = await service_of(request).answers(await file_of(request), explain)
    return JSONResponse(one_or_several(answers))


@router.post(
    "/v1/predict:batch",
    summary="Predict many files",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}}
    | schemas.PREDICTION_PROBLEMS,
    openapi_extra=schemas.BATCH_REQUEST,
)
async def predict_batch(request: Request, explain: bool = False) -> Response:
    """A line of JSON for each instance as soon as it and those before it are done: `result` or `error`."""
    sources = await files_of(request)
    service = service_of(request)
    lines = [_line(service, index, source, explain) for index, source in enumerate(sources)]
    return StreamingResponse(in_order(lines, service.engine.workers + 1), media_type="application/x-ndjson")


@router.get("/healthz", summary="Is the process alive?", response_class=Response)
async def healthz() -> Response:
    """200 while the event loop runs."""
    return Response(status_code=200)


@router.get("/readyz", summary="May requests be sent?", response_class=Response, responses=schemas.problems(503))
async def readyz(request: Request) -> Response:
    """200 once a release is loaded and warm."""
    service_of(request).model  # noqa: B018 - raises where there is none yet
    return Response(status_code=200)


@router.get("/metrics", summary="For Prometheus", response_class=Response)
async def metrics() -> Response:
    """Prometheus' text format."""
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest  # noqa: PLC0415

    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


async def _line(service: Service, index: int, source: Source, explain: bool) -> bytes:
    try:
        line = {"index": index, "result": one_or_several(await service.answers(source, explain))}
    except RejectedScan as rejection:
        line = {"index": index, "error": problems.rejected(rejection).body()}
    except Problem as problem:
        line = {"index": index, "error": problem.body()}
    return json.dumps(line).encode() + b"\n"


async def _http_problem(_request: Request, error: HTTPException) -> Response:
    slug = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    return Problem(error.status_code, slug, f"{error.detail}. The routes are listed at /docs.").response()


async def _invalid(_request: Request, _error: RequestValidationError) -> Response:
    return problems.malformed("A parameter of the address is not valid. The routes are listed at /docs.").response()


async def _memory_is_short(_request: Request, _error: MemoryError) -> Response:
    return problems.overloaded().response()


async def _internal(_request: Request, _error: Exception) -> Response:
    """Starlette logs the error and its traceback; the caller sees neither."""
    return Problem(500, "internal-error", "This is the service's fault. Try again, or tell its operators.").response()


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    await service.start()
    watching = asyncio.create_task(service.watch()) if service.settings.models_bucket else None
    yield
    if watching:
        watching.cancel()
    service.engine.close()


def create_app(settings: Settings) -> FastAPI:
    """The service as an ASGI application; its lifespan loads the release."""
    app = FastAPI(
        title="Scanflow inference",
        version="1",
        description="Calibrated probability of a tumour in a brain MRI slice. For research, not a medical device.",
        lifespan=_lifespan,
        exception_handlers={
            Problem: problems.answer_problem,
            RejectedScan: problems.answer_rejection,
            HTTPException: _http_problem,
            RequestValidationError: _invalid,
            MemoryError: _memory_is_short,
            Exception: _internal,
        },
    )
    service = app.state.service = Service(settings)
    for routes in (router, serving_protocols.router, serving_protocols.vertex_router(settings), open_inference.router):
        app.include_router(routes)
    probes = _PROBES | {settings.aip_health_route}
    app.add_middleware(Gate, settings=settings, engine=service.engine, probes=probes)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.cors_origins, allow_methods=["POST"], allow_headers=["*"]
        )
    return app


app = create_app(Settings())
