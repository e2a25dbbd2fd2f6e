"""What batches survive: hostile files, a full disk, cancelling and the end of the process in each state."""

import contextlib
import json
import sqlite3
import time

import openai
import pytest

from graft_server import PATIENCE, Server, small_disk, state_folder
from test_batches import CHAT, chat, ended, line, results

COMPLETIONS = "/v1/completions"


def text(lines, end="\n"):
    return "".join(json.dumps(entry) + end for entry in lines).encode()


def short(name, prompt="Hi.", **fields):
    return line(name, {"prompt": prompt, "max_tokens": 1, "temperature": 0} | fields, url=COMPLETIONS)


def create(client, data, endpoint=COMPLETIONS):
    file = client.files.create(file=("input.jsonl", data), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h")


def await_results(client, batch, count):
    deadline = time.monotonic() + PATIENCE
    while client.batches.retrieve(batch.id).request_counts.completed < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    "data, errors",
    [
        (text([short("a")]) + b'{"custom_id": "\xff\xfe"}\n' + text([short("b")]), [("invalid_json_line", 2)]),
        (text([short("a")]) + b"\xc3(\n\0\n" + text([short("a")]),
         [("invalid_json_line", 2), ("invalid_json_line", 3), ("duplicate_custom_id", 4)]),
        (b'{"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": ' + b"[" * 100_000 + b"\n",
         [("invalid_json_line", 1)]),
        (b'{"custom_id": "' + b"a" * (18 << 20) + b'"}\n' + text([short("a")]), [("invalid_json_line", 1)]),
        (b"a" * (18 << 20), [("invalid_json_line", 1)]),
        (b"\0" * 5000, [("invalid_json_line", 1)]),
        (text([short("a" * 513)]), [("missing_required_parameter", 1)]),
        (b"\n \r\n\t\n", [("empty_file", None)]),
        (b"{}\n" * 5000, [("missing_required_parameter", number) for number in range(1, 101)]),
    ],
    ids=["no text", "many kinds", "deep", "long line", "no line", "zeros", "long id", "blank", "many errors"],
)
def test_hostile_files(client, data, errors):
    batch = ended(client, create(client, data))
    assert batch.status == "failed" and batch.request_counts.completed == 0
    assert [(error.code, error.line) for error in batch.errors.data] == errors
    assert all(len(error.message) < 400 for error in batch.errors.data)


def test_byte_order_mark_and_line_ends(client):
    """A file as editors on Windows write it, whose last line has no end."""
    data = b"\xef\xbb\xbf" + text([short("é\u2028"), short("b")], "\r\n\r\n") + json.dumps(short("c")).encode()
    batch = ended(client, create(client, data))
    assert batch.status == "completed"
    # Not splitlines(), which also splits at U+2028.
    lines = client.files.content(batch.output_file_id).text.split("\n")
    assert [json.loads(entry)["custom_id"] for entry in lines if entry] == ["é\u2028", "b", "c"]


def test_as_many_lines_as_there_may_be(client):
    """50,000 lines are read while others are answered; one more is refused. Cancelled while it is validated or just after."""
    lines = [short(str(number)) for number in range(50_001)]
    failed = ended(client, create(client, text(lines)))
    assert [(error.code, error.line) for error in failed.errors.data] == [("too_many_requests", 50_001)]
    batch = create(client, text(lines[:-1]))
    cancelled = client.batches.cancel(batch.id)
    assert cancelled.status in ("cancelling", "cancelled")
    batch = ended(client, cancelled)
    assert batch.status == "cancelled" and batch.request_counts.failed == 0
    with pytest.raises(openai.BadRequestError, match="already"):
        client.batches.cancel(failed.id)


def test_long_lines(client):
    """Lines as long as they may be, with more tokens than fit: each is an error of its own."""
    lines = [short(str(number), "word " * 3_000_000) for number in range(6)] + [short("last")]
    batch = ended(client, create(client, text(lines)))
    assert batch.status == "completed" and (batch.request_counts.failed, batch.request_counts.completed) == (6, 1)
    for entry in results(client, batch.error_file_id):
        assert entry["response"]["body"]["error"]["code"] == "context_length_exceeded"


