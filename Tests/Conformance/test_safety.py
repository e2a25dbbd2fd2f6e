"""Requests that would stop the server, drive it from elsewhere, or be answered by another model than they meant."""

import json
import signal
import socket
import subprocess
import threading
import time

import httpx
import pytest

from graft_server import BINARY, MODEL, MODEL_NAME, PATIENCE, Server, run
from test_errors import check

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"
HI = {"prompt": "Hi", "max_tokens": 1, "temperature": 0}


# MARK: one request stops nobody


@pytest.mark.parametrize("terms", [9, 6000, 80000])
def test_sums_have_at_most_eight_terms(server, terms):
    names = ",".join(f"r8-all:0.{index}" for index in range(terms))
    error = check(server.http.post(COMPLETIONS, json=HI | {"model": names}), 400, param="model", code="invalid_value")
    assert "more than 8" in error["message"] and len(error["message"]) < 400


def test_sums_are_one_label(server):
    for scale in range(1, 6):
        server.complete("Hi", query={"adapter": f"r8-all:0.{scale},r4-pattern:0.{scale}"}, max_tokens=1)
    labels = {line.split('adapter="')[1].split('"')[0] for line in server.http.get("/metrics").text.splitlines()
              if 'adapter="' in line}
    assert "(several)" in labels and not [label for label in labels if "," in label]


def hold(server, body: bytes, path: str = COMPLETIONS) -> float:
    """The longest that /health took while the body was read and answered."""
    answered = threading.Event()

    def post():
        httpx.post(server.url + path, content=body, headers={"Content-Type": "application/json"}, timeout=PATIENCE)
        answered.set()

    threading.Thread(target=post).start()
    longest = 0.0
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as http:
        while not answered.is_set():
            begin = time.monotonic()
            assert http.get("/health").status_code == 200
            longest = max(longest, time.monotonic() - begin)
            time.sleep(0.01)
    return longest


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT, "/tokenize", "/v1/fine_tuning/jobs"])
@pytest.mark.parametrize(
    "body",
    [
        b'{"prompt": [' + b'{"":0},' * 2_300_000 + b"0]}",
        b'{"prompt": "' + b"word " * 3_000_000 + b'"}',
        b'{"messages": [{"role": "user", "content": "' + b"a" * 15_000_000 + b'"}]}',
    ],
    ids=["objects", "words", "letters"],
)
def test_large_bodies_hold_up_nobody(server, path, body):
    # On the loop it would be as long as the reading takes, which is many seconds; a busy machine may make it one.
    assert hold(server, body, path) < 5


def test_log_probabilities_have_a_bound(server):
    """An answer of a million positions with twenty log-probabilities each would be held in memory."""
    body = {"prompt": [[504] * 8000] * 128, "max_tokens": 0, "echo": True, "logprobs": 20}
    check(server.http.post(COMPLETIONS, json=body), 400, param="logprobs")


def test_a_job_needs_no_megabytes(server):
    body = json.dumps({"model": "base", "training_file": "x" * (2 << 20)}).encode()
    reply = server.http.post("/v1/fine_tuning/jobs", content=body, headers={"Content-Type": "application/json"})
    check(reply, 413)


def test_unfinished_uploads_take_no_threads(server):
    def threads() -> int:
        status = open(f"/proc/{server.process.pid}/status").read()
        return int(status.split("Threads:")[1].split()[0])

    before = threads()
    connections = []
    for _ in range(300):
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(
            b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=B\r\n"
            b"Content-Length: 1000\r\n\r\n--B\r\n")
        connections.append(connection)
    time.sleep(0.3)
    assert threads() <= before + 2
    assert server.http.get("/health").status_code == 200
    for connection in connections:
        connection.close()
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        reply = server.http.post("/v1/files", files={"file": ("a.jsonl", b'{"text": "a"}\n')}, data={"purpose": "fine-tune"})
        if reply.status_code == 200:
            break
    assert reply.status_code == 200, "the places come back"


# MARK: the base does not answer in another's place


@pytest.mark.parametrize("key", ["adapters", "adaptor", "Adapter", "adapte"])
def test_misspelt_query_keys(server, key):
    error = check(server.http.post(COMPLETIONS, params={key: "r8-all"}, json=HI), 400, param=key)
    assert "'adapter'" in error["message"]


