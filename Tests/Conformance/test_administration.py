"""`graft adapters` and `graft jobs`: on a server, in a folder, on a terminal and in a pipe."""

import json
import shutil

import pytest

from graft_server import FIXTURES, MODEL, Server, run, state_folder
from terminal import on_terminal, plain
from test_commands import one_line_error
from test_fine_tuning import await_status, create

PIRATE = FIXTURES / "adapters/r8-all"


@pytest.fixture(scope="module")
def keyed(data_dir, adapters_dir):
    """A server with a key, so that every request needs it."""
    with Server("--adapters", adapters_dir, data_dir=data_dir, api_key="secret") as server:
        yield server


class TestServer:
    def command(self, keyed, *arguments, **options):
        return run(*arguments, "--url", keyed.url, "--api-key", "secret", **options)

    def test_adapters(self, keyed):
        done = self.command(keyed, "adapters", "load", "mine", PIRATE, "--pinned")
        assert done.stdout.decode() == "mine@1\n", done.stderr
        (entry,) = [entry for entry in keyed.http.get("/v1/adapters").json()["data"] if entry["name"] == "mine"]
        assert entry["pinned"] and entry["rank"] == 8
        listed = json.loads(self.command(keyed, "adapters", "list", "--json").stdout)
        assert listed == keyed.http.get("/v1/adapters").json()["data"]
        lines = self.command(keyed, "adapters", "list").stdout.decode().splitlines()
        assert [line.split("\t")[1] for line in lines if line.startswith("mine@1\t")] == ["current, pinned"]
        assert self.command(keyed, "adapters", "unload", "mine").returncode == 0
        assert "mine" not in {model["id"] for model in keyed.http.get("/v1/models").json()["data"]}
        assert self.command(keyed, "adapters", "remove", "mine").returncode == 0
        assert "mine" in one_line_error(self.command(keyed, "adapters", "remove", "mine"))

    def test_old_versions_are_pruned(self, keyed):
        def versions():
            entries = keyed.http.get("/v1/adapters").json()["data"]
            return [version["version"] for entry in entries if entry["name"] == "old" for version in entry["versions"]]

        for name in ("r8-all", "r4-qv-rslora", "r4-pattern"):
            assert self.command(keyed, "adapters", "load", "old", FIXTURES / "adapters" / name).returncode == 0
        prune = ["adapters", "prune", "--keep-versions", 2]
        assert self.command(keyed, *prune, "--dry-run").stdout == b"old@1\n" and versions() == [1, 2, 3]
        assert self.command(keyed, *prune).stdout == b"old@1\n" and versions() == [2, 3]
        assert self.command(keyed, *prune).stdout == b""
        assert self.command(keyed, "adapters", "unload", "old").returncode == 0
        assert self.command(keyed, *prune).stdout == b"" and versions() == [2, 3]
        assert self.command(keyed, *prune, "--unloaded").stdout == b"old@2\nold@3\n" and versions() == []

    def test_a_refused_adapter_is_not_uploaded(self, keyed, adapters_dir):
        assert "bias" in one_line_error(self.command(keyed, "adapters", "load", "x", adapters_dir / "biased"))

    def test_variables_give_server_and_key(self, keyed):
        env = {"GRAFT_URL": keyed.url, "GRAFT_API_KEY": "secret"}
        assert json.loads(run("adapters", "list", "--json", env=env).stdout)

    def test_the_key_is_asked_for(self, keyed):
        assert "--api-key" in one_line_error(run("adapters", "list", "--url", keyed.url))

    def test_both_is_wrong_usage(self, keyed, tmp_path):
        assert run("adapters", "list", "--url", keyed.url, "--data-dir", tmp_path).returncode == 2
        env = {"GRAFT_URL": keyed.url}
        assert run("adapters", "list", "--data-dir", tmp_path, env=env).stdout == b"", "what is typed goes first"

    def test_a_folder_in_use_names_the_server(self, keyed):
        error = one_line_error(run("jobs", "list", "--data-dir", keyed.state))
        assert f"--url {keyed.url}" in error and str(keyed.process.pid) in error

    def test_a_terminal_shows_a_table(self, keyed):
        text, code = on_terminal("adapters", "list", "--url", keyed.url, "--api-key", "secret", columns=60)
        lines = plain(text).splitlines()
        assert code == 0 and "\x1b[1m" in text and all(len(line) <= 60 for line in lines), text
        assert lines[0].split()[:3] == ["NAME", "STATE", "RANK"]
        ends = {line.index("B ") for line in lines[1:] if "iB " in line}
        assert len(ends) == 1, text
        bare, _ = on_terminal(
            "adapters", "list", "--url", keyed.url, "--api-key", "secret", columns=60, env={"NO_COLOR": "1"})
        assert bare.splitlines() == lines


