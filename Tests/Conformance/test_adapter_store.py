"""The adapter store over HTTP and on the command line: versions, uploads, restarts, kill -9, memory."""

import json
import os
import random
import re
import shutil
import threading
import time

import httpx
import pytest

from graft_server import ADAPTERS, FIXTURES, MODEL, Server, run, state_folder
from test_adapters import STORY, load, unload
from test_errors import check

FILES = ("adapter_config.json", "adapter_model.safetensors")
QUESTION = dict(max_tokens=8, logprobs=1)


def adapter_files(name):
    return {file: (FIXTURES / "adapters" / name / file).read_bytes() for file in FILES}


def put(server, name, files, **options):
    parts = [("files", (file, data, "application/octet-stream")) for file, data in files.items()]
    return server.http.put(f"/v1/adapters/{name}", files=parts, **options)


def listed(server, name=None):
    entries = {entry["name"]: entry for entry in server.http.get("/v1/adapters").json()["data"]}
    return entries.get(name) if name else entries


def answer(server, **fields):
    return server.complete(STORY, **QUESTION, **fields)["choices"]


@pytest.fixture
def state(data_dir):
    return state_folder(data_dir)


class TestVersions:
    def test_a_name_gets_versions(self, server):
        try:
            assert load(server, "v", "r8-all").json()["version"] == 1
            assert load(server, "v", "r8-all").json()["version"] == 1
            assert load(server, "v", "r4-pattern").json()["version"] == 2
            first, second = answer(server, model="r8-all"), answer(server, model="r4-pattern")
            assert first != second
            assert answer(server, model="v") == second
            assert answer(server, model="v@1") == first
            assert answer(server, query={"adapter": "v@2"}) == second
            half = answer(server, model="r8-all:0.5")
            assert answer(server, query={"adapter": "v@1:0.5"}) == half
            assert answer(server, query={"adapter": "v@2:0.3,v@1:0.7"}) == answer(
                server, query={"adapter": "v@1:0.7,v@2:0.3"}
            )
            for missing in ("v@3", "v@1@2", "nobody@1"):
                gone = server.http.post("/v1/completions", json={"prompt": "Hi", "model": missing})
                check(gone, 404, param="model", code="model_not_found")
            twice = server.http.post("/v1/completions?adapter=v@1,v@1", json={"prompt": "Hi"})
            check(twice, 400, param="adapter")
            entry = listed(server, "v")
            assert entry["version"] == 2 and [one["version"] for one in entry["versions"]] == [1, 2]
        finally:
            server.http.delete("/v1/adapters/v")

    def test_listing(self, server):
        entries = listed(server)
        assert set(ADAPTERS) <= set(entries)
        entry = entries["r8-all"]
        assert entry["state"] in ("loaded", "on_disk") and entry["rank"] == 8 and not entry["pinned"]
        assert len(entry["content_hash"]) == 64 and len(entry["base"]) == 64 and len(entry["targets"]) == 7
        assert entry["bytes"] > 100_000 and entry["created"] > 1.7e9 and entry["source"].endswith("/r8-all")
        assert entries["biased"]["state"] == "refused" and "bias" in entries["biased"]["reason"]
        assert server.http.get("/v1/adapters/r8-all").json()["content_hash"] == entry["content_hash"]
        check(server.http.get("/v1/adapters/nobody"), 404, code="model_not_found")
        memory = server.http.get("/v1/adapters").json()["memory"]
        assert 0 < memory["bytes"] <= memory["budget"]


