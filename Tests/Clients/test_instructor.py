"""instructor, in its modes for OpenAI's API."""

import json

import instructor
import openai
import pytest
from instructor import Mode
from instructor.core.exceptions import InstructorError

from forms import QUESTION, Person, Pet, Team

MESSAGES = [{"role": "user", "content": QUESTION}]


@pytest.fixture
def ask(settings):
    """Asks in a mode, and keeps what the server answered in `ask.answers`."""

    def ask(mode, form=Person, **fields):
        client = instructor.from_openai(openai.OpenAI(**settings, max_retries=0), mode=mode)
        client.on("completion:response", ask.answers.append)
        return client.create(
            model="base", messages=MESSAGES, response_model=form, max_tokens=400, seed=1, max_retries=0, **fields)

    ask.answers = []
    return ask


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("mode", [Mode.TOOLS, Mode.TOOLS_STRICT, Mode.JSON_SCHEMA])
@pytest.mark.parametrize("form", [Person, Team, Pet])
def test_modes_with_a_schema(ask, mode, form):
    assert isinstance(ask(mode, form), form)
    assert (ask.answers[0].choices[0].finish_reason == "tool_calls") == (mode is not Mode.JSON_SCHEMA)


def test_json_mode(ask):
    """The schema is in the prompt alone: the answer is an object, but may not be the form's."""
    try:
        ask(Mode.JSON)
    except InstructorError:
        pass
    choice = ask.answers[0].choices[0]
    assert choice.message.content.lstrip().startswith("{")
    assert choice.finish_reason == "length" or isinstance(json.loads(choice.message.content), dict)


@pytest.mark.parametrize("form", [Person, Team])
def test_markdown_json_mode(ask, form):
    """Nothing but the prompt asks for JSON, unless the request has a schema of its own."""
    schema = {"guided_json": form.model_json_schema()}
    assert isinstance(ask(Mode.MD_JSON, form, extra_body=schema), form)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("mode", [Mode.JSON_SCHEMA, Mode.TOOLS])
def test_partial_streams(settings, mode):
    client = instructor.from_openai(openai.OpenAI(**settings, max_retries=0), mode=mode)
    parts = list(client.create_partial(
        model="base", messages=MESSAGES, response_model=Person, max_tokens=200, seed=1, max_retries=0))
    assert len(parts) > 1 and Person.model_validate(parts[-1].model_dump())


@pytest.mark.parametrize("form", [Person, Team])
def test_responses(settings, form):
    client = instructor.from_openai(openai.OpenAI(**settings, max_retries=0), mode=Mode.RESPONSES_TOOLS)
    answer = client.create(model="base", messages=MESSAGES, response_model=form, max_retries=0, max_output_tokens=300)
    assert isinstance(answer, form)
