"""Server-sent events as they come over the wire."""

import json
import socket


def blocks(text: str) -> list[str]:
    """The data of each event, with the framing checked; the last is [DONE] or an error. Comments are left out."""
    assert text.endswith("\n\n")
    events = [event for event in text[:-2].split("\n\n") if event != ": keep-alive"]
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    return [event[6:] for event in events]


def events(server, path: str, **body) -> list[dict]:
    """The events of a stream that ends well, without the last."""
    with server.http.stream("POST", path, json=body | {"stream": True}) as reply:
        assert reply.status_code == 200, reply.read()
        assert reply.headers["content-type"].split(";")[0] == "text/event-stream"
        assert reply.headers["x-request-id"]
        data = blocks(reply.read().decode())
    assert data[-1] == "[DONE]"
    return [json.loads(event) for event in data[:-1]]


def post(server, path: str, body: dict, pieces: int | None = None) -> socket.socket:
    """A raw connection with a request sent on it, if asked for in pieces of so many bytes."""
    content = json.dumps(body).encode()
    request = (
        b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        b"Connection: close\r\n\r\n%s" % (path.encode(), len(content), content)
    )
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=120)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for start in range(0, len(request), pieces or len(request)):
        connection.sendall(request[start : start + (pieces or len(request))])
    return connection


def dechunk(body: bytes) -> list[bytes]:
    """The chunks of a chunked body."""
    chunks = []
    while True:
        size, body = body.split(b"\r\n", 1)
        length = int(size, 16)
        if length == 0:
            assert body == b"\r\n"
            return chunks
        chunks.append(body[:length])
        assert body[length : length + 2] == b"\r\n"
        body = body[length + 2 :]
