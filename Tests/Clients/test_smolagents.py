"""smolagents: a ToolCallingAgent, whose every step must be a call, and a CodeAgent with structured output."""

import json

import pytest
from smolagents import ActionStep, ChatMessage, CodeAgent, MessageRole, OpenAIModel, ToolCallingAgent, tool

import forms

SETTINGS = {"max_tokens": 200, "temperature": 0.5, "seed": 1}
get_weather = tool(forms.get_weather)
get_time = tool(forms.get_time)


@pytest.fixture(scope="module")
def model(settings):
    return OpenAIModel("base", api_base=settings["base_url"], api_key=settings["api_key"], **SETTINGS)


def ask(text):
    return [ChatMessage(role=MessageRole.USER, content=text)]


def test_required_calls(model):
    message = model.generate(ask("How is the weather in Paris?"), tools_to_call_from=[get_weather, get_time])
    assert message.tool_calls and all(call.function.name in ("get_weather", "get_time") for call in message.tool_calls)


def test_tool_calling_agent(model):
    """Every step calls tools, and their results go back."""
    agent = ToolCallingAgent(tools=[get_weather, get_time], model=model, max_steps=2, verbosity_level=0)
    agent.run("How is the weather in Paris?")
    messages = [
        step.model_output_message for step in agent.memory.steps
        if isinstance(step, ActionStep) and step.model_output_message]
    assert messages and all(message.tool_calls for message in messages)
    names = {call.function.name for message in messages for call in message.tool_calls}
    assert names <= {"get_weather", "get_time", "final_answer"}


def test_structured_code_agent(model):
    """Each answer is a document with `thought` and `code`, whether or not the code is any good."""
    agent = CodeAgent(tools=[], model=model, max_steps=1, use_structured_outputs_internally=True, verbosity_level=0)
    run = agent.run("What is 1 + 1?", return_full_result=True)
    output = next(step["model_output"] for step in run.steps if step.get("model_output"))
    assert set(json.loads(output)) == {"thought", "code"}


def test_stream(model):
    assert "".join(delta.content or "" for delta in model.generate_stream(ask("Hello.")))
