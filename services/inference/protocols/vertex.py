"""Vertex AI's protocol for custom containers: "Custom container requirements for prediction"."""

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, BeforeValidator, TypeAdapter

from services.inference.http.payloads import Instances, Source, parse_json
from services.inference.http.requests import model_of, predictor_of
from services.inference.protocols.tensorflow_serving import Predictions, predict_all
from services.inference.settings import Settings


class Parameters(BaseModel):
    """What the caller asks for beside the predictions."""

    explain: bool = False
    source: Source = ""
    """Of the instances that name none of their own."""


def _none_is_empty(value: Any) -> Any:  # noqa: ANN401 - whatever the body says
    return value or {}


class VertexInstances(Instances):
    """Files to predict, and parameters for all of them."""

    parameters: Annotated[Parameters, BeforeValidator(_none_is_empty)] = Parameters()


_INSTANCES = TypeAdapter(VertexInstances)


def vertex_router(settings: Settings) -> APIRouter:
    """Return the routes that Vertex AI names in the container's environment; none elsewhere."""
    router = APIRouter(tags=["Vertex AI"], include_in_schema=False)
    if settings.aip_health_route:
        router.add_api_route(settings.aip_health_route, _health, methods=["GET"])
    if settings.aip_predict_route:
        router.add_api_route(settings.aip_predict_route, _predict, methods=["POST"], response_model_exclude_none=True)
    return router


async def _health(request: Request) -> Response:
    model_of(request)
    return Response()


async def _predict(request: Request) -> Predictions:
    body = parse_json(_INSTANCES, await request.body())
    parameters = body.parameters
    return await predict_all(predictor_of(request), body, explain=parameters.explain, source=parameters.source)
