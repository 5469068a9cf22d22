"""Commission a site: how the release does on 25 to 200 of its labelled scans, and its own calibration.

    python -m services.training.commissioning --data FOLDER --source ward-3

Writes `<folder>/<source>/<version>/` (calibration.json, report.pdf) and puts the version into the models bucket of the
project that the environment names (GOOGLE_CLOUD_PROJECT), or of the system that `make demo` runs here: from then on
inference applies it to that source's scans. `services.training.commissioning.withdraw` undoes it. Exit status: 0; 1 if
the bucket or the table cannot be used; 2 if the scans or the name will not do.
"""

import argparse
import sys
from pathlib import Path

FOLDER = Path(".local/commissioning")


def main() -> int:
    """Commission one site and return the exit status."""
    arguments = _arguments()
    from services.training.commissioning import command  # noqa: PLC0415 - loads what fits and draws; --help needs none

    return command.run(arguments)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m services.training.commissioning", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of labelled scans of the site")
    parser.add_argument("--source", required=True, help="what the site's uploads say as their source, as in ward-3")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where calibration and report are written")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
