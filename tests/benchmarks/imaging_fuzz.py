"""Decode damaged files by the thousand: 100,000 images, 25,000 DICOM and 25,000 NIfTI files unless told otherwise.

Every file ends as pages or as RejectedScan. What else happens is printed with the number that makes it again: another
exception, a crash of the process, more than ten seconds of processor time, a hang, or more than a gigabyte. Prints a
table and writes `.local/bench/imaging-fuzz.json`; a later run goes on behind the last file of `imaging-fuzz.log`.
"""

import argparse
import gzip
import io
import json
import random
import resource
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import tifffile
from pydicom import dcmread
from pydicom.data import get_testdata_files
from pydicom.uid import RLELossless

from shared.errors import RejectedScan
from shared.imaging.decoding import decode
from tests.shared.imaging.drawn import DEEP, GREY, RGB, dicom, jpeg_dicom, saved

BENCH = Path(".local/bench")
LOG, OUTPUT = BENCH / "imaging-fuzz.log", BENCH / "imaging-fuzz.json"
_BATCH = 2_500
_SLOW_S, _HUNG_S, _LARGE_KIB = 10, 3_600, 1 << 20


def image_seeds() -> list[bytes]:
    """Small good files of every raster format and kind."""
    made = [saved(RGB, "JPEG"), saved(GREY, "JPEG", progressive=True), saved(RGB, "JPEG", "CMYK"), saved(RGB, "PNG")]
    made += [saved(DEEP, "PNG"), saved(RGB, "PNG", "P"), saved(RGB, "PNG", "RGBA"), saved(RGB, "BMP")]
    made += [saved(RGB, "BMP", "P"), saved(RGB, "BMP", "RGBA"), saved(RGB, "TIFF", "1", compression="group4")]
    made += [saved(RGB, "TIFF", "CMYK", compression="tiff_lzw")]
    stack = np.stack([GREY, 255 - GREY])
    for options in (
        {},
        {"compression": "zlib", "predictor": True},
        {"compression": "lzw"},
        {"compression": "packbits"},
        {"compression": "jpeg"},
        {"compression": "zstd", "tile": (32, 32)},
        {"bigtiff": True, "byteorder": ">"},
        {"imagej": True},
    ):
        file = io.BytesIO()
        deep = options.get("compression") not in ("jpeg", "packbits")
        tifffile.imwrite(file, np.stack([DEEP, DEEP]) if deep else stack, photometric="minisblack", **options)
        made.append(file.getvalue())
    return made


def dicom_seeds() -> list[bytes]:
    """pydicom's own small test files, and drawn ones."""
    files = [Path(file).read_bytes() for file in get_testdata_files("*.dcm")]
    rle = dcmread(io.BytesIO(dicom(DEEP)))
    rle.compress(RLELossless)
    packed = io.BytesIO()
    rle.save_as(packed)
    return [*(file for file in files if len(file) < 200_000), dicom(DEEP), jpeg_dicom(GREY), packed.getvalue()]


def nifti_seeds() -> list[bytes]:
    """Volumes of both versions, of integers and floats, compressed and not."""
    volume = (np.random.default_rng(5).random((40, 36, 5)) * 900).astype(np.int16)
    affine = np.diag([1.0, 1.2, 4.0, 1.0])
    kinds = (nibabel.Nifti1Image, nibabel.Nifti2Image)
    made = [kind(values, affine).to_bytes() for kind in kinds for values in (volume, volume.astype(np.float32))]
    return [*made, *map(gzip.compress, made)]


_SEEDS = {"images": image_seeds, "dicom": dicom_seeds, "nifti": nifti_seeds}


