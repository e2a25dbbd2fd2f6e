"""Answers of the model under random schemas: every one that ends is valid."""

import json
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from graft_server import ROOT

sys.path.append(str(ROOT / "scripts"))
from random_schemas import Validator, schema  # noqa: E402


def validate(text, drawn):
    """As numbers are written, and as doubles; as these, large decimals can lose that they are multiples."""
    Validator(drawn).validate(json.loads(text, parse_float=Decimal))
    if "multipleOf" not in json.dumps(drawn):
        Validator(drawn).validate(json.loads(text))


def as_answers(drawn):
    return "/v1/completions", {"prompt": "A JSON document:\n", "guided_json": drawn}


def as_arguments(drawn):
    tool = {"type": "function", "function": {"name": "f", "parameters": drawn}}
    return "/v1/chat/completions", {
        "messages": [{"role": "user", "content": "Call f."}], "tools": [tool], "tool_choice": "required",
        "parallel_tool_calls": False}


def written(choice):
    """The document of a choice; nothing where the limit on tokens cut it."""
    if "text" in choice:
        return choice["text"] if choice["finish_reason"] == "stop" else None
    calls = choice["message"].get("tool_calls") or []
    return calls[0]["function"]["arguments"] if choice["finish_reason"] == "tool_calls" else None


def draw(count, is_object):
    """Random schemas, the same in every run."""
    rng = random.Random(20)
    drawn = []
    while len(drawn) < count:
        one = schema(rng)
        if not is_object or isinstance(one, dict) and one.get("type") == "object":
            drawn.append(one)
    return drawn


@pytest.mark.parametrize("form, count", [(as_answers, 48), (as_arguments, 24)])
def test_answers_that_end_are_valid(server, form, count):
    drawn = draw(count, is_object=form is as_arguments)

    def ask(number):
        path, body = form(drawn[number])
        return server.http.post(path, json=body | {"max_tokens": 96, "temperature": 1.2, "seed": number})

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(ask, range(count)))
    ended = 0
    for one, reply in zip(drawn, replies):
        if reply.status_code == 400:
            # What a grammar cannot express is named with its path.
            message = reply.json()["error"]["message"]
            assert "cannot be followed: " in message and "#" in message, (one, message)
            continue
        assert reply.status_code == 200, (one, reply.text)
        if (text := written(reply.json()["choices"][0])) is not None:
            ended += 1
            validate(text, one)
    # The limit on tokens cuts the others.
    assert ended >= count // 5
