"""Probes of the platform, and metrics for Prometheus."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from services.inference.http.requests import model_of
from services.inference.http.schemas import problems

router = APIRouter(tags=["Probes"])

PATHS = frozenset({"/healthz", "/readyz", "/metrics"})


@router.get("/healthz", summary="Is the process alive?", response_class=Response)
async def healthz() -> Response:
    """200 while the event loop runs."""
    return Response()


@router.get("/readyz", summary="May requests be sent?", response_class=Response, responses=problems(503))
async def readyz(request: Request) -> Response:
    """200 once a release is loaded and warm."""
    model_of(request)
    return Response()


@router.get("/metrics", summary="For Prometheus", response_class=Response)
async def metrics() -> Response:
    """Prometheus' text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
