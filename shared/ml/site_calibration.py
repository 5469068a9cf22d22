"""A site's own calibration: what a release's probability means on that site's scans, and where it says Cancer."""

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any, Self

CALIBRATION_FILE = "calibration.json"
SITE_REPORT_FILE = "report.pdf"
SITE_SCANS_FILE = "scans.txt"
"""Ids of the scans that it was fitted on, a line each, by which an erasure finds it."""
RELEASES_OWN = "release"
"""Name of the calibration that a release brings along, in an answer."""

LEAST_PROBABILITY = 1e-7
"""A probability is never nearer to 0 or 1 before its logit is taken: the graph's single precision rounds to both."""


def calibration_name(source: str, version: str) -> str:
    """Return what answers and decisions call a version of a source's calibration."""
    return f"{source}/{version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteCalibration:
    """What 25 to 200 labelled scans of one source say of one release. It belongs to that release alone."""

    source: str
    version: str
    model_version: str
    """Release whose probabilities it takes; those of another mean something else."""
    slope: float
    offset: float
    """The probability is `sigmoid(slope * logit(the release's) + offset)`."""
    threshold: float
    """Probability from which a scan of this source is called Cancer."""
    uncertain_from: float
    uncertain_to: float
    """Probabilities between which a prediction is uncertain, both included."""
    scans: int
    tumours: int
    """Of these scans."""
    created_at: str
    """RFC 3339."""
    figures: dict[str, Any] = field(default_factory=dict)
    """How the release did on these scans."""

    @property
    def name(self) -> str:
        """What an answer calls it."""
        return calibration_name(self.source, self.version)

    def probability(self, released: float) -> float:
        """Return the site's calibrated probability of Cancer for the release's."""
        kept = min(max(released, LEAST_PROBABILITY), 1 - LEAST_PROBABILITY)
        logit = self.slope * math.log(kept / (1 - kept)) + self.offset
        return 1 / (1 + math.exp(-logit)) if logit > 0 else math.exp(logit) / (1 + math.exp(logit))

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Return the calibration from its JSON; fields that this code does not know are ignored.

        Raises TypeError or ValueError for what is none.
        """
        known = {name: value for name, value in json.loads(content).items() if name in cls.__dataclass_fields__}
        found = cls(**known)
        numbers = (found.slope, found.offset, found.threshold, found.uncertain_from, found.uncertain_to)
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in numbers):
            raise ValueError("a calibration's parameters are finite numbers")
        return found

    def to_json(self) -> bytes:
        """Return the calibration as indented JSON."""
        return json.dumps(asdict(self), indent=2).encode() + b"\n"