class TestSets:
    def combine(self, server, name, adapters, **fields):
        return server.http.put(f"/v1/adapters/{name}", json={"adapters": adapters, **fields})

    def test_a_set_with_a_name_is_an_adapter(self, server):
        try:
            reply = self.combine(server, "mix", "r8-all:0.7,r4-pattern:-0.3")
            assert reply.status_code == 200, reply.text
            assert reply.json()["version"] == 1 and reply.json()["rank"] == 12
            entry = listed(server, "mix")
            assert "r8-all@1:0.7" in entry["source"] and entry["source"].endswith("(cat)")
            unnamed = answer(server, query={"adapter": "r8-all:0.7,r4-pattern:-0.3"})[0]
            for named in (answer(server, model="mix")[0], answer(server, query={"adapter": "mix"})[0]):
                assert named["text"] == unnamed["text"]
                pairs = zip(named["logprobs"]["token_logprobs"], unnamed["logprobs"]["token_logprobs"], strict=True)
                assert all(abs(x - y) < 5e-2 for x, y in pairs)
            again = self.combine(server, "mix", "r4-pattern:-0.3,r8-all:0.7")
            assert again.json()["version"] == 1, "the same set"
            assert self.combine(server, "mix", "r8-all:0.5,r4-pattern", pinned=True).json()["version"] == 2
            assert server.http.delete("/v1/adapters/mix").json()["deleted"] is True
        finally:
            server.http.delete("/v1/adapters/mix")

    def test_refused(self, server):
        check(self.combine(server, "mix", "r8-all,nobody"), 404, param="adapters", code="model_not_found")
        check(self.combine(server, "mix", "mix:0.5"), 400, param="adapters")
        check(self.combine(server, "mix", "r8-all,r4-pattern", combination="svd"), 400, param="combination")
        message = check(self.combine(server, "mix", "r8-all,r4-pattern", combination="linear"), 400)["message"]
        assert "several ranks" in message
        for wrong in ("", "base", "a,,b", 7):
            check(self.combine(server, "mix", wrong), 400, param="adapters")
        check(server.http.put("/v1/adapters/mix", json={}), 400, param="adapters")
        check(server.http.put("/v1/adapters/mix", json={"adapters": "r8-all", "adaptors": 1}), 400)
        assert listed(server, "mix") is None


class TestUpload:
    @pytest.mark.parametrize("name, path", [("up", "up"), ("org/up:v", "org/up:v"), ("org/up:v", "org%2Fup%3Av")])
    def test_upload_use_delete(self, server, name, path):
        reply = put(server, path, adapter_files("r4-pattern"))
        assert reply.status_code == 200, reply.text
        version = reply.json()["version"]
        assert reply.json()["name"] == name and reply.json()["content_hash"] == listed(server, name)["content_hash"]
        assert put(server, path, adapter_files("r4-pattern")).json()["version"] == version
        assert answer(server, model=name) == answer(server, model="r4-pattern")
        assert name in {model["id"] for model in server.http.get("/v1/models").json()["data"]}
        assert server.http.get(f"/v1/adapters/{path}").json()["name"] == name
        assert server.http.delete(f"/v1/adapters/{path}").json()["deleted"] is True
        check(server.http.post("/v1/completions", json={"prompt": "Hi", "model": name}), 404)
        check(server.http.delete(f"/v1/adapters/{path}"), 404, code="model_not_found")

    def test_delete_a_version(self, server):
        try:
            numbers = [put(server, "dv", adapter_files(name)).json()["version"] for name in ADAPTERS]
            assert numbers == [1, 2, 3]
            assert server.http.delete("/v1/adapters/dv?version=1").status_code == 200
            check(server.http.delete("/v1/adapters/dv?version=1"), 404, param="version")
            for wrong in ("0", "-1", "x", "1&version=2", ""):
                check(server.http.delete(f"/v1/adapters/dv?version={wrong}"), 400, param="version")
            assert [one["version"] for one in listed(server, "dv")["versions"]] == [2, 3]
        finally:
            server.http.delete("/v1/adapters/dv")

    def test_in_pieces(self, server):
        """Chunked, byte by byte where it is delicate."""
        files = adapter_files("r4-qv-rslora")
        body = b"".join(
            b'--AbC\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), data)
            for name, data in files.items()
        ) + b'--AbC\r\nContent-Disposition: form-data; name="pinned"\r\n\r\ntrue\r\n--AbC--\r\n'

        def pieces():
            for index in range(300):
                yield body[index : index + 1]
            yield body[300:-200]
            for index in range(len(body) - 200, len(body)):
                yield body[index : index + 1]

        try:
            headers = {"Content-Type": "multipart/form-data; boundary=AbC"}
            reply = server.http.put("/v1/adapters/pieces", content=pieces(), headers=headers)
            assert reply.status_code == 200, reply.text
            assert reply.json()["pinned"] is True and listed(server, "pieces")["pinned"] is True
        finally:
            server.http.delete("/v1/adapters/pieces")

    def test_refused(self, server):
        files = adapter_files("r4-pattern")
        weights = files[FILES[1]]
        for change, status, word in [
            ({FILES[1]: weights[:-100]}, 400, "safetensors"),
            ({FILES[0]: b"{"}, 400, "adapter_config.json"),
            ({FILES[0]: json.dumps({"peft_type": "LOHA"}).encode()}, 400, "LOHA"),
            ({"adapters.safetensors": weights}, 400, "adapters.safetensors"),
            ({"README.md": b"hello"}, 400, "README.md"),
        ]:
            message = check(put(server, "bad", files | change), status)["message"]
            assert word in message
        message = check(put(server, "bad", {FILES[0]: files[FILES[0]]}), 400)["message"]
        assert FILES[1] in message
        check(put(server, "base", files), 400, param="name")
        check(put(server, "a:1", files), 400, param="name")
        check(server.http.put("/v1/adapters/bad", content=b"x", headers={"Content-Type": "text/plain"}), 415)
        check(put(server, "bad", {"lora.gguf": b"GGUF" + bytes(100)}), 400, code="invalid_adapter")
        truncated = {"Content-Type": "multipart/form-data; boundary=AbC"}
        check(server.http.put("/v1/adapters/bad", content=b"--AbC\r\n", headers=truncated), 400)
        check(server.http.put("/v1/adapters/bad", content=b"--AbCd\r\n" + b"x" * 100_000, headers=truncated), 400)
        assert listed(server, "bad") is None

    def test_too_large(self, data_dir, state):
        with Server("--max-adapter-size", "64KiB", data_dir=data_dir, state=state) as server:
            big = {FILES[0]: b"{}", FILES[1]: bytes(4 << 20)}
            check(put(server, "big", big), 413)
            check(put(server, "big", {FILES[0]: b"{}", FILES[1]: bytes(100_000)}), 400)
            assert not os.listdir(state / "adapters")


