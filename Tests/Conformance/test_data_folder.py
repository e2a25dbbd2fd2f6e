"""What a data folder keeps, whoever may lose its database; and adapters downloaded from it."""

import io
import sqlite3
import tarfile

import pytest

from graft_server import MODEL, Server, run, state_folder
from test_adapter_store import adapter_files, answer, listed, put
from test_errors import check


@pytest.fixture
def state(data_dir):
    return state_folder(data_dir)


def stored(state):
    return sorted(
        str(path.relative_to(state)) for name in ("adapters", "files", "jobs") for path in (state / name).rglob("*")
    )


class TestLostDatabase:
    @pytest.mark.parametrize("kind", ["missing", "empty", "of another folder"])
    def test_refused_and_nothing_deleted(self, data_dir, state, kind):
        other = state_folder(data_dir)
        for folder, name, contents in ((state, "mine", "r4-pattern"), (other, "theirs", "r8-all")):
            with Server(data_dir=data_dir, state=folder) as server:
                assert put(server, name, adapter_files(contents)).status_code == 200
                file = server.http.post("/v1/files", files={"file": ("a.jsonl", b"{}")}, data={"purpose": "fine-tune"})
                assert file.status_code == 200, file.text
        before, database = stored(state), state / "graft.sqlite"
        for path in state.glob("graft.sqlite*"):
            path.unlink()
        if kind == "empty":
            database.touch()
        if kind == "of another folder":
            # Its newest records may be in the log beside it.
            for path in (*other.glob("graft.sqlite"), *other.glob("graft.sqlite-wal")):
                (state / path.name).write_bytes(path.read_bytes())
        for command in (["serve", "--model", MODEL, "--port", 0], ["adapters", "list"]):
            done = run(*command, "--data-dir", state)
            error = done.stderr.decode()
            assert done.returncode == 1 and error.count("\n") == 1, error
            assert "graft adapters prune" in error and "1 adapter, 1 file" in error
            assert stored(state) == before
        dry = run("adapters", "prune", "--data-dir", state, "--dry-run").stdout.decode().split("\n")
        assert len(dry) == 3 and stored(state) == before
        assert run("adapters", "prune", "--data-dir", state).stdout.decode().split("\n") == dry
        with Server(data_dir=data_dir, state=state) as server:
            # What the database names is listed, though the other folder has its contents.
            theirs = kind == "of another folder"
            assert list(listed(server)) == (["theirs"] if theirs else [])
            assert len(server.http.get("/v1/files").json()["data"]) == theirs

    def test_lost_rows_lose_no_contents(self, data_dir, state):
        with Server(data_dir=data_dir, state=state) as server:
            for name in ("mine", "yours"):
                assert put(server, name, adapter_files("r4-pattern" if name == "mine" else "r8-all")).status_code == 200
        before = stored(state)
        with sqlite3.connect(state / "graft.sqlite") as database:
            database.execute("DELETE FROM adapterVersion WHERE name = 'mine'")
        database.close()
        with Server(data_dir=data_dir, state=state) as server:
            assert [name for name in listed(server)] == ["yours"]
            assert any("no record names" in line for line in server.log)
            assert put(server, "mine", adapter_files("r4-pattern")).json()["version"] == 2
        assert stored(state) == before


def test_others_may_not_read(data_dir, state):
    state.chmod(0o755)
    with Server(data_dir=data_dir, state=state) as server:
        assert put(server, "mine", adapter_files("r4-pattern")).status_code == 200
    assert state.stat().st_mode & 0o777 == 0o700
    for path in state.rglob("*"):
        if not path.is_symlink():
            assert path.stat().st_mode & 0o077 == 0, path


class TestContent:
    @pytest.mark.parametrize("name", ["down", "ft:org/base:graft::x", "n" * 150])
    def test_download_and_upload_again(self, server, name):
        files = adapter_files("r4-pattern")
        try:
            uploaded = put(server, name, files).json()
            reply = server.http.get(f"/v1/adapters/{name}/content")
            assert reply.status_code == 200 and reply.headers["content-type"] == "application/x-tar"
            assert int(reply.headers["content-length"]) == len(reply.content)
            with tarfile.open(fileobj=io.BytesIO(reply.content)) as archive:
                assert archive.getnames() == [f"{name}/{file}" for file in files]
                unpacked = {file: archive.extractfile(f"{name}/{file}").read() for file in files}
            assert unpacked == files
            assert put(server, "again", unpacked).json()["content_hash"] == uploaded["content_hash"]
            assert put(server, name, adapter_files("r8-all")).json()["version"] == 2
            old = server.http.get(f"/v1/adapters/{name}/content?version=1")
            assert old.content == reply.content
            check(server.http.get(f"/v1/adapters/{name}/content?version=3"), 404, param="version")
            check(server.http.get(f"/v1/adapters/{name}/content?version=x"), 400, param="version")
            head = server.http.head(f"/v1/adapters/{name}/content?version=1")
            assert head.headers["content-length"] == reply.headers["content-length"]
        finally:
            server.http.delete(f"/v1/adapters/{name}")
            server.http.delete("/v1/adapters/again")

    def test_unknown(self, server):
        check(server.http.get("/v1/adapters/nobody/content"), 404, code="model_not_found")


class TestModels:
    def test_deleting(self, server, client):
        assert put(server, "org/gone", adapter_files("r4-pattern")).status_code == 200
        deleted = client.models.delete("org/gone")
        assert (deleted.id, deleted.object, deleted.deleted) == ("org/gone", "model", True)
        check(server.http.delete("/v1/models/org/gone"), 404, code="model_not_found")
        for base in ("base", client.models.list().data[0].id):
            assert "base" in check(server.http.delete(f"/v1/models/{base}"), 403)["message"]
        answer(server, model="base")

    def test_pages(self, server):
        whole = [model["id"] for model in server.http.get("/v1/models").json()["data"]]
        for limit in (1, 2, len(whole), len(whole) + 1):
            seen, query = [], {"limit": limit}
            while True:
                page = server.http.get("/v1/models", params=query).json()
                seen += [model["id"] for model in page["data"]]
                assert len(page["data"]) <= limit and page["last_id"] == seen[-1]
                if not page["has_more"]:
                    break
                query["after"] = page["last_id"]
            assert seen == whole
        check(server.http.get("/v1/models?limit=0"), 400, param="limit")
        check(server.http.get("/v1/models?after=nobody"), 400, param="after")
        check(server.http.get("/v1/models?checkpoints=1"), 400, param="checkpoints")
        assert server.http.get("/v1/adapters?limit=1").json()["has_more"] is True

    def test_no_paths_and_no_checkpoints(self, server):
        name = "ft:base:graft::abc:ckpt-step-3"
        try:
            assert put(server, name, adapter_files("r4-pattern")).status_code == 200
            models = server.http.get("/v1/models").json()["data"]
            assert name not in {model["id"] for model in models}
            with_all = server.http.get("/v1/models?checkpoints=true").json()["data"]
            assert name in {model["id"] for model in with_all}
            assert not [model for model in with_all if str(model["root"]).startswith("/")]
            assert server.http.get(f"/v1/models/{name}").json()["id"] == name
            answer(server, model=name)
        finally:
            server.http.delete(f"/v1/adapters/{name}")

    @pytest.mark.parametrize("name", ["a%2F", "a/", "-a", "a.", "a//b", "a%2F..%2Fb", "a%2F.%2Fb", "%2Fa"])
    def test_names_that_are_none(self, server, name):
        check(put(server, name, adapter_files("r4-pattern")), 400, param="name")
