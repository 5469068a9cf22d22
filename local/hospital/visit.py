"""A study's way from the PACS through Scanflow and back: what was sent, and what has arrived where."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests
from rich.console import Console

from local.hospital.counterparts import Hospital

_WITHIN_S = 180
_POLL_S = 0.5
_HEAT_MAPS = 3


class Visit:
    """One study of the hospital's."""

    def __init__(self, systems: Hospital, study_uid: str) -> None:
        """Follow the study of that Study Instance UID."""
        self._systems = systems
        self._study_uid = study_uid
        self._sent_at = 0.0
        self.seconds: dict[str, float] = {}
        """From the PACS's last slice to each arrival."""

    def acquire(self, slices: Sequence[bytes]) -> None:
        """Put slices into the PACS, as a scanner does."""
        for content in slices:
            requests.post(f"{self._systems.pacs.url}/instances", data=content, timeout=30).raise_for_status()

    def send(self) -> None:
        """Let the PACS send the study to the gateway by C-STORE; returns when the gateway has taken it all."""
        body = {"Resources": [self._id()], "Synchronous": True}
        address = f"{self._systems.pacs.url}/modalities/scanflow/store"
        requests.post(address, json=body, timeout=600).raise_for_status()
        self._sent_at = time.monotonic()

    def wait(self, console: Console) -> bool:
        """Return whether everything arrived in time, printing each arrival."""
        deadline = time.monotonic() + _WITHIN_S
        while time.monotonic() < deadline:
            for what, where in self.arrivals().items():
                if where and what not in self.seconds:
                    self.seconds[what] = time.monotonic() - self._sent_at
                    console.print(f"{self.seconds[what]:6.1f} s  {what}")
            if len(self.seconds) == len(self.arrivals()):
                return True
            time.sleep(_POLL_S)
        return False

    def arrivals(self) -> dict[str, str]:
        """Return where each result is, empty while it is nowhere."""
        return {
            "structured report in the study": self._in_pacs("SR", 1),
            "heat map in the study": self._in_pacs("OT", _HEAT_MAPS),
            "report in the EMR (FHIR)": self._in_emr(),
            "message at the HL7 interface": self._at_interface(),
        }

    def where_to_look(self) -> dict[str, str]:
        """Return the address of what can be looked at."""
        return {
            "study, report and heat map in OHIF": (
                f"{self._systems.viewer.url}/viewer?StudyInstanceUIDs={self._study_uid}"
            ),
            "Orthanc": f"{self._systems.pacs.url}/app/explorer.html#study?uuid={self._id()}",
            **{what: where or "not arrived" for what, where in self.arrivals().items()},
        }

    def series(self) -> list[dict[str, Any]]:
        """Return the study's series, as the PACS lists them."""
        return list(requests.get(f"{self._systems.pacs.url}/studies/{self._id()}/series", timeout=30).json())

    def _id(self) -> str:
        """Return the PACS's own id of the study."""
        query = {"Level": "Study", "Query": {"StudyInstanceUID": self._study_uid}}
        found: list[str] = requests.post(f"{self._systems.pacs.url}/tools/find", json=query, timeout=30).json()
        return found[0]

    def _in_pacs(self, modality: str, instances: int) -> str:
        for one in self.series():
            tags = one["MainDicomTags"]
            if tags["Modality"] == modality and tags.get("Manufacturer") == "Scanflow":
                full = len(one["Instances"]) >= instances
                return f"{self._systems.pacs.url}/app/explorer.html#series?uuid={one['ID']}" if full else ""
        return ""

    def _in_emr(self) -> str:
        address = f"{self._systems.fhir.url}/ImagingStudy?identifier=urn:dicom:uid|urn:oid:{self._study_uid}"
        found = requests.get(address, timeout=30).json().get("entry") or []
        return f"{self._systems.fhir.url}/DiagnosticReport?_sort=-_lastUpdated" if found else ""

    def _at_interface(self) -> str:
        return next((str(file) for file in self._messages() if self._study_uid in file.read_text()), "")

    def _messages(self) -> list[Path]:
        return sorted(self._systems.hl7_messages.glob("*.hl7"))