def test_other_query_keys_are_logged_once(server):
    for _ in range(3):
        assert server.http.post(COMPLETIONS, params={"utm": "x"}, json=HI).status_code == 200
    assert len([line for line in server.log if "unknown query key" in line and "utm" in line]) == 1


def test_the_bodys_adapter(server):
    by_query = server.complete("Once upon a time", query={"adapter": "r8-all"}, max_tokens=8)
    by_body = server.complete("Once upon a time", adapter="r8-all", max_tokens=8)
    assert by_body["choices"] == by_query["choices"] and by_body["model"] == by_query["model"] == "r8-all"
    for path, body in ((COMPLETIONS, HI), (CHAT, {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1})):
        reply = server.http.post(path, params={"adapter": "r4-pattern"}, json=body | {"adapter": "r8-all"})
        check(reply, 400, param="adapter")
        check(server.http.post(path, json=body | {"adapters": "r8-all"}), 400, param="adapters")
        check(server.http.post(path, json=body | {"lora_name": "r8-all"}), 400, param="lora_name")
        check(server.http.post(path, json=body | {"adapter": "nobody"}), 404, param="adapter", code="model_not_found")


def names_an_adapter(server, message: str) -> bool:
    """Whether a message names one of the server's adapters. It names a few, and other tests leave some of theirs."""
    names = {model["id"] for model in server.http.get("/v1/models").json()["data"]} - {"base", MODEL_NAME}
    return any(f"'{name}'" in message for name in names)


@pytest.mark.parametrize("model", [None, ""])
def test_models_that_are_nothing(server, model):
    error = check(server.http.post(COMPLETIONS, json=HI | {"model": model}), 400, param="model")
    assert "'base'" in error["message"] and names_an_adapter(server, error["message"])


def test_unknown_models_are_told_what_there_is(server):
    error = check(server.http.post(COMPLETIONS, json=HI | {"model": "gpt-4o"}), 404, param="model")
    assert "'gpt-4o'" in error["message"] and "'base'" in error["message"]
    assert names_an_adapter(server, error["message"])


@pytest.mark.parametrize(
    "field, value",
    [("temprature", 0.1), ("max_token", 5), ("dry_multiplier", 0.8), ("guided_whitespace_pattern", " "), ("xtc_probability", 0.5),
     ("n_predict", 4), ("lora_adapter", "a"), ("loras", ["a"]), ("stop_sequences", ["x"]), ("adaptive_target", 0.5), ("mirostat", 2), ("structural_tag", "x"), ("stream_option", {})],
)
def test_fields_that_would_vanish(server, field, value):
    check(server.http.post(COMPLETIONS, json=HI | {field: value}), 400, param=field)
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    check(server.http.post(CHAT, json=body | {field: value}), 400, param=field)


@pytest.mark.parametrize("key", ["adapter[]", "adapter[0]", "lora", "lora_name", "adapter_id", "model"])
def test_other_spellings_of_the_query(server, key):
    error = check(server.http.post(COMPLETIONS, params={key: "r8-all"}, json=HI), 400, param=key)
    assert "'adapter'" in error["message"]


@pytest.mark.parametrize("fields", [{"model": None}, {"model": ""}, {"model": "nope"}, {"adapter": "nope"}])
def test_tokenising_knows_models_as_well(server, fields):
    status = 404 if "nope" in fields.values() else 400
    check(server.http.post("/tokenize", json={"prompt": "a"} | fields), status)
    check(server.http.post("/detokenize", json={"tokens": [1]} | fields), status)
    assert server.http.post("/tokenize", json={"prompt": "a", "model": "r8-all"}).status_code == 200


@pytest.mark.parametrize("name", ["r8-all:" + "0" * 4_000_000 + "1", "e" + "\u0301" * 3_000_000, "x" * 9_000_000])
def test_names_have_a_length(server, name):
    for field in ("model", "adapter"):
        begin = time.monotonic()
        error = check(server.http.post(COMPLETIONS, json=HI | {field: name, "n": 64}), 400, param=field)
        assert len(error["message"].encode()) < 600
        assert time.monotonic() - begin < 5, "it was seconds for each choice"


def test_names_in_the_log_are_short_and_on_one_line(server):
    begin = len(server.log)
    server.http.post(COMPLETIONS, json=HI | {"zzz" + "\u0301" * 1_000_000: 1, "a\nfake line\u001b[31m": 1})
    lines = server.log[begin:]
    assert any("fake line" in line and "unknown field" in line for line in lines)
    assert not [line for line in lines if line.startswith("fake") or "\x1b" in line or len(line) > 1000]


