"""What the gateway is told by its environment. Everything but the bucket and the key is optional."""

import os
import ssl
from dataclasses import dataclass
from typing import Self

_LOOPBACK, _EVERYWHERE = "127.0.0.1", "0.0.0.0"  # noqa: S104 - only where callers are restricted, see host


class BadSetting(Exception):
    """A variable cannot be understood. The message says which, and what it should look like."""


@dataclass(frozen=True, slots=True)
class Peer:
    """An application entity at an address: `AET@host:port`; a caller's port, and its host, may be left out."""

    ae_title: str
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the peer that a text names. Raises BadSetting."""
        title, _, address = text.strip().partition("@")
        host, _, port = address.partition(":")
        if not 1 <= len(title) <= 16 or (port and not port.isdigit()):
            raise BadSetting(f"{text!r} is no peer: write AET@host:port, with at most 16 characters before the @.")
        return cls(title, host, int(port or 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The gateway's configuration."""

    ae_title: str
    dicom_port: int
    http_port: int
    peers: tuple[Peer, ...]
    """Callers that may send; empty: anybody on this machine, and nobody else."""
    http_token: str
    """What STOW-RS and QIDO-RS callers send as a bearer token; empty: anybody on this machine, and nobody else."""
    dicom_destination: Peer | None
    dicomweb_destination: str
    fhir_destination: str
    hl7_destination: tuple[str, int] | None

    @classmethod
    def from_environment(cls) -> Self:
        """Return the settings. Raises BadSetting."""
        peers, to = os.environ.get("DICOM_PEERS", ""), os.environ.get("DICOM_DESTINATION", "")
        return cls(
            ae_title=os.environ.get("DICOM_AE_TITLE", "SCANFLOW"),
            dicom_port=int(os.environ.get("DICOM_PORT", "11112")),
            http_port=int(os.environ.get("PORT", "8080")),
            peers=tuple(Peer.parse(text) for text in peers.split(",") if text.strip()),
            http_token=os.environ.get("DICOMWEB_TOKEN", ""),
            dicom_destination=_destination(to) if to else None,
            dicomweb_destination=os.environ.get("DICOMWEB_DESTINATION", "").rstrip("/"),
            fhir_destination=os.environ.get("FHIR_DESTINATION", "").rstrip("/"),
            hl7_destination=_address(os.environ.get("HL7_DESTINATION", "")),
        )

    @property
    def has_destination(self) -> bool:
        """Whether anything is to be delivered."""
        return any((self.dicom_destination, self.dicomweb_destination, self.fhir_destination, self.hl7_destination))

    @property
    def dicom_host(self) -> str:
        """Address that the C-STORE receiver listens on."""
        return _EVERYWHERE if self.peers else _LOOPBACK

    @property
    def http_host(self) -> str:
        """Address that STOW-RS and QIDO-RS listen on."""
        return _EVERYWHERE if self.http_token else _LOOPBACK


def tls() -> ssl.SSLContext | None:
    """Return the receiver's TLS: our certificate, and the authority whose certificates callers must show, if any."""
    certificate, key = os.environ.get("DICOM_TLS_CERTIFICATE"), os.environ.get("DICOM_TLS_KEY")
    if not certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    if authority := os.environ.get("DICOM_TLS_AUTHORITY"):
        context.load_verify_locations(authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def tls_to_destination() -> ssl.SSLContext | None:
    """Return TLS for C-STORE to the PACS, whose certificate the authority vouches for; None without one."""
    authority = os.environ.get("DICOM_DESTINATION_TLS_AUTHORITY")
    if not authority:
        return None
    context = ssl.create_default_context(cafile=authority)
    if certificate := os.environ.get("DICOM_TLS_CERTIFICATE"):
        context.load_cert_chain(certificate, os.environ.get("DICOM_TLS_KEY"))
    return context


def _destination(text: str) -> Peer:
    peer = Peer.parse(text)
    if not (peer.host and peer.port):
        raise BadSetting(f"DICOM_DESTINATION {text!r} has no address: write AET@host:port.")
    return peer


def _address(text: str) -> tuple[str, int] | None:
    if not text:
        return None
    host, _, port = text.rpartition(":")
    if not (host and port.isdigit()):
        raise BadSetting(f"HL7_DESTINATION {text!r} has no port: write host:port.")
    return host, int(port)