@pytest.fixture(scope="module")
def trained(data_dir):
    state = state_folder(data_dir)
    with Server(data_dir=data_dir, state=state) as server, server.client() as client:
        done = await_status(client, create(client, suffix="sums"), "succeeded")
        paused = create(client, settings={"max_steps": 500})
        await_status(client, paused, "running")
        url = ["--url", server.url]
        assert run("jobs", "pause", paused.id, *url).stdout.decode() == f"{paused.id}\tpaused\n"
        remote = {
            "list": run("jobs", "list", *url).stdout, "json": run("jobs", "list", "--json", *url).stdout,
            "follow": run("jobs", "follow", done.id, *url).stdout,
            "events": run("jobs", "follow", done.id, "--json", *url).stdout,
            "terminal": on_terminal("jobs", "follow", done.id, *url),
            "missing": run("jobs", "follow", "ftjob-none", *url),
            "early": run("jobs", "download", paused.id, state / "early", *url),
        }
        downloaded = run("jobs", "download", done.id, state / "downloaded", *url)
        assert downloaded.returncode == 0, downloaded.stderr
        want = server.http.get(f"/v1/adapters/{done.fine_tuned_model}/content").content
    yield state, done, paused, remote, want


class TestJobs:
    def test_the_folder_says_the_same(self, trained):
        state, done, paused, remote, _ = trained
        base = ["--data-dir", state]
        assert run("jobs", "list", *base).stdout == remote["list"]
        assert run("jobs", "list", "--json", *base).stdout == remote["json"]
        assert run("jobs", "follow", done.id, *base).stdout == remote["follow"]
        assert [line.split("\t")[1] for line in remote["list"].decode().splitlines()] == ["paused", "succeeded"]

    def test_follow(self, trained):
        _, done, _, remote, _ = trained
        events = [json.loads(line) for line in remote["events"].decode().splitlines()]
        steps = [event["data"]["step"] for event in events if event["type"] == "metrics"]
        assert steps == [1, 2, 3, 4]
        lines = remote["follow"].decode().splitlines()
        assert len(lines) == len(events) and sum(line.startswith("step ") and "loss" in line for line in lines) == 4
        text, code = remote["terminal"]
        assert code == 0 and "\r\x1b[K" in text and "█" in text and done.fine_tuned_model in text
        assert "ftjob-none" in one_line_error(remote["missing"])

    def test_download(self, trained, tmp_path):
        state, done, paused, remote, want = trained
        assert "paused" in one_line_error(remote["early"]) and not (state / "early").exists()
        (tmp_path / "want.tar").write_bytes(want)
        shutil.unpack_archive(tmp_path / "want.tar", tmp_path / "want")
        again = run("jobs", "download", done.id, tmp_path / "again", "--data-dir", state)
        assert again.stdout.decode().strip() == str(tmp_path / "again")
        (folder,) = [path.parent for path in (tmp_path / "want").rglob("adapter_config.json")]
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            data = (folder / name).read_bytes()
            assert (state / "downloaded" / name).read_bytes() == (tmp_path / "again" / name).read_bytes() == data
        assert "not empty" in one_line_error(run("jobs", "download", done.id, tmp_path / "again", "--data-dir", state))

    def test_changes_in_the_folder_hold_on_the_server(self, trained, data_dir):
        state, _, paused, _, _ = trained
        base = ["--data-dir", state]
        assert "paused" in one_line_error(run("jobs", "pause", paused.id, *base))
        assert run("jobs", "resume", paused.id, *base).stdout.decode().split() == [paused.id, "queued"]
        assert run("jobs", "cancel", paused.id, *base).stdout.decode().split() == [paused.id, "cancelled"]
        assert "cancelled" in one_line_error(run("jobs", "resume", paused.id, *base))
        assert not (state / "jobs" / paused.id).exists()
        with Server(data_dir=data_dir, state=state) as server, server.client() as client:
            assert client.fine_tuning.jobs.retrieve(paused.id).status == "cancelled"


class TestInspect:
    def test_an_adapter(self):
        done = run("adapters", "inspect", PIRATE, "--json", "--model", MODEL)
        assert done.returncode == 0, done.stderr
        found, config = json.loads(done.stdout), json.loads((PIRATE / "adapter_config.json").read_text())
        assert found["rank"] == config["r"] == 8 and found["problems"] == []
        assert found["targets"] == sorted(config["target_modules"])
        assert found["bytes"] == sum((PIRATE / name).stat().st_size for name in ("adapter_config.json", "adapter_model.safetensors"))

    def test_problems(self, adapters_dir, tmp_path):
        done = run("adapters", "inspect", adapters_dir / "biased")
        assert done.returncode == 1 and b"lora_bias" in done.stdout
        shutil.copytree(PIRATE, tmp_path / "cut")
        file = tmp_path / "cut/adapter_model.safetensors"
        file.write_bytes(file.read_bytes()[:-4])
        done = run("adapters", "inspect", tmp_path / "cut", "--json")
        assert done.returncode == 1 and len(json.loads(done.stdout)["problems"]) == 1
        assert "does not exist" in one_line_error(run("adapters", "inspect", tmp_path / "none"))
