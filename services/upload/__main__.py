"""Send a folder of scans to the uploads bucket: `python -m services.upload DIR --bucket B`."""

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from services.upload.folders import NoLabel, as_series, find
from services.upload.sending import NOWHERE, Outcome, send, unverified
from shared.gcp.storage import StorageError
from shared.labels import LABEL_MAP, Label, parse_label_map
from shared.scan import SYNTHETIC, source_of

_ABOUT = """
Send a folder of brain MRI scans to the uploads bucket.

Every file is checked here first (JPEG, PNG, BMP, TIFF, DICOM or NIfTI, decoded whole), sent under a name made of its
label and the SHA-256 of its bytes, and compared with the bucket by checksum at the end. Run the same command again
after an interruption: what has arrived is not sent twice. A file's own name never leaves this machine and is not
printed.

A file's label is that of the deepest folder it lies in that has one, whatever the case of its letters.
"""
_STATUS = """
exit status: 0 all files sent and verified; 1 some were refused, unreadable or unverified, or the bucket failed;
2 nothing was sent: a wrong argument or a folder without a label; 130 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        files, skipped = find(options.folder, LABEL_MAP | options.label_map)
        placements = as_series((path for path, _ in files), options.series) if options.series else NOWHERE
        outcomes = send(files, options.bucket, options.source, as_tiff=options.as_tiff, placements=placements)
        wrong = unverified(options.bucket, outcomes)
    except NoLabel as error:
        return _fail(error, 2)
    except StorageError as error:
        return _fail(f"{error}\nNothing is lost: run the same command again, it goes on from here.", 1)
    except KeyboardInterrupt:
        return _fail("\nInterrupted. Run the same command again, it goes on from here.", 130)
    if options.refused:
        _write_refused(options.refused, outcomes)
    if options.sent:
        _write_sent(options.sent, outcomes)
    if skipped:
        print(f"{skipped:,} symbolic links lead nowhere, or to a folder that was searched anyway: skipped.")
    return _report(outcomes, wrong, named=bool(options.refused))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m services.upload",
        description=_ABOUT,
        epilog=f"folders with a label by default: {_listed(LABEL_MAP)}\n{_STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", metavar="DIR", type=_folder, help="folder of scans, searched with all below it")
    parser.add_argument("--bucket", required=True, metavar="B", help="name of the uploads bucket")
    parser.add_argument("--label-map", type=_label_map, default={}, metavar="FOLDER=LABEL,...", help=_LABEL_HELP)
    parser.add_argument("--source", type=_source, default="unknown", help="where the scans come from, e.g. kaggle")
    parser.add_argument("--series", type=_spacing, metavar="MM", help=_SERIES_HELP)
    parser.add_argument("--as-tiff", action="store_true", help=_TIFF_HELP)
    parser.add_argument("--refused", type=Path, metavar="FILE", help="write path and reason of refused files to a CSV")
    parser.add_argument("--sent", type=Path, metavar="FILE", help=_SENT_HELP)
    return parser


_LEAST_SPACING_MM, _MOST_SPACING_MM = 0.1, 50.0

_LABEL_HELP = f"labels of more folders, or others for these; a label is {', '.join(Label)}"
_SERIES_HELP = (
    "each folder is a series that gets one answer: its pictures, in the order of the numbers in their names, are "
    "slices so many millimetres apart; DICOM, volumes and files of several pages say so themselves"
)
_SENT_HELP = (
    "write path and scan id of every page that is in the bucket to a CSV, by which to find a scan again; it stays on "
    "this machine"
)
_TIFF_HELP = (
    "send pixels only, as lossless 8-bit TIFF, one page a page or frame: no DICOM tag, EXIF or comment leaves this "
    "machine; without it a file is sent as it is"
)


def _listed(label_map: dict[str, Label]) -> str:
    return ", ".join(f"{folder}={label}" for folder, label in label_map.items())


def _folder(text: str) -> Path:
    folder = Path(text)
    if not folder.is_dir():
        raise argparse.ArgumentTypeError("there is no such folder")
    return folder.resolve()


def _label_map(text: str) -> dict[str, Label]:
    try:
        return parse_label_map(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _source(text: str) -> str:
    if text == SYNTHETIC:
        raise argparse.ArgumentTypeError(f"{text} is the name of scans that nobody counts: take another")
    if source_of({"source": text}) != text:
        raise argparse.ArgumentTypeError("lower-case letters, digits and dashes, 32 at most: it is stored and shown")
    return text


def _spacing(text: str) -> float:
    try:
        spacing = float(text)
    except ValueError:
        spacing = 0.0
    if not _LEAST_SPACING_MM <= spacing <= _MOST_SPACING_MM:
        raise argparse.ArgumentTypeError("millimetres between slices, 0.1 to 50")
    return spacing


def _report(outcomes: Sequence[Outcome], wrong: int, *, named: bool) -> int:
    """Print what became of the files, counted by label and reason, never by name."""
    for label in Label:
        states = Counter(outcome.state for outcome in outcomes if outcome.label == label)
        if states:
            ordered = sorted(states.items(), key=lambda counted: (-counted[1], counted[0] != "sent", counted[0]))
            counted = ", ".join(f"{count:,} {state}" for state, count in ordered)
            print(f"{label + ':':<12} {states.total():,} files: {counted}")
    objects = {outcome.name: outcome.size for outcome in outcomes if outcome.name}
    twice = len(objects) - len({name.partition("/")[2] for name in objects})
    refused = sum(not outcome.name for outcome in outcomes)
    print(f"verified:    {len(objects) - wrong:,} of {len(objects):,} objects, {sum(objects.values()) / 1e6:,.1f} MB")
    if wrong:
        print(
            f"{wrong:,} objects are missing or differ from the files here. Run the same command again.", file=sys.stderr
        )
    if twice:
        print(f"{twice:,} scans lie under more than one label. Keep each under the right one.", file=sys.stderr)
    if refused and not named:
        print(f"{refused:,} files were not sent. --refused FILE lists them with the reason.", file=sys.stderr)
    return int(bool(wrong or twice or refused))


def _write_refused(file: Path, outcomes: Sequence[Outcome]) -> None:
    with file.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["path", "reason"])
        rows.writerows((outcome.path, outcome.state) for outcome in outcomes if not outcome.name)


def _write_sent(file: Path, outcomes: Sequence[Outcome]) -> None:
    with file.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["path", "scan_id"])
        rows.writerows((outcome.path, scan_id) for outcome in outcomes for scan_id in outcome.scan_ids)


def _fail(error: object, status: int) -> int:
    print(error, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
