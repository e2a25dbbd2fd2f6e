"""Streams as the network cuts them, characters over several tokens, clients that vanish, failures on the way."""

import asyncio
import json
import threading

import httpx
import openai
import pytest

from graft_server import Server
from sse import blocks, dechunk, events, post

CHAT = "/v1/chat/completions"
STORY = "Once upon a time, in a small village"
EMOJI = "🦀🐙🦑🦞🦐 🇫🇷 👩‍👩‍👧‍👦 ñandú"


def emoji_tokens(server) -> list[int]:
    return server.http.post("/tokenize", json={"prompt": EMOJI, "add_special_tokens": False}).json()["tokens"]


class TestCuts:
    @pytest.mark.parametrize("size", [1, 7, 1000])
    def test_requests_in_pieces(self, server, size):
        body = {"prompt": EMOJI, "max_tokens": 5, "temperature": 0, "stream": True, "echo": True}
        want = server.complete(EMOJI, max_tokens=5, echo=True)["choices"][0]["text"]
        received = b""
        with post(server, "/v1/completions", body, pieces=size) as connection:
            while part := connection.recv(size):
                received += part
        head, rest = received.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 200 ")
        chunks = dechunk(rest)
        # No event is spread over two chunks, and each chunk is text by itself.
        assert all(chunk.startswith(b"data: ") and chunk.endswith(b"\n\n") for chunk in chunks)
        data = blocks("".join(chunk.decode() for chunk in chunks))
        assert data.pop() == "[DONE]"
        assert "".join(json.loads(event)["choices"][0]["text"] for event in data) == want

    def test_a_client_that_splits_lines_anywhere(self, server):
        """The official client's decoder over a stream cut after each byte."""
        with post(server, CHAT, {"messages": [{"role": "user", "content": EMOJI}], "max_tokens": 8, "stream": True,
                                 "temperature": 0}) as connection:
            received = b""
            while part := connection.recv(65536):
                received += part
        raw = b"".join(dechunk(received.split(b"\r\n\r\n", 1)[1]))

        class Bytewise(httpx.SyncByteStream):
            def __iter__(self):
                return (raw[index : index + 1] for index in range(len(raw)))

        transport = httpx.MockTransport(
            lambda request: httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Bytewise()))
        with openai.OpenAI(api_key="x", base_url="http://x/v1", http_client=httpx.Client(transport=transport)) as client:
            stream = client.chat.completions.create(model="base", messages=[], stream=True)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        whole = server.http.post(
            CHAT, json={"messages": [{"role": "user", "content": EMOJI}], "max_tokens": 8, "temperature": 0}).json()
        assert text == whole["choices"][0]["message"]["content"]


class TestCharacters:
    def test_every_length_of_an_answer(self, server):
        """Cut after each token, an answer of many-token characters is the beginning of the longer one."""
        bias = {str(token): 30 for token in emoji_tokens(server)}
        fields = dict(logit_bias=bias, temperature=1, seed=4)
        answer = server.complete(EMOJI, max_tokens=30, logprobs=0, **fields)["choices"][0]
        tokens = answer["logprobs"]["tokens"]
        assert sum(token.startswith("bytes:") for token in tokens) > 3, tokens
        for count in range(1, 30):
            shorter = server.complete(EMOJI, max_tokens=count, **fields)["choices"][0]["text"]
            assert answer["text"].startswith(shorter.rstrip("\ufffd")), count

    def test_pieces_are_whole_characters(self, server):
        bias = {str(token): 30 for token in emoji_tokens(server)}
        for seed in range(6):
            fields = dict(logit_bias=bias, temperature=1, seed=seed, max_tokens=40)
            whole = server.complete(EMOJI, **fields)["choices"][0]["text"]
            chunks = events(server, "/v1/completions", prompt=EMOJI, **fields)
            assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole
            messages = [{"role": "user", "content": EMOJI}]
            body = {"messages": messages} | fields
            whole = server.http.post(CHAT, json=body).json()["choices"][0]["message"]["content"]
            chunks = events(server, CHAT, **body)
            assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == whole

    def test_stop_inside_and_across_characters(self, server):
        bias = {str(token): 30 for token in emoji_tokens(server)}
        fields = dict(logit_bias=bias, temperature=1, seed=4, max_tokens=40)
        text = server.complete(EMOJI, **fields)["choices"][0]["text"]
        checked = 0
        for start in range(2, len(text) - 3, 3):
            stop = text[start : start + 2]
            if "\ufffd" in stop:
                continue
            answer = server.complete(EMOJI, stop=stop, **fields)["choices"][0]
            assert (answer["text"], answer["finish_reason"]) == (text[: text.index(stop)], "stop")
            chunks = events(server, "/v1/completions", prompt=EMOJI, stop=stop, **fields)
            assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == answer["text"]
            checked += 1
        assert checked > 2


