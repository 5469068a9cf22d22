"""The FastAPI application: every route with its documentation, and every error as a problem."""

from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from services.inference import open_inference, problems, routes, serving_protocols
from services.inference.problems import Problem, malformed, overloaded, rejected
from services.inference.service import Service
from shared.errors import RejectedScan


def create_api(service: Service) -> FastAPI:
    """The routes over a service."""
    api = FastAPI(
        title="Scanflow inference",
        version="1",
        description="Calibrated probability of a tumour in a brain MRI slice. For research, not a medical device.",
        exception_handlers={
            Problem: _problem,
            RejectedScan: _rejection,
            HTTPException: _http_problem,
            RequestValidationError: _invalid,
            MemoryError: _memory_is_short,
            Exception: _internal,
        },
    )
    api.state.service = service
    vertex = serving_protocols.vertex_router(service.settings)
    for router in (routes.router, serving_protocols.router, vertex, open_inference.router):
        api.include_router(router)
    return api


async def _problem(_request: Request, problem: Problem) -> Response:
    return Response(problem.content, problem.status, problem.headers, problems.MEDIA_TYPE)


async def _rejection(request: Request, rejection: RejectedScan) -> Response:
    return await _problem(request, rejected(rejection))


async def _http_problem(request: Request, error: HTTPException) -> Response:
    slug = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    return await _problem(request, Problem(error.status_code, slug, f"{error.detail}. The routes are listed at /docs."))


async def _invalid(request: Request, _error: RequestValidationError) -> Response:
    return await _problem(request, malformed("A parameter of the address is not valid. See the routes at /docs."))


async def _memory_is_short(request: Request, _error: MemoryError) -> Response:
    return await _problem(request, overloaded())


async def _internal(request: Request, _error: Exception) -> Response:
    """Starlette logs the error and its traceback; the caller sees neither."""
    return await _problem(request, Problem(500, "internal-error", "This is the service's fault. Tell its operators."))
