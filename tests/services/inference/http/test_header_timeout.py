"""Headers are limited in size and time, on a real socket."""

import socket

import pytest


def test_a_head_that_never_ends_is_cut_off(server):
    host, port = server.url.removeprefix("http://").split(":")
    with (
        socket.create_connection((host, int(port)), timeout=30) as silent,
        socket.create_connection((host, int(port)), timeout=30) as slow,
    ):
        slow.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nX-")
        assert slow.recv(1) == b""  # the service closes the connection
        assert silent.recv(1) == b""


def test_a_head_of_megabytes_is_cut_off(server):
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as endless, pytest.raises(ConnectionError):
        endless.sendall(b"GET / HTTP/1.1\r\nX: ")
        while True:
            endless.sendall(bytes([120]) * 65536)
