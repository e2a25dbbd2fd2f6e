"""Every reply against the types of OpenAI's client: no member is missing, wrong, or unknown to it."""

import json

import pydantic
import pytest
from openai import types
from openai.types import responses as response_types
from openai.types.responses.response_stream_event import ResponseStreamEvent

from graft_server import MODEL_NAME
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
        # OpenAI's own responses have `store`, which the client's type does not.
        extra = [f"{path}.{name}" for name in value.model_extra or {} if name != "store"]
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


RESPONSES = {
    "text": {}, "cut": {"max_output_tokens": 2},
    "logprobs": {"include": ["message.output_text.logprobs"], "top_logprobs": 2, "max_output_tokens": 8},
    "called": {
        "tools": [{"type": "function"} | TOOL["function"] | {"strict": True}], "tool_choice": "required",
        "parallel_tool_calls": False,
    },
    "named": {
        "tools": [{"type": "function"} | TOOL["function"] | {"strict": True}],
        "tool_choice": {"type": "function", "name": "weather"},
    },
    "format": {"text": {"format": {"type": "json_schema", "name": "place", "schema": PARAMETERS, "strict": True}}},
    "settings": {
        "instructions": "Be brief.", "metadata": {"a": "b"}, "truncation": "auto", "user": "u", "top_p": 0.5,
        "temperature": 0, "parallel_tool_calls": False, "service_tier": "auto", "store": False,
    },
}


@pytest.mark.parametrize("name", RESPONSES)
def test_responses(server, name):
    body = {"input": QUESTION, "model": MODEL_NAME, "max_output_tokens": 40, "temperature": 0} | RESPONSES[name]
    whole = post(server, "/v1/responses", body)
    check(response_types.Response, whole)
    if body.get("store", True):
        check(response_types.Response, server.http.get(f"/v1/responses/{whole['id']}").json())
        items = server.http.get(f"/v1/responses/{whole['id']}/input_items").json()
        check(response_types.ResponseItemList, items)
    with server.http.stream("POST", "/v1/responses", json=body | {"stream": True}) as reply:
        blocks = reply.read().decode().removesuffix("\n\n").split("\n\n")
    stream = [json.loads(block.split("\ndata: ")[1]) for block in blocks]
    for event in stream:
        check(ResponseStreamEvent, event)
    check_order(stream)
    assert [outline(item) for item in stream[-1]["response"]["output"]] == [outline(item) for item in whole["output"]]


def outline(item) -> dict:
    """An item without what is random in it."""
    return {key: value for key, value in item.items() if key not in ("id", "call_id")}


def check_order(stream) -> None:
    """The order of OpenAI's events: each item is added, written and done before the next."""
    kinds = [event["type"].removeprefix("response.") for event in stream]
    assert [event["sequence_number"] for event in stream] == list(range(len(stream)))
    assert kinds[:2] == ["created", "in_progress"] and kinds[-1] in ("completed", "incomplete")
    final = stream[-1]["response"]
    assert kinds[-1] == final["status"]
    left = list(zip(kinds[2:-1], stream[2:-1]))
    for index, item in enumerate(final["output"]):
        count = next(place for place, (kind, _) in enumerate(left) if kind == "output_item.done") + 1
        (names, own), left = zip(*left[:count]), left[count:]
        assert all(event["output_index"] == index for event in own)
        assert all(event["item_id"] == item["id"] for event in own[1:-1])
        assert own[-1]["item"] == item
        started = own[0]["item"]
        assert (started["id"], started["type"], started["status"]) == (item["id"], item["type"], "in_progress")
        if item["type"] == "function_call":
            assert names[0] == "output_item.added" and started["arguments"] == ""
            assert set(names[1:-2]) == {"function_call_arguments.delta"}
            assert names[-2:] == ("function_call_arguments.done", "output_item.done")
            assert "".join(event["delta"] for event in own[1:-2]) == own[-2]["arguments"] == item["arguments"]
        else:
            assert names[:2] == ("output_item.added", "content_part.added") and started["content"] == []
            assert set(names[2:-3]) <= {"output_text.delta"}
            assert names[-3:] == ("output_text.done", "content_part.done", "output_item.done")
            (part,) = item["content"]
            assert "".join(event["delta"] for event in own[2:-3]) == own[-3]["text"] == part["text"]
            assert own[-2]["part"] == part and all(event["content_index"] == 0 for event in own[1:-1])
    assert not left


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
