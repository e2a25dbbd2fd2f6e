"""LiteLLM: chats, tools, streams, schemas, completions, embeddings, responses."""

import asyncio

import litellm
import pytest
from litellm.utils import function_to_dict

from forms import QUESTION, Person

MESSAGES = [{"role": "user", "content": QUESTION}]
TOOLS = [{
    "type": "function",
    "function": {
        "name": "get_weather", "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]},
    },
}]


@pytest.fixture(scope="module")
def to(url):
    return {"api_base": url, "api_key": "none", "num_retries": 0}


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
def test_completion(to, provider):
    answer = litellm.completion(model=f"{provider}/base", messages=MESSAGES, max_tokens=20, **to)
    assert answer.choices[0].message.content and answer.usage.completion_tokens <= 20


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
def test_stream(to, provider):
    chunks = list(litellm.completion(
        model=f"{provider}/base", messages=MESSAGES, max_tokens=20, stream=True, stream_options={"include_usage": True}, **to))
    whole = litellm.stream_chunk_builder(chunks, messages=MESSAGES)
    assert whole.choices[0].message.content and whole.usage.completion_tokens <= 20


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_tools(to, provider, stream, choice):
    answer = litellm.completion(
        model=f"{provider}/base", messages=MESSAGES, tools=TOOLS, tool_choice=choice, max_tokens=200, seed=1, stream=stream, **to)
    if stream:
        answer = litellm.stream_chunk_builder(list(answer), messages=MESSAGES)
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.tool_calls[0].function.name == "get_weather"


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
def test_schema(to, provider):
    answer = litellm.completion(
        model=f"{provider}/base", messages=MESSAGES, response_format=Person, max_tokens=300, seed=1, **to)
    assert Person.model_validate_json(answer.choices[0].message.content)


def test_text_completion(to):
    assert litellm.text_completion(model="text-completion-openai/base", prompt="One, two,", max_tokens=8, **to).choices[0].text


def test_embedding(to):
    answer = litellm.embedding(model="openai/base", input=["a cat", "a kitten"], **to)
    assert len(answer.data) == 2 and len(answer.data[0]["embedding"]) == 576


def test_responses(to):
    answer = litellm.responses(model="openai/base", input=QUESTION, max_output_tokens=20, **to)
    assert answer.output[0].content[0].text


def test_async(to):
    async def ask():
        return await asyncio.gather(*(
            litellm.acompletion(model="openai/base", messages=MESSAGES, max_tokens=4, **to) for _ in range(4)))

    assert all(answer.choices[0].message.content for answer in asyncio.run(ask()))
