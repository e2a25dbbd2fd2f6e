"""What training must leave alone, and what it survives: the base, other jobs, a full disk, the end of the process."""

import contextlib
import hashlib
import re
import signal
import sqlite3
import subprocess
import threading
import time

import openai
import pytest

from graft_server import BINARY, MODEL, PATIENCE, Server, environment, small_disk, state_folder
from test_fine_tuning import CHATS, SMALL, await_status, content, create, jsonl, steps, upload

LONG = {"max_steps": 12, "checkpoint_steps": 12, "lora_dropout": 0.1}
WIDE = {"lora_r": 16, "target_modules": "all-linear", "checkpoint_steps": 1}


def base_hashes(data_dir):
    """Of every prepared base there: other tests may have prepared theirs in the same folder."""
    return {base.name: hashlib.sha256(base.read_bytes()).hexdigest() for base in (data_dir / "bases").glob("*.graft")}


def messages(client, job):
    return [event.message for event in client.fine_tuning.jobs.list_events(job.id, limit=1000).data]


def test_the_base_is_left_alone(client, data_dir):
    before = base_hashes(data_dir)
    assert before
    await_status(client, create(client), "succeeded")
    assert base_hashes(data_dir) == before


def test_sigterm_and_restart(data_dir):
    """A job that SIGTERM interrupts ends in the bytes of one that nothing disturbed."""
    state = state_folder(data_dir)
    with Server(data_dir=data_dir, state=state) as server, server.client() as client:
        whole = await_status(client, create(client, settings=LONG), "succeeded")
        wanted, losses = content(server, whole.fine_tuned_model), [step["train_loss"] for step in steps(client, whole)]
        job = create(client, settings=LONG)
        while len(steps(client, job)) < 2:
            time.sleep(0.05)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=PATIENCE) in (0, 143)
        server.http.close()
    with Server(data_dir=data_dir, state=state) as server, server.client() as client:
        done = await_status(client, job, "succeeded")
        assert any("goes on from step" in message for message in messages(client, job))
        assert [step["train_loss"] for step in steps(client, done)] == losses
        assert content(server, done.fine_tuned_model) == wanted


def test_jobs_take_turns(data_dir):
    """A long job gives way to one that comes later, at a step's end, and learns the same as alone."""
    state = state_folder(data_dir)
    with Server("--training-turn", 1, data_dir=data_dir, state=state) as server, server.client() as client:
        alone = await_status(client, create(client, settings=LONG | {"max_steps": 24}), "succeeded")
        wanted = content(server, alone.fine_tuned_model)
        first = create(client, settings=LONG | {"max_steps": 24})
        while not steps(client, first):
            time.sleep(0.05)
        second = create(client, settings=LONG)
        done = [await_status(client, job, "succeeded") for job in (first, second)]
        assert any("gives way" in message for message in messages(client, first))
        assert any("goes on from step" in message for message in messages(client, first))
        assert done[1].finished_at <= done[0].finished_at, "the shorter job waits for no longer one"
        assert content(server, done[0].fine_tuned_model) == wanted
        assert [step["step"] for step in steps(client, first)] == list(range(1, 25))


def test_old_checkpoints_go(data_dir):
    with Server("--keep-checkpoints", 2, data_dir=data_dir) as server, server.client() as client:
        done = await_status(client, create(client, settings={"max_steps": 5, "checkpoint_steps": 1}), "succeeded")
        assert [one.step_number for one in client.fine_tuning.jobs.checkpoints.list(done.id)] == [5, 4]
        name = done.fine_tuned_model + ":ckpt-step-"
        deadline = time.monotonic() + PATIENCE
        while server.http.get(f"/v1/models/{name}3").status_code != 404 and time.monotonic() < deadline:
            time.sleep(0.05)
        found = [server.http.get(f"/v1/models/{name}{step}").status_code for step in range(1, 6)]
        assert found == [404, 404, 404, 200, 200]


