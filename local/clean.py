"""Delete local state: `make clean`. What still runs on it is ended first."""

import argparse
import shutil
from pathlib import Path

from local.stack.lock import end_running
from local.stack.terraform_config import ROOT

_STATE = ("state", "logs", "bench", "hospital", "pids.json", "endpoints.json", "lock")


def main() -> None:
    """End the system that runs on the folder, then delete what it kept there."""
    parser = argparse.ArgumentParser(prog="python -m local.clean", description=__doc__)
    parser.add_argument("--directory", type=Path, default=ROOT / ".local", help="where state and logs are kept")
    directory = parser.parse_args().directory
    if not directory.is_dir():
        return
    end_running(directory)
    for name in _STATE:
        path = directory / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
