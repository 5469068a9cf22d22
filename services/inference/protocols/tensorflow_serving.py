"""TensorFlow Serving's REST protocol: tensorflow.org/tfx/serving/api_rest."""

from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, TypeAdapter

from services.inference.http.payloads import Instances, parse_json
from services.inference.http.requests import MODEL_NAME, model_of, predictor_of
from services.inference.http.schemas import INSTANCES, PREDICTION_PROBLEMS, problems
from services.inference.predictor import PredictionResult, Predictor
from services.inference.worker_pool import in_order
from shared.ml.prediction import PagePredictions, PredictionResponse, answer_of

router = APIRouter(tags=["TensorFlow Serving"])

_INSTANCES = TypeAdapter(Instances)
_MODEL = f"/v1/models/{MODEL_NAME}"


class Predictions(BaseModel):
    """The answer of TensorFlow Serving and of Vertex AI."""

    predictions: list[PredictionResponse | PagePredictions]


class ModelVersion(BaseModel):
    """A version and its state."""

    version: str
    state: str = Field(examples=["AVAILABLE"])
    status: dict[str, str]


class ModelStatus(BaseModel):
    """The state of every loaded version."""

    model_version_status: list[ModelVersion]


@router.post(
    f"{_MODEL}:predict",
    summary="Predict instances",
    response_model_exclude_none=True,
    responses=PREDICTION_PROBLEMS,
    openapi_extra=INSTANCES,
)
async def predict_instances(request: Request) -> Predictions:
    """`predictions` in the order of `instances`; one bad instance fails the request.

    An instance may name its `source` beside its file: a commissioned site's own calibration then makes the answer.
    """
    instances = parse_json(_INSTANCES, await request.body())  # whatever type it declares: curl's is a form's
    return await predict_all(predictor_of(request), instances)


@router.get(_MODEL, summary="Which release is served", responses=problems(503))
async def model_status(request: Request) -> ModelStatus:
    """The release, which is the only version."""
    status = {"error_code": "OK", "error_message": ""}
    version = model_of(request).card.version
    return ModelStatus(model_version_status=[ModelVersion(version=version, state="AVAILABLE", status=status)])


@router.get(f"{_MODEL}/metadata", summary="The release's card", responses=problems(503))
async def model_metadata(request: Request) -> dict[str, Any]:
    """What the instances are, and the release's version, threshold and figures."""
    card = model_of(request).card
    outputs = {"probability": "DT_FLOAT", "prediction": "DT_STRING", "scan_id": "DT_STRING"}
    signature = {
        "inputs": {"image": _tensor("DT_STRING"), "source": _tensor("DT_STRING")},
        "outputs": {name: _tensor(dtype) for name, dtype in outputs.items()},
        "method_name": "tensorflow/serving/predict",
    }
    metadata = {
        "signature_def": {"signature_def": {"serving_default": signature}},
        "metrics": card.metrics,
        "threshold": card.threshold,
    }
    return {"model_spec": {"name": MODEL_NAME, "version": card.version}, "metadata": metadata}


async def predict_all(
    predictor: Predictor, instances: Instances, explain: bool = False, source: str = ""
) -> Predictions:
    """Return the predictions for all instances, in order. The first that cannot be predicted raises."""
    respond = partial(PredictionResult.response, with_heat_map=explain)
    work = [predictor.predict(file.within(source), respond) for file in instances.files]
    pages = in_order(work, predictor.pool.workers + 1)
    return Predictions(predictions=[answer_of(file) async for file in pages])


def _tensor(dtype: str) -> dict[str, Any]:
    return {"dtype": dtype, "tensor_shape": {"dim": [{"size": "-1"}]}}