class TestVanishing:
    def test_streams_left_in_the_middle(self, server, client):
        messages = [{"role": "user", "content": "Count to a thousand."}]
        for _ in range(12):
            stream = client.chat.completions.create(
                model="base", messages=messages, stream=True, n=4, extra_body={"ignore_eos": True})
            next(stream)
            stream.close()
        assert server.complete("Hi", max_tokens=2)["usage"]["completion_tokens"] == 2

    def test_cancelled_tasks(self, server):
        async def main():
            async with server.async_client() as client:
                tasks = [
                    asyncio.create_task(client.chat.completions.create(
                        model="base", messages=[{"role": "user", "content": STORY}], max_tokens=2000,
                        extra_body={"ignore_eos": True}))
                    for _ in range(8)
                ]
                await asyncio.sleep(0.3)
                for task in tasks:
                    task.cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
                assert all(isinstance(result, asyncio.CancelledError) for result in results)
                answer = await client.completions.create(model="base", prompt="Hi", max_tokens=2)
                assert answer.usage.completion_tokens == 2

        asyncio.run(main())

    def test_a_reader_that_never_reads(self, server):
        """Its stream fills the kernel's buffers and waits; nobody else does."""
        body = {"prompt": STORY, "max_tokens": 300, "stream": True, "ignore_eos": True, "logprobs": 20}
        connections = [post(server, "/v1/completions", body) for _ in range(3)]
        assert server.complete("Hi", max_tokens=2)["usage"]["completion_tokens"] == 2
        for connection in connections:
            connection.close()


def test_an_error_in_the_middle_reaches_the_client(data_dir):
    """The server ends while it streams: an error event, which the client raises; never a silent end."""
    with Server(data_dir=data_dir) as server:
        stream = server.client().chat.completions.create(
            model="base", messages=[{"role": "user", "content": STORY}], stream=True, max_tokens=8000,
            extra_body={"ignore_eos": True})
        next(stream)
        ending = threading.Thread(target=server.interrupt)
        ending.start()
        with pytest.raises(openai.APIError) as raised:
            for _ in stream:
                pass
        assert raised.value.type == "server_error" and "shutting down" in raised.value.message
        ending.join()


def test_mixed_company(server):
    """Chats and completions, streamed and whole, under several adapters, all at once and alone, are the same."""
    models = ("base", "r8-all", "r4-qv-rslora", "r4-pattern")

    async def ask(client, index):
        model, seed = models[index % 4], index
        if index % 3 == 0:
            answer = await client.completions.create(model=model, prompt=STORY, max_tokens=10, seed=seed)
            return answer.choices[0].text
        messages = [{"role": "user", "content": f"Tell me about the number {index}."}]
        fields = dict(model=model, messages=messages, max_tokens=10, seed=seed)
        if index % 3 == 1:
            return (await client.chat.completions.create(**fields)).choices[0].message.content
        parts = [chunk async for chunk in await client.chat.completions.create(stream=True, **fields)]
        return "".join(part.choices[0].delta.content or "" for part in parts)

    async def main():
        async with server.async_client() as client:
            together = await asyncio.gather(*(ask(client, index) for index in range(16)))
            alone = [await ask(client, index) for index in range(16)]
            assert together == alone and len(set(alone)) > 10

    asyncio.run(main())
