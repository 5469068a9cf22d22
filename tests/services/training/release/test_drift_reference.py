"""What of a release's test later scans are compared with."""

from local.stack.provision import RELEASE
from services.training.release.drift_reference import drift_reference
from shared.ml import drift_records
from shared.ml.model import read_release
from shared.ml.release_files import REFERENCE_FILE
from tests.support.training_scans import head, prepared, scans


def test_a_reference_tells_of_each_scan_what_training_was_told():
    told = {
        "source": ["ward-1", "ward-2", "ward-2"],
        "sequence": ["T1", "FLAIR", ""],
        "plane": ["axial", "", "coronal"],
        "format": ["PNG", "JPEG", "JPEG"],
        "label": [1, 0, 0],
    }
    found = scans(prepared(*(head(seed) for seed in range(3))), **told)
    reference = drift_reference(read_release(RELEASE), found)
    rows = sorted(zip(*(reference.attributes[name] for name in told), strict=True))
    assert rows == [
        ("ward-1", "T1", "axial", "PNG", "Cancer"),
        ("ward-2", "", "coronal", "JPEG", "Non-Cancer"),
        ("ward-2", "FLAIR", "", "JPEG", "Non-Cancer"),
    ]
    assert reference.embeddings.shape[0] == len(reference.predicted) == 3


def test_the_shipped_release_can_tell_sequences_and_labels():
    shipped = drift_records.Scans.from_bytes((RELEASE / REFERENCE_FILE).read_bytes())
    assert {"T1", "T1c", "T2", "FLAIR"} <= set(shipped.attributes["sequence"])
    assert set(shipped.attributes["label"]) == {"Cancer", "Non-Cancer"}
