"""Prepare a folder of scans with Spark: `make preprocess DATA=folder`.

The scans go the whole way: uploaded, validated, announced; then start_preprocessing is called as Cloud Scheduler calls
it, and its batch's progress shown until the job is done.
"""

import argparse
import sys
import time
from pathlib import Path

import requests
from rich.console import Console

from local import demo
from local.stack.processes import StackError
from local.stack.signals import interrupted, stop_on_signals
from local.stack.system import REGION, running
from local.stack.terraform_config import ROOT
from shared import config
from shared.gcp import dataproc, storage
from shared.ml import manifests

_POLL_S = 0.2
_FINISHED = {dataproc.State.SUCCEEDED, dataproc.State.FAILED, dataproc.State.CANCELLED}


def main() -> int:
    """Return the exit status: 0 if every scan that was accepted is prepared."""
    arguments = _arguments()
    console = Console()
    uploads = demo.folder_uploads(arguments.data, arguments.limit)
    if not uploads:
        console.print(f"There is no file under {arguments.data}. Name a folder that holds scans.")
        return 2
    stop_on_signals()
    try:
        with running(ROOT / ".local") as stack:
            demo.run(uploads, console)
            answer = requests.post(stack.url("start_preprocessing"), params={"fewest": 1}, timeout=600)
            answer.raise_for_status()
            logs = ROOT / ".local" / "state" / "dataproc"
            return max((_follow(batch, logs) for batch in answer.json()["submitted"]), default=0)
    except StackError as error:
        console.print(str(error))
        return 1
    except KeyboardInterrupt:
        interrupted()
        console.print("Stopped. The same command goes on from here.")
        return 1


def _follow(manifest: str, logs: Path) -> int:
    """Show the log of a manifest's newest batch, Spark's progress bars in it, until the batch ends."""
    log = max(logs.glob(f"*prepare-{manifest}-*.json"), key=lambda path: path.stat().st_mtime).with_suffix(".log")
    parent = f"projects/{config.project()}/locations/{REGION}"
    shown = 0
    while True:
        finished = dataproc.client().get_batch(name=f"{parent}/batches/{log.stem}").state in _FINISHED
        text = log.read_bytes() if log.exists() else b""
        sys.stdout.write(text[shown:].decode(errors="replace"))
        sys.stdout.flush()
        shown = len(text)
        if finished:
            return _fetch_report(manifest)
        time.sleep(_POLL_S)


def _fetch_report(manifest: str) -> int:
    folder = ROOT / ".local" / "preprocessing" / manifest
    folder.mkdir(parents=True, exist_ok=True)
    for blob in storage.objects(config.prepared_bucket(), f"reports/{manifest}/"):
        (folder / Path(blob.name).name).write_bytes(storage.read(config.prepared_bucket(), blob.name))
    print(f"Summary and pictures: {folder}")
    names = {blob.name for blob in storage.objects(config.prepared_bucket(), manifests.FOLDER)}
    return 0 if manifests.success_object(manifest) in names else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make preprocess", description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=demo.folder, required=True, help="folder of scans")
    parser.add_argument("--limit", type=demo.positive, help="so many of them, spread evenly")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
