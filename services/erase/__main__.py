"""Erase an uploaded file and everything that was made of it: `python -m services.erase ID --reason TEXT [--dry-run]`.

Needs the roles that the Terraform variable `erasers` gives; docs/operations/erase.md says what it does and leaves.
Exit status: 0 all that was found is erased and recorded, 2 a wrong argument, 3 something is left: run it again later.
"""

import argparse
import json
import re
import sys
import uuid
from dataclasses import asdict

from services.erase.erasure import Erasure, erase
from shared.clock import now
from shared.gcp import bigquery
from shared.gcp.bigquery import BigQueryError
from shared.gcp.storage import StorageError
from shared.scan import file_id_of


def main() -> int:
    """Erase, record, and print the record."""
    parser = argparse.ArgumentParser(prog="python -m services.erase", description="Erase a file and what came of it.")
    parser.add_argument("id", help="id of the scan or of the file, as the dashboard shows it: 64 hexadecimal digits")
    parser.add_argument("--reason", required=True, help="why, for the record; no name of a patient")
    parser.add_argument("--dry-run", action="store_true", help="only count what would be erased")
    arguments = parser.parse_args()
    file_id = file_id_of(arguments.id)
    if not re.fullmatch(r"[0-9a-f]{64}", file_id):
        parser.error("an id has 64 hexadecimal digits, with -0001 and so on behind it for one page of several")
    try:
        done = erase(file_id, dry_run=arguments.dry_run)
        if not arguments.dry_run:
            record(done, arguments.reason)
    except (StorageError, BigQueryError) as error:
        print(f"Not all is erased: {error}", file=sys.stderr)
        print(
            "Run the same command again; rows that came within the last 90 minutes cannot be deleted yet.",
            file=sys.stderr,
        )
        return 3
    print(json.dumps(asdict(done), indent=2))
    return 0


def record(done: Erasure, reason: str) -> None:
    """Append what was erased, when and why to the table `erasures`."""
    row = asdict(done) | {"erasure_id": uuid.uuid4().hex, "reason": reason, "erased_at": now()}
    bigquery.append("erasures", row, key=row["erasure_id"])


if __name__ == "__main__":
    sys.exit(main())
