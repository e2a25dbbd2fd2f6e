"""OpenAI's own client: parsed chats and responses, streams, tools, embeddings, batches."""

import asyncio
import json
import re
import time

import openai
import pytest
from openai import pydantic_function_tool

from forms import QUESTION, Person, Team

MESSAGES = [{"role": "user", "content": QUESTION}]


@pytest.fixture(scope="module")
def client(settings):
    with openai.OpenAI(**settings, max_retries=0, timeout=120) as client:
        yield client


@pytest.mark.parametrize("form", [Person, Team])
@pytest.mark.parametrize("temperature", [0, 1])
def test_parse(client, form, temperature):
    answer = client.chat.completions.parse(
        model="base", messages=MESSAGES, response_format=form, max_tokens=300, temperature=temperature, seed=1)
    assert isinstance(answer.choices[0].message.parsed, form)


def test_parse_streams(client):
    with client.chat.completions.stream(
        model="base", messages=MESSAGES, response_format=Person, max_tokens=300, seed=1) as stream:
        kinds = {event.type for event in stream}
        answer = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert isinstance(answer.choices[0].message.parsed, Person)


def test_parse_tools(client):
    tools = [pydantic_function_tool(Person), pydantic_function_tool(Team)]
    answer = client.chat.completions.parse(
        model="base", messages=MESSAGES, tools=tools, tool_choice="required", parallel_tool_calls=False, max_tokens=300, seed=1)
    (call,) = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert isinstance(call.function.parsed_arguments, (Person, Team))


def test_named_tool_streams(client):
    tools = [pydantic_function_tool(Person), pydantic_function_tool(Team)]
    with client.chat.completions.stream(
        model="base", messages=MESSAGES, tools=tools, tool_choice={"type": "function", "function": {"name": "Team"}},
        max_tokens=300, seed=1) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
    assert done and all(event.name == "Team" and isinstance(event.parsed_arguments, Team) for event in done)


def test_tool_results(client):
    """A call and its result go back, and the answer is a text."""
    tool = pydantic_function_tool(Person)
    first = client.chat.completions.create(
        model="base", messages=MESSAGES, tools=[tool], tool_choice="required", parallel_tool_calls=False, max_tokens=200, seed=1)
    message = first.choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "saved"}
    second = client.chat.completions.create(
        model="base", messages=[*MESSAGES, message, result], tools=[tool], tool_choice="none", max_tokens=20)
    assert second.choices[0].message.content and not second.choices[0].message.tool_calls


def test_json_object(client):
    answer = client.chat.completions.create(
        model="base", messages=MESSAGES, response_format={"type": "json_object"}, max_tokens=400, seed=1, temperature=0.2)
    assert answer.choices[0].finish_reason in ("stop", "length")
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(answer.choices[0].message.content), dict)


def test_responses_parse(client):
    answer = client.responses.parse(model="base", input=QUESTION, text_format=Person, max_output_tokens=300)
    assert answer.status == "completed" and isinstance(answer.output_parsed, Person)


def test_responses_stream(client):
    with client.responses.stream(model="base", input=QUESTION, text_format=Person, max_output_tokens=300) as stream:
        events = list(stream)
        answer = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created" and events[-1].type == "response.completed"
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == answer.output_text
    assert isinstance(answer.output_parsed, Person)


def test_responses_tools(client):
    """A forced call, its result by `previous_response_id`, and a text."""
    tool = openai.pydantic_function_tool(Person)["function"] | {"type": "function"}
    first = client.responses.create(
        model="base", input=QUESTION, tools=[tool], tool_choice={"type": "function", "name": "Person"},
        parallel_tool_calls=False, max_output_tokens=300)
    (call,) = first.output
    assert call.type == "function_call" and Person.model_validate_json(call.arguments)
    second = client.responses.create(
        model="base", previous_response_id=first.id, max_output_tokens=20,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "saved"}])
    assert second.output_text


def test_embeddings(client):
    answer = client.embeddings.create(model="base", input=["a cat", "a kitten"], dimensions=64)
    assert [len(item.embedding) for item in answer.data] == [64, 64]
    for item in answer.data:
        assert sum(value * value for value in item.embedding) == pytest.approx(1, abs=1e-3)


def test_batches(client):
    body = {"model": "base", "messages": MESSAGES, "max_tokens": 4}
    lines = [
        {"custom_id": str(index), "method": "POST", "url": "/v1/chat/completions", "body": body} for index in range(3)]
    file = client.files.create(file=("lines.jsonl", "\n".join(map(json.dumps, lines)).encode()), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    deadline = time.monotonic() + 120
    while batch.status in ("validating", "in_progress", "finalizing") and time.monotonic() < deadline:
        time.sleep(0.1)
        batch = client.batches.retrieve(batch.id)
    assert batch.status == "completed" and batch.request_counts.completed == 3
    answers = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    assert [answer["custom_id"] for answer in answers] == ["0", "1", "2"]
    assert all(answer["response"]["status_code"] == 200 for answer in answers)


def test_adapters_are_models(client):
    names = [model.id for model in client.models.list()]
    assert "pirate" in names
    answer = client.chat.completions.create(model="pirate", messages=MESSAGES, max_tokens=8)
    assert answer.model == "pirate"


def test_async(settings):
    async def ask():
        async with openai.AsyncOpenAI(**settings, max_retries=0) as client:
            return await asyncio.gather(*(
                client.chat.completions.parse(model="base", messages=MESSAGES, response_format=Person, max_tokens=200, seed=seed)
                for seed in range(4)))

    assert all(isinstance(answer.choices[0].message.parsed, Person) for answer in asyncio.run(ask()))


def test_example(run_example):
    assert re.fullmatch(r"(good|bad), [1-5] stars\n", run_example("openai_parse.py"))
