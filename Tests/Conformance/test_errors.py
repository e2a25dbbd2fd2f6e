"""Refusals: the status, OpenAI's envelope, the field that is named, and the client's typed exceptions."""

import httpx
import openai
import pytest

from graft_server import Server

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
        ("ignore_eos", "no"),
    ],
)
def test_wrong_values_name_the_field(server, field, value):
    body = {"prompt": "Hi", "max_tokens": 1} | {field: value}
    check(server.http.post("/v1/completions", json=body), 400, param=field)


@pytest.mark.parametrize(
    "field, value",
    [
        ("best_of", 3), ("frequency_penalty", 0.5), ("presence_penalty", -1), ("logit_bias", {"50": 1}),
        ("suffix", "after"),
    ],
)
def test_unsupported_fields_are_refused_by_name(server, field, value):
    reply = server.http.post("/v1/completions", json={"prompt": "Hi", "max_tokens": 1, field: value})
    assert field in check(reply, 400, param=field)["message"]


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
