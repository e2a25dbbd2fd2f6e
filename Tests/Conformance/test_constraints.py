"""Answers that must follow a schema, a regular expression, a list of choices or a grammar, and calls that are forced."""

import json
import re

import jsonschema
import openai
import pydantic
import pytest

from graft_server import Server
from sse import events

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
QUESTION = [{"role": "user", "content": "Describe a person as JSON."}]
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["kind", "brave", "quick"]}, "minItems": 1, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather", "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}, "unit": {"enum": ["celsius", "fahrenheit"]}},
            "required": ["city", "unit"], "additionalProperties": False,
        },
    },
}
# A schema with a keyword that cannot be followed.
UNCOVERED = {"type": "object", "properties": {"a": {"$dynamicRef": "#x"}}}
TIME = {
    "type": "function",
    "function": {
        "name": "get_time",
        "parameters": {
            "type": "object", "properties": {"zone": {"enum": ["UTC", "CET"]}}, "required": ["zone"],
            "additionalProperties": False,
        },
    },
}


def ask(server, path=CHAT, **fields):
    body = {"max_tokens": 200, "seed": 1} | fields
    if path == CHAT:
        body = {"messages": QUESTION} | body
    else:
        body = {"prompt": "Here is a person:\n"} | body
    reply = server.http.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"][0]


def text(choice):
    return choice["text"] if "text" in choice else choice["message"]["content"]


def refused(server, path=CHAT, **fields):
    body = {"messages": QUESTION} if path == CHAT else {"prompt": "x"}
    reply = server.http.post(path, json=body | fields)
    assert reply.status_code == 400, reply.text
    return reply.json()["error"]


