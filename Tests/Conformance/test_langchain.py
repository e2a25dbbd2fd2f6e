"""LangChain's OpenAI classes against the server."""

import asyncio
from typing import Literal

import pydantic
import pytest
from langchain_openai import ChatOpenAI, OpenAI

MESSAGES = [("system", "You answer briefly."), ("human", "What is the capital of France?")]


@pytest.fixture(scope="module")
def settings(server):
    return dict(base_url=server.url + "/v1", api_key="none", temperature=0, max_tokens=24, max_retries=0)


def test_chat(settings):
    answer = ChatOpenAI(model="base", **settings).invoke(MESSAGES)
    assert "Paris" in answer.content
    usage = answer.usage_metadata
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 20
    assert answer.response_metadata["finish_reason"] in ("stop", "length")
    assert answer.response_metadata["id"].startswith("chatcmpl-")


def test_chat_stream(settings):
    model = ChatOpenAI(model="r8-all", stream_usage=True, **settings)
    whole = model.invoke(MESSAGES)
    chunks = list(model.stream(MESSAGES))
    assert len(chunks) > 5
    assert "".join(chunk.content for chunk in chunks) == whole.content
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    assert total.usage_metadata["output_tokens"] == whole.usage_metadata["output_tokens"]


def test_chat_logprobs(settings):
    answer = ChatOpenAI(model="base", logprobs=True, top_logprobs=2, **settings).invoke(MESSAGES)
    entries = answer.response_metadata["logprobs"]["content"]
    assert b"".join(bytes(entry["bytes"]) for entry in entries).decode() == answer.content


def test_batch_and_async(settings):
    model = ChatOpenAI(model="base", **settings)
    questions = [f"What is {number} plus 1?" for number in range(6)]
    alone = [model.invoke(question).content for question in questions]
    assert [answer.content for answer in model.batch(questions)] == alone

    async def ask():
        return await asyncio.gather(*(model.ainvoke(question) for question in questions))

    assert [answer.content for answer in asyncio.run(ask())] == alone


def test_parts(settings):
    message = {"role": "user", "content": [{"type": "text", "text": "What is the capital of France?"}]}
    assert "Paris" in ChatOpenAI(model="base", **settings).invoke([message]).content


def test_completion(settings):
    model = OpenAI(model="base", **settings)
    whole = model.invoke("The capital of France is")
    assert "Paris" in whole
    assert "".join(model.stream("The capital of France is")) == whole
    assert len(model.generate(["One, two,", "A, B,"]).generations) == 2


class Colour(pydantic.BaseModel):
    """A colour."""

    name: Literal["red", "green", "blue"]
    is_warm: bool


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(settings, method):
    model = ChatOpenAI(model="base", **settings | {"max_tokens": 60})
    assert isinstance(model.with_structured_output(Colour, method=method).invoke("Name a colour."), Colour)


def test_forced_tool(settings):
    model = ChatOpenAI(model="base", **settings | {"max_tokens": 60}).bind_tools([Colour], tool_choice="any")
    call = model.invoke("Name a colour.").tool_calls[0]
    assert call["name"] == "Colour" and Colour.model_validate(call["args"])
