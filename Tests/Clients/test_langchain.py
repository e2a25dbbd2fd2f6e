"""LangChain: structured output in its three methods, bound tools, embeddings, the Responses API."""

import json

import pytest
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from openai import LengthFinishReasonError

from forms import QUESTION, Person, Team, get_time, get_weather

TOOLS = [tool(get_weather), tool(get_time)]


@pytest.fixture(scope="module")
def model(settings):
    return ChatOpenAI(model="base", max_tokens=300, seed=1, temperature=0.5, max_retries=0, **settings)


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
@pytest.mark.parametrize("strict", [None, True])
@pytest.mark.parametrize("form", [Person, Team])
def test_structured_output(model, method, strict, form):
    assert isinstance(model.with_structured_output(form, method=method, strict=strict).invoke(QUESTION), form)


def test_json_mode(model):
    """The schema is not sent: the answer is an object, but may not be the form's."""
    try:
        answer = model.with_structured_output(Person, method="json_mode", include_raw=True).invoke(QUESTION + " Use JSON.")
        assert isinstance(json.loads(answer["raw"].content), dict)
    except LengthFinishReasonError as cut:
        assert cut.completion.choices[0].message.content.lstrip().startswith("{")


def test_structured_output_streams(model):
    parts = list(model.with_structured_output(Person).stream(QUESTION))
    assert isinstance(parts[-1], Person)


@pytest.mark.parametrize("choice", ["any", "required", True, "get_time"])
def test_tools(model, choice):
    tools = TOOLS[:1] if choice is True else TOOLS
    bound = model.bind_tools(tools, tool_choice=choice, parallel_tool_calls=False)
    (call,) = bound.invoke("How is the weather in Paris?").tool_calls
    names = [tool.name for tool in tools]
    assert call["name"] in (["get_time"] if choice == "get_time" else names)
    by_name = {tool.name: tool for tool in TOOLS}
    message = by_name[call["name"]].invoke(call | {"type": "tool_call"})
    assert message.content in {"It is sunny in Paris.", "It is sunny in Rome.", "It is noon in UTC.", "It is noon in CET."}


def test_tools_stream(model):
    total = None
    for chunk in model.bind_tools(TOOLS, tool_choice="get_weather").stream("How is the weather?"):
        total = chunk if total is None else total + chunk
    assert total.tool_calls[0]["name"] == "get_weather" and total.tool_calls[0]["args"]["city"] in ("Paris", "Rome")


def test_a_loop_with_a_tool(model):
    question = ("human", "How is the weather in Paris?")
    call = model.bind_tools(TOOLS, tool_choice="get_weather", parallel_tool_calls=False).invoke([question])
    result = TOOLS[0].invoke(call.tool_calls[0])
    answer = model.bind_tools(TOOLS, tool_choice="none").invoke([question, call, result])
    assert answer.content and not answer.tool_calls


def test_responses_api(settings):
    model = ChatOpenAI(model="base", max_tokens=200, use_responses_api=True, max_retries=0, **settings)
    assert model.invoke("Hello.").text
    assert isinstance(model.with_structured_output(Person).invoke(QUESTION), Person)
    # Strict: the small model's own arguments may be longer than an answer.
    bound = model.bind_tools(TOOLS, tool_choice="get_time", strict=True)
    assert bound.invoke("Hello.").tool_calls[0]["name"] == "get_time"
    assert "".join(chunk.text for chunk in model.stream("Hello."))


def test_embeddings(settings):
    model = OpenAIEmbeddings(model="base", check_embedding_ctx_length=False, dimensions=64, **settings)
    one, two = model.embed_documents(["a cat", "a kitten"])
    assert len(one) == len(two) == 64 and one == pytest.approx(model.embed_query("a cat"), abs=1e-5)


def test_example(run_example):
    call, answer = run_example("langchain_tool.py").split("\n", 1)
    assert call.startswith("{'country': ") and call.endswith("million") and answer.strip()
