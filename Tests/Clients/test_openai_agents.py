"""The OpenAI Agents SDK: loops with two tools and a handoff, through responses and through chat completions."""

import asyncio

import pytest
from agents import (
    Agent, AgentHooks, ModelSettings, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, ToolCallItem,
    ToolCallOutputItem, function_tool, set_tracing_disabled)
from openai import AsyncOpenAI

from forms import QUESTION, Person, get_time, get_weather

set_tracing_disabled(True)
TOOLS = [function_tool(get_weather), function_tool(get_time)]


@pytest.fixture
def client(url):
    return AsyncOpenAI(base_url=url, api_key="none", max_retries=0)


@pytest.fixture(params=[OpenAIResponsesModel, OpenAIChatCompletionsModel], ids=["responses", "chat"])
def model(request, client):
    return request.param("base", client)


def settings(**fields):
    return ModelSettings(max_tokens=300, temperature=0.5, extra_body={"seed": 1}, **fields)


class Steps(AgentHooks):
    """Forces the next choice after each tool."""

    def __init__(self, *choices):
        self.choices = list(choices)

    async def on_start(self, context, agent):
        agent.model_settings.tool_choice = self.choices.pop(0)

    async def on_tool_end(self, context, agent, tool, result):
        agent.model_settings.tool_choice = self.choices.pop(0)


def team(model):
    """An agent that calls two tools and hands over, and one that answers with a document."""
    second = Agent("second", model=model, output_type=Person, model_settings=settings())
    first = Agent(
        "first", instructions="You help.", model=model, tools=TOOLS, handoffs=[second], reset_tool_choice=False,
        model_settings=settings(parallel_tool_calls=False), hooks=Steps("get_weather", "get_time", "transfer_to_second"))
    return first, second


def check(result, second):
    assert result.last_agent is second and isinstance(result.final_output, Person)
    kinds = [item.type for item in result.new_items]
    assert kinds == [
        "tool_call_item", "tool_call_output_item", "tool_call_item", "tool_call_output_item", "handoff_call_item",
        "handoff_output_item", "message_output_item"]
    calls = [item.raw_item.name for item in result.new_items if isinstance(item, ToolCallItem)]
    assert calls == ["get_weather", "get_time"]
    outputs = [item.output for item in result.new_items if isinstance(item, ToolCallOutputItem)]
    assert outputs[0].startswith("It is sunny in") and outputs[1].startswith("It is noon in")


def test_two_tools_and_a_handoff(model):
    first, second = team(model)
    check(asyncio.run(Runner.run(first, QUESTION)), second)


def test_streamed(model):
    first, second = team(model)

    async def run():
        result = Runner.run_streamed(first, QUESTION)
        kinds = {event.type async for event in result.stream_events()}
        assert kinds == {"raw_response_event", "run_item_stream_event", "agent_updated_stream_event"}
        return result

    check(asyncio.run(run()), second)


def test_kept_responses(client):
    """The turns of a run continue kept responses."""
    model = OpenAIResponsesModel("base", client)
    agent = Agent("one", model=model, tools=TOOLS, model_settings=settings(tool_choice="get_time"))

    async def run():
        result = await Runner.run(agent, QUESTION, auto_previous_response_id=True)
        assert len(result.raw_responses) == 2 and all(answer.response_id for answer in result.raw_responses)
        other = Agent("two", model=model, output_type=Person, model_settings=settings())
        return await Runner.run(other, "And now?", previous_response_id=result.last_response_id)

    assert isinstance(asyncio.run(run()).final_output, Person)


def test_example(run_example):
    lines = run_example("agent.py").splitlines()
    assert lines[:3] == ["tool_call_item", "tool_call_output_item", "message_output_item"] and lines[3:]
