"""The answer of the inference service, as its JSON, its OpenAPI document and its clients know it.

The service returns these records; a client reads them back with `parse_predictions(response.json())`. Nothing here
needs more than the standard library, so that a function may import it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Self

from shared.ml.site_calibration import RELEASES_OWN

PredictedClass = Literal["Cancer", "Non-Cancer", "Not a brain MRI"]

CANNOT_TELL = "Cannot tell"
"""What a reader says who sees no answer in the picture: neither agreement nor disagreement."""

Role = Literal["champion", "canary", "challenger"]
"""Whose answer it is: the current release's, the challenger's given out in its place, or the challenger's in shadow."""

_DOCUMENTED = {"use_attribute_docstrings": True}
"""Tells pydantic to take a field's description in the OpenAPI document from the docstring below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CropBox:
    """The square of the page that the network saw, in pixels of `image_png`; it may reach beyond the page."""

    __pydantic_config__: ClassVar = _DOCUMENTED

    left: float
    top: float
    side: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatMap:
    """Where in the crop box the evidence lies."""

    __pydantic_config__: ClassVar = _DOCUMENTED

    values: list[list[float]]
    """16 x 16 cells of the crop box, top first: share of the evidence for Cancer (positive) or against (negative)."""
    crop_box: CropBox
    image_png: str
    """Base64 of a PNG: the page as decoded, at most 1,024 pixels a side."""

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Return the heat map in a parsed JSON answer. Raises KeyError if a field is missing."""
        return cls(values=value["values"], crop_box=CropBox(**value["crop_box"]), image_png=value["image_png"])


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionResponse:
    """The prediction for one scan: a file of one page, or one page or frame of a file."""

    __pydantic_config__: ClassVar = _DOCUMENTED

    scan_id: str
    """SHA-256 of the file, followed by -<page> for a page of several."""
    prediction: PredictedClass
    probability: float
    """Calibrated probability of Cancer, 0 to 1."""
    threshold: float
    """Cancer is predicted at or above this probability: the release's, or the commissioned site's."""
    types: dict[str, float]
    """Probability of each tumour type, given that there is a tumour."""
    ood_score: float
    """How unlike a brain MRI the image is (out-of-distribution score); above the release's limit it is none."""
    model_version: str
    timings_ms: dict[str, float]
    """Milliseconds that decode, prepare and network took."""
    role: Role = "champion"
    """champion: the current release; canary: the challenger, which answers a share of the scans in its place;
    challenger: the challenger in shadow, whose answer nobody is given."""
    challenger_version: str | None = None
    """Release that would answer this scan in shadow, if it is asked at /v1/challenger."""
    uncertain: bool = False
    """Whether a reader should look before anybody relies on the prediction."""
    uncertain_reason: str | None = None
    """A sentence that says why the prediction is uncertain."""
    calibration: str = RELEASES_OWN
    """What made the probability of the network's: `release`, its own, or a commissioned site's, as source/version."""
    calibration_note: str | None = None
    """A sentence if the source has a calibration that belongs to another release, and was not used."""
    heat_map: HeatMap | None = None
    """Only if the request says explain=true."""
    embedding: list[float] | None = None
    """The network's pooled features; only if the request says embedding=true."""

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Return the prediction in a parsed JSON answer. Fields that this code does not know are ignored.

        Raises TypeError if a required field is missing.
        """
        known = {field.name for field in fields(cls)}
        given = {name: item for name, item in value.items() if name in known}
        heat_map = given.pop("heat_map", None)
        return cls(**given, heat_map=HeatMap.from_dict(heat_map) if heat_map else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PagePredictions:
    """The predictions for a file of several pages or frames, in order."""

    scans: list[PredictionResponse]


def parse_predictions(answer: Mapping[str, Any]) -> list[PredictionResponse]:
    """Return the predictions in the parsed JSON answer of `POST /v1/predict`: one per page of the file.

    Raises TypeError or KeyError if a required field is missing.
    """
    return [PredictionResponse.from_dict(scan) for scan in answer.get("scans", [answer])]


def answer_of(pages: list[PredictionResponse]) -> PredictionResponse | PagePredictions:
    """Return the answer about a file: its only page's prediction, or those of all its pages."""
    return pages[0] if len(pages) == 1 else PagePredictions(scans=pages)
