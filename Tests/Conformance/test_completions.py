"""The shape of completions: whole and streamed answers, stop strings, logprobs, kinds of prompts, sampling."""

import asyncio
import json

import pytest

from graft_server import MODEL_NAME

PROMPT = "The capital of France is"
STORY = "Once upon a time, in a small village"


def events(server, **body):
    """The data of each server-sent event of a streamed completion, with the framing checked."""
    with server.http.stream("POST", "/v1/completions", json={"temperature": 0, "stream": True} | body) as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"].split(";")[0] == "text/event-stream"
        assert reply.headers["x-request-id"]
        text = reply.read().decode()
    assert text.endswith("\n\n")
    blocks = text[:-2].split("\n\n")
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
    assert blocks[-1] == "data: [DONE]"
    return [json.loads(block[6:]) for block in blocks[:-1]]


def test_whole_answer(server, reference):
    answer = server.complete(PROMPT, max_tokens=5)
    greedy = [step["id"] for step in reference.prompts[0]["by"]["base"]["greedy"][:5]]
    assert answer["id"].startswith("cmpl-")
    assert answer["object"] == "text_completion"
    assert isinstance(answer["created"], int)
    assert answer["model"] == MODEL_NAME
    assert answer["choices"] == [
        {"text": reference.bytes_of(greedy).decode(), "index": 0, "logprobs": None, "finish_reason": "length"}
    ]
    assert answer["usage"]["prompt_tokens"] == 5
    assert answer["usage"]["completion_tokens"] == 5
    assert answer["usage"]["total_tokens"] == 10
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] >= 0
    assert server.complete(PROMPT, max_tokens=5)["id"] != answer["id"]


def test_sixteen_tokens_unless_told_otherwise(server):
    answer = server.complete(STORY)
    assert answer["usage"]["completion_tokens"] == 16
    assert answer["choices"][0]["finish_reason"] == "length"


def test_stream_framing(server):
    whole = server.complete(STORY, max_tokens=12)
    chunks = events(server, prompt=STORY, max_tokens=12)
    assert len(chunks) > 6, "tokens are sent as they come"
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert all("usage" not in chunk for chunk in chunks)
    assert all(len(chunk["choices"]) == 1 for chunk in chunks)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole["choices"][0]["text"]
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons[-1] == "length" and set(reasons[:-1]) == {None}


