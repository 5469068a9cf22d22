"""Which site's calibration a scan is answered by: the one that the models bucket's pointer names for its source."""

import logging
from dataclasses import dataclass

from services.inference.metrics import SITES
from shared.ml.site_calibration import CALIBRATION_FILE, RELEASES_OWN, SiteCalibration

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The calibration for a scan."""

    calibration: SiteCalibration | None = None
    """None: the release's own."""
    note: str | None = None
    """A sentence for the reader if the source has a calibration that this release cannot use."""

    @property
    def name(self) -> str:
        """What the answer calls it."""
        return self.calibration.name if self.calibration else RELEASES_OWN


OWN = Chosen()


class SiteCalibrations:
    """The current calibration of every commissioned source."""

    def __init__(self) -> None:
        self._found: dict[str, SiteCalibration] = {}
        self._seen: dict[str, int] = {}
        """Generation of each pointer that was read."""

    def of(self, source: str, model_version: str) -> Chosen:
        """Return what to answer a source's scans by. A calibration for another release is not used."""
        calibration = self._found.get(source)
        if calibration is None:
            return OWN
        if calibration.model_version == model_version:
            return Chosen(calibration)
        return Chosen(
            note=f"Source {source} was commissioned for release {calibration.model_version}, not for this one: the "
            "release's own calibration was used. Commission it again."
        )

    def follow(self) -> None:
        """Read the calibrations whose pointers have moved. Raises StorageError if the bucket cannot be read."""
        from shared.gcp.registry import commissioned  # noqa: PLC0415 - a second, paid only if a bucket is named

        pointers = commissioned()
        for source in self._found.keys() - pointers.keys():
            del self._found[source]
        for source, generation in pointers.items():
            if self._seen.get(source) != generation:
                self._read(source)
        self._seen = pointers
        SITES.set(len(self._found))

    def refresh(self) -> None:
        """Follow the pointers; if the bucket cannot be read, log it and go on with those that are known."""
        from shared.gcp import storage  # noqa: PLC0415 - as above

        try:
            self.follow()
        except storage.StorageError as error:
            logger.error("%s; still using %d sites' calibrations", error, len(self._found))

    def _read(self, source: str) -> None:
        """Take over a source's current calibration; one that is none is not used, and logged."""
        from shared.gcp.registry import calibrations, read_file, read_pointer  # noqa: PLC0415 - as above

        registry = calibrations(source)
        try:
            version = read_pointer(registry).version
            if version is None:
                self._found.pop(source, None)
                logger.info("source %s is answered by the release's own calibration again", source)
                return
            self._found[source] = SiteCalibration.from_json(read_file(registry, version, CALIBRATION_FILE))
            logger.info("source %s is answered by calibration %s", source, version)
        except (LookupError, TypeError, ValueError) as error:
            self._found.pop(source, None)
            logger.error("the calibration of source %s is not used: %s", source, error)
