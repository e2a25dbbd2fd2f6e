"""Sampling over the wire: what each parameter does, and that company changes nothing."""

import asyncio

import pytest

STORY = "Once upon a time, in a small village"


def texts(server, **fields) -> list[str]:
    fields = {"temperature": 1, "max_tokens": 12} | fields
    return [choice["text"] for choice in server.complete(STORY, **fields)["choices"]]


@pytest.fixture(scope="module")
def space(server):
    return server.http.post("/tokenize", json={"prompt": " there"}).json()["tokens"][0]


def test_top_k_of_one_is_greedy(server):
    assert texts(server, top_k=1) == texts(server, temperature=0)
    assert texts(server, min_p=1) == texts(server, temperature=0)
    assert texts(server, top_k=-1, min_p=0, seed=3) == texts(server, seed=3) == texts(server, top_k=0, seed=3)


def test_top_k_bounds_the_choice(server):
    best = server.complete(STORY, max_tokens=1, logprobs=3)["choices"][0]["logprobs"]["top_logprobs"][0]
    drawn = {choice for seed in range(2) for choice in texts(server, n=64, top_k=3, max_tokens=1, seed=seed * 1000)}
    assert len(drawn) > 1 and drawn <= set(best)


def test_logit_bias(server, space):
    assert texts(server, temperature=0, max_tokens=3, logit_bias={str(space): 100}) == [" there" * 3]
    plain = server.complete(STORY, max_tokens=1, logprobs=1)["choices"][0]
    banned = server.http.post("/tokenize", json={"prompt": plain["text"]}).json()["tokens"][0]
    assert texts(server, temperature=0, max_tokens=1, logit_bias={str(banned): -100}) != [plain["text"]]
    assert texts(server, temperature=0, logit_bias={str(banned): 0}) == texts(server, temperature=0)


def test_penalties(server, space):
    biased = dict(temperature=0, max_tokens=40, logit_bias={str(space): 40})
    assert texts(server, **biased) == [" there" * 40]
    for penalty in ({"frequency_penalty": 2}, {"repetition_penalty": 3}):
        text = texts(server, **biased | penalty)[0]
        assert text.startswith(" there") and text != " there" * 40, penalty
    other = texts(server, temperature=0, presence_penalty=2, max_tokens=60)
    assert other != texts(server, temperature=0, max_tokens=60)
    # The prompt's tokens count for the repetition penalty only.
    village = server.http.post("/tokenize", json={"prompt": " village"}).json()["tokens"][0]
    nudged = dict(temperature=0, max_tokens=1, logit_bias={str(village): 22})
    assert texts(server, **nudged) == [" village"] == texts(server, **nudged, presence_penalty=2)
    assert texts(server, **nudged, repetition_penalty=10) != [" village"]


def test_stop_token(server):
    plain = server.complete(STORY, max_tokens=12, logprobs=0)["choices"][0]
    token = plain["logprobs"]["tokens"][5]
    (id,) = server.http.post("/tokenize", json={"prompt": token}).json()["tokens"]
    answer = server.complete(STORY, max_tokens=12, stop_token_ids=[id])["choices"][0]
    first = plain["logprobs"]["tokens"].index(token)
    assert answer["text"] == "".join(plain["logprobs"]["tokens"][:first])
    assert answer["finish_reason"] == "stop"


def test_best_of(server):
    """The best by logprob a token, of the same candidates that n would give."""
    fields = dict(seed=11, temperature=1.3, max_tokens=10)
    every = server.complete(STORY, n=5, logprobs=0, **fields)["choices"]
    score = [sum(choice["logprobs"]["token_logprobs"]) / len(choice["logprobs"]["tokens"]) for choice in every]
    ranked = sorted(range(5), key=lambda index: -score[index])
    answer = server.complete(STORY, n=2, best_of=5, **fields)
    assert [choice["text"] for choice in answer["choices"]] == [every[index]["text"] for index in ranked[:2]]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert all(choice["logprobs"] is None for choice in answer["choices"])
    assert answer["usage"]["completion_tokens"] == 50
    shown = server.complete(STORY, n=1, best_of=5, logprobs=0, **fields)["choices"][0]
    assert shown == every[ranked[0]] | {"index": 0}