def test_stream_usage(server):
    *chunks, last = events(server, prompt=STORY, max_tokens=4, stream_options={"include_usage": True})
    assert chunks and all(chunk["usage"] is None for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 4
    assert last["usage"]["total_tokens"] == last["usage"]["prompt_tokens"] + 4


def test_end_of_text_stops(server):
    prompt = "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n"
    answer = server.complete(prompt, max_tokens=200)
    tokens = answer["usage"]["completion_tokens"]
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert tokens < 200
    assert "<|im_end|>" not in answer["choices"][0]["text"]

    longer = server.complete(prompt, max_tokens=tokens + 4, ignore_eos=True)
    assert longer["choices"][0]["finish_reason"] == "length"
    assert longer["usage"]["completion_tokens"] == tokens + 4
    assert longer["choices"][0]["text"].startswith(answer["choices"][0]["text"])


class TestStop:
    def text(self, server):
        return server.complete(STORY, max_tokens=24)["choices"][0]["text"]

    @pytest.mark.parametrize("width", [1, 3, 9])
    def test_never_emitted(self, server, width):
        """Stop strings inside a token, and over several."""
        text = self.text(server)
        stop = text[20 : 20 + width]
        answer = server.complete(STORY, max_tokens=24, stop=stop)["choices"][0]
        assert answer["finish_reason"] == "stop"
        assert answer["text"] == text[: text.index(stop)]
        chunks = events(server, prompt=STORY, max_tokens=24, stop=[stop])
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == answer["text"]
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"

    def test_first_of_several_wins(self, server):
        text = self.text(server)
        stops = [text[30:36], text[10:14], "never there"]
        answer = server.complete(STORY, max_tokens=24, stop=stops)["choices"][0]
        assert answer["text"] == text[: min(text.index(stop) for stop in stops[:2])]

    def test_what_was_held_back_comes_after_all(self, server):
        """A stop string's beginning at the very end of the text is text."""
        text = self.text(server)
        answer = server.complete(STORY, max_tokens=24, stop=[text[-5:] + "\x00"])["choices"][0]
        assert (answer["text"], answer["finish_reason"]) == (text, "length")
        chunks = events(server, prompt=STORY, max_tokens=24, stop=[text[-5:] + "\x00"])
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == text


class TestLogprobs:
    def test_shape(self, server):
        answer = server.complete(PROMPT, max_tokens=6, logprobs=3)["choices"][0]
        logprobs = answer["logprobs"]
        assert set(logprobs) == {"tokens", "token_logprobs", "top_logprobs", "text_offset"}
        assert {len(values) for values in logprobs.values()} == {6}
        assert "".join(logprobs["tokens"]) == answer["text"]
        for token, logprob, top in zip(logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"]):
            assert len(top) == 3  # greedy: the token is the best of them
            assert top[token] == logprob == max(top.values()) <= 0

    def test_zero_reports_the_token_alone(self, server):
        logprobs = server.complete(PROMPT, max_tokens=3, logprobs=0)["choices"][0]["logprobs"]
        for token, logprob, top in zip(logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"]):
            assert top == {token: logprob}

    def test_temperature_does_not_change_them(self, server):
        cold = server.complete(PROMPT, max_tokens=1, logprobs=20)["choices"][0]["logprobs"]["top_logprobs"][0]
        hot = server.complete(PROMPT, max_tokens=1, logprobs=20, temperature=1.7, top_p=0.5, seed=1)
        hot = hot["choices"][0]["logprobs"]["top_logprobs"][0]
        assert {token: hot[token] for token in cold} == cold

    def test_echo(self, server):
        answer = server.complete(PROMPT, max_tokens=2, logprobs=1, echo=True)["choices"][0]
        logprobs = answer["logprobs"]
        assert answer["text"].startswith(PROMPT) and len(answer["text"]) > len(PROMPT)
        assert logprobs["tokens"][:5] == ["The", " capital", " of", " France", " is"]
        assert len(logprobs["tokens"]) == 7
        assert logprobs["token_logprobs"][0] is None and logprobs["top_logprobs"][0] is None
        assert all(value < 0 for value in logprobs["token_logprobs"][1:])

    def test_echo_has_the_end_token(self, server):
        """Programs that score texts count tokens from both ends of the list, so the token that ended the answer is in it."""
        prompt = "Question: Which season comes after winter?\nAnswer: spring"
        scored = server.complete(prompt, max_tokens=0, logprobs=1, echo=True)["choices"][0]["logprobs"]
        reply = server.complete(prompt, max_tokens=4, logprobs=1, echo=True)
        choice, logprobs = reply["choices"][0], reply["choices"][0]["logprobs"]
        assert choice["finish_reason"] == "stop" and choice["text"] == prompt
        assert len(logprobs["tokens"]) == reply["usage"]["total_tokens"] == len(scored["tokens"]) + 1
        assert logprobs["token_logprobs"][:-1] == scored["token_logprobs"]
        assert logprobs["tokens"][-1] == "<|im_end|>" and logprobs["text_offset"][-1] == len(prompt)
        assert logprobs["top_logprobs"][-1] == {"<|im_end|>": logprobs["token_logprobs"][-1]}
        parts = [chunk["choices"][0]["logprobs"] for chunk in events(server, prompt=prompt, max_tokens=4, logprobs=1, echo=True)]
        assert [token for part in parts if part for token in part["tokens"]] == logprobs["tokens"]
        alone = server.complete(prompt, max_tokens=4, logprobs=1)["choices"][0]
        assert alone["text"] == "" and alone["logprobs"]["tokens"] == []

    def test_prompt_logprobs(self, server):
        """vLLM's form, with the numbers that `echo` gives."""
        ids = server.http.post("/tokenize", json={"prompt": PROMPT}).json()["tokens"]
        echoed = server.complete(PROMPT, max_tokens=1, logprobs=3, echo=True)["choices"][0]["logprobs"]
        for more in ({}, {"logprobs": 1}, {"logprobs": 1, "echo": True}, {"logprobs": 5, "echo": True}, {"echo": True}):
            choices = server.complete([PROMPT, PROMPT + " a"], max_tokens=1, prompt_logprobs=3, n=2, **more)["choices"]
            rows = choices[0]["prompt_logprobs"]
            assert rows == choices[1]["prompt_logprobs"] == choices[2]["prompt_logprobs"][:len(ids)]
            assert len(rows) == len(ids) and rows[0] is None
            for position in range(1, len(ids)):
                row, own = rows[position], rows[position][str(ids[position])]
                assert next(iter(row)) == str(ids[position])
                assert own["logprob"] == echoed["token_logprobs"][position]
                assert own["decoded_token"] == echoed["tokens"][position]
                top = sorted((entry for entry in row.values() if entry["rank"] <= 3), key=lambda entry: entry["rank"])
                assert [entry["rank"] for entry in top] == [1, 2, 3]
                assert len(row) == (3 if own["rank"] <= 3 else 4)
                assert {entry["decoded_token"]: entry["logprob"] for entry in row.values()} == echoed["top_logprobs"][position]
                # A rank is a count of more probable tokens.
                wide = server.complete(ids[:position], max_tokens=1, logprobs=20, temperature=0)["choices"][0]["logprobs"]
                better = sum(value > own["logprob"] for value in wide["top_logprobs"][0].values())
                assert own["rank"] == better + 1 if better < 20 else own["rank"] > 20
            logprobs = choices[0]["logprobs"]
            assert (logprobs is not None) == ("logprobs" in more)
            if logprobs:
                expected = len(ids) + 1 if "echo" in more else 1
                assert len(logprobs["tokens"]) == expected
                assert all(len(top) <= more["logprobs"] + 1 for top in logprobs["top_logprobs"] if top)
        (row, *_) = server.complete(PROMPT, max_tokens=1, prompt_logprobs=0)["choices"][0]["prompt_logprobs"][1:]
        assert list(row) == [str(ids[1])]
        assert "prompt_logprobs" not in server.complete(PROMPT, max_tokens=1)["choices"][0]

    def test_prompt_logprobs_of_a_chat(self, server):
        body = {"messages": [{"role": "user", "content": "Hi."}], "max_tokens": 1, "prompt_logprobs": 2}
        answer = server.http.post("/v1/chat/completions", json=body).json()
        ids = server.http.post("/tokenize", json={"messages": body["messages"]}).json()["tokens"]
        scored = server.complete(ids, max_tokens=1, prompt_logprobs=2)["choices"][0]["prompt_logprobs"]
        assert answer["prompt_logprobs"] == scored and len(scored) == len(ids)
        assert "prompt_logprobs" not in answer["choices"][0]

    def test_prompt_logprobs_refused(self, server):
        for fields in ({"prompt_logprobs": 21}, {"prompt_logprobs": -1}, {"prompt_logprobs": True},
                       {"prompt_logprobs": 1, "stream": True},
                       {"prompt_logprobs": 20, "prompt": "word " * 900, "n": 128}):
            reply = server.http.post("/v1/completions", json={"prompt": "a", "max_tokens": 1} | fields)
            assert reply.status_code == 400 and reply.json()["error"]["param"] == "prompt_logprobs", fields

    def test_echo_without_logprobs(self, server):
        answer = server.complete(PROMPT, max_tokens=2, echo=True)["choices"][0]
        assert answer["text"].startswith(PROMPT) and answer["logprobs"] is None
        chunks = events(server, prompt=PROMPT, max_tokens=2, echo=True)
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == answer["text"]

    def test_offsets(self, server):
        """In code points of the choice's text, echoed prompt included, also beyond the basic plane."""
        answer = server.complete("naïve 😀 café:", max_tokens=6, logprobs=0, echo=True)["choices"][0]
        logprobs = answer["logprobs"]
        assert logprobs["text_offset"][0] == 0
        compared = 0
        for token, offset in zip(logprobs["tokens"], logprobs["text_offset"]):
            if not token.startswith("bytes:"):
                assert answer["text"][offset : offset + len(token)] == token
                compared += 1
        assert compared > 6

    def test_streamed_offsets_go_on(self, server):
        whole = server.complete(STORY, max_tokens=8, logprobs=0)["choices"][0]["logprobs"]["text_offset"]
        chunks = events(server, prompt=STORY, max_tokens=8, logprobs=0)
        parts = [chunk["choices"][0]["logprobs"] for chunk in chunks]
        assert [offset for part in parts if part for offset in part["text_offset"]] == whole
        assert whole == sorted(whole) and whole[-1] > 0

    def test_tokens_that_are_no_text(self, server, reference):
        text = "日本語 👩‍👩‍👧‍👦"
        ids = next(case["ids"] for case in reference.tokenization if case["text"].startswith("日本語のテキスト"))
        answer = server.complete(ids, max_tokens=0, logprobs=0, echo=True)["choices"][0]
        assert answer["logprobs"]["tokens"] == reference.names(ids)
        assert sum(token.startswith("bytes:\\x") for token in answer["logprobs"]["tokens"]) > 5
        assert answer["text"] == reference.bytes_of(ids).decode()
        echoed = events(server, prompt=text, max_tokens=1, echo=True)
        assert "".join(chunk["choices"][0]["text"] for chunk in echoed).startswith(text)


class TestPrompts:
    def test_kinds_agree(self, server, reference):
        first, second = reference.prompts[0], reference.prompts[2]
        alone = [server.complete(prompt["text"], max_tokens=6, logprobs=0)["choices"][0] for prompt in (first, second)]
        kinds = {
            "ids": (first["ids"], alone[:1]),
            "strings": ([first["text"], second["text"]], alone),
            "lists of ids": ([first["ids"], second["ids"]], alone),
        }
        for kind, (prompt, expected) in kinds.items():
            answer = server.complete(prompt, max_tokens=6, logprobs=0)
            for index, (choice, want) in enumerate(zip(answer["choices"], expected, strict=True)):
                assert choice == want | {"index": index}, kind
        assert answer["usage"]["prompt_tokens"] == len(first["ids"]) + len(second["ids"])
        assert answer["usage"]["completion_tokens"] == 12

    def test_special_tokens_are_parsed(self, server):
        case = "<|im_start|>user\nhi<|im_end|>"
        tokens = server.complete(case, max_tokens=0, echo=True, logprobs=0)["choices"][0]["logprobs"]["tokens"]
        assert tokens == ["<|im_start|>", "user", "\n", "hi", "<|im_end|>"]

    def test_long_prompt_is_scored_in_chunks(self, server):
        """More rows than one pass takes: a prefix's logprobs do not depend on what follows it."""
        text = " ".join(f"{number} is followed by {number + 1}." for number in range(60))
        long = server.complete(text, max_tokens=0, echo=True, logprobs=0)["choices"][0]["logprobs"]
        assert len(long["tokens"]) > 400
        short = server.complete("".join(long["tokens"][:150]), max_tokens=0, echo=True, logprobs=0)
        short = short["choices"][0]["logprobs"]
        assert short["tokens"] == long["tokens"][:150]
        assert short["token_logprobs"] == long["token_logprobs"][:150]


class TestSampling:
    def texts(self, server, **fields):
        fields = {"temperature": 1, "max_tokens": 12} | fields
        return [choice["text"] for choice in server.complete(STORY, **fields)["choices"]]

    def test_seed_decides(self, server):
        assert self.texts(server, seed=7) == self.texts(server, seed=7)
        assert len({self.texts(server, seed=seed)[0] for seed in range(4)}) > 1
        assert len({self.texts(server)[0] for _ in range(4)}) > 1

    def test_several_choices(self, server):
        answer = server.complete(STORY, n=3, temperature=1, seed=3, max_tokens=12)
        assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
        assert len({choice["text"] for choice in answer["choices"]}) > 1
        assert answer["usage"]["completion_tokens"] == 36
        assert self.texts(server, n=3, seed=3) == [choice["text"] for choice in answer["choices"]]

    def test_choices_stream_side_by_side(self, server):
        whole = self.texts(server, n=2, seed=5)
        streamed = ["", ""]
        reasons = {}
        for chunk in events(server, prompt=STORY, n=2, seed=5, temperature=1, max_tokens=12):
            for choice in chunk["choices"]:
                streamed[choice["index"]] += choice["text"]
                reasons[choice["index"]] = choice["finish_reason"] or reasons.get(choice["index"])
        assert streamed == whole
        assert reasons == {0: "length", 1: "length"}

    def test_a_tiny_nucleus_is_greedy(self, server):
        assert self.texts(server, top_p=0.0001) == self.texts(server, temperature=0)

    def test_company_changes_nothing(self, server, reference):
        """The same requests alone and all at once, each under its own adapter, give the same bits."""
        variants = ("base", "r8-all", "r4-qv-rslora", "r4-pattern")
        arguments = dict(max_tokens=10, logprobs=2, temperature=0)

        async def ask(client, prompt, variant):
            answer = await client.completions.create(
                model="base", prompt=prompt, extra_query={"adapter": variant}, **arguments
            )
            return answer.choices[0].model_dump()

        async def together():
            async with server.async_client() as client:
                return await asyncio.gather(
                    *(ask(client, prompt["text"], variant) for prompt in reference.prompts[:3] for variant in variants)
                )

        alone = [
            server.complete(prompt["text"], query={"adapter": variant}, **arguments)["choices"][0]
            for prompt in reference.prompts[:3] for variant in variants
        ]
        assert asyncio.run(together()) == alone
        assert len({json.dumps(choice) for choice in alone}) == len(alone)


def test_stop_strings_and_special_tokens_can_be_shown(server):
    whole = server.complete(STORY, max_tokens=30)["choices"][0]["text"]
    stop = whole.split()[4]
    cut = server.complete(STORY, max_tokens=30, stop=stop)["choices"][0]
    shown = server.complete(STORY, max_tokens=30, stop=stop, include_stop_str_in_output=True)["choices"][0]
    assert shown["text"] == cut["text"] + stop and cut["finish_reason"] == shown["finish_reason"] == "stop"
    chunks = events(server, prompt=STORY, max_tokens=30, stop=stop, include_stop_str_in_output=True)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == shown["text"]

    prompt = "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n"
    plain = server.complete(prompt, max_tokens=200)["choices"][0]["text"]
    ended = server.complete(
        prompt, max_tokens=200, include_stop_str_in_output=True, skip_special_tokens=False
    )["choices"][0]
    assert ended["text"] == plain + "<|im_end|>" and ended["finish_reason"] == "stop"
