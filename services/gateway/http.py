"""STOW-RS in and a little QIDO-RS (PS3.18), answering only once an object is durable in the uploads bucket."""

import asyncio
import hmac
import json
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from pydicom import Dataset
from starlette.concurrency import run_in_threadpool

from services.gateway import inbox
from services.gateway.inbox import Instance, Unidentified
from services.gateway.multipart import parts
from shared.gcp.storage import StorageError

_AT_A_TIME = 8
"""Requests that are stored at a time: each holds one object in memory. The next is told to come again."""
_MAX_LISTED = 1000
_DICOM_JSON = "application/dicom+json"
_CANNOT_UNDERSTAND, _OUT_OF_RESOURCES = 0xC000, 0xA700


def application(token: str) -> FastAPI:
    """Return the HTTP application; without a token anybody who reaches it may call."""
    app = FastAPI(title="Scanflow gateway", docs_url=None, redoc_url=None, openapi_url=None)
    storing = asyncio.Semaphore(_AT_A_TIME)

    async def authenticated(request: Request) -> None:
        given = request.headers.get("authorization", "")
        if token and not hmac.compare_digest(given, f"Bearer {token}"):
            raise HTTPException(401, "Send the gateway's token as a bearer token.", {"WWW-Authenticate": "Bearer"})

    @app.get("/healthz")
    async def healthz() -> Response:
        return Response()

    @app.post("/studies", dependencies=[Depends(authenticated)])
    @app.post("/studies/{study}", dependencies=[Depends(authenticated)])
    async def store(request: Request, study: str = "") -> Response:
        if storing.locked():
            raise HTTPException(503, "Too many objects are on their way. Send again.", {"Retry-After": "1"})
        async with storing:
            return _stored([await _keep(part, study) async for part in parts(request)])

    @app.get("/studies", dependencies=[Depends(authenticated)])
    async def studies(StudyInstanceUID: Annotated[str, "of the study"]) -> Response:  # noqa: N803 - DICOM's keyword
        return _listed(await _headers(StudyInstanceUID), ["StudyInstanceUID"])

    @app.get("/studies/{study}/series", dependencies=[Depends(authenticated)])
    async def series(study: str) -> Response:
        return _listed(await _headers(study), ["StudyInstanceUID", "SeriesInstanceUID", "Modality"])

    @app.get("/studies/{study}/instances", dependencies=[Depends(authenticated)])
    async def instances(study: str) -> Response:
        keywords = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"]
        return _listed(await _headers(study), keywords)

    return app


async def _keep(content: bytes, study: str) -> Dataset:
    """Store one part; answers the item of the response that speaks of it, with FailureReason where it was not kept."""
    item = Dataset()
    try:
        instance = Instance.of_file(content)
        item.ReferencedSOPClassUID = instance.header.get("SOPClassUID")
        item.ReferencedSOPInstanceUID = instance.header.get("SOPInstanceUID")
        if study and instance.header.get("StudyInstanceUID") != study:
            raise Unidentified("The object is of another study than the address names.")
        await run_in_threadpool(inbox.keep, instance)
    except Unidentified:
        item.FailureReason = _CANNOT_UNDERSTAND
    except StorageError:
        item.FailureReason = _OUT_OF_RESOURCES
    return item


def _stored(items: list[Dataset]) -> Response:
    """Return the response of PS3.18 10.5.3: 200 if all were kept, 202 if some, 409 if none, 503 if it is our fault."""
    answer, failed = Dataset(), [item for item in items if "FailureReason" in item]
    kept = [item for item in items if "FailureReason" not in item]
    if kept:
        answer.ReferencedSOPSequence = kept
    if failed:
        answer.FailedSOPSequence = failed
    if any(item.FailureReason == _OUT_OF_RESOURCES for item in failed):
        status = 503
    else:
        status = 200 if not failed and kept else 202 if kept else 409
    return Response(answer.to_json(), status, media_type=_DICOM_JSON)


async def _headers(study: str) -> list[Dataset]:
    return await run_in_threadpool(lambda: list(inbox.headers(study, _MAX_LISTED)))


def _listed(headers: list[Dataset], keywords: list[str]) -> Response:
    """Return each distinct combination of attributes once."""
    shown: dict[tuple[str, ...], dict[str, Any]] = {}
    for header in headers:
        item = Dataset()
        for keyword in keywords:
            if keyword in header:
                setattr(item, keyword, header.get(keyword))
        shown.setdefault(tuple(str(header.get(keyword)) for keyword in keywords), item.to_json_dict())
    if not shown:
        return Response(status_code=204)
    return Response(json.dumps(list(shown.values())), media_type=_DICOM_JSON)
