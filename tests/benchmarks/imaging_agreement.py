"""Compare readable DICOM and TIFF with two other readers.

dcm2pnm of dcmtk, unpacked by local.hospital.tools, draws DICOM, or what GDCM has decompressed of it, if there is a
window or 8 bits; SimpleITK's values go through the formula of the window, or between the percentiles, as TIFF does.
python-gdcm and SimpleITK come with the group `references`; `make bench-agreement` brings all three.
"""

import argparse
import io
import subprocess
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import gdcm
import numpy as np
import SimpleITK as sitk  # noqa: N813 - as everybody names it
import tifffile
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_files

from local.hospital import tools
from local.hospital.counterparts import unpacked_environment
from shared.errors import RejectedScan
from shared.imaging.decoding import decode
from shared.imaging.dicom_values import numbers
from shared.imaging.geometry import aspect_of, square_pixels
from tests.shared.imaging.drawn import DEEP, GREY, RGB, dicom

DCM2PNM = tools.ORTHANC / "usr" / "bin" / "dcm2pnm"
warnings.filterwarnings("ignore")
sitk.ProcessObject.SetGlobalWarningDisplay(False)


def drawn_dicom() -> Iterator[tuple[str, bytes]]:
    """The kinds of MR that the tests draw."""
    window = {"WindowCenter": 900, "WindowWidth": 1200}
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        for values in (DEEP, DEEP.astype(np.int16) - 700):
            for how in ({}, window, {**window, "RescaleSlope": 1.5, "RescaleIntercept": -20}):
                yield "drawn, 16 bits", dicom(values, PhotometricInterpretation=photometric, **how)
    for shift in (0, 4):
        yield "drawn, 12 of 16 bits", dicom(DEEP << shift, BitsStored=12, HighBit=11 + shift, **window)
    for function in ("LINEAR", "SIGMOID", "LINEAR_EXACT"):
        yield f"drawn, {function}", dicom(DEEP, VOILUTFunction=function, **window)
    yield "drawn, colour", dicom(RGB)


def drawn_tiff() -> Iterator[tuple[str, bytes]]:
    """Every depth with every lossless compression, in strips and in tiles, in both byte orders."""
    for kind in ("u1", "u2", "i2", "f4"):
        for compression in (None, "lzw", "zlib", "packbits"):
            for order in "<>":
                for tile in (None, (32, 32)):
                    file = io.BytesIO()
                    values = GREY if kind == "u1" else DEEP.astype(kind)
                    tifffile.imwrite(file, values, compression=compression, byteorder=order, tile=tile)
                    yield f"TIFF {np.dtype(kind)}", file.getvalue()


def by_dcmtk(file: Path, folder: Path, how: Dataset) -> np.ndarray | None:
    """The first frame as dcm2pnm draws it, or what GDCM has decompressed of it."""
    if not how.get("WindowWidth") and how.get("BitsStored") != 8:
        return None
    window = ["+Wi", "1"] if how.get("WindowWidth") else []
    plain = _drawn(file, folder, window)
    if plain is not None:
        return plain
    reader = gdcm.ImageReader()
    reader.SetFileName(str(file))
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.ExplicitVRLittleEndian))
    if not reader.Read():
        return None
    change.SetInput(reader.GetImage())
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(folder / "raw.dcm"))
    if change.Change():
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.Write()
    return _drawn(folder / "raw.dcm", folder, window)


def _drawn(source: Path, folder: Path, window: list[str]) -> np.ndarray | None:
    drawn = folder / "drawn.pnm"
    drawn.unlink(missing_ok=True)
    command = [DCM2PNM, "-q", "-O", "-a", "+F", "1", *window, source, drawn]
    subprocess.run(command, capture_output=True, check=False, env=unpacked_environment())
    return np.asarray(Image.open(drawn)) if drawn.exists() else None


def by_itk(file: Path, how: Dataset) -> np.ndarray | None:
    """The first frame from SimpleITK's modality values."""
    try:
        values = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
    except RuntimeError:
        return None
    if values.ndim == 4 or (values.ndim == 3 and values.shape[-1] != 3):
        values = values[0]
    if values.ndim == 3:
        return values.astype(np.uint8) if values.dtype == np.uint8 else None
    if how.get("VOILUTFunction", "LINEAR") != "LINEAR" or how.get("HighBit", 0) + 1 != how.get("BitsStored", 1):
        return None  # GDCM, by which it reads, knows neither
    if how.get("WindowWidth"):
        center, width = (float(np.ravel(how[key].value)[0]) for key in ("WindowCenter", "WindowWidth"))
        shown = np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1) * 255
    elif values.dtype == np.uint8:
        shown = values.astype(float)
    else:
        low, high = np.percentile(values, (0.5, 99.5))
        shown = np.clip((values - low) / max(high - low, 1e-9), 0, 1) * 255
    return np.rint(shown)  # which has turned MONOCHROME1 round by itself


def difference(page: np.ndarray, right: np.ndarray | None) -> str:
    """The largest difference in grey levels, or why there is none."""
    if right is None:
        return "not read"
    if right.shape != page.shape:
        return f"{right.shape} for {page.shape}"
    return f"{int(np.abs(page.astype(float) - right).max())}"


def main() -> None:
    """Print a line a file that differs by more than a level, and a table of kinds."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.imaging_agreement", description=__doc__)
    parser.add_argument("folders", type=Path, nargs="*", help="folders of DICOM files")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    files = [("pydicom's files", Path(name).read_bytes()) for name in sorted(get_testdata_files("*.dcm"))]
    for root in arguments.folders:
        files += [(path.parent.name, path.read_bytes()) for path in sorted(root.rglob("*.dcm"))]
    table: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for kind, content in [*files, *drawn_dicom(), *drawn_tiff()]:
        try:
            page = decode(content).pages[0]
        except RejectedScan:
            continue
        file = folder / "file"
        file.write_bytes(content)
        if kind.startswith("TIFF"):
            how = Dataset()
            pillow = by_pillow(content)
            found = difference(page, pillow), difference(page, by_itk(file, how))
        else:
            how = dcmread(file, force=True)
            pair = numbers(how, "PixelSpacing") or numbers(how, "PixelAspectRatio")
            aspect = aspect_of(*pair) if len(pair) == 2 else 1.0
            both = by_dcmtk(file, folder, how), by_itk(file, how)
            square = [None if it is None else square_pixels(it.astype(np.uint8), aspect) for it in both]
            found = difference(page, square[0]), difference(page, square[1])
        table[kind].append(found)
        if any(text.isdigit() and int(text) > 1 for text in found):
            print(kind, how.get("Modality"), how.get("PhotometricInterpretation"), page.shape, *found, sep=", ")
    for kind, found in table.items():
        agreed = [sum(text.isdigit() and int(text) <= 1 for text in column) for column in zip(*found, strict=True)]
        compared = [sum(text.isdigit() for text in column) for column in zip(*found, strict=True)]
        print(f"| {kind} | {len(found)} | {agreed[0]} of {compared[0]} | {agreed[1]} of {compared[1]} |")


def by_pillow(content: bytes) -> np.ndarray | None:
    """The first page as Pillow reads it."""
    try:
        values = np.asarray(Image.open(io.BytesIO(content)))
    except OSError:
        return None
    if values.dtype == np.uint8:
        return values
    low, high = np.percentile(values, (0.5, 99.5))
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255)


if __name__ == "__main__":
    main()
