"""The OHIF viewer, served beside the PACS's DICOMweb on one address, so that a browser asks nobody for permission.

python -m local.hospital.viewer --port 3000 --ohif .local/tools/ohif --dicomweb http://127.0.0.1:8042/dicom-web
"""

import argparse
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

_DROPPED = {"content-encoding", "content-length", "connection", "transfer-encoding", "keep-alive"}
_SOURCE = {
    "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
    "sourceName": "pacs",
    "configuration": {
        "friendlyName": "Orthanc",
        "name": "orthanc",
        "wadoUriRoot": "/dicom-web",
        "qidoRoot": "/dicom-web",
        "wadoRoot": "/dicom-web",
        "qidoSupportsIncludeField": False,
        "imageRendering": "wadors",
        "thumbnailRendering": "wadors",
        "enableStudyLazyLoad": True,
        "supportsFuzzyMatching": False,
        "supportsWildcard": True,
        "omitQuotationForMultipartRequest": True,
    },
}
_CONFIGURATION = {
    "name": "scanflow",
    "routerBasename": None,
    "extensions": [],
    "modes": [],
    "customizationService": {},
    "showStudyList": True,
    "showWarningMessageForCrossOrigin": False,
    "showCPUFallbackMessage": False,
    "investigationalUseDialog": {"option": "never"},
    "maxNumberOfWebWorkers": 2,
    "defaultDataSourceName": "pacs",
    "dataSources": [_SOURCE],
}


def application(ohif: Path, dicomweb: str) -> Starlette:
    """Return the application that serves the viewer's files and passes DICOMweb requests on to the PACS."""
    client = httpx.AsyncClient(base_url=dicomweb, timeout=60, trust_env=False)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await client.aclose()

    async def pacs(request: Request) -> Response:
        headers = {"accept": request.headers.get("accept", "*/*")}
        path = f"{request.url.path.removeprefix('/dicom-web')}?{request.url.query}".rstrip("?")
        answer = await client.send(client.build_request("GET", path, headers=headers), stream=True)
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _DROPPED}
        return StreamingResponse(answer.aiter_bytes(), answer.status_code, kept)

    async def file(request: Request) -> Response:
        path = (ohif / request.path_params["path"]).resolve()
        page = ohif / "index.html"  # its own routes are the viewer's business
        return FileResponse(path if path.is_file() and path.is_relative_to(ohif) else page)

    async def configuration(_: Request) -> Response:
        return Response(f"window.config = {json.dumps(_CONFIGURATION)};", media_type="text/javascript")

    routes = [
        Route("/dicom-web/{path:path}", pacs),
        Route("/app-config.js", configuration),
        Route("/{path:path}", file),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ohif", type=Path, required=True, help="folder of the built viewer")
    parser.add_argument("--dicomweb", required=True, help="base URL of the PACS's DICOMweb")
    arguments = parser.parse_args()
    app = application(arguments.ohif.resolve(), arguments.dicomweb)
    uvicorn.run(app, host="127.0.0.1", port=arguments.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