class TestRestarts:
    def test_what_was_answered_is_there_after_kill_9(self, data_dir, adapters_dir, state):
        server = Server("--adapters", adapters_dir, data_dir=data_dir, state=state)
        assert load(server, "mine", "r8-all").json()["version"] == 1
        assert load(server, "mine", "r4-pattern").json()["version"] == 2
        assert put(server, "org/up", adapter_files("r4-qv-rslora")).status_code == 200
        pin = dict(lora_name="pin", lora_path="r8-all", pinned=True)
        assert server.http.post("/v1/load_lora_adapter", json=pin).json()["pinned"] is True
        assert unload(server, "r4-pattern").status_code == 200
        want = {name: answer(server, model=name) for name in ("mine", "mine@1", "org/up")}
        server.kill()
        with Server("--adapters", adapters_dir, data_dir=data_dir, state=state) as server:
            assert {name: answer(server, model=name) for name in want} == want
            entries = listed(server)
            assert entries["pin"]["pinned"] and entries["pin"]["state"] == "loaded"
            assert entries["r4-pattern"]["state"] == "unloaded"
            check(server.http.post("/v1/completions", json={"prompt": "Hi", "model": "r4-pattern"}), 404)
            assert load(server, "r4-pattern", "r4-pattern").json()["version"] == 1
            assert load(server, "mine", "r4-qv-rslora").json()["version"] == 3

    def test_kill_9_amid_loads_leaves_nothing_broken(self, data_dir, adapters_dir, state):
        pause = random.Random(1)
        answered = {}
        for _ in range(4):
            server = Server("--adapters", adapters_dir, data_dir=data_dir, state=state)

            def keep_loading():
                for number in range(100_000):
                    name = f"n{number % 7}"
                    try:
                        reply = load(server, name, ADAPTERS[number % 3])
                    except httpx.HTTPError:
                        return
                    answered[name] = reply.json()["version"]

            thread = threading.Thread(target=keep_loading)
            thread.start()
            time.sleep(pause.uniform(0.05, 0.6))
            server.process.kill()
            server.process.wait()
            thread.join()
        assert answered
        with Server("--adapters", adapters_dir, data_dir=data_dir, state=state) as server:
            entries = listed(server)
            for name, version in answered.items():
                assert version in {one["version"] for one in entries[name]["versions"]}
                answer(server, model=name)
            hashes = {one["content_hash"] for entry in entries.values() for one in entry.get("versions", [])}
            assert set(os.listdir(state / "adapters")) == hashes

    def test_damaged_contents_are_a_clear_error(self, data_dir, state):
        server = Server(data_dir=data_dir, state=state)
        assert put(server, "mine", adapter_files("r4-pattern")).status_code == 200
        contents = state / "adapters" / listed(server, "mine")["content_hash"] / FILES[1]
        server.kill()
        [prepared] = contents.parent.glob("prepared-*")
        prepared.unlink()
        data = bytearray(contents.read_bytes())
        for damage in (data[:-1000], data[:5000] + bytes([data[5000] ^ 4]) + data[5001:]):
            contents.write_bytes(damage)
            with Server(data_dir=data_dir, state=state) as server:
                error = server.http.post("/v1/completions", json={"prompt": "Hi", "model": "mine"})
                check(error, 500, param="model", code="damaged_adapter")
                assert listed(server, "mine")["state"] == "refused"
                server.complete("Hi", max_tokens=1)
        with Server(data_dir=data_dir, state=state) as server:
            assert put(server, "mine", adapter_files("r4-pattern")).json()["version"] == 1
            answer(server, model="mine")

    def test_prepared_files_are_made_once_and_anew(self, data_dir, state):
        server = Server(data_dir=data_dir, state=state)
        assert put(server, "mine", adapter_files("r4-dora")).status_code == 200
        want, folder = answer(server, model="mine"), state / "adapters" / listed(server, "mine")["content_hash"]
        server.kill()
        [prepared] = folder.glob("prepared-*")
        intact, made = prepared.read_bytes(), prepared.stat().st_ino
        for damage in (intact, b"", intact[:-1], intact[:20], bytes([intact[0] ^ 1]) + intact[1:]):
            prepared.write_bytes(damage)
            # What a crash while it is written leaves.
            leftover = folder / f".{prepared.name}.Ab12Cd"
            leftover.write_bytes(intact[:1000])
            with Server(data_dir=data_dir, state=state) as server:
                assert answer(server, model="mine") == want
                told = [line for line in server.log if "prepared again" in line and str(prepared) in line]
            assert len(told) == (damage != intact)
            assert prepared.read_bytes() == intact and not leftover.exists()
            assert (prepared.stat().st_ino == made) == (damage == intact)
            made = prepared.stat().st_ino

    def test_another_base_refuses(self, data_dir, state, tmp_path):
        server = Server(data_dir=data_dir, state=state)
        assert put(server, "mine", adapter_files("r4-pattern")).status_code == 200
        server.kill()
        # Another value in the last tensor's data: the shapes agree, the weights do not.
        other = tmp_path / "other.gguf"
        data = bytearray(MODEL.read_bytes())
        data[-1000] ^= 1
        other.write_bytes(data)
        with Server("--model", other, data_dir=data_dir, state=state) as server:
            entry = listed(server, "mine")
            assert entry["state"] == "incompatible" and "another base" in entry["reason"]
            reply = server.http.post("/v1/completions", json={"prompt": "Hi", "model": "mine"})
            check(reply, 400, param="model", code="incompatible_adapter")
            assert "mine" not in {model["id"] for model in server.http.get("/v1/models").json()["data"]}
            assert put(server, "mine", adapter_files("r4-pattern")).json()["version"] == 2

    def test_a_folder_in_use_is_refused(self, server):
        for command in (["serve", "--model", MODEL, "--port", 0], ["adapters", "list"]):
            done = run(*command, "--data-dir", server.state)
            error = done.stderr.decode()
            assert done.returncode == 1 and str(server.process.pid) in error and error.count("\n") == 1


