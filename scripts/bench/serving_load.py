"""Clients of a completions server in one thread: each sends its next request when its last has ended, its first at once
or at a time of its own.

The loop only keeps bytes and arrival times (its CPU time would be missing from the servers'); answers are read when it
has ended.
"""

import dataclasses
import gc
import json
import resource
import select
import socket
import time

PATIENCE = 300  # seconds without any byte


class LoadError(Exception):
    pass


@dataclasses.dataclass
class Answer:
    """One request: its tokens, and the seconds to its first text and between one text and the next."""

    tokens: int
    first: float
    gaps: list
    seconds: float
    # Tokens a second after the first.
    rate: float


@dataclasses.dataclass
class Measurement:
    seconds: float
    answers: list
    # CPU seconds of the clients for each second.
    client_share: float

    @property
    def tokens_per_second(self):
        return sum(answer.tokens for answer in self.answers) / self.seconds


class _Exchange:
    __slots__ = ("client", "socket", "sent", "received", "scanned", "times")

    def __init__(self, client, port, head_and_body):
        self.client = client
        self.received = bytearray()
        self.scanned = 0
        self.times = []
        self.sent = time.perf_counter()
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(head_and_body)
        self.socket.setblocking(False)

    def read(self):
        """Takes what has arrived; true at the answer's end."""
        data = self.socket.recv(1 << 16)
        now = time.perf_counter()
        buffer = self.received
        buffer += data
        # An event ends with an empty line; JSON has no line feed within, and the head's lines end with CR LF.
        count = buffer.count(b"\n\n", self.scanned)
        if count:
            self.times.extend([now] * count)
            self.scanned = buffer.rfind(b"\n\n") + 2
        if not data or buffer.endswith(b"\r\n0\r\n\r\n"):
            if not buffer.startswith(b"HTTP/1.1 200"):
                raise LoadError("a request was refused: " + bytes(buffer[:400]).decode("utf-8", "replace"))
            return True
        return False


def post(path, body):
    """The bytes of a request."""
    data = json.dumps(body, separators=(",", ":")).encode()
    return (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
            f"Content-Length: {len(data)}\r\n\r\n").encode() + data


def run(port, plans, read, starts=None):
    """Sends each client's requests one after the other; `read` turns an event into its text and the request's number of
    tokens, or None where the event does not tell it. `starts` has the clients' first times in seconds, ascending."""
    waiting = [list(reversed(plan)) for plan in plans]
    starts = list(starts or [0] * len(plans))
    begun = 0
    poll, open_exchanges, done = select.epoll(), {}, []

    def send(client):
        if waiting[client]:
            exchange = _Exchange(client, port, waiting[client].pop())
            open_exchanges[exchange.socket.fileno()] = exchange
            poll.register(exchange.socket, select.EPOLLIN)

    gc.collect()
    gc.disable()
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    try:
        while open_exchanges or begun < len(plans):
            while begun < len(plans) and starts[begun] <= time.perf_counter() - started:
                send(begun)
                begun += 1
            pause = PATIENCE if begun == len(plans) else starts[begun] - (time.perf_counter() - started)
            ready = poll.poll(max(pause, 0))
            if not ready and begun == len(plans):
                raise LoadError(f"no byte came for {PATIENCE} s")
            for descriptor, _ in ready:
                exchange = open_exchanges[descriptor]
                if exchange.read():
                    poll.unregister(descriptor)
                    del open_exchanges[descriptor]
                    exchange.socket.close()
                    done.append(exchange)
                    send(exchange.client)
        seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    finally:
        gc.enable()
        poll.close()
        for exchange in open_exchanges.values():
            exchange.socket.close()
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measurement(seconds, [_answer(exchange, read) for exchange in done], spent / seconds)


def _answer(exchange, read):
    head, _, body = bytes(exchange.received).partition(b"\r\n\r\n")
    if b"\r\ntransfer-encoding: chunked" in head.lower():
        body = _dechunked(body)
    events = body.split(b"\n\n")[: len(exchange.times)]
    tokens, texts = None, []
    for event, when in zip(events, exchange.times):
        if not event.startswith(b"data: ") or event == b"data: [DONE]":
            continue
        text, count = read(json.loads(event[6:]))
        tokens = tokens if count is None else count
        if text:
            texts.append(when)
    if not texts or tokens is None:
        raise LoadError("an answer ended early: " + body[-400:].decode("utf-8", "replace"))
    gaps = [b - a for a, b in zip(texts, texts[1:])]
    span = texts[-1] - texts[0]
    return Answer(tokens, texts[0] - exchange.sent, gaps, texts[-1] - exchange.sent,
                  (tokens - 1) / span if span else 0.0)


def _dechunked(body):
    pieces, at = [], 0
    while True:
        end = body.find(b"\r\n", at)
        if end < 0:
            raise LoadError("an answer was cut off")
        size = int(body[at:end].split(b";")[0], 16)
        if size == 0:
            return b"".join(pieces)
        pieces.append(body[end + 2:end + 2 + size])
        at = end + 4 + size
