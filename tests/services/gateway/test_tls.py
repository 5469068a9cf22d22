"""C-STORE over TLS both ways, with certificates made here: a peer that the authority does not vouch for is refused."""

import datetime as dt
import ipaddress
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from services.gateway.destinations import dicom
from services.gateway.destinations.errors import Undelivered
from services.gateway.settings import Peer, Settings
from tests.services.gateway.conftest import Gateway, Start
from tests.services.gateway.test_destinations import Made, result  # noqa: F401 - a fixture
from tests.services.gateway.test_receiver import instances


@dataclass(frozen=True)
class Authority:
    """A certificate authority, which writes its own and others' certificates into a folder."""

    folder: Path
    name: x509.Name
    key: ec.EllipticCurvePrivateKey

    @property
    def file(self) -> Path:
        """Its own certificate."""
        return self.folder / "authority.pem"

    def issue(self, name: str) -> tuple[Path, Path]:
        """Return the files of a certificate for 127.0.0.1 and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._signed(_named(name), key, authority=False)
        file, key_file = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return file, key_file

    def _signed(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, authority: bool) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(self.name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - dt.timedelta(hours=1))
        builder = builder.not_valid_after(now + dt.timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        identifier = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
        if authority:
            builder = builder.add_extension(identifier, critical=False).add_extension(_MAY_SIGN, critical=True)
        else:
            address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
            builder = builder.add_extension(address, critical=False)
        return builder.sign(self.key, hashes.SHA256())


_MAY_SIGN = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def authority(folder: Path) -> Authority:
    made = Authority(folder, _named(folder.name), ec.generate_private_key(ec.SECP256R1()))
    certificate = made._signed(made.name, made.key, authority=True)
    made.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return made


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("hospital"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def secured(start: Start, hospital: Authority) -> Iterator[Gateway]:
    certificate, key = hospital.issue("gateway")
    names = ("DICOM_TLS_CERTIFICATE", "DICOM_TLS_KEY", "DICOM_TLS_AUTHORITY")
    with start(**dict(zip(names, map(str, (certificate, key, hospital.file)), strict=True))) as gateway:
        yield gateway


def caller(trusted: Authority, shown: tuple[Path, Path] | None) -> ssl.SSLContext:
    """Return the TLS of a caller that trusts an authority, and shows a certificate if it has one."""
    context = ssl.create_default_context(cafile=trusted.file)
    if shown:
        context.load_cert_chain(*shown)
    return context


def associated(gateway: Gateway, context: ssl.SSLContext | None, dataset: Dataset | None = None) -> list[int]:
    """Return the status of C-ECHO, or of C-STORE of an instance; empty where there was no association."""
    entity = AE(ae_title="MRI-1")
    entity.add_requested_context(Verification)
    if dataset:
        entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    tls = (context, "127.0.0.1") if context else None
    association = entity.associate("127.0.0.1", gateway.dicom_port, tls_args=tls)
    if not association.is_established:
        return []
    answer = association.send_c_store(dataset) if dataset else association.send_c_echo()
    association.release()
    return [answer.Status] if "Status" in answer else []


def test_peer_with_the_hospitals_certificate_stores(secured: Gateway, hospital: Authority) -> None:
    (dataset,) = instances("tls")[:1]
    assert associated(secured, caller(hospital, hospital.issue("mri")), dataset) == [0]
    assert len(secured.names("tls")) == 1


def test_peer_without_certificate_or_with_a_strangers_is_refused(
    secured: Gateway, hospital: Authority, stranger: Authority
) -> None:
    assert associated(secured, caller(hospital, None)) == []
    assert associated(secured, caller(hospital, stranger.issue("mri"))) == []


def test_peer_without_tls_is_refused_and_the_next_is_served(secured: Gateway, hospital: Authority) -> None:
    assert associated(secured, None) == []
    assert associated(secured, caller(hospital, hospital.issue("mri"))) == [0]


def test_connection_that_says_nothing_holds_up_no_other(secured: Gateway, hospital: Authority) -> None:
    with socket.create_connection(("127.0.0.1", secured.dicom_port)):
        assert associated(secured, caller(hospital, hospital.issue("mri"))) == [0]


@contextmanager
def pacs(trusted: Authority, stored: list[str]) -> Iterator[int]:
    """A PACS that takes TLS alone, from callers that its authority vouches for."""
    certificate, key = trusted.issue("pacs")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=trusted.file)
    context.load_cert_chain(certificate, key)
    context.verify_mode = ssl.CERT_REQUIRED

    def store(event: evt.Event) -> int:
        stored.append(event.dataset.SOPInstanceUID)
        return 0

    entity = AE()
    entity.add_supported_context("1.2.840.10008.5.1.4.1.1.88.33")
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, ssl_context=context, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


def test_result_goes_to_a_pacs_over_tls_and_to_no_other(
    result: Made,  # noqa: F811
    hospital: Authority,
    stranger: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    certificate, key = hospital.issue("sender")
    monkeypatch.setenv("DICOM_TLS_CERTIFICATE", str(certificate))
    monkeypatch.setenv("DICOM_TLS_KEY", str(key))
    monkeypatch.setenv("DICOM_DESTINATION_TLS_AUTHORITY", str(hospital.file))
    stored: list[str] = []
    settings = Settings.from_environment()
    with pacs(hospital, stored) as port:
        dicom.deliver(result, settings, Peer("PACS", "127.0.0.1", port))
    assert stored == [str(one.SOPInstanceUID) for one in result.objects]
    with pacs(stranger, stored) as port, pytest.raises(Undelivered):
        dicom.deliver(result, settings, Peer("PACS", "127.0.0.1", port))