class TestMemory:
    def test_evicted_and_brought_back(self, data_dir, adapters_dir, server):
        bytes_of = {name: listed(server, name)["bytes"] for name in ADAPTERS}
        budget = (max(bytes_of.values()) + min(bytes_of.values())) // 1024 + 1
        want = {name: answer(server, model=name) for name in ADAPTERS}
        with Server("--adapters", adapters_dir, "--adapter-memory", f"{budget}KiB", data_dir=data_dir) as small:
            for name in (*ADAPTERS, *reversed(ADAPTERS)):
                assert answer(small, model=name) == want[name]
                assert small.http.get("/v1/adapters").json()["memory"]["bytes"] <= budget * 1024
            both = f"{ADAPTERS[0]},{ADAPTERS[1]},{ADAPTERS[2]}"
            reply = small.http.post("/v1/completions", params={"adapter": both}, json={"prompt": "Hi"})
            assert "--adapter-memory" in check(reply, 503, code="adapter_memory_exhausted")["message"]
            assert reply.headers["retry-after"]

    def test_resident_memory_returns(self, data_dir, adapters_dir):
        cycles = int(os.environ.get("GRAFT_ADAPTER_CYCLES", "300"))
        with Server("--adapters", adapters_dir, data_dir=data_dir) as server:
            def resident():
                """Without the mapped base's pages, which come and go as the system likes."""
                return int(re.search(r"RssAnon:\s+(\d+)", open(f"/proc/{server.process.pid}/status").read())[1])

            def cycle(count):
                for number in range(count):
                    name = ADAPTERS[number % 3]
                    assert load(server, "cycle", name).status_code == 200
                    if number % 10 == 0:
                        server.complete("Hi", model="cycle", max_tokens=1)
                    assert unload(server, "cycle").status_code == 200

            for name in ADAPTERS:
                unload(server, name)
            # Until every thread's heap has its size.
            cycle(300)
            before = resident()
            cycle(cycles)
            after = resident()
            print(f"{cycles} cycles: {before} KiB before, {after} KiB after")
            assert after - before < 4096, (before, after)