def test_company_changes_nothing(server):
    """Sampled requests of every kind, alone and all at once."""
    kinds = [
        {"seed": 1}, {"seed": 2, "top_k": 20}, {"seed": 3, "top_p": 0.8}, {"seed": 4, "min_p": 0.1},
        {"seed": 5, "repetition_penalty": 1.3}, {"seed": 6, "presence_penalty": 1, "frequency_penalty": 0.5},
        {"seed": 7, "n": 3}, {"temperature": 0},
    ]
    fields = [{"model": "base", "prompt": STORY, "max_tokens": 16, "temperature": 1} | kind for kind in kinds]

    async def together():
        async with server.async_client() as client:
            return await asyncio.gather(
                *(
                    client.completions.create(
                        **{key: value for key, value in request.items() if key not in ("top_k", "min_p", "repetition_penalty")},
                        extra_body={key: request[key] for key in ("top_k", "min_p", "repetition_penalty") if key in request},
                    )
                    for request in fields
                )
            )

    alone = [[choice["text"] for choice in server.complete(**request)["choices"]] for request in fields]
    assert [[choice.text for choice in answer.choices] for answer in asyncio.run(together())] == alone


def test_best_of_in_chats(server):
    body = {"messages": [{"role": "user", "content": "Tell a story."}], "seed": 11, "temperature": 1.3, "max_tokens": 10}
    every = server.http.post("/v1/chat/completions", json=body | {"n": 4, "logprobs": True}).json()["choices"]
    scores = [[token["logprob"] for token in choice["logprobs"]["content"]] for choice in every]
    best = max(range(4), key=lambda index: sum(scores[index]) / len(scores[index]))
    reply = server.http.post("/v1/chat/completions", json=body | {"best_of": 4}).json()
    assert [choice["message"] for choice in reply["choices"]] == [every[best]["message"]]
    refused = server.http.post("/v1/chat/completions", json=body | {"best_of": 4, "stream": True})
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "best_of"


def test_min_tokens(server):
    """No end token and no stop string before so many tokens."""
    plain = server.complete(STORY, max_tokens=24, logprobs=0)["choices"][0]["logprobs"]
    # A token that comes early, as a stop token and as a stop string.
    token = plain["tokens"][2]
    (id,) = server.http.post("/tokenize", json={"prompt": token}).json()["tokens"]
    for stop in ({"stop_token_ids": [id]}, {"stop": token}):
        early = server.complete(STORY, max_tokens=24, logprobs=0, **stop)["choices"][0]
        assert early["finish_reason"] == "stop" and len(early["logprobs"]["tokens"]) <= 3
        late = server.complete(STORY, max_tokens=24, min_tokens=12, logprobs=0, **stop)
        assert late["usage"]["completion_tokens"] >= 12
    late = server.complete(STORY, max_tokens=24, min_tokens=12, stop_token_ids=[id], logprobs=0)["choices"][0]
    assert token not in late["logprobs"]["tokens"][:12]
    chat = {"messages": [{"role": "user", "content": "Say yes."}], "temperature": 0, "max_tokens": 60}
    short = server.http.post("/v1/chat/completions", json=chat).json()["usage"]["completion_tokens"]
    long = server.http.post("/v1/chat/completions", json=chat | {"min_tokens": 60}).json()["usage"]["completion_tokens"]
    assert short < 60 == long
    # A document ends where it is complete.
    document = chat | {"min_tokens": 40, "guided_choice": ["yes", "no"]}
    assert server.http.post("/v1/chat/completions", json=document).json()["choices"][0]["message"]["content"] in ("yes", "no")


