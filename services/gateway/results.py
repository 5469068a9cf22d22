"""A series' answer in the forms that a hospital's systems take, made of the original headers."""

import base64
from collections.abc import Iterator
from functools import cache, cached_property

import cv2
import numpy as np
import requests
from highdicom.sc import SCImage
from pydicom import Dataset

from services.gateway import inbox
from shared import config
from shared.events import ScoredSlice, SeriesSummarised
from shared.gcp import auth
from shared.ml.prediction import HeatMap as Explanation
from shared.ml.prediction import parse_predictions
from shared.results.headers import read_header
from shared.results.heat_map_image import HeatMap, heat_map_images
from shared.results.structured_report import structured_report
from shared.scan import file_id_of

_TIMEOUT_S = 30


class Result:
    """One answer, with the headers of its suspicious slices; the objects are made as they are first asked for."""

    def __init__(self, answer: SeriesSummarised) -> None:
        """Read the headers from the uploads bucket. Raises StorageError or NoStudy."""
        self.answer = answer
        self.headers = [
            read_header(inbox.received(answer.series_id, answer.study_id, file_id_of(one.scan_id)))
            for one in answer.suspicious
        ]

    @property
    def objects(self) -> Iterator[Dataset]:
        """Yield the structured report, then the heat map images: the report does not wait for their explanations."""
        yield self._report
        yield from self._heat_maps

    @cached_property
    def _report(self) -> Dataset:
        return structured_report(self.answer, self.headers)

    @cached_property
    def _heat_maps(self) -> list[SCImage]:
        heat_maps = [_heat_map(one, self.answer.series_id) for one in self.answer.suspicious]
        return heat_map_images(self.answer, self.headers, heat_maps)


def _heat_map(one: ScoredSlice, series_id: str) -> HeatMap:
    """Ask the inference service to explain a slice, by the release that answers the series.

    Raises requests.RequestException.
    """
    url = config.inference_url()
    uri = f"gs://{config.scans_bucket()}/{one.name}"
    asked = {"explain": "true", "unit": series_id}
    response = _session(url).post(f"{url}/v1/predict", params=asked, json={"uri": uri}, timeout=_TIMEOUT_S)
    response.raise_for_status()
    (prediction,) = parse_predictions(response.json())
    if prediction.heat_map is None:
        raise ValueError("The inference service was asked to explain, and did not.")
    return _drawn(prediction.heat_map)


@cache
def _session(url: str) -> requests.Session:
    return auth.session(url)


def _drawn(explanation: Explanation) -> HeatMap:
    png = np.frombuffer(base64.b64decode(explanation.image_png), np.uint8)
    image = cv2.imdecode(png, cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError("The inference service's picture is no PNG.")
    box = explanation.crop_box
    return HeatMap(
        image=cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if image.ndim == 3 else image,
        values=np.array(explanation.values, np.float32),
        left=box.left,
        top=box.top,
        side=box.side,
    )
