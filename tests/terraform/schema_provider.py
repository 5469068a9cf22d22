"""A Terraform provider that knows a schema and nothing else: `python schema_provider.py SCHEMA.json`.

With it `terraform validate` checks every resource, block, attribute, type and reference, and `terraform test` plans
against mocked resources, where the real provider cannot be had. It speaks plugin protocol 5 as far as those two need
it (docs/plugin-protocol/tfplugin5.proto in Terraform's repository); every other call is answered "unimplemented".
"""

import base64
import json
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_NESTING = {"single": 1, "list": 2, "set": 3, "map": 4}
_MAX_MESSAGE = 256 << 20
"""Bytes; as Terraform's own client allows."""


def main() -> None:
    """Serve until Terraform says stop."""
    schema = encoded_schema(json.loads(Path(sys.argv[1]).read_text()))
    stopped = threading.Event()
    answers: dict[str, Callable[[bytes], bytes]] = {
        "/tfplugin5.Provider/GetSchema": lambda _: schema,
        "/tfplugin5.Provider/PrepareProviderConfig": lambda request: request,  # both hold the configuration in field 1
        "/tfplugin5.Provider/ValidateResourceTypeConfig": lambda _: b"",
        "/tfplugin5.Provider/ValidateDataSourceConfig": lambda _: b"",
        "/tfplugin5.Provider/Configure": lambda _: b"",
        "/tfplugin5.Provider/Stop": lambda _: b"",
        "/plugin.GRPCController/Shutdown": lambda _: stopped.set() or b"",
    }
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_send_message_length", _MAX_MESSAGE)])
    server.add_generic_rpc_handlers([_Calls(answers)])
    certificate, credentials = _credentials()
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    print(f"1|5|tcp|127.0.0.1:{port}|grpc|{certificate}", flush=True)  # go-plugin's handshake
    stopped.wait()
    server.stop(1).wait()


def encoded_schema(schema: dict[str, Any]) -> bytes:
    """A GetProviderSchema response in protocol buffers' wire format."""
    (own,) = schema["provider"].values()
    response = _field(1, _schema(own))
    for number, section in ((2, "resource_schemas"), (3, "data_source_schemas")):
        for name, resource in schema[section].items():
            response += _field(number, _field(1, name.encode()) + _field(2, _schema(resource)))
    return response


def _schema(schema: dict[str, Any]) -> bytes:
    return _field(2, _block(schema["block"]))


def _block(block: dict[str, Any]) -> bytes:
    attributes = (_field(2, _attribute(*item)) for item in block["attributes"].items())
    blocks = (_field(3, _nested(*item)) for item in block["block_types"].items())
    return b"".join([*attributes, *blocks])


def _attribute(name: str, attribute: dict[str, Any]) -> bytes:
    flags = ((4, "required"), (5, "optional"), (6, "computed"))
    kind = _field(1, name.encode()) + _field(2, json.dumps(attribute["type"]).encode())
    return kind + b"".join(_number(number, attribute.get(flag, False)) for number, flag in flags)


def _nested(name: str, nested: dict[str, Any]) -> bytes:
    single = nested["nesting_mode"] == "single"
    limits = b"" if single else _number(4, nested["min_items"]) + _number(5, nested["max_items"])
    kind = _number(3, _NESTING[nested["nesting_mode"]])
    return _field(1, name.encode()) + _field(2, _block(nested["block"])) + kind + limits


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value) if value else b""


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + _varint(value >> 7)


class _Calls(grpc.GenericRpcHandler):
    def __init__(self, answers: dict[str, Callable[[bytes], bytes]]) -> None:
        self._answers = answers

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if call.method == "/plugin.GRPCBroker/StartStream":
            return grpc.stream_stream_rpc_method_handler(_silence)
        answer = self._answers.get(call.method)
        return answer and grpc.unary_unary_rpc_method_handler(lambda request, _: answer(request))


def _silence(requests: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
    yield from (b"" for _ in requests if False)


def _credentials() -> tuple[str, grpc.ServerCredentials]:
    """A certificate of our own, which the handshake makes Terraform trust.

    Terraform offers one too, on a curve that gRPC's TLS does not take (P-521), so it is not asked for.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    credentials = grpc.ssl_server_credentials([(private, certificate.public_bytes(pem))])
    der = certificate.public_bytes(serialization.Encoding.DER)
    return base64.b64encode(der).decode().rstrip("="), credentials


if __name__ == "__main__":
    main()
