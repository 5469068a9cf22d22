"""The golden test: Spark, training and serving prepare the same file to identical arrays, square pixels or not."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.preprocessing.prepare import prepared_row
from services.training.data import scans
from shared.events import ScanUploaded
from shared.imaging.decoding import decode_scan
from shared.imaging.preprocessing import prepare
from shared.intake.validation import BurntInText, validated
from tests.shared.imaging.drawn import dicom
from tests.support.heads import encoded, head

_HEAD = head(300, 260)
_DEEP = _HEAD.astype(np.uint16) * 9
FILES = {
    "square": encoded(_HEAD, "PNG"),
    "JFIF density": encoded(_HEAD, "JPEG", dpi=(200, 100)),
    "pHYs": encoded(_HEAD, "PNG", dpi=(100, 200)),
    "TIFF resolution": encoded(_HEAD, "TIFF", dpi=(200, 100)),
    "PixelSpacing": dicom(_DEEP, PixelSpacing=[2.0, 1.0]),
    "PixelAspectRatio": dicom(_DEEP, PixelAspectRatio=["1", "2"]),
}


@pytest.mark.parametrize("kind", FILES)
def test_spark_training_and_serving_prepare_identical_arrays(kind: str, tmp_path: Path) -> None:
    content = FILES[kind]
    serving = prepare(decode_scan(content).pages[0])
    upload = ScanUploaded(
        bucket="uploads", name="Cancer/a", generation=1, size=1, source="a", uploaded_at="2026-11-26T12:00:00Z"
    )
    ((event, stored),) = validated(upload, content, "scans", bytes(32), BurntInText.OFF)
    spark = np.frombuffer(prepared_row(event, stored)["image"], np.float32).reshape(serving.shape)
    assert np.array_equal(spark, serving)
    folder = tmp_path / "Cancer"
    folder.mkdir()
    suffix = ".dcm" if kind.startswith("Pixel") else f".{Image.open(io.BytesIO(content)).format.lower()}"
    (folder / f"a{suffix}").write_bytes(content)
    (trained,) = scans.inputs(scans.read(str(tmp_path)).images)
    assert np.array_equal(trained, serving)
    shown = decode_scan(content).pages[0].shape
    assert (shown == _HEAD.shape) is (kind == "square")
