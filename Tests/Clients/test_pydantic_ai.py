"""pydantic-ai: structured output through tools, natively and by prompt; agents with a tool; the Responses API."""

import asyncio

import pytest
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import ToolCallPart, ToolReturnPart
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from forms import QUESTION, Person, Team, get_time, get_weather

SETTINGS = {"max_tokens": 300, "temperature": 0.5, "seed": 1}


@pytest.fixture(scope="module", params=[OpenAIChatModel, OpenAIResponsesModel], ids=["chat", "responses"])
def model(request, settings):
    return request.param("base", provider=OpenAIProvider(**settings))


@pytest.mark.parametrize("kind", [ToolOutput, NativeOutput])
@pytest.mark.parametrize("form", [Person, Team])
def test_structured_output(model, kind, form):
    agent = Agent(model, output_type=kind(form), model_settings=SETTINGS, retries=0)
    assert isinstance(agent.run_sync(QUESTION).output, form)


def test_structured_output_streams(model):
    agent = Agent(model, output_type=NativeOutput(Person), model_settings=SETTINGS, retries=0)

    async def run():
        async with agent.run_stream(QUESTION) as result:
            return await result.get_output()

    assert isinstance(asyncio.run(run()), Person)


class Steps(AbstractCapability):
    """Forces the tool in the first step of a run, and the output in the second."""

    def get_model_settings(self):
        return lambda context: {"tool_choice": ["get_weather" if context.run_step <= 1 else "final_result"]}


def test_agent_with_a_tool(model):
    agent = Agent(
        model, output_type=ToolOutput(Person), tools=[get_weather, get_time], model_settings=SETTINGS, retries=0,
        capabilities=[Steps()])
    result = agent.run_sync("How is the weather in Paris?")
    assert isinstance(result.output, Person)
    parts = [part for message in result.all_messages() for part in message.parts]
    assert [part.tool_name for part in parts if isinstance(part, ToolCallPart)] == ["get_weather", "final_result"]
    assert next(part.content for part in parts if isinstance(part, ToolReturnPart)).startswith("It is sunny in")
