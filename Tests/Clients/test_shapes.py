"""Requests of the shape that Codex and Vercel's AI SDK document. The programs themselves are not on PyPI."""

import json
import shutil

import httpx
import jsonschema
import pytest

SCHEMA = {
    "$schema": "http://json-schema.org/draft-07/schema#", "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "mood": {"type": "string", "enum": ["glad", "sad"]}},
    "required": ["name", "mood"], "additionalProperties": False,
}


@pytest.fixture(scope="module")
def http(url):
    with httpx.Client(base_url=url + "/", timeout=120, headers={"Authorization": "Bearer none"}) as client:
        yield client


def post(http, path, body):
    reply = http.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def events(http, path, body):
    """The data of a stream's events. Each names its type twice, in `event` and in the data, if it is a response's."""
    found = []
    with http.stream("POST", path, json=body, headers={"Accept": "text/event-stream"}) as reply:
        assert reply.status_code == 200, reply.read()
        assert reply.headers["content-type"].startswith("text/event-stream")
        kind = None
        for line in reply.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: ") and line != "data: [DONE]":
                found.append(json.loads(line.removeprefix("data: ")))
                assert kind == found[-1].get("type")
    return found


class TestCodex:
    """`POST /v1/responses`, stateless and streamed, with function tools; past items come back in `input`."""

    SHELL = {
        "type": "function", "name": "shell", "description": "Runs a shell command and returns its output.", "strict": False,
        "parameters": {
            "type": "object",
            "properties": {
                "command": {"type": "array", "items": {"type": "string"}, "description": "The command to execute"},
                "timeout_ms": {"type": "number", "description": "The timeout for the command in milliseconds"},
                "workdir": {"type": "string", "description": "The working directory to execute the command in"},
            },
            "required": ["command"], "additionalProperties": False,
        },
    }
    PLAN = {
        "type": "function", "name": "update_plan", "description": "Updates the task plan.", "strict": False,
        "parameters": {
            "type": "object",
            "properties": {
                "explanation": {"type": "string"},
                "plan": {
                    "type": "array", "description": "The list of steps",
                    "items": {
                        "type": "object", "properties": {"step": {"type": "string"}, "status": {"type": "string"}},
                        "required": ["step", "status"], "additionalProperties": False,
                    },
                },
            },
            "required": ["plan"], "additionalProperties": False,
        },
    }

    def body(self, *items, **fields):
        start = [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "<environment_context>\n</environment_context>"}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Print the date."}]},
        ]
        return {
            "model": "base", "instructions": "You are a coding agent.", "input": [*start, *items],
            "tools": [self.SHELL, self.PLAN], "tool_choice": "auto", "parallel_tool_calls": False, "reasoning": None,
            "store": False, "stream": True, "include": [], "prompt_cache_key": "0199-0000",
        } | fields

    def test_turn(self, http):
        found = events(http, "responses", self.body(max_output_tokens=40))
        kinds = [event["type"] for event in found]
        assert kinds[0] == "response.created" and kinds[-1] in ("response.completed", "response.incomplete")
        done = [event["item"] for event in found if event["type"] == "response.output_item.done"]
        assert done and {item["type"] for item in done} <= {"message", "function_call"}
        response = found[-1]["response"]
        assert response["output"] == done and response["id"]
        usage = response["usage"]
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
        assert "cached_tokens" in usage["input_tokens_details"] and "reasoning_tokens" in usage["output_tokens_details"]

    def test_past_calls(self, http):
        """The calls of a turn and their outputs come back as items, with what Codex adds to them."""
        past = [
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "xx"},
            {"type": "function_call", "name": "shell", "arguments": '{"command":["date"]}', "call_id": "call_1"},
            {"type": "function_call_output", "call_id": "call_1",
             "output": '{"output":"Mon\\n","metadata":{"exit_code":0,"duration_seconds":0.1}}'},
        ]
        fields = {"reasoning": {"effort": "medium", "summary": "auto"}, "include": ["reasoning.encrypted_content"]}
        found = events(http, "responses", self.body(*past, **fields, max_output_tokens=20))
        assert found[-1]["type"] in ("response.completed", "response.incomplete")
        first = found[-1]["response"]["usage"]["input_tokens"]
        assert first > events(http, "responses", self.body(max_output_tokens=1))[-1]["response"]["usage"]["input_tokens"]

    def test_forced_call(self, http):
        found = events(
            http, "responses", self.body(tool_choice="required", max_output_tokens=300, seed=1, temperature=0.3))
        done = [event["item"] for event in found if event["type"] == "response.output_item.done"]
        for item in done:
            tool = {"shell": self.SHELL, "update_plan": self.PLAN}[item["name"]]
            if item["status"] == "completed":
                jsonschema.validate(json.loads(item["arguments"]), tool["parameters"])
        assert done

    def test_output_schema(self, http):
        form = {"format": {"type": "json_schema", "strict": True, "name": "codex_output_schema", "schema": SCHEMA}}
        found = events(http, "responses", self.body(text=form, tools=[], max_output_tokens=200))
        text = "".join(event["delta"] for event in found if event["type"] == "response.output_text.delta")
        jsonschema.validate(json.loads(text), SCHEMA)