def test_bad_words(server):
    plain = texts(server, temperature=0, max_tokens=40)[0]

    def is_one_token(text):
        return server.http.post("/tokenize", json={"prompt": text}).json()["count"] == 1

    words = [word for word in plain.split() if is_one_token(word) and is_one_token(" " + word)]
    assert len(words) > 3
    for word in words[:3]:
        text = texts(server, temperature=0, max_tokens=40, bad_words=[word])[0]
        assert text != plain and f" {word} " not in text, word
    drawn = texts(server, n=32, bad_words=["the", "a", "was"], seed=5, max_tokens=30)
    assert not any(f" {word} " in text for text in drawn for word in ("the", "a", "was"))
    assert any(" was " in text for text in texts(server, n=32, seed=5, max_tokens=30))


def test_repeat_penalty_counts_the_last_tokens(server):
    def ask(**fields):
        return texts(server, temperature=0, max_tokens=30, **fields)

    assert ask(repeat_penalty=1.5, repeat_last_n=-1) == ask(repetition_penalty=1.5) != ask()
    assert ask(repeat_penalty=1.5, repeat_last_n=0) == ask() == ask(repeat_penalty=1)
    assert ask(repeat_penalty=1.5) == ask(repeat_penalty=1.5, repeat_last_n=64)


def test_truncate_prompt_tokens(server):
    ids = server.http.post("/tokenize", json={"prompt": STORY * 3}).json()["tokens"]
    cut = server.complete(STORY * 3, max_tokens=8, truncate_prompt_tokens=7)
    assert cut["choices"] == server.complete(ids[-7:], max_tokens=8)["choices"] and cut["usage"]["prompt_tokens"] == 7
    whole = server.complete("word " * 20000, max_tokens=8, truncate_prompt_tokens=-1)
    limit = server.http.post("/tokenize", json={"prompt": "a"}).json()["max_model_len"]
    assert whole["usage"]["prompt_tokens"] == limit - 8
    chat = {"messages": [{"role": "user", "content": STORY}], "max_tokens": 4, "temperature": 0}
    rendered = server.http.post("/tokenize", json=chat | {"add_generation_prompt": True}).json()["tokens"]
    reply = server.http.post("/v1/chat/completions", json=chat | {"truncate_prompt_tokens": 9}).json()
    assert reply["usage"]["prompt_tokens"] == 9
    expected = server.complete(rendered[-9:], max_tokens=4)["choices"][0]["text"]
    assert reply["choices"][0]["message"]["content"] == expected
    vectors = [
        server.http.post("/v1/embeddings", json={"input": text} | fields).json()["data"][0]["embedding"]
        for text, fields in ((STORY, {"truncate_prompt_tokens": 3}),
                             (server.http.post("/tokenize", json={"prompt": STORY}).json()["tokens"][-3:], {}))
    ]
    assert vectors[0] == vectors[1]


def test_suffix_needs_a_model_for_it(server):
    reply = server.http.post("/v1/completions", json={"prompt": "a", "suffix": "b"})
    assert reply.status_code == 400 and reply.json()["error"]["param"] == "suffix"
    assert "filling in the middle" in reply.json()["error"]["message"]


def test_bad_words_of_white_space(server):
    def text(**fields):
        return server.complete("1.\n2.\n3.\n", temperature=0, max_tokens=8, **fields)["choices"][0]["text"]

    assert "4.\n" in text()
    assert "4.\n" not in text(bad_words=["\n"])


def test_best_of_prefers_no_empty_answer(server):
    """The end token is made so probable that some candidates are empty."""
    end = server.http.post("/tokenize", json={"prompt": "<|im_end|>"}).json()["tokens"][0]
    fields = {"max_tokens": 12, "temperature": 1, "logit_bias": {str(end): 20}}
    for seed in (100, 200):
        assert "" in texts(server, **fields, seed=seed, n=16)
        assert texts(server, **fields, seed=seed, best_of=16)[0] != ""
