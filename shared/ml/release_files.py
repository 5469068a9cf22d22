"""The files that make a release, named once: for training, inference, the local stack and Terraform."""

GRAPH_FILE = "model.tflite"
CARD_FILE = "card.json"
TEST_FILE = "test_scans.txt"
"""Scan ids of the test that the card's figures come from, a line each."""
REFERENCE_FILE = "reference.npz"
"""Scans of that test as the graph sees them (`shared.ml.drift_records.Scans`): what later scans are compared with."""

LEARNT_FILE = "learnt_from.csv"
"""Of a release that was fitted with corrections: scan_id, label, source, basis and weight of what it learnt from."""

RELEASE_FILES = (CARD_FILE, GRAPH_FILE, TEST_FILE, REFERENCE_FILE)