@pytest.mark.parametrize(
    "message, field",
    [({"role": "user", "content": "x", "tool_cals": [1]}, "tool_cals"), ({"role": "assistant", "content": "x", "prefix": True}, "prefix")],
)
def test_fields_of_messages_that_would_vanish(server, message, field):
    body = {"messages": [{"role": "user", "content": "Hi"}, message], "max_tokens": 1}
    check(server.http.post(CHAT, json=body), 400, param=f"messages[1].{field}")


def test_whole_numbers_may_have_a_point(server):
    content = b'{"prompt": "Hi", "max_tokens": 2.0, "n": 1.0, "seed": 1.0, "temperature": 0}'
    reply = server.http.post(COMPLETIONS, content=content, headers={"Content-Type": "application/json"})
    assert reply.status_code == 200 and reply.json()["usage"]["completion_tokens"] == 2


# MARK: who may


def test_pages_of_other_origins(server):
    for headers in (
        {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://localhost:1"},
        {"Host": "evil.example"}, {"Sec-Fetch-Site": "cross-site"},
    ):
        check(server.http.post(COMPLETIONS, json=HI, headers=headers), 403)
        check(server.http.get("/v1/models", headers=headers), 403)
    own = {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}
    assert server.http.post(COMPLETIONS, json=HI, headers=own).status_code == 200
    for kind in ("text/plain", "text/plain;charset=UTF-8", "application/octet-stream"):
        check(server.http.post(COMPLETIONS, content=json.dumps(HI), headers={"Content-Type": kind}), 415)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert server.http.post(COMPLETIONS, content=json.dumps(HI), headers=form).status_code == 200
    check(server.http.post(COMPLETIONS, content=json.dumps(HI), headers=form | own), 415)


def test_an_allowed_page(data_dir):
    page = "https://app.example"
    with Server("--allowed-origins", page, "--allowed-host", "box.lan", data_dir=data_dir) as server:
        asked = {"Origin": page, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        reply = server.http.options(COMPLETIONS, headers=asked)
        assert reply.status_code == 204 and reply.headers["access-control-allow-origin"] == page
        reply = server.http.post(COMPLETIONS, json=HI, headers={"Origin": page, "Host": "box.lan:80"})
        assert reply.status_code == 200 and reply.headers["access-control-allow-origin"] == page
        check(server.http.post(COMPLETIONS, json=HI, headers={"Origin": "https://other.example"}), 403)


def test_listening_for_everybody_is_said_aloud(data_dir):
    found = run("serve", "--model", MODEL, "--host", "0.0.0.0", "--data-dir", data_dir / "open")
    assert found.returncode == 2 and b"--api-key" in found.stderr and b"--insecure" in found.stderr
    with Server("--host", "0.0.0.0", "--insecure", data_dir=data_dir) as server:
        assert server.http.get("/v1/models", headers={"Host": "192.0.2.1:8080"}).status_code == 200
        check(server.http.get("/v1/models", headers={"Host": "evil.example"}), 403)


# MARK: the end


def test_a_second_signal_ends_at_once(data_dir):
    with Server(data_dir=data_dir) as server:
        # A reader that takes nothing keeps its connection while the server waits for it to.
        stalled = socket.create_connection(("127.0.0.1", server.port))
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000)
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        begin = time.monotonic()
        if server.process.poll() is None:
            server.process.send_signal(signal.SIGTERM)
        code = server.process.wait(timeout=30)
        assert code in (0, 128 + signal.SIGTERM)
        assert time.monotonic() - begin < 2
        stalled.close()


def test_unfinished_bodies_do_not_hold_up_the_end(data_dir):
    with Server(data_dir=data_dir) as server:
        connections = []
        for _ in range(20):
            connection = socket.create_connection(("127.0.0.1", server.port))
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n{ \n")
            connections.append(connection)
        time.sleep(0.3)
        begin = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(timeout=30)
        assert time.monotonic() - begin < 3, "it was the whole time for draining"
        for connection in connections:
            assert connection.recv(12) == b"HTTP/1.1 503"
            connection.close()


def test_versions(server):
    printed = subprocess.run([BINARY, "--version"], capture_output=True, text=True, timeout=PATIENCE)
    assert printed.returncode == 0 and printed.stdout.strip()
    assert server.http.get("/version").json()["version"] in printed.stdout
