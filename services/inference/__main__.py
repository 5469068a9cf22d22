"""`python -m services.inference`: the service on $PORT (8080), set up for short requests on few cores."""

import argparse
import gc
import os
import sys
import warnings

import uvicorn

from services.inference.app import create_app
from services.inference.http.header_timeout import HeaderTimeoutProtocol
from services.inference.settings import Settings
from shared.gcp import logs


def main() -> None:
    """Serve until SIGTERM, then finish what is in flight."""
    argparse.ArgumentParser("python -m services.inference", description=__doc__).parse_args()
    port = _port()
    logs.configure()
    warnings.simplefilter("ignore")  # decoders' warnings may quote what a file says of a patient
    app = create_app(Settings())
    gc.freeze()  # what is loaded by now stays: no collection need look at it
    uvicorn.run(
        app,
        host=os.environ.get("HOST", "127.0.0.1"),
        port=port,
        loop="uvloop",
        http=HeaderTimeoutProtocol,
        ws="none",
        log_config=None,
        access_log=False,  # a line per request is Cloud Run's to write, and costs more than the routing
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=20,
    )


def _port() -> int:
    """Return the port to listen on; exit with a sentence if the environment names none that there is."""
    text = os.environ.get("AIP_HTTP_PORT") or os.environ.get("PORT") or "8080"
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        sys.exit(f"PORT={text} is not a port: give a number from 1 to 65535.")
    return int(text)


if __name__ == "__main__":
    main()
