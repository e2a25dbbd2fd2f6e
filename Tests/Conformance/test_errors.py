"""Refusals: the status, OpenAI's envelope, the field that is named, and the client's typed exceptions."""

import time

import httpx
import openai
import pytest

from graft_server import PATIENCE, Server

LONG = [504] * 9000


def check(reply, status: int, *, param: str | None = None, code: str | None = None) -> dict:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"].split(";")[0] == "application/json"
    assert reply.headers["x-request-id"]
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"] and "\n" not in error["message"]
    assert error["type"] == ("invalid_request_error" if status < 500 else "server_error")
    if param is not None:
        assert error["param"] == param
    if code is not None:
        assert error["code"] == code
    return error


@pytest.mark.parametrize(
    "field, value",
    [
        ("prompt", None), ("prompt", 5), ("prompt", []), ("prompt", ""), ("prompt", [""]), ("prompt", {"a": 1}),
        ("prompt", [1, "a"]), ("prompt", ["a", 1]), ("prompt", [-1]), ("prompt", [49152]), ("prompt", [1.5]),
        ("prompt", [[]]), ("prompt", [[1], [1 << 62]]),
        ("model", 3), ("max_tokens", "5"), ("max_tokens", -1), ("max_tokens", 0), ("max_tokens", 1.5),
        ("max_tokens", 10**30), ("max_tokens", True), ("temperature", "hot"), ("temperature", -0.1),
        ("temperature", 2.1), ("top_p", 1.1), ("top_p", []), ("seed", "x"), ("n", 0), ("n", 100000), ("stop", 3),
        ("stop", ["a", 1]), ("stop", list("abcde")), ("logprobs", 21), ("logprobs", -1), ("logprobs", "2"),
        ("echo", 1), ("stream", "true"), ("stream_options", True), ("stream_options", {"include_usage": True}),
        ("ignore_eos", "no"), ("best_of", 0), ("best_of", 129), ("best_of", "2"), ("top_k", -2), ("top_k", 1.5),
        ("min_p", 1.5), ("min_p", "x"), ("repetition_penalty", 0), ("repetition_penalty", -1),
        ("presence_penalty", 2.1), ("frequency_penalty", -2.1), ("frequency_penalty", "much"), ("logit_bias", [1]),
        ("logit_bias", {"x": 1}), ("logit_bias", {"49152": 1}), ("logit_bias", {"-1": 1}), ("logit_bias", {"01": 1}),
        ("logit_bias", {"1": 101}), ("logit_bias", {"1": "5"}), ("logit_bias", {"1": None}),
        ("stop_token_ids", [49152]), ("stop_token_ids", "x"),
    ],
)
def test_wrong_values_name_the_field(server, field, value):
    body = {"prompt": "Hi", "max_tokens": 1} | {field: value}
    check(server.http.post("/v1/completions", json=body), 400, param=field)


@pytest.mark.parametrize(
    "field, value",
    [
        ("suffix", "after"),
    ],
)
def test_unsupported_fields_are_refused_by_name(server, field, value):
    reply = server.http.post("/v1/completions", json={"prompt": "Hi", "max_tokens": 1, field: value})
    assert field in check(reply, 400, param=field)["message"]


def test_best_of_knows_its_limits(server):
    for fields in ({"n": 3, "best_of": 2}, {"best_of": 2, "stream": True}):
        body = {"prompt": "Hi", "max_tokens": 1} | fields
        check(server.http.post("/v1/completions", json=body), 400, param="best_of", code="invalid_value")


def test_unknown_extras_are_ignored(server):
    extras = {"extra_body": 1, "min_tokens_maybe": [1], "🙂": {}, "x" * 1000: None}
    plain = server.complete("Hi", max_tokens=2)["choices"]
    assert server.complete("Hi", max_tokens=2, **extras)["choices"] == plain


def test_neutral_values_are_accepted(server):
    plain = server.complete("Hi", max_tokens=2)["choices"]
    neutral = dict(best_of=1, frequency_penalty=0, presence_penalty=0.0, logit_bias={}, suffix=None, user="me",
                   stop=None, logprobs=None, stream=False, n=1, seed=None, metadata={"a": "b"}, store=False)
    assert server.complete("Hi", max_tokens=2, **neutral)["choices"] == plain


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"3", b'"text"', b'{"prompt": "a"} x', b"\xff\xfe", b'{"prompt": "\\ud800"}',
             b'{"prompt": NaN}', b"[" * 100000, b'{"prompt": ' * 50000]
)
def test_bad_json(server, body):
    check(server.http.post("/v1/completions", content=body, headers={"Content-Type": "application/json"}), 400)


def test_context_is_bounded(server):
    over = server.http.post("/v1/completions", json={"prompt": LONG, "max_tokens": 1})
    assert "8192" in check(over, 400, param="prompt", code="context_length_exceeded")["message"]
    # Prompt and answer count together.
    over = server.http.post("/v1/completions", json={"prompt": LONG[:8000], "max_tokens": 193})
    check(over, 400, code="context_length_exceeded")


@pytest.mark.parametrize("query, model", [({"adapter": "nobody"}, None), ({}, "nobody"), ({"adapter": "biased"}, None)])
def test_unknown_adapter(server, query, model):
    body = {"prompt": "Hi"} | ({"model": model} if model else {})
    param = "adapter" if query else "model"
    check(server.http.post("/v1/completions", json=body, params=query), 404, param=param, code="model_not_found")


