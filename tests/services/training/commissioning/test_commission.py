"""A site commissioned: the artefact, its report, and how the command ends."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import cv2
import numpy as np
import pytest

from local.samples import encode, healthy_slices, lesion_slices
from local.stack.system import BUCKETS, Stack
from services.training.commissioning import withdraw as withdrawal
from services.training.commissioning.commission import commission, put
from services.training.commissioning.site_scans import CannotCommission, SiteScans
from services.training.commissioning.withdraw import NothingToWithdraw, withdraw
from shared.gcp import bigquery, storage
from shared.gcp.registry import calibrations, read_pointer
from shared.ml.model import Model, read_release
from shared.ml.site_calibration import SiteCalibration
from tests.support.training_scans import head, prepared, scans

ROOT = Path(__file__).parents[4]
RELEASE = ROOT / "services" / "inference" / "release"


@pytest.fixture(scope="module")
def model() -> Model:
    """The release, with a limit under which drawn heads, which are unlike any real one, are not refused."""
    known = read_release(RELEASE)
    return Model(dataclasses.replace(known.card, ood_limit=1e9), (RELEASE / "model.tflite").read_bytes())


@pytest.fixture(scope="module")
def site() -> SiteScans:
    count = 30
    found = scans(
        prepared(*(head(seed) for seed in range(count))), label=[0, 1] * 15, sequence=["T1", "T1", "FLAIR"] * 10
    )
    return SiteScans(source="ward-3", scans=found, groups=np.arange(count), unreadable=0)


def test_a_site_gets_a_calibration_of_its_release_and_a_report_of_two_pages(site, model):
    found = commission(site, model)
    assert (found.calibration.source, found.calibration.model_version) == ("ward-3", model.card.version)
    assert (found.calibration.scans, found.calibration.tumours) == (30, 15)
    assert set(found.calibration.figures["by_sequence"]) == {"T1", "FLAIR"}
    assert found.files()["scans.txt"].decode().splitlines() == sorted(site.scans.table["scan_id"])
    for figures in (found.calibration.figures["release"], found.calibration.figures["site"]):
        assert figures["sensitivity_low"] <= figures["sensitivity"] <= figures["sensitivity_high"]
    assert found.report.startswith(b"%PDF")
    assert len(re.findall(rb"/Type /Page\b", found.report)) == 2
    json.loads(found.calibration.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_the_same_scans_give_the_same_version_and_another_label_another(site, model):
    one = commission(site, model).calibration.version
    assert commission(site, model).calibration.version == one
    flipped = site.scans.table.assign(label=[1, 0, *site.scans.table["label"][2:]])
    other = dataclasses.replace(site, scans=dataclasses.replace(site.scans, table=flipped))
    assert commission(other, model).calibration.version != one


def test_a_release_that_refuses_the_site_is_not_calibrated_for_it(site):
    with pytest.raises(CannotCommission, match="of the 30 scans for no brain MRI"):
        commission(site, read_release(RELEASE))


@pytest.fixture
def bucket(stack: Stack, monkeypatch) -> str:
    name = f"models-{uuid.uuid4().hex[:12]}"
    storage.client().create_bucket(name)
    monkeypatch.setenv("MODELS_BUCKET", name)
    return name


def decided(source: str) -> list[tuple[str, str]]:
    """What the table says of a source's calibrations, in order."""
    sql = """
    SELECT version, outcome FROM {dataset}.release_decisions WHERE STARTS_WITH(version, @source) ORDER BY decided_at
    """
    return [(row["version"], row["outcome"]) for row in bigquery.query(sql, source=f"{source}/")]


def test_a_version_is_stored_and_the_pointer_moves(site, model, bucket):
    site = dataclasses.replace(site, source=f"ward-{uuid.uuid4().hex[:8]}")
    found = commission(site, model)
    assert put(found).version is None
    assert put(found).version == found.calibration.version  # once more changes nothing
    pointer = read_pointer(calibrations(site.source))
    assert (pointer.version, pointer.previous) == (found.calibration.version, None)
    stored = storage.read(bucket, f"calibrations/{found.calibration.name}/calibration.json")
    assert SiteCalibration.from_json(stored) == found.calibration
    assert decided(site.source) == [(found.calibration.name, "commissioned")]