class TestSchemas:
    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("temperature", [0, 1, 2])
    def test_every_answer_is_valid(self, server, seed, temperature):
        form = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}}
        choice = ask(server, response_format=form, seed=seed, temperature=temperature)
        assert choice["finish_reason"] == "stop"
        jsonschema.validate(json.loads(text(choice)), PERSON)

    @pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
    @pytest.mark.parametrize(
        "fields",
        [
            {"response_format": {"type": "json_schema", "json_schema": {"name": "p", "schema": PERSON}}},
            {"response_format": {"type": "json_object", "schema": PERSON}},
            {"guided_json": PERSON}, {"guided_json": json.dumps(PERSON)}, {"json_schema": PERSON},
            {"structured_outputs": {"json": PERSON}},
        ],
        ids=lambda fields: "-".join(fields),
    )
    def test_every_way_to_say_it(self, server, path, fields):
        choice = ask(server, path, **fields)
        assert choice["finish_reason"] == "stop"
        jsonschema.validate(json.loads(text(choice)), PERSON)

    def test_same_answer_in_a_batch(self, server):
        """A choice of eight is the same as when it is asked for alone."""
        form = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
        reply = server.http.post(
            CHAT, json={"messages": QUESTION, "n": 8, "seed": 5, "max_tokens": 120, "response_format": form}).json()
        for index in [0, 3, 7]:
            alone = ask(server, response_format=form, seed=5 + index, max_tokens=120)
            assert text(alone) == reply["choices"][index]["message"]["content"]

    def test_any_object(self, server):
        choice = ask(server, response_format={"type": "json_object"}, temperature=0, max_tokens=400)
        if choice["finish_reason"] == "stop":
            assert isinstance(json.loads(text(choice)), dict)
        else:
            assert text(choice).lstrip().startswith("{")

    def test_a_limit_cuts_the_document(self, server):
        choice = ask(server, guided_json=PERSON, max_tokens=5)
        assert choice["finish_reason"] == "length"

    def test_logprobs_are_the_models_own(self, server):
        """The distribution is reported as it was before the mask."""
        body = {"messages": QUESTION, "max_tokens": 1, "temperature": 0, "logprobs": True, "top_logprobs": 5}
        free = server.http.post(CHAT, json=body).json()["choices"][0]["logprobs"]["content"][0]
        bound = server.http.post(CHAT, json=body | {"guided_json": PERSON}).json()["choices"][0]["logprobs"]["content"][0]
        assert bound["top_logprobs"] == free["top_logprobs"]
        assert bound["token"].lstrip().startswith("{") and bound["logprob"] <= free["logprob"]

    def test_parse(self, client):
        class Person(pydantic.BaseModel):
            name: str
            grown_up: bool

        completion = client.chat.completions.parse(
            model="base", messages=QUESTION, response_format=Person, max_tokens=300, seed=3, temperature=0.5)
        message = completion.choices[0].message
        assert isinstance(message.parsed, Person)

    def test_parse_of_responses(self, client):
        class Colour(pydantic.BaseModel):
            name: str
            warm: bool

        response = client.responses.parse(
            model="base", input="Name a colour.", text_format=Colour, max_output_tokens=300, temperature=0.5)
        assert isinstance(response.output_parsed, Colour)

    def test_streams(self, client):
        form = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
        pieces = [
            chunk.choices[0].delta.content or ""
            for chunk in client.chat.completions.create(
                model="base", messages=QUESTION, response_format=form, max_tokens=200, seed=2, stream=True)
        ]
        jsonschema.validate(json.loads("".join(pieces)), PERSON)

    @pytest.mark.parametrize(
        "schema, words",
        [
            ({"type": "array", "uniqueItems": True}, ["uniqueItems"]),
            ({"properties": {"a": {"$dynamicRef": "#x"}}}, ["$dynamicRef", "/properties/a"]),
            ({"$ref": "#/$defs/missing"}, ["#/$defs/missing"]),
            ({"type": "strin"}, ["strin"]),
            ({"type": "string", "pattern": "(?=x)y"}, ["pattern"]),
        ],
    )
    def test_what_is_not_covered_is_named(self, server, schema, words):
        error = refused(
            server, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
        assert error["param"] == "response_format.json_schema.schema"
        assert all(word in error["message"] for word in words), error["message"]

    @pytest.mark.parametrize(
        "fields, param",
        [
            ({"response_format": {"type": "xml"}}, "response_format.type"),
            ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
            ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
             "response_format.json_schema.schema"),
            ({"guided_json": 3}, "guided_json"), ({"guided_json": "{"}, "guided_json"),
            ({"guided_choice": []}, "guided_choice"), ({"guided_choice": [1]}, "guided_choice"),
            ({"guided_regex": "(a"}, "guided_regex"), ({"guided_grammar": "root ::= x"}, "guided_grammar"),
            ({"structured_outputs": {"xml": 1}}, "structured_outputs.xml"),
            ({"guided_regex": "a", "guided_choice": ["b"]}, "guided_choice"),
            ({"grammar": "root ::= ("}, "grammar"),
        ],
    )
    def test_wrong_values(self, server, fields, param):
        assert refused(server, **fields)["param"] == param

    def test_text_that_is_nested_too_deeply(self, server):
        error = refused(server, guided_json='{"const":' + "[" * 200 + "]" * 200 + "}")
        assert error["param"] == "guided_json" and "nested more than 64 deep" in error["message"]

    @pytest.mark.parametrize(
        "fields, words",
        [
            ({"guided_json": {"not": {"prefixItems": [{}] * 15_000}}}, "more than 2000 alternatives"),
            ({"guided_json": {"const": "k" * 6_000_000}}, "units of work"),
            ({"guided_json": {"pattern": "^" + ".?" * 9_900 + "$", "minLength": 3}}, "units of work"),
            ({"guided_regex": "\\p{L}" * 3_000}, "units of work"),
        ],
    )
    def test_what_would_take_too_much(self, server, fields, words):
        assert words in refused(server, **fields)["message"]
        assert text(ask(server, guided_choice=["red"])) == "red"

    @pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
    def test_numbers_that_no_double_holds(self, server, path):
        large = 12345678901234567890123
        schema = {
            "type": "object", "required": ["a", "b", "c"], "additionalProperties": False, "properties": {
                "a": {"const": large}, "b": {"enum": [2**53 + 1, -large]},
                "c": {"type": "integer", "minimum": large, "maximum": large + 1}}}
        for seed in range(3):
            document = json.loads(text(ask(server, path, guided_json=schema, seed=seed, temperature=1.5)))
            jsonschema.validate(document, schema)
            assert document["a"] == large and document["c"] in (large, large + 1)

    @pytest.mark.parametrize("keyword, value", [("minimum", "1e400"), ("const", "[-1e400]"), ("maxLength", "1e999")])
    def test_numbers_beyond_doubles_are_named(self, server, keyword, value):
        body = f'{{"prompt": "x", "guided_json": {{"properties": {{"a/b": {{"{keyword}": {value}}}}}}}}}'
        reply = server.http.post(COMPLETIONS, content=body, headers={"Content-Type": "application/json"})
        error = reply.json()["error"]
        assert reply.status_code == 400 and error["param"] == "guided_json", error
        assert f"#/properties/a~1b/{keyword}: {keyword} has the number" in error["message"]


