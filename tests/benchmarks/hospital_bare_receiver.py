"""A storage receiver as pynetdicom's documentation has it, that syncs what it writes."""

import argparse
import os
from pathlib import Path

from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.events import Event


def _store(event: Event, folder: Path) -> int:
    with (folder / event.request.AffectedSOPInstanceUID).open("wb") as file:
        file.write(event.encoded_dataset())
        file.flush()
        os.fsync(file.fileno())
    return 0x0000


def main() -> None:
    """Receive until killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.hospital_bare_receiver", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("folder", type=Path, help="keeps a file for each instance")
    arguments = parser.parse_args()
    entity = AE()
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
    handlers = [(evt.EVT_C_STORE, _store, [arguments.folder])]
    entity.start_server(("127.0.0.1", arguments.port), evt_handlers=handlers)


if __name__ == "__main__":
    main()
