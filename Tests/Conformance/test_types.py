"""Every reply against the types of OpenAI's client: no member is missing, wrong, or unknown to it."""

import json

import pydantic
import pytest
from openai import types

from sse import events

CHAT = "/v1/chat/completions"
QUESTION = [{"role": "user", "content": "What is the weather in Paris?"}]
PARAMETERS = {
    "type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}


def unknown(value, path="") -> list[str]:
    """The members that OpenAI's types do not have."""
    if isinstance(value, pydantic.BaseModel):
        extra = [f"{path}.{name}" for name in value.model_extra or {}]
        return extra + [
            name for field in type(value).model_fields for name in unknown(getattr(value, field), f"{path}.{field}")
        ]
    if isinstance(value, list):
        return [name for index, entry in enumerate(value) for name in unknown(entry, f"{path}[{index}]")]
    if isinstance(value, dict):
        return [name for key, entry in value.items() for name in unknown(entry, f"{path}.{key}")]
    return []


def check(kind, value) -> None:
    parsed = pydantic.TypeAdapter(kind).validate_python(value)
    assert not unknown(parsed), json.dumps(value)


def post(server, path, body) -> dict:
    reply = server.http.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_the_check_finds_unknown_members():
    with pytest.raises(AssertionError):
        check(types.Model, {"id": "a", "object": "model", "created": 1, "owned_by": "b", "other": 1})
    with pytest.raises(pydantic.ValidationError):
        check(types.Model, {"id": "a", "object": "model", "created": 1})


@pytest.mark.parametrize(
    "fields",
    [
        {}, {"n": 2}, {"logprobs": True, "top_logprobs": 2}, {"tools": [TOOL], "tool_choice": "required"},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "weather"}}, "logprobs": True},
        {"response_format": {"type": "json_object"}}, {"stream_options": {"include_usage": True}},
    ],
)
def test_chats(server, fields):
    body = {"messages": QUESTION, "max_tokens": 40, "seed": 5} | fields
    if "stream_options" not in body:
        check(types.chat.ChatCompletion, post(server, CHAT, body))
    for event in events(server, CHAT, **body):
        check(types.chat.ChatCompletionChunk, event)


@pytest.mark.parametrize("fields", [{}, {"n": 2, "echo": True}, {"logprobs": 2}])
def test_completions(server, fields):
    # A stream's chunks before the last have no `finish_reason`, which the client's type does not foresee.
    check(types.Completion, post(server, "/v1/completions", {"prompt": "Once", "max_tokens": 8, "seed": 5} | fields))


def test_other_replies(server, client):
    for encoding in ("float", "base64"):
        reply = post(server, "/v1/embeddings", {"input": "a", "encoding_format": encoding, "dimensions": 4})
        if encoding == "float":
            check(types.CreateEmbeddingResponse, reply)
    file = client.files.create(file=("input.jsonl", b"{}\n"), purpose="batch")
    check(types.FileObject, server.http.get(f"/v1/files/{file.id}").json())
    body = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h"}
    batch = post(server, "/v1/batches", body)
    check(types.Batch, batch)
    check(types.Batch, server.http.get(f"/v1/batches/{batch['id']}").json())
    check(types.FileDeleted, server.http.delete(f"/v1/files/{file.id}").json())
