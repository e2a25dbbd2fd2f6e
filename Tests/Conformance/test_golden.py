"""Logprobs and greedy tokens in f32, through HTTP, against transformers, PEFT and bitsandbytes."""

import asyncio

import pytest

from graft_server import REFERENCES
from reference import TIE, TOLERANCE

VARIANTS = ("base", *REFERENCES)
PROMPTS = range(5)

pytestmark = [pytest.mark.parametrize("variant", VARIANTS), pytest.mark.parametrize("index", PROMPTS)]


def expected(reference, index, variant):
    prompt = reference.prompts[index]
    return prompt, prompt["by"][variant]


def by_query(variant):
    return {"model": "base", "extra_query": {"adapter": variant}}


def by_model(variant):
    return {"model": variant}


def check_path(reference, greedy, tokens, logprobs, tops) -> None:
    """Tokens, their logprobs and the reference's five best, until the reference itself has a tie."""
    assert len(tokens) == len(greedy)
    for step, (want, token, logprob, top) in enumerate(zip(greedy, tokens, logprobs, tops)):
        for id, value in want["top"]:
            assert top[reference.name(id)] == pytest.approx(value, abs=TOLERANCE), (step, id)
        if want["top"][0][1] - want["top"][1][1] < TIE:
            assert step > 0, "nothing was compared"
            return
        assert token == reference.name(want["id"]), step
        assert logprob == pytest.approx(want["top"][0][1], abs=TOLERANCE), step


def test_prompt_logprobs(client, reference, index, variant):
    prompt, want = expected(reference, index, variant)
    # Only a score is asked for, or one token as well.
    for max_tokens in (0, 1):
        answer = client.completions.create(
            prompt=prompt["text"], echo=True, max_tokens=max_tokens, logprobs=1, temperature=0, **by_query(variant)
        )
        logprobs = answer.choices[0].logprobs
        count = len(prompt["ids"])
        assert answer.usage.prompt_tokens == count
        assert logprobs.tokens[:count] == reference.names(prompt["ids"])
        assert len(logprobs.token_logprobs) == count + max_tokens
        assert logprobs.token_logprobs[0] is None
        assert logprobs.token_logprobs[1:count] == pytest.approx(want["prompt_logprobs"], abs=TOLERANCE)
    answer = client.completions.create(
        prompt=prompt["text"], max_tokens=1, temperature=0, extra_body={"prompt_logprobs": 0}, **by_query(variant))
    rows = answer.choices[0].prompt_logprobs
    own = [row[str(id)]["logprob"] for row, id in zip(rows[1:], prompt["ids"][1:], strict=True)]
    assert own == pytest.approx(want["prompt_logprobs"], abs=TOLERANCE)


def test_greedy_tokens(client, reference, index, variant):
    prompt, want = expected(reference, index, variant)
    arguments = dict(prompt=prompt["text"], max_tokens=len(want["greedy"]), logprobs=8, temperature=0)
    answer = client.completions.create(**arguments, **by_query(variant)).choices[0]
    logprobs = answer.logprobs
    check_path(reference, want["greedy"], logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs)

    # Streamed, with the adapter as the model, everything is the same to the bit.
    text, tokens, values, tops = "", [], [], []
    for chunk in client.completions.create(**arguments, **by_model(variant), stream=True):
        choice = chunk.choices[0]
        text += choice.text
        if choice.logprobs:
            tokens += choice.logprobs.tokens
            values += choice.logprobs.token_logprobs
            tops += choice.logprobs.top_logprobs
    assert (text, tokens, values, tops) == (
        answer.text, logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs
    )


def test_reference_path_scored_as_prompt(server, reference, index, variant):
    """The whole greedy path of the reference, ties included, given as token ids."""
    prompt, want = expected(reference, index, variant)
    path = [step["id"] for step in want["greedy"]]

    async def score():
        async with server.async_client() as client:
            return await client.completions.create(
                prompt=prompt["ids"] + path, echo=True, max_tokens=0, logprobs=0, **by_model(variant)
            )

    logprobs = asyncio.run(score()).choices[0].logprobs
    values = [dict(map(tuple, step["top"]))[step["id"]] for step in want["greedy"]]
    assert logprobs.tokens == reference.names(prompt["ids"] + path)
    assert logprobs.token_logprobs[1:] == pytest.approx(want["prompt_logprobs"] + values, abs=TOLERANCE)
