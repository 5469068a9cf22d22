"""Which system a command works on: the project that the environment names, or the one that runs on this machine."""

import json
import os
from pathlib import Path

from shared import config

_ENDPOINTS = Path(".local/endpoints.json")
_LOCAL_PROJECT = "scanflow-local"
_BUCKETS = ("uploads", "scans", "prepared", "models")


def settle_environment() -> bool:
    """Name what Terraform names by the project; without a project, point the clients at the system that runs here.

    Return False, and change nothing, if there is neither.
    """
    if "GOOGLE_CLOUD_PROJECT" not in os.environ:
        if not _ENDPOINTS.exists():
            return False
        addresses = json.loads(_ENDPOINTS.read_text())
        hosts = {f"{name.upper()}_EMULATOR_HOST": addresses[name] for name in ("storage", "pubsub", "bigquery")}
        os.environ.update(hosts, GOOGLE_CLOUD_PROJECT=_LOCAL_PROJECT)
    project, prefix = os.environ["GOOGLE_CLOUD_PROJECT"], config.name_prefix()
    for bucket in _BUCKETS:
        os.environ.setdefault(f"{bucket.upper()}_BUCKET", f"{project}-{prefix}{bucket}")
    os.environ.setdefault("DATASET", f"{prefix.replace('-', '_')}scanflow")
    return True
