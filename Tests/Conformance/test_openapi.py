"""The OpenAPI document: it is well formed, and replies are as it says."""

import json

import jsonschema
import pytest

from graft_server import MODEL_NAME
from sse import events

QUESTION = [{"role": "user", "content": "What is the weather in Paris?"}]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def document(server):
    return server.http.get("/openapi.json").json()


@pytest.fixture(scope="module")
def check(document):
    """Validates a value as a schema of the document."""

    def validate(name, value):
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(value)

    return validate


def references(value):
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for entry in value.values():
            yield from references(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from references(entry)


def test_document(server, document):
    assert document["openapi"] == "3.1.0" and document["info"]["version"] == server.http.get("/version").json()["version"]
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    assert set(references(document)) <= {f"#/components/schemas/{name}" for name in schemas}
    identifiers = set()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            identifiers.add(operation["operationId"])
            named = {entry["name"] for entry in operation.get("parameters", []) if entry["in"] == "path"}
            assert named == {part.strip("{}") for part in path.split("/") if part.startswith("{")}, path
            for content in operation.get("requestBody", {}).get("content", {}).values():
                jsonschema.Draft202012Validator.check_schema(content["schema"])
            assert operation["responses"]["200"]["content"] and operation["summary"] != f"{method.upper()} {path}"
    assert len(identifiers) == sum(map(len, document["paths"].values()))


def test_texts_without_tokens(server, document):
    """An empty text has no token in this model, and the document says so where no other field adds any."""
    body = document["paths"]["/v1/embeddings"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    validator = jsonschema.Draft202012Validator(body | {"components": document["components"]})
    for wrong in ("", ["a", ""]):
        assert not validator.is_valid({"input": wrong})
        assert server.http.post("/v1/embeddings", json={"input": wrong}).status_code == 400
    assert validator.is_valid({"input": "a"}) and validator.is_valid({"input": ["a", "b"]})


def test_replies(server, check):
    def post(path, body, schema):
        reply = server.http.post(path, json=body)
        assert reply.status_code == 200, reply.text
        check(schema, reply.json())
        return reply.json()

    chat = {"messages": QUESTION, "max_tokens": 12, "temperature": 0}
    for fields in ({}, {"logprobs": True, "top_logprobs": 1}, {"tools": [TOOL], "tool_choice": "required"}):
        post("/v1/chat/completions", chat | fields, "ChatCompletion")
        for event in events(server, "/v1/chat/completions", **chat | fields):
            check("ChatCompletionChunk", event)
    completion = {"prompt": "Once", "max_tokens": 4, "logprobs": 1, "echo": True}
    post("/v1/completions", completion, "Completion")
    for event in events(server, "/v1/completions", **completion, stream_options={"include_usage": True}):
        check("Completion", event)
    post("/v1/embeddings", {"input": ["a", "b"], "dimensions": 3}, "Embeddings")
    tokens = post("/tokenize", {"prompt": "Once", "return_token_strs": True}, "Tokens")["tokens"]
    post("/detokenize", {"tokens": tokens}, "Prompt")
    tool = {"type": "function", "strict": True} | TOOL["function"]
    for fields in ({}, {"tools": [tool], "tool_choice": "required"}, {"max_output_tokens": 2}):
        response = post("/v1/responses", {"input": QUESTION, "max_output_tokens": 12} | fields, "Response")
        check("Response", server.http.get(f"/v1/responses/{response['id']}").json())
        check("Items", server.http.get(f"/v1/responses/{response['id']}/input_items").json())
    check("Deleted", server.http.delete(f"/v1/responses/{response['id']}").json())
    check("Error", server.http.get(f"/v1/responses/{response['id']}").json())


def test_lists(server, client, check):
    line = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "a", "max_tokens": 1}}
    file = client.files.create(file=("input.jsonl", json.dumps(line).encode() + b"\n"), purpose="batch")
    client.batches.create(input_file_id=file.id, endpoint="/v1/completions", completion_window="24h")
    for path, schema in [
        ("/v1/models", "Models"), (f"/v1/models/{MODEL_NAME}", "Model"), ("/v1/adapters", "Adapters"),
        ("/v1/adapters/r8-all", "Adapter"), ("/v1/files", "Files"), (f"/v1/files/{file.id}", "File"),
        ("/v1/batches", "Batches"), ("/v1/fine_tuning/jobs", "Jobs"), ("/health", "Health"), ("/ready", "Health"),
        ("/version", "Version"),
    ]:
        reply = server.http.get(path)
        assert reply.status_code == 200, path
        check(schema, reply.json())
    check("Deleted", server.http.delete(f"/v1/files/{file.id}").json())
    rows = client.files.create(file=("rows.jsonl", b'{"prompt": "a", "completion": " b"}\n'), purpose="fine-tune")
    wrong = client.files.create(file=("rows.jsonl", b"{\n"), purpose="fine-tune")
    for training_file in (rows.id, wrong.id):
        reply = server.http.post("/v1/fine_tuning/preview", json={"model": "base", "training_file": training_file})
        check("JobPreview", reply.json())
    check("LoadedAdapter", server.http.post("/v1/adapters/r8-all", json={}).json())