def test_a_full_disk(data_dir):
    """A batch whose results find no room waits, and goes on when there is room. Nothing is lost or written twice."""
    state = state_folder(data_dir)
    (state / "bases").unlink()
    with small_disk(state, 24 << 20):
        (state / "bases").symlink_to(data_dir / "bases")
        with Server(data_dir=data_dir, state=state) as server, server.client() as client:
            lines = [short(f"r{number}", logprobs=5, max_tokens=60, ignore_eos=True) for number in range(100)]
            batch = create(client, text(lines))
            await_results(client, batch, 1)
            filler = state / "filler"
            with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
                while True:
                    file.write(b"\0" * 4096)
            time.sleep(3)
            stuck = client.batches.retrieve(batch.id)
            assert stuck.status == "in_progress" and stuck.request_counts.completed < 100
            assert server.complete("One")["choices"]
            assert server.http.get("/health").status_code == 200
            filler.unlink()
            batch = ended(client, batch)
            counts = batch.request_counts
            assert batch.status == "completed" and (counts.completed, counts.failed) == (100, 0)
            found = [entry["custom_id"] for entry in results(client, batch.output_file_id)]
            assert found == [entry["custom_id"] for entry in lines]
        with contextlib.closing(sqlite3.connect(state / "graft.sqlite")) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert database.execute("SELECT count(*) FROM batchResult").fetchone() == (0,)


@pytest.mark.parametrize("status", ["validating", "in_progress", "finalizing", "cancelling"])
def test_the_end_of_the_process(data_dir, status):
    """A batch that was in some state when the process was killed, with some of its results."""
    state = state_folder(data_dir)
    lines = [line(f"r{number}", chat(max_tokens=40, ignore_eos=True)) for number in range(64)]
    server = Server(data_dir=data_dir, state=state)
    with server.client() as client:
        batch = create(client, text(lines), CHAT)
        await_results(client, batch, 1)
        client.files.delete(batch.input_file_id)
    server.kill()
    with contextlib.closing(sqlite3.connect(state / "graft.sqlite")) as database:
        (done,) = database.execute("SELECT count(*) FROM batchResult").fetchone()
        database.execute("UPDATE batch SET status = ?1, record = json_set(record, '$.status', ?1)", (status,))
        if status == "validating":
            database.execute("UPDATE batch SET record = json_set(record, '$.request_counts.total', 0)")
        database.commit()
    assert 0 < done < 64
    with Server(data_dir=data_dir, state=state) as server, server.client() as client:
        batch = ended(client, client.batches.retrieve(batch.id))
        assert batch.status == {"finalizing": "completed", "cancelling": "cancelled"}.get(status, "completed")
        counts = batch.request_counts
        expected = done if status in ("finalizing", "cancelling") else 64
        assert (counts.completed, counts.failed) == (expected, 0)
        assert len(results(client, batch.output_file_id)) == expected
        with pytest.raises(openai.BadRequestError, match="already"):
            client.batches.cancel(batch.id)
        assert client.files.delete(batch.output_file_id).deleted
        assert client.batches.retrieve(batch.id).output_file_id == batch.output_file_id
    assert not list((state / "batches").iterdir())


def test_no_stray_links(data_dir):
    """The folder of inputs has a link for each batch that is not over, and nothing else, whatever was deleted or cut off."""
    state = state_folder(data_dir)
    inputs = state / "batches"

    def names():
        return sorted(path.name for path in inputs.iterdir())

    with Server(data_dir=data_dir, state=state) as server, server.client() as client:
        # A refused creation leaves nothing.
        file = client.files.create(file=("input.jsonl", text([short("a")])), purpose="batch")
        (state / "files" / file.id).unlink()
        reply = server.http.post("/v1/batches", json={
            "input_file_id": file.id, "endpoint": COMPLETIONS, "completion_window": "24h"})
        assert reply.status_code == 500 and not names()
        client.files.delete(file.id)
        # The input file of a batch that runs is deleted.
        failed = ended(client, create(client, text([short("b"), short("b")])))
        running = create(client, text([line(f"r{number}", chat(max_tokens=200, ignore_eos=True)) for number in range(40)]), CHAT)
        client.files.delete(running.input_file_id)
        while client.batches.retrieve(running.id).status != "in_progress":
            time.sleep(0.01)
        assert names() == [f"{running.id}.jsonl"]
        client.batches.cancel(running.id)
        assert ended(client, running).status == "cancelled" and failed.status == "failed"
    assert not names()
    # What is left where the process ends before a record is written, or before a link is removed.
    for name in (f"{failed.id}.jsonl", f"{running.id}.jsonl", "batch_aaaaaaaaaaaaaaaaaaaaaaaa.jsonl"):
        (inputs / name).write_bytes(text([short("a")]))
    (inputs / "notes.txt").write_text("not a link of the server's")
    with Server(data_dir=data_dir, state=state) as server, server.client() as client:
        assert names() == ["notes.txt"]
        assert ended(client, create(client, text([short("a")]))).status == "completed"
    assert names() == ["notes.txt"]