class TestOtherConstraints:
    def test_stop_tokens_that_leave_nothing(self, server):
        (token,) = server.http.post("/tokenize", json={"prompt": "#", "add_special_tokens": False}).json()["tokens"]
        error = refused(server, COMPLETIONS, guided_regex="#", stop_token_ids=[token])
        assert error["code"] == "constraint_failed" and error["param"] == "stop_token_ids", error
        assert text(ask(server, COMPLETIONS, guided_regex="#")) == "#"

    @pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
    def test_choices(self, server, path):
        for seed in range(4):
            choice = ask(server, path, guided_choice=["red", "green", "greenish"], seed=seed, temperature=1.5)
            assert text(choice) in {"red", "green", "greenish"} and choice["finish_reason"] == "stop"

    @pytest.mark.parametrize("fields", [{"guided_regex": r"\d{3}-[a-f]{2,4}"}, {"structured_outputs": {"regex": r"\d{3}-[a-f]{2,4}"}}])
    def test_regular_expressions(self, server, fields):
        for seed in range(4):
            choice = ask(server, seed=seed, temperature=1.5, **fields)
            assert re.fullmatch(r"\d{3}-[a-f]{2,4}", text(choice)), text(choice)

    @pytest.mark.parametrize("field", ["grammar", "guided_grammar"])
    def test_grammars(self, server, field):
        grammar = 'root ::= "(" root ")" | [xyz]+'
        for seed in range(4):
            choice = ask(server, COMPLETIONS, seed=seed, max_tokens=60, **{field: grammar})
            if choice["finish_reason"] == "stop":
                inner = text(choice).strip("()")
                depth = text(choice).count("(")
                assert re.fullmatch("[xyz]+", inner) and text(choice) == "(" * depth + inner + ")" * depth

    @pytest.mark.parametrize("seed", range(2))
    def test_grammars_of_lark(self, server, seed):
        grammar = 'start: item~2..3\nitem: WORD "=" INT\nWORD: /[xy]{1,3}/i\n%import common.INT\n%ignore ", "'
        choice = ask(server, COMPLETIONS, seed=seed, max_tokens=60, temperature=1.5, guided_grammar=grammar)
        if choice["finish_reason"] == "stop":
            assert re.fullmatch(r"([xyXY]{1,3}(, )*=(, )*[0-9]+(, )*){2,3}", text(choice)), text(choice)
        wrong = refused(server, guided_grammar="start: A\nA.2: /a/")
        assert "priorities are not supported" in wrong["message"] and wrong["param"] == "guided_grammar"

    def test_characters_of_several_bytes(self, server):
        choice = ask(server, guided_choice=["日本語", "Grüße", "🦙🦙"], temperature=2)
        assert text(choice) in {"日本語", "Grüße", "🦙🦙"}