def damaged(seed: bytes, rng: random.Random) -> bytes:
    """Return the file with one to three kinds of damage: bytes set, the end cut, a run deleted, doubled or zeroed."""
    content = bytearray(seed)
    for _ in range(rng.randint(1, 3)):
        at = int(len(content) * rng.random() ** rng.choice((1, 3)))  # headers more often than pixels
        run = rng.randint(1, 64)
        match rng.randrange(6):
            case 0 | 1:
                for _ in range(rng.randint(1, 8)):
                    content[rng.randrange(len(content))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            case 2:
                content[at : at + run] = bytes(min(run, len(content) - at))
            case 3:
                del content[at : at + run]
            case 4:
                content[at:at] = content[at : at + run]
            case 5:
                content = content[: max(at, 16)]
        if len(content) < 16:
            break
    return bytes(content)


def worst_of(kind: str, start: int, end: int) -> None:
    """Decode the damaged files with these numbers; print one line of JSON."""
    seeds = _SEEDS[kind]()
    seen: Counter[str] = Counter()
    odd = []
    for number in range(start, end):
        print(number, file=sys.stderr)
        rng = random.Random(f"{kind}-{number}")
        content = damaged(rng.choice(seeds), rng)
        began = time.process_time()
        try:
            decode(content)
            seen["accepted"] += 1
        except RejectedScan as rejected:
            seen[str(rejected)] += 1
        except BaseException as error:  # noqa: BLE001 - any other exception is what is looked for
            odd.append((number, type(error).__name__))
        if time.process_time() - began > _SLOW_S:
            odd.append((number, "slow"))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if memory > _LARGE_KIB:
        odd.append((start, "memory"))
    print(json.dumps({"kind": kind, "start": start, "end": end, "seen": seen, "odd": odd, "kib": memory}))


def batch(kind: str, start: int, end: int) -> dict[str, Any]:
    """Decode the damaged files with these numbers in a process of its own, up to the first that ends it."""
    command = [sys.executable, "-m", "tests.benchmarks.imaging_fuzz", "--batch", kind, str(start), str(end)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_HUNG_S, check=False)
        if not done.returncode:
            return json.loads(done.stdout)
        said, how = done.stderr, f"exit {done.returncode}"
    except subprocess.TimeoutExpired as hung:
        said, how = (hung.stderr or b"").decode(), "hung"
    last = max((int(line) for line in said.splitlines() if line.isdigit()), default=start)
    return {"kind": kind, "start": start, "end": last + 1, "seen": {}, "odd": [(last, how)], "kib": 0}


def run(kind: str, count: int) -> None:
    """Decode the damaged files of a kind that no earlier run has decoded."""
    number = max((result["end"] for result in _results() if result["kind"] == kind), default=0)
    while number < count:
        result = batch(kind, number, min(number + _BATCH, count))
        with LOG.open("a") as log:
            log.write(json.dumps(result) + "\n")
        number = result["end"]


def report() -> None:
    """Print what became of the files of each kind, and write it."""
    figures: dict[str, Any] = {}
    for kind in _SEEDS:
        results = [result for result in _results() if result["kind"] == kind]
        seen = sum((Counter(result["seen"]) for result in results), Counter())
        odd = [tuple(item) for result in results for item in result["odd"]]
        memory = max((result["kib"] for result in results), default=0) // 1024
        files = sum(result["end"] - result["start"] for result in results)
        print(
            f"| {kind} | {files:,} | {seen.pop('accepted', 0):,} | {dict(seen.most_common())} | {odd} | {memory} MiB |"
        )
        figures |= {f"{kind}_files": files, f"{kind}_odd": len(odd), f"{kind}_mib": memory}
    OUTPUT.write_text(json.dumps(figures, indent=1))


def _results() -> list[dict[str, Any]]:
    return [json.loads(line) for line in LOG.read_text().splitlines()] if LOG.exists() else []


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    for kind, count in {"images": 100_000, "dicom": 25_000, "nifti": 25_000}.items():
        parser.add_argument(f"--{kind}", type=int, default=count)
    parser.add_argument("--batch", nargs=3)
    options = parser.parse_args()
    if options.batch:
        worst_of(options.batch[0], int(options.batch[1]), int(options.batch[2]))
        return
    BENCH.mkdir(parents=True, exist_ok=True)
    for kind in _SEEDS:
        run(kind, getattr(options, kind))
    report()


if __name__ == "__main__":
    main()