def test_a_calibration_is_withdrawn_once_and_can_be_commissioned_again(site, model, bucket):
    found = commission(dataclasses.replace(site, source=f"ward-{uuid.uuid4().hex[:8]}"), model)
    source, version, name = found.calibration.source, found.calibration.version, found.calibration.name
    put(found)
    assert withdraw(source, "Another scanner.") == name
    pointer = read_pointer(calibrations(source))
    assert (pointer.version, pointer.previous) == (None, version)
    assert storage.stat(bucket, f"calibrations/{name}/calibration.json")  # what it answered by can still be read
    with pytest.raises(NothingToWithdraw, match="the release's own answers its scans already"):
        withdraw(source)
    put(found)
    assert read_pointer(calibrations(source)).version == version
    assert decided(source) == [(name, "commissioned"), (name, "withdrawn"), (name, "commissioned")]


@pytest.mark.parametrize(
    ("source", "sentence"), [("Ward 3", "SOURCE is no name"), ("ward-nobody-commissioned", "has no calibration")]
)
def test_what_cannot_be_withdrawn_is_said_with_status_2(bucket, monkeypatch, capsys, source, sentence):
    monkeypatch.setattr("sys.argv", ["withdraw", "--source", source])
    monkeypatch.setattr(withdrawal, "settle_environment", lambda: True)  # the fixtures settled it
    assert withdrawal.main() == 2
    assert sentence in capsys.readouterr().err


def test_a_calibration_cannot_be_withdrawn_where_no_system_is(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    monkeypatch.setattr("sys.argv", ["withdraw", "--source", "ward-3"])
    assert withdrawal.main() == 2
    assert "make demo" in capsys.readouterr().err


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as `make commission` does, and let it name the heavy libraries that it loaded."""
    code = (
        "import runpy, sys\n"
        "try:\n    runpy.run_module('services.training.commissioning', run_name='__main__')\n"
        "finally:\n    print('loaded', sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    variables = {name: value for name, value in os.environ.items() if name != "GOOGLE_CLOUD_PROJECT"} | environment
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command,
        env=variables | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize(("source", "sentence"), [("Ward 3", "SOURCE is no name"), ("ward-3", "10 different scans")])
def test_what_will_not_do_ends_with_a_sentence_and_status_2_before_tensorflow(tmp_path, source, sentence):
    for kind in ("yes", "no"):
        (tmp_path / kind).mkdir()
        for seed in range(5):
            cv2.imwrite(str(tmp_path / kind / f"{seed}.png"), head(seed + 10 * (kind == "no")))
    ended = run("--data", str(tmp_path), "--source", source)
    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "loaded []" in ended.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """50 scans of the sample head, half of them with a drawn lesion."""
    place = tmp_path_factory.mktemp("site")
    for kind, slices in (("no", healthy_slices()), ("yes", lesion_slices())):
        (place / kind).mkdir()
        for number, pixels in enumerate(slices):
            (place / kind / f"{number}.png").write_bytes(encode(pixels, "PNG"))
    return place


def test_inference_answers_a_commissioned_source_by_its_own_calibration(stack: Stack, folder, tmp_path):
    source = f"ward-{uuid.uuid4().hex[:8]}"
    ended = run(
        "--data",
        str(folder),
        "--source",
        source,
        "--folder",
        str(tmp_path),
        GOOGLE_CLOUD_PROJECT=os.environ["GOOGLE_CLOUD_PROJECT"],
    )
    assert ended.returncode == 0, ended.stderr
    assert f"Scans of {source} are answered by" in ended.stdout
    (written,) = tmp_path.glob(f"{source}/*/calibration.json")
    known = SiteCalibration.from_json(written.read_bytes())
    assert storage.stat(BUCKETS["models"], f"calibrations/{known.name}/report.pdf")