@pytest.mark.parametrize(
    "query, model",
    [
        ("adapter=r8-all&adapter=r4-pattern", None), ("adapter=r8-all,r8-all", None), ("adapter=r8-all,", None),
        ("adapter=r8-all,base", None), ("adapter=r8-all", "r4-pattern"),
    ],
)
def test_contradictory_selection(server, query, model):
    body = {"prompt": "Hi"} | ({"model": model} if model else {})
    check(server.http.post("/v1/completions?" + query, json=body), 400, param="adapter")


def test_selecting_the_base(server):
    """An empty value and "base" name the base; an adapter named twice alike is itself."""
    want = server.complete("Hi", max_tokens=3)["choices"]
    for query in ({"adapter": ""}, {"adapter": "base"}):
        assert server.complete("Hi", max_tokens=3, query=query, model="base")["choices"] == want
    server.complete("Hi", max_tokens=1, query={"adapter": "r8-all"}, model="r8-all")


@pytest.mark.parametrize("method, path", [("GET", "/nowhere"), ("POST", "/v1/nothing"), ("GET", "/v1/completions/x")])
def test_unknown_route(server, method, path):
    assert path in check(server.http.request(method, path), 404)["message"]


@pytest.mark.parametrize(
    "method, path, allowed",
    [("GET", "/v1/completions", "POST"), ("DELETE", "/health", "GET"), ("POST", "/v1/models", "GET")],
)
def test_wrong_method(server, method, path, allowed):
    reply = server.http.request(method, path)
    check(reply, 405)
    assert allowed in reply.headers["allow"]


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/tokenize"])
@pytest.mark.parametrize("kind", ["image/png", "multipart/form-data; boundary=x", "application/xml"])
def test_other_media_types(server, path, kind):
    reply = server.http.post(path, content=b"{}", headers={"Content-Type": kind})
    check(reply, 415, code="unsupported_media_type")


def test_compressed_bodies(server):
    reply = server.http.post("/v1/completions", content=b"{}", headers={"Content-Encoding": "gzip"})
    check(reply, 415, code="unsupported_media_type")


@pytest.mark.parametrize("kind", [None, "application/json; charset=utf-8", "application/x-www-form-urlencoded"])
def test_accepted_media_types(server, kind):
    """The last is what curl -d says of everything."""
    request = server.http.build_request("POST", "/v1/completions", content=b'{"prompt": "Hi", "max_tokens": 1}')
    request.headers.pop("content-type", None)
    if kind:
        request.headers["content-type"] = kind
    assert server.http.send(request).status_code == 200


def test_too_large_a_body(server):
    check(server.http.post("/v1/chat/completions", content=b" " * (17 << 20)), 413, code="request_too_large")


def test_request_id(server):
    """The client's own if it is sane, and on the log's line of the request."""
    mine = "trace-1234.ABC"
    for path, status in (("/health", 200), ("/nowhere", 404), ("/v1/completions", 405)):
        reply = server.http.get(path, headers={"X-Request-Id": mine + path})
        assert (reply.status_code, reply.headers["x-request-id"]) == (status, mine + path)
    deadline = time.monotonic() + PATIENCE
    while not (lines := [line for line in server.log if mine + "/nowhere" in line]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(lines) == 1 and "404" in lines[0]
    for bad in ("", "a b", "x" * 129):
        assert server.http.get("/health", headers={"X-Request-Id": bad}).headers["x-request-id"].startswith("req_")


def test_request_ids_differ(server):
    paths = ["/health", "/v1/models", "/health"]
    ids = [server.http.get(path).headers["x-request-id"] for path in paths]
    assert len(set(ids)) == len(ids)


class TestTypedExceptions:
    def test_not_found(self, client):
        with pytest.raises(openai.NotFoundError) as raised:
            client.completions.create(model="nobody", prompt="Hi")
        assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("nobody")

    def test_bad_request(self, client):
        with pytest.raises(openai.BadRequestError) as raised:
            client.completions.create(model="base", prompt=LONG)
        assert raised.value.code == "context_length_exceeded"
        assert raised.value.request_id

    def test_before_a_stream_begins(self, client):
        with pytest.raises(openai.BadRequestError):
            client.completions.create(model="base", prompt="Hi", temperature=9, stream=True)


@pytest.fixture(scope="module")
def locked(data_dir):
    with Server(data_dir=data_dir, api_key="s3cret") as server:
        yield server


class TestKey:
    @pytest.mark.parametrize("header", [None, "s3cret", "Bearer", "Bearer s3cre", "Bearer s3crett", "Basic s3cret"])
    @pytest.mark.parametrize("method, path", [("GET", "/v1/models"), ("POST", "/v1/completions"), ("GET", "/nowhere")])
    def test_refused(self, locked, method, path, header):
        reply = httpx.request(method, locked.url + path, headers={"Authorization": header} if header else {})
        check(reply, 401, code="invalid_api_key")

    def test_accepted(self, locked):
        assert locked.client().completions.create(model="base", prompt="Hi", max_tokens=1).choices[0].text

    def test_health_is_open(self, locked):
        assert httpx.get(locked.url + "/health").status_code == 200

    def test_client(self, locked):
        with pytest.raises(openai.AuthenticationError):
            locked.client(api_key="wrong").models.list()
