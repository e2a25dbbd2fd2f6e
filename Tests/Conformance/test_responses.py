"""Responses, worked by OpenAI's client: text, tools, streams, and responses that continue others."""

import contextlib
import json
import sqlite3

import openai
import pytest

from graft_server import MODEL_NAME, Server, state_folder

SETTINGS = {"model": MODEL_NAME, "temperature": 0, "max_output_tokens": 24}
QUESTION = "What is the capital of France?"
WEATHER = {
    "type": "function", "name": "weather", "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
TOOL = {"type": "function", "name": "f"}


def chat(client, messages, **fields):
    answer = client.chat.completions.create(
        model=MODEL_NAME, temperature=0, max_tokens=24, messages=messages, **fields
    )
    return answer.choices[0].message.content


def test_text(client):
    response = client.responses.create(input=QUESTION, instructions="You answer briefly.", **SETTINGS)
    assert response.id.startswith("resp_") and response.object == "response" and response.model == MODEL_NAME
    assert response.output_text == chat(
        client, [{"role": "system", "content": "You answer briefly."}, {"role": "user", "content": QUESTION}]
    )
    (message,) = response.output
    assert message.type == "message" and message.role == "assistant" and message.id.startswith("msg_")
    assert message.content[0].annotations == []
    assert response.status in ("completed", "incomplete") and response.error is None
    assert response.instructions == "You answer briefly." and response.max_output_tokens == 24
    assert response.temperature == 0 and response.top_p == 1 and response.truncation == "disabled"
    usage = response.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens > 20
    assert usage.output_tokens_details.reasoning_tokens == 0 and usage.input_tokens_details.cached_tokens >= 0


def test_incomplete(client):
    response = client.responses.create(input=QUESTION, model=MODEL_NAME, max_output_tokens=2)
    assert response.status == response.output[0].status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.usage.output_tokens == 2


def test_items_are_messages(client):
    items = [
        {"role": "developer", "content": "You answer briefly."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello."}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Hi.", "annotations": []}]},
        {"role": "user", "content": QUESTION},
    ]
    messages = [
        {"role": "developer", "content": "You answer briefly."}, {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Hi."}, {"role": "user", "content": QUESTION},
    ]
    assert client.responses.create(input=items, **SETTINGS).output_text == chat(client, messages)


def test_continued(client):
    first = client.responses.create(input="My name is Ada.", **SETTINGS)
    second = client.responses.create(input="What is my name?", previous_response_id=first.id, **SETTINGS)
    assert second.previous_response_id == first.id
    assert second.output_text == chat(
        client,
        [
            {"role": "user", "content": "My name is Ada."}, {"role": "assistant", "content": first.output_text},
            {"role": "user", "content": "What is my name?"},
        ],
    )
    third = client.responses.create(input="Are you sure?", previous_response_id=second.id, **SETTINGS)
    assert third.usage.input_tokens > second.usage.input_tokens > first.usage.input_tokens

    kept = client.responses.retrieve(second.id)
    assert kept.output == second.output and kept.usage == second.usage
    items = client.responses.input_items.list(second.id).data
    assert [item.content[0].text for item in items] == ["What is my name?"]
    client.responses.delete(second.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(second.id)
    # What continued it has its context.
    assert client.responses.create(input="Thanks.", previous_response_id=third.id, **SETTINGS).output_text
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.create(input="a", previous_response_id=second.id, **SETTINGS)
    assert error.value.code == "previous_response_not_found"


def test_item_references(client, server):
    """The items of earlier responses can be named instead of sent again."""
    tool = WEATHER | {"strict": True, "parameters": WEATHER["parameters"] | {
        "properties": {"city": {"enum": ["Paris"]}}, "additionalProperties": False}}
    question = {"role": "user", "content": QUESTION}
    first = client.responses.create(
        input=[question], tools=[tool], tool_choice="required", parallel_tool_calls=False, **SETTINGS | {"max_output_tokens": 80})
    (call,) = first.output
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    sent = {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments}
    named = {"type": "item_reference", "id": call.id}
    answers = [
        client.responses.create(input=[question, item, result], tools=[tool], tool_choice="none", **SETTINGS)
        for item in (sent, named)]
    assert answers[0].output_text == answers[1].output_text and answers[1].output_text
    assert answers[0].usage.input_tokens == answers[1].usage.input_tokens
    items = client.responses.input_items.list(answers[1].id, order="asc").data
    assert items[1].type == "function_call" and items[1].call_id == call.call_id
    text = client.responses.create(
        input=[question, {"type": "item_reference", "id": answers[1].output[0].id}, {"role": "user", "content": "And Rome?"}], **SETTINGS)
    assert text.usage.input_tokens > client.responses.create(input=[question], **SETTINGS).usage.input_tokens

    # The items of a request have ids, too; a type need not be there.
    asked = client.responses.input_items.list(text.id, order="asc").data[0]
    again = client.responses.create(input=[{"id": asked.id}], **SETTINGS)
    assert client.responses.input_items.list(again.id).data[0].content[0].text == QUESTION

    def refused(**body):
        reply = server.http.post("/v1/responses", json=body)
        return reply.status_code, reply.json()["error"]

    status, error = refused(input=[question, named, result, named])
    assert status == 400 and error["param"] == "input[3].id" and call.id in error["message"]
    status, error = refused(input=[named], previous_response_id=first.id)
    assert status == 400 and error["param"] == "input[0].id" and "Duplicate" in error["message"]
    for response in (first, answers[0], answers[1]):
        client.responses.delete(response.id)
    status, error = refused(input=[question, named, result])
    assert status == 404 and error["param"] == "input[1].type" and call.id in error["message"]


def test_not_stored(client):
    response = client.responses.create(input=QUESTION, store=False, **SETTINGS)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_retention(data_dir):
    state = state_folder(data_dir)
    with Server(data_dir=data_dir, state=state) as server, server.client() as client:
        kept = client.responses.create(input=QUESTION, **SETTINGS)
    with Server(data_dir=data_dir, state=state) as server, server.client() as client:
        assert client.responses.retrieve(kept.id).output_text == kept.output_text
    with Server("--responses-retention", "0", data_dir=data_dir, state=state) as server, server.client() as client:
        for id in (kept.id, client.responses.create(input=QUESTION, **SETTINGS).id):
            with pytest.raises(openai.NotFoundError):
                client.responses.retrieve(id)


def test_expired(data_dir):
    """A response that is too old is gone at once, and from the disk with the next start."""
    state = state_folder(data_dir)
    path = state / "graft.sqlite"
    with Server(data_dir=data_dir, state=state) as server, server.client() as client:
        old, kept = (client.responses.create(input=QUESTION, **SETTINGS) for _ in range(2))
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("UPDATE response SET createdAt = createdAt - 31 * 86400 WHERE id = ?", (old.id,))
            database.commit()
        for work in (client.responses.retrieve, client.responses.delete, client.responses.input_items.list):
            with pytest.raises(openai.NotFoundError):
                work(old.id)
        with pytest.raises(openai.BadRequestError) as error:
            client.responses.create(input="a", previous_response_id=old.id, **SETTINGS)
        assert error.value.code == "previous_response_not_found" and error.value.param == "previous_response_id"
        with pytest.raises(openai.NotFoundError):
            client.responses.create(input=[{"type": "item_reference", "id": old.output[0].id}], **SETTINGS)
        assert client.responses.retrieve(kept.id).id == kept.id
    with Server(data_dir=data_dir, state=state) as server, server.client() as client:
        with contextlib.closing(sqlite3.connect(path)) as database:
            assert database.execute("SELECT id FROM response").fetchall() == [(kept.id,)]
            assert set(database.execute("SELECT response FROM responseItem")) == {(kept.id,)}
        client.responses.delete(kept.id)
        with contextlib.closing(sqlite3.connect(path)) as database:
            for table in ("response", "responseItem"):
                assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
            assert database.execute("SELECT bytes FROM responseSize").fetchone() == (0,)


def test_stream(client):
    whole = client.responses.create(input=QUESTION, **SETTINGS)
    events = list(client.responses.create(input=QUESTION, stream=True, **SETTINGS))
    kinds = [event.type.removeprefix("response.") for event in events]
    deltas = kinds.count("output_text.delta")
    assert deltas > 3
    assert kinds == [
        "created", "in_progress", "output_item.added", "content_part.added", *["output_text.delta"] * deltas,
        "output_text.done", "content_part.done", "output_item.done", whole.status,
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    texts = [event.delta for event in events if event.type == "response.output_text.delta"]
    last = events[-1].response
    assert "".join(texts) == last.output_text == whole.output_text
    assert {event.item_id for event in events if hasattr(event, "item_id")} == {last.output[0].id}
    assert events[0].response.status == "in_progress" and events[0].response.output == []
    assert last.usage.output_tokens == whole.usage.output_tokens
    assert client.responses.retrieve(last.id).output_text == last.output_text


def test_stream_helper(client):
    with client.responses.stream(input=QUESTION, **(SETTINGS | {"max_output_tokens": 200})) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        assert stream.get_final_response().output_text == text


def test_logprobs(client):
    response = client.responses.create(
        input=QUESTION, include=["message.output_text.logprobs"], top_logprobs=2, **SETTINGS
    )
    content = response.output[0].content[0]
    assert b"".join(bytes(entry.bytes) for entry in content.logprobs).decode() == content.text
    assert all(len(entry.top_logprobs) == 2 for entry in content.logprobs)
    events = client.responses.create(
        input=QUESTION, include=["message.output_text.logprobs"], top_logprobs=2, stream=True, **SETTINGS
    )
    streamed = [entry for event in events if event.type == "response.output_text.delta" for entry in event.logprobs]
    assert [entry.logprob for entry in streamed] == [entry.logprob for entry in content.logprobs]


def test_calls_with_logprobs(client):
    """The tokens of a call are no message, streamed or not."""
    tool = WEATHER | {"strict": True, "parameters": WEATHER["parameters"] | {
        "properties": {"city": {"enum": ["Paris"]}}, "additionalProperties": False}}
    body = SETTINGS | {
        "input": "How is the weather in Paris?", "tools": [tool], "tool_choice": "required", "parallel_tool_calls": False,
        "include": ["message.output_text.logprobs"], "top_logprobs": 1, "max_output_tokens": 80}
    assert [item.type for item in client.responses.create(**body).output] == ["function_call"]
    events = list(client.responses.create(stream=True, **body))
    assert [event.item.type for event in events if event.type == "response.output_item.added"] == ["function_call"]
    assert not [event.type for event in events if "text" in event.type or "content_part" in event.type]
    assert [item.type for item in events[-1].response.output] == ["function_call"]


def test_outputs_need_their_calls(client, server):
    """An output belongs to a call before it: of the input, or of the response that is continued."""
    call = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "call_1", "output": "17 degrees, rain"}
    user = {"role": "user", "content": "How is the weather?"}
    fields = SETTINGS | {"tools": [WEATHER]}
    first = client.responses.create(input=[user, call], **fields)
    assert client.responses.create(input=[user, call, output], **fields).status
    assert client.responses.create(input=[output], previous_response_id=first.id, **fields).status
    for items, previous, path in (
        ([output], None, "input[0]"), ([user, output, call], None, "input[1]"),
        ([user, call, output | {"call_id": "call_2"}], None, "input[2]"),
        ([output | {"call_id": "call_2"}], first.id, "input[0]"),
    ):
        body = fields | {"input": items} | ({"previous_response_id": previous} if previous else {})
        reply = server.http.post("/v1/responses", json=body)
        error = reply.json()["error"]
        id = next(item["call_id"] for item in items if item.get("type") == "function_call_output")
        assert reply.status_code == 400 and error["param"] == f"{path}.call_id", error
        assert f"'{id}'" in error["message"] and f"'{path}'" in error["message"]


def test_past_calls_are_shown(client):
    items = [
        {"role": "user", "content": "How is the weather in Paris?"},
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city": "Paris"}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "17 degrees, rain"},
    ]
    response = client.responses.create(input=items, tools=[WEATHER], **SETTINGS)
    messages = [
        {"role": "user", "content": "How is the weather in Paris?"},
        {
            "role": "assistant", "content": None,
            "tool_calls": [
                {
                    "id": "call_1", "type": "function",
                    "function": {"name": "weather", "arguments": '{"city": "Paris"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "17 degrees, rain"},
    ]
    function = {key: value for key, value in WEATHER.items() if key != "type"}
    tools = [{"type": "function", "function": function}]
    assert response.output_text == (chat(client, messages, tools=tools) or "")
    assert response.tools[0].name == "weather" and response.tool_choice == "auto"


def test_adapter(client, server):
    body = SETTINGS | {"input": QUESTION, "adapter": "r8-all"}
    adapted = server.http.post("/v1/responses", json=body).json()
    assert adapted["model"] == "r8-all"
    named = client.responses.create(input=QUESTION, **(SETTINGS | {"model": "r8-all"}))
    assert adapted["output"][0]["content"][0]["text"] == named.output_text


def test_truncation(data_dir):
    items = [{"role": "user", "content": f"{index} " + "word " * 60} for index in range(12)]
    with Server("--context", "512", data_dir=data_dir) as server, server.client() as client:
        with pytest.raises(openai.BadRequestError) as error:
            client.responses.create(input=items, **SETTINGS)
        assert error.value.code == "context_length_exceeded" and error.value.param == "input"
        cut = client.responses.create(input=items, truncation="auto", instructions="Be brief.", **SETTINGS)
        # One more message would not have fitted.
        assert 512 - 24 - 70 < cut.usage.input_tokens <= 512 - 24
        rest = client.responses.create(input=items[-2:], truncation="auto", **SETTINGS)
        assert rest.usage.input_tokens < 200


@pytest.mark.parametrize(
    "fields, param",
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"role": "robot", "content": "a"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "a"}]}]}, "input[0].content[0].type"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type"),
        ({"input": [{"type": "function_call", "call_id": "a", "name": "f", "arguments": "["}]}, "input[0].arguments"),
        ({"input": 5}, "input"),
        ({"input": {"role": "user", "content": "a"}}, "input"),
        ({"input": ["a"]}, "input[0]"),
        ({"input": [None]}, "input[0]"),
        ({"input": [{}]}, "input[0].type"),
        ({"input": [{"type": 5, "role": "user", "content": "a"}]}, "input[0].type"),
        ({"input": [{"type": "web_search_call", "id": "a"}]}, "input[0].type"),
        ({"input": [{"type": "item_reference", "id": 5}]}, "input[0].id"),
        ({"input": [{"type": "item_reference", "id": None}]}, "input[0].id"),
        ({"input": [{"role": 5, "content": "a"}]}, "input[0].role"),
        ({"input": [{"type": "message", "content": "a"}]}, "input[0].role"),
        ({"input": [{"role": "tool", "content": "a"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": 5}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": {"text": "a"}}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": "a", "id": 5}]}, "input[0].id"),
        ({"input": [{"role": "user", "content": "a", "status": "done"}]}, "input[0].status"),
        ({"input": [{"role": "user", "content": "a", "status": ["completed"]}]}, "input[0].status"),
        ({"input": [{"role": "user", "contents": "a"}]}, "input[0].contents"),
        ({"input": [{"role": "user", "content": ["a"]}]}, "input[0].content[0]"),
        ({"input": [{"role": "user", "content": [{"text": "a"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": 1, "text": "a"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": 5}]}]}, "input[0].content[0].text"),
        ({"input": [{"role": "assistant", "content": [{"type": "refusal", "text": "a"}]}]}, "input[0].content[0].refusal"),
        ({"input": [{"role": "assistant", "content": [{"type": "output_text", "text": "a", "annotations": 1}]}]},
         "input[0].content[0].annotations"),
        ({"input": [{"type": "function_call", "call_id": 5, "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call", "call_id": "", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call", "call_id": "a", "arguments": "{}"}]}, "input[0].name"),
        ({"input": [{"type": "function_call", "call_id": "a", "name": "f", "arguments": {}}]}, "input[0].arguments"),
        ({"input": [{"type": "function_call_output", "call_id": 5, "output": "a"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call_output", "call_id": "a", "output": 5}]}, "input[0].output"),
        ({"input": [{"type": "function_call_output", "call_id": "a"}]}, "input[0].output"),
        ({"input": [{"type": "function_call_output", "call_id": "a", "output": [{"type": "input_text", "text": 5}]}]},
         "input[0].output[0].text"),
        ({"input": [{"type": "reasoning", "summary": 5}]}, "input[0].summary"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"previous_response_id": "resp_none"}, "previous_response_id"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"truncation": "middle"}, "truncation"),
        ({"text": {"verbosity": "high"}}, "text.verbosity"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "schema": {}, "strict": 1}}}, "text.format.strict"),
        ({"text": {"format": {"type": "text", "schema": {}}}}, "text.format.schema"),
        ({"tools": [{"type": "function", "name": 5}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "name": "f", "parameters": []}]}, "tools[0].parameters"),
        ({"tools": [{"type": "function", "name": "f", "strict": "yes"}]}, "tools[0].strict"),
        ({"tools": [{"type": "function", "name": "f", "parameter": {}}]}, "tools[0].parameter"),
        ({"tools": [TOOL, TOOL]}, "tools[1].name"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": 5}}, "tool_choice.name"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "mode": "never"}}, "tool_choice.mode"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function"}]}},
         "tool_choice.tools[0].name"),
        ({"include": ["file_search_call.results"]}, "include"),
        ({"reasoning": {"effort": "high"}}, "reasoning"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"model": "nobody"}, "model"),
    ],
)
def test_errors(server, fields, param):
    reply = server.http.post("/v1/responses", json={"input": "a"} | fields)
    assert reply.status_code in (400, 404), reply.text
    error = reply.json()["error"]
    assert error["param"] == param, error
    assert "messages" not in error["message"] and "response_format" not in error["message"]
    assert ".function" not in error["message"] and "allowed_tools." not in error["message"]


def test_in_a_batch(client):
    line = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": SETTINGS | {"input": QUESTION}}
    file = client.files.create(file=("a.jsonl", json.dumps(line).encode()), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/responses", completion_window="24h")
    while batch.status in ("validating", "in_progress", "finalizing"):
        batch = client.batches.retrieve(batch.id)
    entry = json.loads(client.files.content(batch.output_file_id).text)
    assert entry["response"]["body"]["object"] == "response"
