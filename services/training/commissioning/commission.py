"""Commissioning a site: how a release does there, the site's own calibration, a report of two pages, the artefact."""

import hashlib
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from services.training.commissioning import site_fit, site_report
from services.training.commissioning.site_figures import site_figures
from services.training.commissioning.site_scans import CannotCommission, SiteScans, check_scans
from services.training.data.scans import inputs
from shared.gcp import release_decisions
from shared.gcp.registry import Pointer, add_version, calibrations, move_pointer, read_pointer
from shared.ml.model import Model
from shared.ml.site_calibration import (
    CALIBRATION_FILE,
    SITE_REPORT_FILE,
    SITE_SCANS_FILE,
    SiteCalibration,
    calibration_name,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Commissioned:
    """What came of commissioning a site."""

    calibration: SiteCalibration
    report: bytes
    """PDF of two pages."""
    scan_ids: tuple[str, ...]
    """Of the scans that it was fitted on, in order."""

    def files(self) -> dict[str, bytes]:
        """Return the files of the version in the registry."""
        return {
            CALIBRATION_FILE: self.calibration.to_json(),
            SITE_REPORT_FILE: self.report,
            SITE_SCANS_FILE: "\n".join(self.scan_ids).encode(),
        }


def commission(site: SiteScans, model: Model) -> Commissioned:
    """Return the calibration of a site for a release, and its report.

    Raises CannotCommission if the release takes too many of the scans for no brain MRI.
    """
    table = predictions(site, model)
    taken = table["ood_score"].to_numpy() <= model.card.ood_limit
    _check_taken(site, taken)
    kept = table[taken].reset_index(drop=True)
    released, labels, groups = (kept[name].to_numpy() for name in ("released", "label", "group"))
    parameters = site_fit.fit(released, labels, groups)
    crossed = site_fit.cross_fitted(released, labels, groups)
    figures = site_figures(table, kept, crossed, model.card)
    calibration = SiteCalibration(
        source=site.source,
        version=_version(kept, parameters, model.card.version),
        model_version=model.card.version,
        scans=len(kept),
        tumours=int(labels.sum()),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        figures=figures,
        **{name: round(value, 6) for name, value in asdict(parameters).items()},
    )
    return Commissioned(
        calibration=calibration,
        report=site_report.as_pdf(calibration, table, kept, crossed, model),
        scan_ids=tuple(sorted(kept["scan_id"])),
    )


def predictions(site: SiteScans, model: Model) -> pd.DataFrame:
    """Return scan_id, label, sequence, group, `released` (the release's probability) and ood_score of each scan."""
    found = [model.predict(inputs(image[np.newaxis])[0]) for image in site.scans.images]
    return site.scans.table[["scan_id", "label", "sequence"]].assign(
        group=site.groups,
        released=[one.probability for one in found],
        ood_score=[one.ood_score for one in found],
    )


def put(commissioned: Commissioned) -> Pointer:
    """Store a calibration in the models bucket, make it its source's current one, and record it.

    Return what was current before. Raises PointerMoved if somebody else commissioned the source meanwhile,
    StorageError, and BigQueryError, which leaves it current, but no row of it.
    """
    source, version = commissioned.calibration.source, commissioned.calibration.version
    registry = calibrations(source)
    seen = read_pointer(registry)
    add_version(registry, version, commissioned.files())
    if seen.version != version:
        move_pointer(registry, version, seen)
        before = calibration_name(source, seen.version) if seen.version else None
        release_decisions.record(commissioned.calibration.name, "commissioned", before)
    return seen


def _check_taken(site: SiteScans, taken: np.ndarray) -> None:
    try:
        check_scans(site.scans.only(taken))
    except CannotCommission:
        raise CannotCommission(
            f"The release takes {int(np.sum(~taken))} of the {len(taken)} scans for no brain MRI, and the rest are too "
            "few of one kind. Look at what is in DATA; if they are brain MRI, this release does not fit the site."
        ) from None


def _version(kept: pd.DataFrame, parameters: site_fit.Parameters, model_version: str) -> str:
    """The day, and digits that are the same for the same scans, labels, release and fit."""
    lines: list[Any] = [model_version, *map(round, [*asdict(parameters).values()], [6] * 5)]
    lines += sorted(f"{name} {label}" for name, label in zip(kept["scan_id"], kept["label"], strict=True))
    return f"{datetime.now(UTC):%Y%m%d}-{hashlib.sha256(repr(lines).encode()).hexdigest()[:8]}"
