"""Scanflow's own protocol: one file, or many."""

from functools import partial

from fastapi import APIRouter, Request, Response
from pydantic_core import to_json
from starlette.responses import StreamingResponse

from services.inference.http.payloads import Source, file_of, files_of
from services.inference.http.problems import FILE_ERRORS, problem_of
from services.inference.http.requests import predictor_of
from services.inference.http.schemas import MANY_FILES, ONE_FILE, PREDICTION_PROBLEMS
from services.inference.predictor import PredictionResult, Predictor, ScanFile
from services.inference.worker_pool import in_order
from shared.ml.prediction import PagePredictions, PredictionResponse, answer_of

router = APIRouter(tags=["Scanflow"])


@router.post(
    "/v1/predict",
    summary="Predict one file",
    response_model_exclude_none=True,
    responses=PREDICTION_PROBLEMS,
    openapi_extra=ONE_FILE,
)
async def predict(
    request: Request, explain: bool = False, embedding: bool = False, source: Source = "", unit: str = ""
) -> PredictionResponse | PagePredictions:
    """A file in a form, as the raw body, or named by a `gs://` uri; several pages answer `scans`.

    `explain` adds the heat map, `embedding` the network's pooled features. The scans of a `source` that has been
    commissioned are answered by its own calibration; `calibration` in the answer says which was used. Files of one
    `unit`, such as a series, are answered by the same release while a challenger answers a share of the scans.
    """
    respond = partial(PredictionResult.response, with_heat_map=explain, with_embedding=embedding)
    file = (await file_of(request)).within(source, unit)
    return answer_of(await predictor_of(request).predict(file, respond))


@router.post(
    "/v1/challenger",
    summary="Ask the challenger in shadow",
    response_model=PredictionResponse,
    response_model_exclude_none=True,
    responses=PREDICTION_PROBLEMS | {204: {"description": "No challenger, or no idle moment for it"}},
    openapi_extra=ONE_FILE,
)
async def challenge(request: Request, source: Source = "") -> Response | PredictionResponse:
    """What the challenger says of a file of one page; nobody is given this answer.

    To be asked after an answer that names a `challenger_version`. It runs only while a worker is idle.
    """
    result = await predictor_of(request).challenge((await file_of(request)).within(source))
    return result.response() if result else Response(status_code=204)


@router.post(
    "/v1/predict:batch",
    summary="Predict many files",
    response_class=StreamingResponse,
    responses=PREDICTION_PROBLEMS | {200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}},
    openapi_extra=MANY_FILES,
)
async def predict_batch(request: Request, explain: bool = False, source: Source = "") -> StreamingResponse:
    """A line of JSON for each file as soon as it and those before it are done: its `index` and its `result` or `error`.

    A `result` is what /v1/predict answers, an `error` is problem details.
    """
    predictor = predictor_of(request)
    files = [file.within(source) for file in await files_of(request)]
    lines = [_line(predictor, index, file, explain) for index, file in enumerate(files)]
    return StreamingResponse(in_order(lines, predictor.pool.workers + 1), media_type="application/x-ndjson")


async def _line(predictor: Predictor, index: int, file: ScanFile, explain: bool) -> bytes:
    try:
        pages = await predictor.predict(file, partial(PredictionResult.response, with_heat_map=explain))
        line: dict[str, object] = {"index": index, "result": answer_of(pages)}
    except FILE_ERRORS as error:
        line = {"index": index, "error": problem_of(error).details}
    return to_json(line, exclude_none=True) + b"\n"
