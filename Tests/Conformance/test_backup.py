"""`graft backup` and `graft restore`, while a server uses the folder and while nothing does."""

import json
import shutil
import sqlite3
import threading

import pytest

from graft_server import MODEL, Server, run, state_folder
from test_adapter_store import adapter_files, answer, put
from test_commands import one_line_error
from test_fine_tuning import await_status, create


def backup(state, target):
    done = run("backup", "--data-dir", state, target)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == f"{target}\n"


@pytest.fixture(scope="module")
def backed_up(data_dir, tmp_path_factory):
    """A backup that was made while a job trained, and what the server said then."""
    state, target = state_folder(data_dir), tmp_path_factory.mktemp("backups") / "one"
    with Server(data_dir=data_dir, state=state) as server, server.client() as client:
        assert put(server, "mine", adapter_files("r8-all")).status_code == 200
        want = answer(server, model="mine")
        done = await_status(client, create(client), "succeeded")
        running = create(client, settings={"max_steps": 400, "checkpoint_steps": 1})
        await_status(client, running, "running")
        stop = threading.Event()

        def change():
            """Versions that come and go while the copy is made."""
            number = 0
            while not stop.is_set():
                number += 1
                put(server, "other", adapter_files("r4-pattern" if number % 2 else "r4-qv-rslora"))
                server.http.delete("/v1/adapters/other")

        thread = threading.Thread(target=change)
        thread.start()
        try:
            backup(state, target)
        finally:
            stop.set()
            thread.join()
    return state, target, want, done, running


class TestOnline:
    def test_the_restored_folder_serves_and_trains_on(self, backed_up, data_dir, tmp_path):
        _, target, want, done, running = backed_up
        assert not (target / "bases").exists()
        restored = tmp_path / "restored"
        said = run("restore", "--data-dir", restored, target)
        assert said.returncode == 0, said.stderr
        assert restored.stat().st_mode & 0o777 == 0o700
        (restored / "bases").symlink_to(data_dir / "bases")
        with Server(data_dir=data_dir, state=restored) as server, server.client() as client:
            assert answer(server, model="mine") == want
            assert client.fine_tuning.jobs.retrieve(done.id).status == "succeeded"
            answer(server, model=done.fine_tuned_model)
            assert client.fine_tuning.jobs.retrieve(running.id).status in ("queued", "running")
            client.fine_tuning.jobs.cancel(running.id)

    def test_every_file_is_checked(self, backed_up, tmp_path):
        _, target, *_ = backed_up
        files = json.loads((target / "backup.json").read_text())["files"]
        assert sum(file["path"].startswith("adapters/") for file in files) >= 2
        for index, damage in enumerate(("flip", "cut", "remove", "database")):
            copy = tmp_path / damage
            shutil.copytree(target, copy)
            name = "graft.sqlite" if damage == "database" else files[index]["path"]
            data = (copy / name).read_bytes()
            if damage == "remove":
                (copy / name).unlink()
            else:
                (copy / name).write_bytes(data[:-1] if damage == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
            restored = tmp_path / f"{damage}-restored"
            assert name in one_line_error(run("restore", "--data-dir", restored, copy))
            assert not restored.exists() and not list(tmp_path.glob(".*"))

    def test_hostile_manifests(self, backed_up, tmp_path):
        _, target, *_ = backed_up
        shutil.copytree(target, tmp_path / "copy")
        manifest = json.loads((target / "backup.json").read_text())
        for path in ("../outside", "/etc/hostname", "a/../../b"):
            bad = manifest | {"files": [manifest["files"][0] | {"path": path}]}
            (tmp_path / "copy/backup.json").write_text(json.dumps(bad))
            one_line_error(run("restore", "--data-dir", tmp_path / "r", tmp_path / "copy"))
        for text in ("{}", "[", json.dumps(manifest | {"format": 2})):
            (tmp_path / "copy/backup.json").write_text(text)
            one_line_error(run("restore", "--data-dir", tmp_path / "r", tmp_path / "copy"))
        assert not (tmp_path / "r").exists()

    def test_refusals(self, backed_up, tmp_path):
        state, target, *_ = backed_up
        assert "exists" in one_line_error(run("backup", "--data-dir", state, target))
        assert "no data folder" in one_line_error(run("backup", "--data-dir", tmp_path, tmp_path / "x"))
        assert "not empty" in one_line_error(run("restore", "--data-dir", state, target))
        assert "no backup" in one_line_error(run("restore", "--data-dir", tmp_path / "y", tmp_path))


def test_offline_copies_are_equal(backed_up, tmp_path):
    state, *_ = backed_up
    backup(state, tmp_path / "a")
    backup(state, tmp_path / "b")
    lists = [json.loads((tmp_path / name / "backup.json").read_text())["files"] for name in "ab"]
    assert lists[0] == lists[1]
    with sqlite3.connect(tmp_path / "a/graft.sqlite") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_what_the_folder_has_lost_is_told(backed_up, tmp_path):
    state, *_ = backed_up
    shutil.copytree(state, tmp_path / "lost", symlinks=True)
    lost = next((tmp_path / "lost/adapters").iterdir())
    shutil.rmtree(lost)
    done = run("backup", "--data-dir", tmp_path / "lost", tmp_path / "copy")
    assert done.returncode == 0 and lost.name in done.stderr.decode()
