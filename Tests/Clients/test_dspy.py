"""DSPy with its ChatAdapter and JSONAdapter."""

from typing import Literal

import dspy
import pytest
from dspy.lm15 import ModelSupport, OpenAIChatCompat, ProviderDefinition, register_provider
from dspy._vendor.lm15.features import AccessPolicy

from forms import Person, Team

SETTINGS = {"max_tokens": 300, "temperature": 0.5, "cache": False, "num_retries": 0}


class Describe(dspy.Signature):
    """Describe what is asked for."""

    question: str = dspy.InputField()
    person: Person = dspy.OutputField()
    team: Team = dspy.OutputField()


class Mood(dspy.Signature):
    """The mood of a sentence."""

    sentence: str = dspy.InputField()
    mood: Literal["glad", "sad", "calm"] = dspy.OutputField()


@pytest.fixture(scope="module")
def model(url):
    """A provider that is declared to know schemas and tools. Of a bare `openai/NAME`, DSPy assumes neither."""
    register_provider(
        ProviderDefinition.chat(
            AccessPolicy(provider="graft", env_keys=("GRAFT_API_KEY",), base_url=url),
            compat=OpenAIChatCompat(instruction_role="system", max_tokens_field="max_tokens", cache_control="none")),
        supports=ModelSupport(response_schema=True, function_calling=True))
    return dspy.LM("graft/base", api_key="none", **SETTINGS)


def test_json_adapter(model):
    with dspy.context(lm=model, adapter=dspy.JSONAdapter()):
        answer = dspy.Predict(Describe)(question="Who is there?")
        assert isinstance(answer.person, Person) and isinstance(answer.team, Team)
        assert dspy.Predict(Mood)(sentence="What a fine day!").mood in ("glad", "sad", "calm")


def test_chat_adapter(url):
    """The adapter's headings are only asked for in the prompt; where they do not come, it asks again as JSON."""
    model = dspy.LM("openai/base", api_base=url, api_key="none", **SETTINGS)
    with dspy.context(lm=model, adapter=dspy.ChatAdapter()):
        try:
            assert dspy.Predict(Mood)(sentence="What a fine day!").mood in ("glad", "sad", "calm")
        except dspy.utils.exceptions.AdapterParseError:
            pass
    assert model.history and model.history[-1]["outputs"][0]
