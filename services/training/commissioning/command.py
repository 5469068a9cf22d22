"""What `python -m services.training.commissioning` does with its arguments."""

import argparse
from pathlib import Path

from services.training.commissioning.command_line import failed
from services.training.commissioning.commission import Commissioned, commission, put
from services.training.commissioning.site_scans import CannotCommission, read_site
from shared.gcp.bigquery import BigQueryError
from shared.gcp.environment import settle_environment
from shared.gcp.registry import PointerMoved, current_model
from shared.gcp.storage import StorageError
from shared.ml.model import ModelMismatch, read_release

SHIPPED = Path("services/inference/release")


def run(arguments: argparse.Namespace) -> int:
    """Commission one site and return the exit status."""
    try:
        site = read_site(arguments.data, arguments.source)
        system = settle_environment()
        found = commission(site, current_model() if system else read_release(SHIPPED))
        folder = _write(found, arguments.folder)
        _say(found, site.unreadable, folder)
        print(_put(found) if system else _kept_here(folder))
    except CannotCommission as error:
        return failed(str(error), 2)
    except (LookupError, ModelMismatch, PointerMoved, StorageError) as error:
        return failed(f"The models bucket could not be used: {error}", 1)
    except BigQueryError as error:
        return failed(f"It is in use, but the table release_decisions does not say so: {error}", 1)
    return 0


def _write(found: Commissioned, folder: Path) -> Path:
    place = folder / found.calibration.name
    place.mkdir(parents=True, exist_ok=True)
    for name, content in found.files().items():
        (place / name).write_bytes(content)
    return place


def _say(found: Commissioned, unreadable: int, folder: Path) -> None:
    calibration = found.calibration
    if unreadable:
        print(f"{unreadable} files with a label are no scans, and were left out.")
    print(
        f"{calibration.scans} scans, {calibration.tumours} of them with a tumour; release {calibration.model_version}."
    )
    for title, key in (("as the release ships", "release"), ("with the site's calibration", "site")):
        figures = calibration.figures.get(key)
        if figures:
            print(
                f"  {title}: sensitivity {_interval(figures, 'sensitivity')}, "
                f"specificity {_interval(figures, 'specificity')}, uncertain {figures['uncertain']:.2f}"
            )
    print(f"  threshold {calibration.threshold:.3f}; report: {folder / 'report.pdf'}")


def _interval(figures: dict[str, float], name: str) -> str:
    return f"{figures[name]:.2f} ({figures[f'{name}_low']:.2f} to {figures[f'{name}_high']:.2f})"


def _put(found: Commissioned) -> str:
    before = put(found).version
    after = f"; it was {before} before" if before and before != found.calibration.version else ""
    return f"Scans of {found.calibration.source} are answered by {found.calibration.name} from now on{after}."


def _kept_here(folder: Path) -> str:
    return (
        f"Nothing applies it yet: it lies in {folder} alone. Start the system here (make demo) or set "
        "GOOGLE_CLOUD_PROJECT, then run this again."
    )
