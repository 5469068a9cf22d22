"""Withdraw a site's calibration: the release's own answers its scans again.

    python -m services.training.commissioning.withdraw --source ward-3 --reason "other scanner"

Works on the models bucket of the project that the environment names (GOOGLE_CLOUD_PROJECT), or of the system that
`make demo` runs here. The version stays in the bucket; commissioning the source again makes one current again.
Exit status: 0; 1 if the bucket or the table cannot be used; 2 if there is nothing to withdraw.
"""

import argparse
import sys

from services.training.commissioning.command_line import BAD_SOURCE, failed
from shared.gcp import release_decisions
from shared.gcp.bigquery import BigQueryError
from shared.gcp.environment import settle_environment
from shared.gcp.registry import PointerMoved, calibrations, move_pointer, read_pointer
from shared.gcp.storage import StorageError
from shared.ml.site_calibration import calibration_name
from shared.scan import is_source

NO_REASON = "An operator withdrew it."


class NothingToWithdraw(Exception):
    """The source has no calibration to withdraw. Its text is a sentence that says what to do."""


def main() -> int:
    """Withdraw one source's calibration and return the exit status."""
    arguments = _arguments()
    try:
        _check(arguments.source)
        name = withdraw(arguments.source, arguments.reason)
    except NothingToWithdraw as nothing:
        return failed(str(nothing), 2)
    except (PointerMoved, StorageError) as error:
        return failed(f"The models bucket could not be used, and nothing was withdrawn: {error}", 1)
    except BigQueryError as error:
        return failed(f"It was withdrawn, but the table release_decisions does not say so: {error}", 1)
    print(
        f"{name} is withdrawn: scans of {arguments.source} are answered by the release's own calibration from now on."
    )
    return 0


def withdraw(source: str, reason: str = NO_REASON) -> str:
    """Let no calibration of a source be current, and record it; return the name of the one that was.

    Raises NothingToWithdraw if none is, PointerMoved if somebody else commissioned the source meanwhile, StorageError,
    and BigQueryError, which leaves it withdrawn, but no row of it.
    """
    registry = calibrations(source)
    seen = read_pointer(registry)
    if seen.version is None:
        raise NothingToWithdraw(
            f"Source {source} has no calibration of its own: the release's own answers its scans already. Look at how "
            "the source's uploads spell its name."
        )
    move_pointer(registry, None, seen)
    name = calibration_name(source, seen.version)
    release_decisions.record(name, "withdrawn", name, [reason])
    return name


def _check(source: str) -> None:
    """Raise NothingToWithdraw unless the source is a name, and there is a system to withdraw its calibration from."""
    if not is_source(source):
        raise NothingToWithdraw(BAD_SOURCE)
    if not settle_environment():
        raise NothingToWithdraw(
            "Calibrations lie in a system's models bucket: start one here (make demo) or set GOOGLE_CLOUD_PROJECT."
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m services.training.commissioning.withdraw", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--source", required=True, help="the commissioned source, as in ward-3")
    parser.add_argument("--reason", default=NO_REASON, help="why; it names no patient (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
