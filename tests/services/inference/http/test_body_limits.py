"""Bodies are limited in size, time and memory."""

import socket

import requests
from starlette.testclient import TestClient

from services.inference.app import create_app
from services.inference.settings import Settings


def test_bodies_beyond_the_limit_are_refused_whether_announced_or_not(jpeg: bytes):
    with TestClient(create_app(Settings(max_request_bytes=1000))) as client:
        announced = client.post("/v1/predict", content=bytes(1001))
        streamed = client.post("/v1/predict", content=iter([bytes(600), bytes(600)]))
        assert [answer.status_code for answer in (announced, streamed)] == [413, 413]
        assert client.post("/v1/predict", content=bytes(1000)).status_code == 415
        assert "scanflow_body_bytes 0.0" in client.get("/metrics").text


def test_bodies_that_together_do_not_fit_into_memory_are_refused(jpeg: bytes):
    with TestClient(create_app(Settings(max_body_memory=1000))) as client:
        assert client.post("/v1/predict", content=bytes(1001)).status_code == 503
        assert client.post("/v1/predict", content=iter([bytes(600), bytes(600)])).status_code == 503
        assert client.post("/v1/predict", content=bytes(1000)).status_code == 415


def test_a_body_that_trickles_in_is_cut_off_and_others_are_served_meanwhile(server, jpeg: bytes):
    host, port = server.url.removeprefix("http://").split(":")
    slow = [socket.create_connection((host, int(port)), timeout=30) for _ in range(50)]
    for connection in slow:
        connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
    assert requests.post(f"{server.url}/v1/predict", data=jpeg, timeout=30).status_code == 200
    for connection in slow:
        answer = b""
        while chunk := connection.recv(4096):  # until the service closes the connection
            answer += chunk
        assert answer.startswith(b"HTTP/1.1 408")
        connection.close()
