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
