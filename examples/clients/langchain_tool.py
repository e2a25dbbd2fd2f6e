"""A tool that the model must call, and an answer from its result."""

import os
from typing import Literal

from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


@tool
def population(country: Literal["France", "Italy", "Spain"]) -> str:
    """The population of a country."""
    return {"France": "68 million", "Italy": "59 million", "Spain": "49 million"}[country]


url = os.environ.get("GRAFT_URL", "http://localhost:8080/v1")
model = ChatOpenAI(model="base", base_url=url, api_key="none", temperature=0, max_tokens=60)
question = HumanMessage("How many people live in Italy?")
call = model.bind_tools([population], tool_choice="population", strict=True).invoke([question])
result = population.invoke(call.tool_calls[0])
print(f"{call.tool_calls[0]['args']} → {result.content}")
print(model.bind_tools([population], tool_choice="none").invoke([question, call, result]).content)