class TestForcedCalls:
    def calls(self, message):
        return [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in message["tool_calls"]]

    @pytest.mark.parametrize("seed", range(4))
    def test_required(self, server, seed):
        choice = ask(server, tools=[WEATHER, TIME], tool_choice="required", seed=seed, parallel_tool_calls=False)
        assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] is None
        (name, arguments), = self.calls(choice["message"])
        tool = {"get_weather": WEATHER, "get_time": TIME}[name]
        jsonschema.validate(arguments, tool["function"]["parameters"])

    @pytest.mark.parametrize("tool", [WEATHER, TIME], ids=["weather", "time"])
    def test_named(self, server, tool):
        name = tool["function"]["name"]
        choice = ask(
            server, tools=[WEATHER, TIME], tool_choice={"type": "function", "function": {"name": name}}, temperature=0)
        (called, arguments), = self.calls(choice["message"])
        assert called == name
        jsonschema.validate(arguments, tool["function"]["parameters"])

    @pytest.mark.parametrize("fields", [
        {"tool_choice": "required"}, {"tool_choice": {"type": "function", "function": {"name": "get_weather"}}},
        {"tool_choice": "required", "stop": ["§"]}], ids=["required", "named", "held"])
    def test_streamed_as_written(self, server, fields):
        """The first delta of a call has its id and name, and all deltas together the arguments of a whole answer. With a stop string,
        a call is held until it is complete."""
        body = {"tools": [WEATHER], "temperature": 0, "max_tokens": 200, "parallel_tool_calls": False} | fields
        whole = ask(server, **body)["message"]["tool_calls"][0]["function"]
        choices = [event["choices"][0] for event in events(server, CHAT, messages=QUESTION, **body)]
        deltas = [call for choice in choices for call in choice["delta"].get("tool_calls", [])]
        assert {call["index"] for call in deltas} == {0} and not any(choice["delta"].get("content") for choice in choices)
        first, *more = deltas
        assert first["id"].startswith("call_") and first["type"] == "function" and first["function"]["name"] == whole["name"]
        assert all(set(call) == {"index", "function"} and set(call["function"]) == {"arguments"} for call in more)
        assert "".join(call["function"]["arguments"] for call in deltas) == whole["arguments"]
        assert choices[-1]["finish_reason"] == "tool_calls"
        assert (len(deltas) > 4) == ("stop" not in fields)

    def test_a_cut_call(self, server, client):
        """A call that the limit on tokens cuts is in the answer as far as it was written, streamed or not. A continued response is
        shown without it."""
        body = {"tools": [WEATHER], "tool_choice": "required", "temperature": 0}
        whole = ask(server, max_tokens=200, parallel_tool_calls=False, **body)["message"]["tool_calls"][0]["function"]["arguments"]
        found = events(server, CHAT, messages=QUESTION, max_tokens=20, **body)
        deltas = [call for event in found for call in event["choices"][0]["delta"].get("tool_calls", [])]
        arguments = "".join(call["function"]["arguments"] for call in deltas)
        assert arguments and whole.startswith(arguments) and whole != arguments
        assert found[-1]["choices"][0]["finish_reason"] == "length"
        choice = ask(server, max_tokens=20, **body)
        (call,) = choice["message"]["tool_calls"]
        assert call["function"] == {"name": "get_weather", "arguments": arguments}
        assert choice["finish_reason"] == "length" and choice["message"]["content"] is None
        tool = {"type": "function", **WEATHER["function"]}
        fields = {"model": "base", "tools": [tool], "tool_choice": "required", "temperature": 0, "max_output_tokens": 20}
        *_, last = client.responses.create(input=QUESTION, stream=True, **fields)
        assert last.type == "response.incomplete"
        question = {"role": "user", "content": "And now?"}
        for response in [last.response, client.responses.create(input=QUESTION, **fields)]:
            (item,) = response.output
            assert (response.status, item.type, item.status) == ("incomplete", "function_call", "incomplete")
            assert item.arguments == arguments
            assert client.responses.create(input=[question], previous_response_id=response.id, **fields).output
        cut = {"type": "function_call", "call_id": item.call_id, "name": item.name, "arguments": arguments, "status": "incomplete"}
        assert client.responses.create(input=[*QUESTION, cut, question], **fields).output

    def test_streamed(self, client):
        with client.chat.completions.stream(
            model="base", messages=QUESTION, tools=[WEATHER], tool_choice="required", max_tokens=200, seed=4,
            parallel_tool_calls=False,
        ) as stream:
            message = stream.get_final_completion().choices[0].message
        jsonschema.validate(
            json.loads(message.tool_calls[0].function.arguments), WEATHER["function"]["parameters"])

    def test_between_the_marks_of_a_template(self, data_dir, tmp_path):
        """Marks that are special tokens, as Mistral's are: they are forced, found, and not in the text. Calls are streamed as they are
        written. Like Mistral's, the template takes ids of nine characters, and no question behind a result."""
        file = tmp_path / "marks.jinja"
        file.write_text(
            "{% for m in messages %}{% if m.role == 'user' and loop.previtem is defined and loop.previtem.role == 'tool' %}"
            "{{ raise_exception('roles must alternate') }}{% endif %}"
            "{{ m.role }}: {{ m.content }}{% for c in m.tool_calls or [] %}"
            "{% if c.id | length != 9 %}{{ raise_exception('ids have nine characters') }}{% endif %}"
            "<issue_start>{{ c.function.name }}<issue_comment>{{ c.function.arguments | tojson }}{% endfor %}<|im_end|>"
            "{% endfor %}{{ tools | tojson if tools }}{% if add_generation_prompt %}assistant: {% endif %}"
        )
        with Server("--chat-template", file, data_dir=data_dir) as server:
            body = {"tools": [TIME], "tool_choice": "required", "parallel_tool_calls": False}
            choice = ask(server, logprobs=True, **body)
            (name, arguments), = self.calls(choice["message"])
            assert name == "get_time" and choice["message"]["content"] is None
            jsonschema.validate(arguments, TIME["function"]["parameters"])
            tokens = [entry["token"] for entry in choice["logprobs"]["content"]]
            assert tokens[0] == "<issue_start>" and "<issue_comment>" in tokens
            (call,) = choice["message"]["tool_calls"]
            found = events(server, CHAT, messages=QUESTION, max_tokens=200, seed=1, **body)
            deltas = [call for event in found for call in event["choices"][0]["delta"].get("tool_calls", [])]
            assert len(deltas) > 3 and deltas[0]["function"]["name"] == name
            assert "".join(delta["function"]["arguments"] for delta in deltas) == call["function"]["arguments"]
            result = {"role": "tool", "tool_call_id": call["id"], "content": "Noon."}
            messages = [*QUESTION, choice["message"], result, {"role": "user", "content": "And now?"}]
            reply = server.http.post(CHAT, json={"messages": messages, "tools": [TIME], "max_tokens": 1})
            assert reply.status_code == 200 and "'OK' stands between" in reply.headers["x-graft-warning"], reply.text

    def test_a_call_or_a_document(self, server):
        """With a format and tools, the answer is one or the other."""
        for seed in range(4):
            choice = ask(server, tools=[TIME], guided_json=PERSON, seed=seed, parallel_tool_calls=False)
            if choice["message"].get("tool_calls"):
                (name, arguments), = self.calls(choice["message"])
                jsonschema.validate(arguments, TIME["function"]["parameters"])
            else:
                jsonschema.validate(json.loads(choice["message"]["content"]), PERSON)

    @pytest.mark.parametrize(
        "strict, choice",
        [(True, "auto"), (True, "required"), (False, "required"), (False, {"type": "function", "function": {"name": "f"}}),
         (False, {"type": "allowed_tools", "allowed_tools": {
             "mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]}})])
    def test_schemas_of_forced_calls_must_be_covered(self, server, strict, choice):
        tool = {"type": "function", "function": {"name": "f", "strict": strict, "parameters": UNCOVERED}}
        error = refused(server, tools=[tool], tool_choice=choice)
        assert error["param"] == "tools" and "'f'" in error["message"], error
        assert "#/properties/a/$dynamicRef" in error["message"], error

    @pytest.mark.parametrize("stream", [False, True])
    def test_other_schemas_that_are_not_covered_are_told(self, server, stream):
        tools = [TIME, {"type": "function", "function": {
            "name": "f", "parameters": {"properties": {"a\r\nX: é": UNCOVERED}}}}]
        body = {"messages": QUESTION, "max_tokens": 1, "tools": tools, "parallel_tool_calls": False, "stream": stream}
        reply = server.http.post(CHAT, json=body)
        assert reply.status_code == 200, reply.text
        warning = reply.headers["x-graft-warning"]
        assert "'f'" in warning and r"a\r\nX: \u{00E9}/properties/a/$dynamicRef" in warning, warning
        assert "x" not in reply.headers

    @pytest.mark.parametrize("seed", range(6))
    def test_keys_that_repeat(self, server, seed):
        """A schema does not forbid that a key comes twice, and the model may write that. A forced call stays a call."""
        function = {"name": "f", "parameters": {
            "type": "object", "patternProperties": {"^[ab]$": {"enum": [1, 2]}}, "additionalProperties": False}}
        choice = ask(
            server, messages=[{"role": "user", "content": "Describe the time as JSON."}], temperature=1.5, seed=seed,
            tools=[{"type": "function", "function": function}], tool_choice="required", parallel_tool_calls=False)
        assert choice["finish_reason"] == "tool_calls", choice
        (call,) = choice["message"]["tool_calls"]
        jsonschema.validate(json.loads(call["function"]["arguments"]), function["parameters"])

    @pytest.mark.parametrize("seed", range(4))
    def test_allowed_tools(self, server, seed):
        allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "get_time"}}]}
        choice = ask(
            server, tools=[WEATHER, TIME], tool_choice={"type": "allowed_tools", "allowed_tools": allowed}, seed=seed)
        assert {call["function"]["name"] for call in choice["message"]["tool_calls"]} == {"get_time"}
        choice = ask(
            server, tools=[WEATHER, TIME], seed=seed, temperature=2,
            tool_choice={"type": "allowed_tools", "allowed_tools": allowed | {"mode": "auto"}})
        calls = choice["message"].get("tool_calls") or []
        assert {call["function"]["name"] for call in calls} <= {"get_time"}

    def test_allowed_tools_of_responses(self, client):
        tools = [{"type": "function", **tool["function"]} for tool in (WEATHER, TIME)]
        choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "get_weather"}]}
        response = client.responses.create(
            model="base", input="Hello.", tools=tools, tool_choice=choice, parallel_tool_calls=False, max_output_tokens=100)
        assert [item.name for item in response.output] == ["get_weather"]
        assert response.tool_choice.type == "allowed_tools"

    @pytest.mark.parametrize(
        "allowed",
        [{}, {"mode": "auto"}, {"mode": "auto", "tools": []}, {"mode": "never", "tools": [{"type": "function", "function": {"name": "get_time"}}]},
         {"mode": "auto", "tools": ["get_time"]}, {"mode": "auto", "tools": [{"type": "function", "function": {"name": "g"}}]}])
    def test_wrong_allowed_tools(self, server, allowed):
        choice = {"type": "allowed_tools", "allowed_tools": allowed}
        assert refused(server, tools=[WEATHER, TIME], tool_choice=choice)["param"].startswith("tool_choice")

    @pytest.mark.parametrize("choice, param", [
        ("sometimes", "tool_choice"), ({"type": "function"}, "tool_choice.function"),
        ({"type": "function", "function": {"name": "g"}}, "tool_choice")])
    def test_wrong_choices(self, server, choice, param):
        assert refused(server, tools=[WEATHER], tool_choice=choice)["param"] == param

    def test_calls_reach_openai(self, client):
        completion = client.chat.completions.create(
            model="base", messages=QUESTION, tools=[WEATHER], max_tokens=200, seed=1,
            tool_choice={"type": "function", "function": {"name": "get_weather"}})
        assert isinstance(completion, openai.types.chat.ChatCompletion)
        assert completion.choices[0].message.tool_calls[0].function.name == "get_weather"
