"""The service's own routes as FastAPI documents them. `main` answers the hot ones itself, by the same functions."""

import json

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from services.inference import problems, schemas
from services.inference.bodies import Source, files_of
from services.inference.problems import Problem
from services.inference.service import Service, in_order, one_or_several
from shared.errors import RejectedScan

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
    content_type = request.headers.get("content-type", "")
    answer = await service_of(request).predicted(content_type, await request.body(), explain)
    return Response(answer, media_type="application/json")


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
    sources = files_of(request.headers.get("content-type", ""), await request.body())
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


def service_of(request: Request) -> Service:
    """The service of the app that the request came to."""
    return request.app.state.service


async def _line(service: Service, index: int, source: Source, explain: bool) -> bytes:
    try:
        line = {"index": index, "result": one_or_several(await service.answers(source, explain))}
    except RejectedScan as rejection:
        line = {"index": index, "error": problems.rejected(rejection).body()}
    except Problem as problem:
        line = {"index": index, "error": problem.body()}
    return json.dumps(line).encode() + b"\n"
