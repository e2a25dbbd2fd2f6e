"""The models' routes, and the tokenizer's."""

import json

import pytest

from graft_server import ADAPTERS, MODEL_NAME
from test_errors import check


@pytest.fixture
def odd(server):
    """An adapter whose name has slashes and colons."""
    name = "ft:org/family:v1.2/tuned"
    reply = server.http.post("/v1/load_lora_adapter", json={"lora_name": name, "lora_path": "r8-all"})
    assert reply.status_code == 200, reply.text
    yield name
    server.http.post("/v1/unload_lora_adapter", json={"lora_name": name})


class TestModels:
    def test_names_with_slashes_and_colons(self, server, client, odd):
        assert client.models.retrieve(odd).id == odd
        for path in (odd, odd.replace("/", "%2F").replace(":", "%3A"), odd.replace("/", "%2f")):
            shown = server.http.get("/v1/models/" + path)
            assert shown.status_code == 200, path
            assert (shown.json()["id"], shown.json()["parent"]) == (odd, MODEL_NAME)
        answer = client.completions.create(model=odd, prompt="Hi", max_tokens=1)
        assert answer.model == odd
        assert odd in {model.id for model in client.models.list()}

    def test_unknown(self, server):
        for path in ("nobody", "org/nobody", "r8-all/x", "%20"):
            check(server.http.get("/v1/models/" + path), 404, code="model_not_found")

    def test_fields(self, server):
        listing = server.http.get("/v1/models").json()
        assert listing["object"] == "list"
        by_id = {model["id"]: model for model in listing["data"]}
        assert set(ADAPTERS) < set(by_id)
        for model in by_id.values():
            assert model["object"] == "model" and isinstance(model["created"], int) and model["owned_by"] == "graft"
            assert server.http.get("/v1/models/" + model["id"]).json() == model


class TestTokenize:
    def test_as_the_reference(self, server, reference):
        for case in reference.tokenization:
            reply = server.http.post("/tokenize", json={"prompt": case["text"], "add_special_tokens": False})
            assert reply.json()["tokens"] == case["ids"]
            assert reply.json()["count"] == len(case["ids"])
            back = server.http.post("/detokenize", json={"model": "base", "tokens": case["ids"]})
            assert back.json() == {"prompt": reference.bytes_of(case["ids"]).decode(errors="replace")}

    def test_texts(self, server):
        reply = server.http.post("/tokenize", json={"prompt": "Hi there", "return_token_strs": True}).json()
        assert reply["token_strs"] == ["Hi", "Ġthere"] and reply["max_model_len"] == 8192
        assert server.http.post("/tokenize", json={"prompt": "Hi"}).json()["token_strs"] is None
        assert server.http.post("/tokenize", json={"prompt": ""}).json()["tokens"] == []

    def test_information(self, server, hf_dir):
        config = json.loads((hf_dir / "tokenizer_config.json").read_text())
        shown = server.http.get("/tokenizer_info").json()
        assert shown["bos_token"] == config["bos_token"] and shown["eos_token"] == config["eos_token"]
        assert shown["chat_template"] == config["chat_template"]

    @pytest.mark.parametrize(
        "path, body, param",
        [
            ("/tokenize", {}, "prompt"), ("/tokenize", {"prompt": 5}, "prompt"), ("/tokenize", {"messages": []}, "messages"),
            ("/tokenize", {"messages": [{"role": "x"}]}, "messages[0].role"),
            ("/tokenize", {"prompt": "a", "add_special_tokens": 1}, "add_special_tokens"),
            ("/detokenize", {}, "tokens"), ("/detokenize", {"tokens": "a"}, "tokens"),
            ("/detokenize", {"tokens": [-1]}, "tokens"), ("/detokenize", {"tokens": [49152]}, "tokens"),
        ],
    )
    def test_refused(self, server, path, body, param):
        check(server.http.post(path, json=body), 400, param=param)

    def test_a_long_text_holds_up_nobody(self, server):
        long = server.http.post("/tokenize", json={"prompt": "some words and more. " * 40000})
        assert long.json()["count"] > 100_000
