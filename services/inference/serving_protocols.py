"""Predictions in the REST form of TensorFlow Serving, and in Vertex AI's for custom containers.

The forms: tensorflow.org/tfx/serving/api_rest, and Vertex AI's "custom container requirements for prediction".
"""

from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse

from services.inference import schemas
from services.inference.bodies import instances_of, json_object, source_of
from services.inference.problems import malformed
from services.inference.routes import service_of
from services.inference.service import MODEL_NAME, Service, in_order, one_or_several
from services.inference.settings import Settings

router = APIRouter(tags=["TensorFlow Serving"])

_MODEL = f"/v1/models/{MODEL_NAME}"


@router.post(
    f"{_MODEL}:predict",
    summary="Predict instances",
    response_model=schemas.Predictions,
    responses=schemas.PREDICTION_PROBLEMS,
    openapi_extra=schemas.INSTANCES_REQUEST,
)
async def predict_instances(request: Request) -> Response:
    """`predictions` in the order of `instances`; one bad instance fails the request."""
    service = service_of(request)
    return JSONResponse({"predictions": await _predictions(service, json_object(await request.body()))})


@router.get(
    _MODEL, summary="Which release is served", response_model=schemas.ModelStatus, responses=schemas.problems(503)
)
async def model_status(request: Request) -> Response:
    """The release, which is the only version."""
    status = {"error_code": "OK", "error_message": ""}
    version = service_of(request).model.card.version
    return JSONResponse({"model_version_status": [{"version": version, "state": "AVAILABLE", "status": status}]})


@router.get(f"{_MODEL}/metadata", summary="The release's card", response_model=dict, responses=schemas.problems(503))
async def model_metadata(request: Request) -> Response:
    """What the instances are, and the release's version, threshold and figures."""
    card = service_of(request).model.card
    inputs = {"image": {"dtype": "DT_STRING", "tensor_shape": {"dim": [{"size": "-1"}]}}}
    outputs = {
        name: {"dtype": dtype, "tensor_shape": {"dim": [{"size": "-1"}]}}
        for name, dtype in (("probability", "DT_FLOAT"), ("prediction", "DT_STRING"), ("scan_id", "DT_STRING"))
    }
    signature = {"inputs": inputs, "outputs": outputs, "method_name": "tensorflow/serving/predict"}
    metadata = {
        "signature_def": {"signature_def": {"serving_default": signature}},
        "metrics": card.metrics,
        "threshold": card.threshold,
    }
    return JSONResponse({"model_spec": {"name": MODEL_NAME, "version": card.version}, "metadata": metadata})


def vertex_router(settings: Settings) -> APIRouter:
    """The routes that Vertex AI names in the container's environment; none elsewhere."""
    router = APIRouter(tags=["Vertex AI"], include_in_schema=False)
    if settings.aip_health_route:
        router.add_api_route(settings.aip_health_route, _vertex_health, methods=["GET"])
    if settings.aip_predict_route:
        router.add_api_route(settings.aip_predict_route, _vertex_predict, methods=["POST"])
    return router


async def _vertex_health(request: Request) -> Response:
    service_of(request).model  # noqa: B018 - raises where there is none yet
    return Response()


async def _vertex_predict(request: Request) -> Response:
    value = json_object(await request.body())
    parameters = value.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise malformed('"parameters" is not a JSON object.')
    predictions = await _predictions(service_of(request), value, explain=parameters.get("explain") is True)
    return JSONResponse({"predictions": predictions})


async def _predictions(service: Service, value: dict, explain: bool = False) -> list[dict[str, object]]:
    sources = [source_of(instance) for instance in instances_of(value)]
    answers = [service.answers(source, explain) for source in sources]
    return [one_or_several(answer) async for answer in in_order(answers, service.engine.workers + 1)]