class TestVercel:
    """The AI SDK's providers `openai-compatible`, over chat completions, and `openai`, over responses."""

    MESSAGES = [
        {"role": "system", "content": "You answer briefly."},
        {"role": "user", "content": [{"type": "text", "text": "Describe a person."}]},
    ]
    TOOL = {"name": "weather", "description": "The weather of a city.", "parameters": {
        "$schema": "http://json-schema.org/draft-07/schema#", "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}}, "required": ["city"],
        "additionalProperties": False}}

    def test_generate_object(self, http):
        form = {"type": "json_schema", "json_schema": {"schema": SCHEMA, "strict": True, "name": "response"}}
        answer = post(http, "chat/completions", {
            "model": "base", "messages": self.MESSAGES, "response_format": form, "max_tokens": 200, "temperature": 0})
        jsonschema.validate(json.loads(answer["choices"][0]["message"]["content"]), SCHEMA)

    def test_stream_text(self, http):
        found = events(http, "chat/completions", {
            "model": "base", "messages": self.MESSAGES, "max_tokens": 20, "stream": True, "stream_options": {"include_usage": True}})
        assert "".join(choice["delta"].get("content") or "" for event in found for choice in event["choices"])
        assert found[-1]["usage"]["completion_tokens"] <= 20

    @pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
    def test_stream_tools(self, http, choice):
        """Arguments come in deltas of an indexed call, whose first has the id and the name. They go back with the result."""
        body = {
            "model": "base", "messages": self.MESSAGES, "max_tokens": 100, "stream": True, "parallel_tool_calls": False,
            "tools": [{"type": "function", "function": self.TOOL}], "tool_choice": choice}
        deltas = [
            call for event in events(http, "chat/completions", body) for choice in event["choices"]
            for call in choice["delta"].get("tool_calls") or []]
        assert deltas[0]["id"] and deltas[0]["function"]["name"] == "weather" and {call["index"] for call in deltas} == {0}
        arguments = "".join(call["function"]["arguments"] for call in deltas)
        jsonschema.validate(json.loads(arguments), self.TOOL["parameters"])
        call = {"id": deltas[0]["id"], "type": "function", "function": {"name": "weather", "arguments": arguments}}
        answer = post(http, "chat/completions", {
            "model": "base", "max_tokens": 10, "messages": [
                *self.MESSAGES, {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}]})
        assert answer["choices"][0]["message"]["content"]

    def test_responses(self, http):
        content = [{"type": "input_text", "text": "Describe a person."}]
        body = {
            "model": "base", "input": [{"role": "system", "content": "You answer briefly."}, {"role": "user", "content": content}],
            "max_output_tokens": 200, "text": {"format": {
                "type": "json_schema", "strict": True, "name": "response", "schema": SCHEMA}}}
        answer = post(http, "responses", body)
        jsonschema.validate(json.loads(answer["output"][0]["content"][0]["text"]), SCHEMA)
        tool = {"type": "function", "strict": True} | self.TOOL
        body = {
            "model": "base", "input": body["input"], "max_output_tokens": 100, "tools": [tool], "stream": True,
            "tool_choice": {"type": "function", "name": "weather"}}
        found = events(http, "responses", body)
        done = next(event["item"] for event in found if event["type"] == "response.output_item.done")
        assert done["type"] == "function_call" and done["name"] == "weather"
        past = [
            {"type": "function_call", "call_id": done["call_id"], "name": "weather", "arguments": done["arguments"], "id": done["id"]},
            {"type": "function_call_output", "call_id": done["call_id"], "output": "sunny"}]
        answer = post(http, "responses", {
            "model": "base", "input": [*body["input"], *past], "max_output_tokens": 10, "tools": [tool], "tool_choice": "none"})
        assert answer["output"][0]["content"][0]["text"]
        # Unless it is told `store: false`, the SDK names what the server has written.
        references = [{"type": "item_reference", "id": done["id"]}, past[1]]
        named = post(http, "responses", {
            "model": "base", "input": [*body["input"], *references], "max_output_tokens": 10, "tools": [tool], "tool_choice": "none"})
        assert named["usage"]["input_tokens"] == answer["usage"]["input_tokens"]
        references += [
            {"type": "item_reference", "id": named["output"][0]["id"]}, {"role": "user", "content": [{"type": "input_text", "text": "Thanks."}]}]
        assert post(http, "responses", {
            "model": "base", "input": [*body["input"], *references], "max_output_tokens": 10})["output"][0]["content"][0]["text"]


class TestExamples:
    def test_curl(self, run_example):
        answer = json.loads(run_example("schema.sh", "bash"))
        assert json.loads(answer["choices"][0]["message"]["content"])["colour"] in ("red", "green", "blue")

    @pytest.mark.skipif(not shutil.which("node"), reason="there is no node")
    def test_fetch(self, run_example):
        assert "Paris" in run_example("stream.mjs", "node")
