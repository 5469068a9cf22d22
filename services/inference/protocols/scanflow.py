"""Scanflow's own protocol: one file, or many."""

from dataclasses import dataclass
from functools import partial

from fastapi import APIRouter
from pydantic import TypeAdapter
from starlette.responses import StreamingResponse

from services.inference.http.dependencies import PredictorOfApp
from services.inference.http.payloads import FileOfRequest, FilesOfRequest
from services.inference.http.problems import FILE_ERRORS, problem_of
from services.inference.http.schemas import MANY_FILES, ONE_FILE, PREDICTION_PROBLEMS, ProblemDetails, json_schema
from services.inference.predictor import PredictionResult, Predictor, ScanFile
from services.inference.worker_pool import in_order
from shared.ml.prediction import PagePredictions, PredictionResponse, answer_of

router = APIRouter(tags=["Scanflow"])


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLine:
    """One line of a batch's answer: result or error."""

    index: int
    result: PredictionResponse | PagePredictions | None = None
    error: ProblemDetails | None = None


_LINE = TypeAdapter(BatchLine)


@router.post(
    "/v1/predict",
    summary="Predict one file",
    response_model_exclude_none=True,
    responses=PREDICTION_PROBLEMS,
    openapi_extra=ONE_FILE,
)
async def predict(
    predictor: PredictorOfApp, file: FileOfRequest, explain: bool = False, embedding: bool = False
) -> PredictionResponse | PagePredictions:
    """A file in a form, as the raw body, or named by a `gs://` uri; several pages answer `scans`.

    `explain` adds the heat map, `embedding` the network's pooled features.
    """
    respond = partial(PredictionResult.response, with_heat_map=explain, with_embedding=embedding)
    return answer_of(await predictor.predict(file, respond))


@router.post(
    "/v1/predict:batch",
    summary="Predict many files",
    response_class=StreamingResponse,
    responses=PREDICTION_PROBLEMS | {200: {"content": {"application/x-ndjson": {"schema": json_schema(BatchLine)}}}},
    openapi_extra=MANY_FILES,
)
async def predict_batch(predictor: PredictorOfApp, files: FilesOfRequest, explain: bool = False) -> StreamingResponse:
    """A line of JSON for each file as soon as it and those before it are done: `result` or `error`."""
    lines = [_line(predictor, index, file, explain) for index, file in enumerate(files)]
    return StreamingResponse(in_order(lines, predictor.pool.workers + 1), media_type="application/x-ndjson")


async def _line(predictor: Predictor, index: int, file: ScanFile, explain: bool) -> bytes:
    try:
        pages = await predictor.predict(file, partial(PredictionResult.response, with_heat_map=explain))
        line = BatchLine(index=index, result=answer_of(pages))
    except FILE_ERRORS as error:
        line = BatchLine(index=index, error=problem_of(error).details)
    return _LINE.dump_json(line, exclude_none=True) + b"\n"
