"""Adapters by name: listed, loaded and unloaded while requests run, refused with the reason."""

import shutil
import threading

import pytest

from graft_server import FIXTURES, MODEL_NAME, REFERENCES
from test_errors import check

STORY = "Once upon a time, in a small village"


def load(server, name, path):
    return server.http.post("/v1/load_lora_adapter", json={"lora_name": name, "lora_path": str(path)})


def unload(server, name):
    return server.http.post("/v1/unload_lora_adapter", json={"lora_name": name})


@pytest.fixture
def hot(server):
    """An adapter loaded for one test alone, under a name of its own."""
    assert load(server, "hot", "r8-all").status_code == 200
    yield "hot"
    unload(server, "hot")


def test_listed_under_their_base(client):
    models = {model.id: model.model_dump() for model in client.models.list()}
    assert set(models) == {MODEL_NAME, *REFERENCES}
    base = models[MODEL_NAME]
    assert base["parent"] is None and base["root"] == MODEL_NAME
    for name in REFERENCES:
        assert models[name]["parent"] == MODEL_NAME
        assert models[name]["root"] == name, "no path of the machine is told"
        assert models[name]["object"] == "model"


def test_shown_alone(client, server):
    assert client.models.retrieve("r8-all").id == "r8-all"
    assert client.models.retrieve("base").id == MODEL_NAME
    check(server.http.get("/v1/models/nobody"), 404, code="model_not_found")


def test_load_and_unload(server):
    reply = load(server, "again", "r4-pattern")
    assert reply.status_code == 200, reply.text
    body = reply.json()
    assert body["name"] == "again" and body["version"] == 1 and body["bytes"] > 100_000
    assert sorted(body["targets"])
    assert "again" in {model["id"] for model in server.http.get("/v1/models").json()["data"]}
    arguments = dict(max_tokens=6, logprobs=3)
    want = server.complete(STORY, model="r4-pattern", **arguments)["choices"]
    assert server.complete(STORY, model="again", **arguments)["choices"] == want

    assert unload(server, "again").status_code == 200
    assert "again" not in {model["id"] for model in server.http.get("/v1/models").json()["data"]}
    gone = server.http.post("/v1/completions", json={"prompt": "Hi", "model": "again"})
    check(gone, 404, param="model", code="model_not_found")
    check(unload(server, "again"), 404, param="lora_name", code="model_not_found")


def test_absolute_path_inside_the_folder(server, adapters_dir):
    assert load(server, "absolute", adapters_dir / "r4-qv-rslora").json()["rank"] == 4
    assert unload(server, "absolute").status_code == 200


@pytest.mark.parametrize("change", ["replaced", "unloaded"])
def test_running_streams_keep_their_adapter(server, client, hot, change):
    """A stream begun on an adapter goes on with it, whatever happens to the name meanwhile."""
    arguments = dict(prompt=STORY, max_tokens=60, temperature=0, extra_body={"ignore_eos": True})
    whole = client.completions.create(model=hot, **arguments).choices[0].text
    other = client.completions.create(model="r4-pattern", **arguments).choices[0].text
    assert whole != other

    stream = client.completions.create(model=hot, stream=True, **arguments)
    text = next(stream).choices[0].text
    if change == "replaced":
        assert load(server, hot, "r4-pattern").status_code == 200
    else:
        assert unload(server, hot).status_code == 200
    rest = [chunk.choices[0] for chunk in stream]
    assert len(rest) > 30, "the change came too late to matter"
    assert text + "".join(choice.text for choice in rest) == whole
    assert rest[-1].finish_reason == "length"

    if change == "replaced":
        assert client.completions.create(model=hot, **arguments).choices[0].text == other
    else:
        check(server.http.post("/v1/completions", json={"prompt": "Hi", "model": hot}), 404)


def test_loading_while_many_generate(server, client, hot):
    """Loads and unloads of one name against requests for another: every answer is the adapter's own."""
    arguments = dict(prompt=STORY, max_tokens=8, temperature=0, logprobs=1, model="r4-qv-rslora")
    want = client.completions.create(**arguments).choices[0].model_dump()
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(client.completions.create(**arguments).choices[0].model_dump()))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for round in range(4):
        assert load(server, "busy", ("r8-all", "r4-pattern")[round % 2]).status_code == 200
    for thread in threads:
        thread.join()
    assert unload(server, "busy").status_code == 200
    assert answers == [want] * 4


