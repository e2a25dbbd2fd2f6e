"""Embeddings, worked by OpenAI's client and LangChain's."""

import base64
import math
import struct

import pytest
from langchain_openai import OpenAIEmbeddings

from graft_server import MODEL_NAME

TEXTS = ["The cat sits on the mat.", "A kitten is lying on a rug.", "Interest rates rose by half a percent."]


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b))


def test_openai_client(client, server):
    answer = client.embeddings.create(model=MODEL_NAME, input=TEXTS)
    assert answer.object == "list" and answer.model == MODEL_NAME
    assert [item.index for item in answer.data] == [0, 1, 2]
    vectors = [item.embedding for item in answer.data]
    assert {len(vector) for vector in vectors} == {576}
    assert all(abs(math.hypot(*vector) - 1) < 1e-5 for vector in vectors)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 15
    assert cosine(vectors[0], vectors[1]) > cosine(vectors[0], vectors[2])


def test_formats_and_kinds_of_input(client, server):
    # The client asks for base64 unless it is told otherwise.
    floats = client.embeddings.create(model=MODEL_NAME, input=TEXTS[0], encoding_format="float").data[0].embedding
    packed = client.embeddings.create(model=MODEL_NAME, input=TEXTS[0], encoding_format="base64").data[0].embedding
    raw = base64.b64decode(packed)
    unpacked = list(struct.unpack(f"<{len(raw) // 4}f", raw))
    assert unpacked == [struct.unpack("f", struct.pack("f", x))[0] for x in floats]
    tokens = server.http.post("/tokenize", json={"prompt": TEXTS[0]}).json()["tokens"]
    for given in (tokens, [tokens], [TEXTS[0]]):
        assert client.embeddings.create(model=MODEL_NAME, input=given).data[0].embedding == unpacked


def test_alone_and_beside_others(client):
    alone = [client.embeddings.create(model=MODEL_NAME, input=text).data[0].embedding for text in TEXTS]
    many = client.embeddings.create(model=MODEL_NAME, input=TEXTS * 30).data
    assert [item.embedding for item in many] == alone * 30


def test_dimensions(client):
    whole = client.embeddings.create(model=MODEL_NAME, input=TEXTS[0]).data[0].embedding
    cut = client.embeddings.create(model=MODEL_NAME, input=TEXTS[0], dimensions=64).data[0].embedding
    norm = math.hypot(*whole[:64])
    assert len(cut) == 64 and cut == pytest.approx([x / norm for x in whole[:64]], abs=1e-6)


def test_adapters(client):
    base = client.embeddings.create(model=MODEL_NAME, input=TEXTS[0]).data[0].embedding
    field = client.embeddings.create(model=MODEL_NAME, input=TEXTS[0], extra_body={"adapter": "r8-all"})
    named = client.embeddings.create(model="r8-all", input=TEXTS[0])
    query = client.embeddings.create(model=MODEL_NAME, input=TEXTS[0], extra_query={"adapter": "r8-all"})
    assert field.data[0].embedding == named.data[0].embedding == query.data[0].embedding != base
    assert field.model == "r8-all"


@pytest.mark.parametrize(
    "body, status, param, words",
    [
        ({}, 400, "input", "missing"),
        ({"input": ""}, 400, "input", "no tokens"),
        ({"input": []}, 400, "input", "must be"),
        ({"input": ["a", ""]}, 400, "input", "(input 1)"),
        ({"input": [[1], []]}, 400, "input", "(input 1)"),
        ({"input": 7}, 400, "input", "must be"),
        ({"input": [10**6]}, 400, "input", "no token id"),
        ({"input": ["a"] * 2049}, 400, "input", "2048"),
        ({"input": "many words " * 5000}, 400, "input", "context length"),
        ({"input": "a", "dimensions": 577}, 400, "dimensions", "between 1 and 576"),
        ({"input": "a", "dimensions": 0}, 400, "dimensions", "between"),
        ({"input": "a", "encoding_format": "hex"}, 400, "encoding_format", "base64"),
        ({"input": "a", "model": "nobody"}, 404, "model", "no adapter is called"),
        ({"input": "a", "adapter": "nobody"}, 404, "adapter", "no adapter is called"),
        ({"input": "a", "dimension": 5}, 400, "dimension", "did you mean 'dimensions'"),
        ({"input": "a", "pooling": "cls"}, 400, "pooling", "not supported"),
    ],
)
def test_errors(server, body, status, param, words):
    reply = server.http.post("/v1/embeddings", json=body)
    error = reply.json()["error"]
    assert reply.status_code == status and error["param"] == param and words in error["message"], error


def test_langchain(server):
    embeddings = OpenAIEmbeddings(
        model=MODEL_NAME, base_url=server.url + "/v1", api_key="none", check_embedding_ctx_length=False
    )
    documents = embeddings.embed_documents(TEXTS)
    assert documents[0] == embeddings.embed_query(TEXTS[0])
