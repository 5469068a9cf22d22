"""A Terraform provider that knows a schema and nothing else.

With it `terraform validate` checks every resource, block, attribute, type and reference, and `terraform test` plans
against mocked resources, where the real provider cannot be had. It speaks plugin protocol 5 as far as those two need
it (docs/plugin-protocol/tfplugin5.proto in Terraform's repository); every other call is answered "unimplemented".
"""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

_NESTING = {"single": 1, "list": 2, "set": 3, "map": 4}
_MAX_MESSAGE = 256 << 20
"""Bytes; as Terraform's own client allows."""


def serve(schema: dict[str, Any]) -> tuple[grpc.Server, str]:
    """A running provider, and the address where Terraform finds it (TF_REATTACH_PROVIDERS)."""
    encoded = encoded_schema(schema)
    answers: dict[str, Callable[[bytes], bytes]] = {
        "GetSchema": lambda _: encoded,
        "PrepareProviderConfig": lambda request: request,  # question and answer both hold the configuration in field 1
        "ValidateResourceTypeConfig": lambda _: b"",
        "ValidateDataSourceConfig": lambda _: b"",
        "Configure": lambda _: b"",
        "Stop": lambda _: b"",
    }
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_send_message_length", _MAX_MESSAGE)])
    server.add_generic_rpc_handlers([_Calls(answers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, f"127.0.0.1:{port}"


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
        answer = self._answers.get(call.method.removeprefix("/tfplugin5.Provider/"))
        return answer and grpc.unary_unary_rpc_method_handler(lambda request, _: answer(request))