class TestRefused:
    def test_an_option_that_is_not_supported(self, server):
        error = check(load(server, "other", "biased"), 400, param="lora_path")
        assert "bias" in error["message"]
        assert any("biased" in line and "lora_bias" in line for line in server.log), "the log says why"

    @pytest.mark.parametrize(
        "path", ["..", "../r8-all", "/etc", "r8-all/../../x", ".", "", "/", "r8-all\x00", "a" * 5000]
    )
    def test_paths_outside(self, server, path):
        check(load(server, "outside", path), 400, param="lora_path")

    def test_a_folder_beside_with_the_same_beginning(self, server, adapters_dir):
        beside = adapters_dir.with_name(adapters_dir.name + "-beside")
        shutil.copytree(FIXTURES / "adapters/r4-qv-rslora", beside / "r4-qv-rslora")
        check(load(server, "outside", beside / "r4-qv-rslora"), 400, param="lora_path")

    def test_a_link_that_leads_outside(self, server, adapters_dir):
        link = adapters_dir / "link"
        link.symlink_to(FIXTURES / "adapters/r4-qv-rslora")
        try:
            check(load(server, "outside", "link"), 400, param="lora_path")
        finally:
            link.unlink()

    def test_missing_folder(self, server):
        check(load(server, "missing", "not-there"), 400, param="lora_path")

    @pytest.mark.parametrize("name", ["base", MODEL_NAME, "a b", "a,b", "x:0.5", "x:1", "a@2", "ünïcode", "", "a" * 300])
    def test_names(self, server, name):
        check(load(server, name, "r8-all"), 400, param="lora_name")

    @pytest.mark.parametrize("body", [{}, {"lora_name": "x"}, {"lora_path": "r8-all"}, {"lora_name": 3, "lora_path": "r8-all"}])
    def test_fields(self, server, body):
        check(server.http.post("/v1/load_lora_adapter", json=body), 400)

    @pytest.mark.parametrize("damage", ["truncated", "foreign key", "no weights"])
    def test_damaged(self, server, adapters_dir, damage):
        folder = adapters_dir / "damaged"
        shutil.copytree(FIXTURES / "adapters/r4-qv-rslora", folder)
        try:
            weights = folder / "adapter_model.safetensors"
            data = weights.read_bytes()
            if damage == "truncated":
                weights.write_bytes(data[:-100])
            elif damage == "foreign key":
                assert data.count(b"layers.7.self_attn.q_proj.lora_A") == 1
                weights.write_bytes(data.replace(b"layers.7.self_attn.q_proj.lora_A", b"layers.7.self_attn.q_proj.lora_X"))
            else:
                weights.unlink()
            message = check(load(server, "damaged", "damaged"), 400, param="lora_path")["message"]
            assert "adapter_model.safetensors" in message or "lora_X" in message
            check(server.http.post("/v1/completions", json={"prompt": "Hi", "model": "damaged"}), 404)
        finally:
            shutil.rmtree(folder)


class TestReload:
    """`POST /v1/adapters/{name}`: a stored version is loaded again."""

    def post(self, server, name, **fields):
        return server.http.post(f"/v1/adapters/{name}", json=fields)

    def test_an_unloaded_name_comes_back(self, server, hot):
        unload(server, hot)
        assert self.post(server, hot).json()["version"] == server.http.get(f"/v1/adapters/{hot}").json()["version"]
        assert server.complete(STORY, query={"adapter": hot}, max_tokens=4)["model"] == hot

    def test_pinning(self, server, hot):
        for pinned in (True, False):
            reply = self.post(server, hot, pinned=pinned)
            assert reply.status_code == 200 and reply.json()["pinned"] is pinned
            assert server.http.get(f"/v1/adapters/{hot}").json()["pinned"] is pinned
        # Without the field, it stays as it is.
        self.post(server, hot, pinned=True)
        assert self.post(server, hot).json()["pinned"] is True

    def test_an_older_version_is_current_again(self, server, hot):
        first = server.http.get(f"/v1/adapters/{hot}").json()
        expected = server.complete(STORY, query={"adapter": hot}, max_tokens=8)["choices"]
        second = load(server, hot, "r4-pattern").json()
        assert second["version"] > first["version"]
        reply = self.post(server, hot, version=first["version"]).json()
        assert (reply["version"], reply["content_hash"]) == (first["version"], first["content_hash"])
        assert server.complete(STORY, query={"adapter": hot}, max_tokens=8)["choices"] == expected
        listed = server.http.get(f"/v1/adapters/{hot}").json()
        assert listed["version"] == first["version"] and second["version"] in [v["version"] for v in listed["versions"]]

    def test_refusals(self, server, hot):
        check(self.post(server, "nothing"), 404, param="name", code="model_not_found")
        check(self.post(server, hot, version=999), 404, param="version", code="model_not_found")
        check(self.post(server, hot, version=0), 400, param="version", code="invalid_value")
        check(self.post(server, hot, pinned="yes"), 400, param="pinned", code="invalid_type")
        check(self.post(server, hot, pined=True), 400, param="pined", code="unknown_parameter")
