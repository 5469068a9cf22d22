"""The random sample of scans by which readers measure the model: known by the scan's id alone, and never learnt from.

An estimate from scans that were chosen because the model was unsure or wrong would be worse than the truth, and one
from scans that the model has learnt from better. So a fixed share is drawn by a hash of the file: whoever has an id
knows whether it is in the sample, without a table, today and in a year. A file's pages stay together.
"""

import hashlib

from shared.scan import file_id_of

SAMPLE_SHARE = 0.05
"""One scan in twenty: 200 scans a day make 300 to read in a month."""
SALT = "scanflow review sample 1/"
"""Makes it independent of every other choice that is made by a hash of the id; another one is another sample."""
BELOW = f"{int(SAMPLE_SHARE * 2**64):016x}"
"""The sample's files are those whose salted SHA-256 begins, in hexadecimal, below this: SQL asks the same."""


def in_review_sample(scan_id: str) -> bool:
    """Return whether a scan is one of those that measure."""
    return hashlib.sha256((SALT + file_id_of(scan_id)).encode()).hexdigest()[:16] < BELOW
