"""Settings from the environment: one lazy getter a variable, each named after the resource it holds."""

import os


def project() -> str:
    """Google Cloud project id."""
    return os.environ["GOOGLE_CLOUD_PROJECT"]


def name_prefix() -> str:
    """Return what this environment's topics, subscriptions and batches begin with, as `dev-`; usually nothing."""
    return os.environ.get("NAME_PREFIX", "")


def scans_bucket() -> str:
    """Bucket of validated scans."""
    return os.environ["SCANS_BUCKET"]


def quarantine_bucket() -> str:
    """Bucket of the records of rejected files."""
    return os.environ["QUARANTINE_BUCKET"]


def uploads_bucket() -> str:
    """Bucket that imaging systems write to."""
    return os.environ["UPLOADS_BUCKET"]


def prepared_bucket() -> str:
    """Bucket of manifests, prepared Parquet and fitted statistics."""
    return os.environ["PREPARED_BUCKET"]


def models_bucket() -> str:
    """Bucket of released models and the pointer to the current one."""
    return os.environ["MODELS_BUCKET"]


def dataset() -> str:
    """BigQuery dataset."""
    return os.environ["DATASET"]


def inference_url() -> str:
    """Base address of the inference service."""
    return os.environ["INFERENCE_URL"]


def source_bucket() -> str:
    """Bucket that ingest_scans copies from; empty where none is configured."""
    return os.environ.get("SOURCE_BUCKET", "")


def source_prefix() -> str:
    """Prefix in the source bucket; empty for all of it."""
    return os.environ.get("SOURCE_PREFIX", "")


def label_map() -> str:
    """Which source folder gets which label, as `glioma=Cancer,...`; empty for the folders of the public sets."""
    return os.environ.get("LABEL_MAP", "")


def region() -> str:
    """Region of batches and queues."""
    return os.environ["REGION"]


def batch_template() -> str:
    """What every Spark batch has in common, as Dataproc's JSON: image, account, network, scaling, history."""
    return os.environ["BATCH_TEMPLATE"]


def pseudonym_key() -> bytes:
    """Return the key that makes study and series ids of DICOM's UIDs: 32 bytes, in the environment as hexadecimal."""
    return bytes.fromhex(os.environ["PSEUDONYM_KEY"])


def burnt_in_text() -> str:
    """Return what becomes of a scan with text burnt into it: `off` (nobody looks), `flag`, `mask` or `quarantine`."""
    return os.environ.get("BURNT_IN_TEXT", "flag")


def series_quiet_seconds() -> float:
    """Return how long a series must have been quiet before it is summarised."""
    return float(os.environ.get("SERIES_QUIET_SECONDS", "30"))


def fewest_basis_scans() -> int:
    """Return how many training scans must be prepared before a PCA basis is fitted, which is then kept."""
    return int(os.environ.get("FEWEST_BASIS_SCANS", "2000"))


def live_refresh_seconds() -> int:
    """Return how often a live page of the dashboard asks BigQuery, which bills each time."""
    return int(os.environ.get("LIVE_REFRESH_SECONDS", "30"))
