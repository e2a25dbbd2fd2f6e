"""Clients that vanish, and the server's own end."""

import json
import socket
import threading
import time

import httpx
import pytest

from graft_server import MODEL, PATIENCE, Server, run

STORY = "Once upon a time, in a small village"
ENDLESS = {"prompt": STORY, "max_tokens": 2000, "temperature": 0, "ignore_eos": True, "stream": True}


def open_stream(server, **fields) -> socket.socket:
    """A raw connection with an endless stream whose first event has come."""
    body = json.dumps(ENDLESS | fields).encode()
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    connection.sendall(
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    received = b""
    while b"data: " not in received:
        part = connection.recv(4096)
        assert part, received
        received += part
    assert received.startswith(b"HTTP/1.1 200 ")
    return connection


@pytest.fixture(scope="module")
def small(data_dir):
    """A server that runs one request at a time: the second waits until the first is gone."""
    with Server("--max-running", 1, data_dir=data_dir) as server:
        yield server


@pytest.mark.parametrize("manner", ["closed", "reset"])
def test_vanished_client_makes_room(small, manner):
    connection = open_stream(small)
    waiting = threading.Thread(target=small.complete, args=(STORY,), kwargs={"max_tokens": 1000, "stop": [" "]})
    waiting.start()
    waiting.join(timeout=1)
    assert waiting.is_alive(), "the first stream is not alone"
    if manner == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    connection.close()
    # The 2,000 tokens of the vanished stream would take far longer than this.
    begin = time.monotonic()
    waiting.join(timeout=PATIENCE)
    assert not waiting.is_alive()
    assert time.monotonic() - begin < 10
    assert small.http.get("/health").status_code == 200


def test_half_a_request_hurts_nobody(server):
    connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
    for index, connection in enumerate(connections):
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{"[: 5 + 4 * index])
    assert server.complete("Hi", max_tokens=2)["usage"]["completion_tokens"] == 2
    for connection in connections:
        connection.close()
    assert server.complete("Hi", max_tokens=2)["usage"]["completion_tokens"] == 2


def test_two_requests_on_one_connection(server):
    body = b'{"prompt": "Hi", "max_tokens": 1}'
    one = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    last = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        connection.sendall(one + last)
        received = b""
        while part := connection.recv(65536):
            received += part
    assert received.count(b"HTTP/1.1 200 ") == 2
    assert received.index(b"text_completion") < received.index(b'"list"')


def test_interrupt_ends_running_streams(data_dir):
    """Ctrl-C: every stream ends with an error event or its own end, then the connection closes; the process exits."""
    with Server(data_dir=data_dir) as server:
        connections = [open_stream(server) for _ in range(3)]
        pending = threading.Thread(target=lambda: answers.append(whole(server)))
        answers: list[httpx.Response] = []
        pending.start()
        time.sleep(0.3)
        begin = time.monotonic()
        code = server.interrupt()
        assert code in (0, 130)
        assert time.monotonic() - begin < 10
        for connection in connections:
            rest = b""
            while part := connection.recv(65536):
                rest += part
            connection.close()
            assert rest.endswith(b"\r\n0\r\n\r\n"), "the chunked body is whole"
            events = [line for line in rest.decode().splitlines() if line.startswith("data: ")]
            last = events[-1].removeprefix("data: ")
            assert last == "[DONE]" or json.loads(last)["error"]["type"] == "server_error"
        pending.join(timeout=PATIENCE)
        assert answers[0].status_code == 503
        assert answers[0].json()["error"]["message"]
        assert not [line for line in server.log if "Fatal" in line or "Crash" in line or "Backtrace" in line]


def whole(server) -> httpx.Response:
    return httpx.post(
        server.url + "/v1/completions", json=ENDLESS | {"stream": False}, timeout=PATIENCE
    )


def test_the_port_of_another_is_one_clear_line(server, data_dir):
    done = run("serve", "--model", MODEL, "--compute", "f32", "--data-dir", data_dir, "--port", server.port)
    assert done.returncode == 1
    last = done.stderr.decode().strip().splitlines()[-1]
    assert last.startswith("graft: ") and str(server.port) in last