def test_validation_is_shown(server, client):
    """While a large file is checked, its job has the status for that; a refused one leaves nothing."""
    rows = jsonl(CHATS * 8000) + b'\n{"messages": []}'
    file = upload(client, rows)
    before = {job.id for job in client.fine_tuning.jobs.list(limit=100).data}
    refused = []

    def post():
        with pytest.raises(openai.BadRequestError) as error:
            client.fine_tuning.jobs.create(model="base", training_file=file.id)
        refused.append(error.value)

    poster = threading.Thread(target=post)
    poster.start()
    seen = set()
    while poster.is_alive():
        seen |= {job.status for job in client.fine_tuning.jobs.list(limit=3).data if job.id not in before}
        assert server.http.get("/health").status_code == 200
    poster.join()
    assert seen == {"validating_files"} and "line 32001" in str(refused[0])
    assert {job.id for job in client.fine_tuning.jobs.list(limit=100).data} == before
    client.files.delete(file.id)


def test_a_full_disk(data_dir):
    """A job whose checkpoint finds no room fails and says why; all else goes on."""
    state = state_folder(data_dir)
    (state / "bases").unlink()
    with small_disk(state, 40 << 20):
        (state / "bases").symlink_to(data_dir / "bases")
        with Server(data_dir=data_dir, state=state) as server, server.client() as client:
            kept = upload(client, CHATS)
            job = create(client, settings=WIDE)
            deadline = time.monotonic() + PATIENCE
            while (failed := client.fine_tuning.jobs.retrieve(job.id)).status != "failed":
                assert failed.status in ("queued", "running") and time.monotonic() < deadline
                assert len(server.complete("One")["choices"]) == 1
            assert "No space left on device" in failed.error.message and "checkpoint" in failed.error.message
            assert any("No space left on device" in message for message in messages(client, job))
            assert server.complete("The capital of France is")["choices"][0]["text"]
            assert client.files.content(kept.id).read() == jsonl(CHATS)
            # What it had written is gone, and a smaller job has room.
            small = await_status(client, create(client), "succeeded")
            server.complete("One", query={"adapter": small.fine_tuned_model})
        with contextlib.closing(sqlite3.connect(state / "graft.sqlite")) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        with Server(data_dir=data_dir, state=state) as server, server.client() as client:
            assert client.fine_tuning.jobs.retrieve(job.id).status == "failed"
            assert client.files.content(kept.id).read() == jsonl(CHATS)
            server.complete("One", query={"adapter": small.fine_tuned_model})


@pytest.mark.parametrize("settings", [{"lora-r": 16}, {"lora-r": 64, "lora-dropout": 0.1, "use-dora": "true"}])
def test_the_memory_forecast(data_dir, tmp_path, settings):
    """Within a tenth of the most that was resident, and never much below."""
    data = tmp_path / "rows.jsonl"
    data.write_bytes(jsonl([{"text": " ".join(["The quick brown fox jumps over the lazy dog."] * 25)}] * 4))
    command = [BINARY, "train", "--model", MODEL, "--data", data, "--output", tmp_path / "out", "--data-dir", data_dir,
               "--max-steps", 1, "--batch-size", 4, "--max-seq-length", 256]
    command += [part for name, value in settings.items() for part in (f"--{name}", value)]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                               env=environment())
    # Not wait4's ru_maxrss, which begins at what this process had resident when it forked.
    # Asked again and again: a line that the process writes may be read only after its end, when nothing is resident.
    peaks = [0]

    def watch():
        while process.poll() is None:
            with contextlib.suppress(OSError):
                if found := re.search(r"VmHWM:\s+(\d+) kB", open(f"/proc/{process.pid}/status").read()):
                    peaks.append(int(found[1]) << 10)
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    told = process.stderr.read().decode()
    watcher.join(PATIENCE)
    most = max(peaks)
    assert process.wait(timeout=PATIENCE) == 0, told
    forecast = int(re.search(r"about (\d+) MiB", told)[1]) << 20
    assert 0.95 <= forecast / most <= 1.1


def test_limits_are_checked(data_dir):
    for flag in ("--training-turn", "--keep-checkpoints"):
        command = [BINARY, "serve", "--model", MODEL, "--data-dir", data_dir, flag, 0]
        refused = subprocess.run(list(map(str, command)), capture_output=True, env=environment())
        assert refused.returncode == 2 and flag.encode() in refused.stderr