class TestCommands:
    def test_load_list_remove_prune(self, data_dir, adapters_dir, state):
        base = ["--data-dir", state]
        for number, name in enumerate(ADAPTERS, 1):
            done = run("adapters", "load", *base, "--model", MODEL, "mine", adapters_dir / name, "--pinned")
            assert done.stdout.decode() == f"mine@{number}\n", done.stderr
        lines = run("adapters", "list", *base).stdout.decode().splitlines()
        assert [line.split("\t")[0] for line in lines] == ["mine@1", "mine@2", "mine@3"]
        assert "pinned" in lines[2] and "rank 8" in lines[0]
        assert run("adapters", "prune", *base, "--keep-versions", 2).stdout.decode() == "mine@1\n"
        assert len(os.listdir(state / "adapters")) == 2
        assert run("adapters", "remove", *base, "mine", "--version", 2).returncode == 0
        with Server(data_dir=data_dir, state=state) as server:
            assert listed(server, "mine")["versions"][0]["version"] == 3
            answer(server, model="mine@3")
        assert run("adapters", "remove", *base, "mine").returncode == 0
        missing = run("adapters", "remove", *base, "mine")
        assert missing.returncode == 1 and "mine" in missing.stderr.decode()
        assert not os.listdir(state / "adapters") and run("adapters", "list", *base).stdout == b""
        refused = run("adapters", "load", *base, "--model", MODEL, "x", adapters_dir / "biased")
        assert refused.returncode == 1 and "bias" in refused.stderr.decode()


def test_ready(data_dir):
    with Server(data_dir=data_dir, api_key="k") as server:
        assert httpx.get(server.url + "/ready").json() == {"status": "ready"}
        with server.http.stream(
            "POST", "/v1/completions", json=dict(prompt=STORY, max_tokens=400, stream=True, ignore_eos=True)
        ) as stream:
            next(stream.iter_lines())
        assert httpx.get(server.url + "/ready").status_code == 200