@pytest.fixture(scope="module")
def accepts(document):
    """Whether a route's schema accepts a body."""

    def accepts(path, body):
        schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        return jsonschema.Draft202012Validator(schema | {"components": document["components"]}).is_valid(body)

    return accepts


CHAT, COMPLETION, RESPONSE = {"messages": QUESTION}, {"prompt": "a"}, {"input": "a"}
CALL = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
RESPONSE_TOOL = {"type": "function", "name": "weather"}
BODIES = {
    "/v1/chat/completions": (CHAT, [
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}], "name": "b"}]},
        {"messages": [*QUESTION, {"role": "assistant", "content": None, "tool_calls": [CALL]},
                      {"role": "tool", "tool_call_id": "a", "content": "b"}]},
        {"messages": [*QUESTION, {"role": "assistant", "refusal": "No."}, *QUESTION]},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
        {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {
            "mode": "auto", "tools": [{"type": "function", "function": {"name": "weather"}}]}}},
        {"tool_choice": "none"}, {"stop": ["a", "b"], "logit_bias": {"5": 1}, "seed": -(2**63)},
        {"logprobs": True, "top_logprobs": 3}, {"top_logprobs": 0}, {"structured_outputs": {"choice": ["a"]}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}},
        {"model": "base", "adapter": None, "n": None, "prompt_logprobs": 1, "user": 5, "my_field": 1},
    ], [
        {"messages": []}, {"messages": [{"role": "user"}]}, {"messages": [{"role": "robot", "content": "a"}]},
        {"messages": [{"role": "assistant", "content": None}]}, {"messages": [{"role": "tool", "content": "a"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, {"tools": [{"type": "web"}]},
        {"tool_choice": "required"}, {"top_logprobs": 3}, {"stop": ["a"] * 5}, {"logit_bias": {"x": 1}},
        {"logit_bias": {"5": 101}}, {"stop_token_ids": [10**7]}, {"max_tokens": 0}, {"max_completion_tokens": 10**7},
        {"timeout": 0}, {"seed": 2**63}, {"response_format": {"type": "xml"}}, {"structured_outputs": {"xml": "a"}},
        {"model": None}, {"model": ""}, {"truncate_prompt_tokens": 0}, {"prompt_logprobs": 1, "stream": True},
        {"stream_options": {"include_usage": True}}, {"bad_words": [""]},
        {"tools": [{"type": "function", "function": {"name": "f", "strict": "yes"}}]},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
        {"tools": [{"type": "function", "function": {"name": "f", "description": {}}}]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": 1, "schema": {}}}},
        {"response_format": {"type": "text", "json_schema": {"schema": {}}}},
    ]),
    "/v1/completions": (COMPLETION, [
        {"prompt": ["a", "b"]}, {"prompt": [1, 2]}, {"prompt": [[1], [2]]}, {"max_tokens": 0, "echo": True},
        {"logprobs": 3}, {"logprobs": False}, {"stream": True, "stream_options": {"include_usage": True}},
    ], [{"prompt": []}, {"prompt": [10**7]}, {"prompt": ["a"] * 129}, {"prompt": None}, {"logprobs": 21}]),
    "/v1/responses": (RESPONSE, [
        {"input": [{"role": "user", "content": "a"}, {"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "a"}]}, {"type": "reasoning", "id": "rs_1", "summary": []}]},
        {"tools": [RESPONSE_TOOL], "tool_choice": {"type": "function", "name": "weather"}},
        {"text": {"format": {"type": "json_object"}}, "metadata": {"a": "b"}, "include": ["message.output_text.logprobs"]},
    ], [
        {"input": []}, {"input": [{"role": "robot", "content": "a"}]}, {"input": [{"type": "item_reference"}]},
        {"tools": [{"type": "web_search"}]}, {"include": ["file_search_call.results"]}, {"truncation": "middle"},
        {"text": {"format": {"type": "xml"}}}, {"previous_response_id": "a"}, {"metadata": {"a": "b" * 513}},
        {"tools": [RESPONSE_TOOL | {"strict": 1}]}, {"tools": [RESPONSE_TOOL | {"parameters": "{}"}]},
        {"text": {"format": {"type": "json_object", "schema": {}}}},
    ]),
    "/v1/embeddings": ({"input": "a"}, [{"input": ["a"] * 200}, {"input": [1, 2], "dimensions": 2}],
                       [{"input": []}, {"input": [[]]}, {"dimensions": 10**6}, {"encoding_format": "hex"}]),
    "/tokenize": ({}, [{"prompt": "a"}, {"messages": QUESTION}, {"messages": QUESTION, "prompt": None}], [{}, {"prompt": [1]}]),
    "/detokenize": ({"tokens": [1]}, [{"tokens": []}], [{"tokens": [-1]}, {"tokens": [10**7]}, {"tokens": "a"}]),
}


@pytest.mark.parametrize("path", BODIES)
def test_bodies(server, accepts, path):
    """The document accepts what the server accepts, and refuses what it refuses."""
    start, good, bad = BODIES[path]
    short = {"max_output_tokens": 2} if path == "/v1/responses" else {"max_tokens": 2} if "completions" in path else {}
    for fields in ({}, *good) if start else good:
        assert accepts(path, start | fields), fields
        assert server.http.post(path, json=short | start | fields).status_code == 200, fields
    for fields in bad:
        assert not accepts(path, start | fields), fields
        assert server.http.post(path, json=short | start | fields).status_code == 400, fields


def test_limits_of_pages(server, document):
    for path, operations in document["paths"].items():
        for parameter in operations.get("get", {}).get("parameters", []):
            if parameter["name"] == "limit" and "{" not in path:
                maximum = parameter["schema"]["maximum"]
                assert server.http.get(path, params={"limit": maximum}).status_code == 200, path
                assert server.http.get(path, params={"limit": maximum + 1}).status_code == 400, path


def test_downloads(server, document):
    """An adapter's files have a path of their own, with its query and its types."""
    operation = document["paths"]["/v1/adapters/{name}/content"]["get"]
    query = {entry["name"]: entry["schema"] for entry in operation["parameters"] if entry["in"] == "query"}
    assert set(query) == {"version", "format"}
    types = set()
    for form in query["format"]["enum"]:
        reply = server.http.get("/v1/adapters/r8-all/content", params={"format": form, "version": 1})
        assert reply.status_code == 200, reply.text
        types.add(reply.headers["content-type"])
    assert types == set(operation["responses"]["200"]["content"])
    shown = document["paths"]["/v1/adapters/{name}"]["get"]
    assert [entry["name"] for entry in shown["parameters"]] == ["name"]


def test_links(document):
    links = document["paths"]["/v1/files"]["post"]["responses"]["200"]["links"]
    assert set(links) == {"get_v1_files_id", "delete_v1_files_id", "get_v1_files_id_content"}
    identifiers = {operation["operationId"] for operations in document["paths"].values() for operation in operations.values()}
    for operations in document["paths"].values():
        for link in operations.get("post", {}).get("responses", {}).get("200", {}).get("links", {}).values():
            assert link["operationId"] in identifiers
