"""Run the gateway: `python -m services.gateway`, configured by its environment (docs/guides/hospital.md)."""

import argparse
import logging
import sys
import warnings
from contextlib import ExitStack
from functools import partial

import uvicorn

from services.gateway import deliveries, receiver
from services.gateway.http import application
from services.gateway.settings import BadSetting, Settings, tls
from shared.gcp import logs
from shared.gcp.subscriptions import listening

logger = logging.getLogger(__name__)

_SILENT = ("highdicom", "pydicom", "pynetdicom", "dicomweb_client", "callback-exceptions")
"""Loggers of libraries that quote headers, or errors that do; either may name a patient."""


def main() -> int:
    """Receive and deliver until SIGTERM or SIGINT."""
    argparse.ArgumentParser("python -m services.gateway", description=__doc__).parse_args()
    logs.configure()
    for library in _SILENT:
        logging.getLogger(library).setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")  # as those of pydicom about a value that breaks the standard
    try:
        settings = Settings.from_environment()
    except BadSetting as problem:
        sys.stderr.write(f"{problem}\n")
        return 2
    with ExitStack() as running:
        server = receiver.start(settings, tls())
        running.callback(server.shutdown)
        for name, deliver in deliveries.destinations(settings).items():
            running.enter_context(listening(name, partial(deliveries.handle, name=name, deliver=deliver)))
        logger.info("ready", extra={"dicom": settings.dicom_port, "http": settings.http_port})
        uvicorn.run(
            application(settings.http_token),
            host=settings.http_host,
            port=settings.http_port,
            log_config=None,
            access_log=False,  # an address of a request holds a Study Instance UID
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
