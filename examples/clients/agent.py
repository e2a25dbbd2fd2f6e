"""An agent with a tool, through the Responses API."""

import os
from typing import Literal

from agents import Agent, ModelSettings, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI


@function_tool
def opening_hours(place: Literal["library", "museum", "market"]) -> str:
    """The opening hours of a place."""
    return {"library": "9 to 18", "museum": "10 to 17", "market": "7 to 13"}[place]


set_tracing_disabled(True)
client = AsyncOpenAI(base_url=os.environ.get("GRAFT_URL", "http://localhost:8080/v1"), api_key="none")
agent = Agent(
    name="Guide", instructions="You answer visitors briefly.", tools=[opening_hours],
    model=OpenAIResponsesModel("base", client),
    # The first step is a call; after it the agent may answer.
    model_settings=ModelSettings(tool_choice="required", temperature=0, max_tokens=80, parallel_tool_calls=False))
result = Runner.run_sync(agent, "When is the museum open?")
for item in result.new_items:
    print(item.type)
print(result.final_output)
