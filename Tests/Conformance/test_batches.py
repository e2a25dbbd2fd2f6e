"""Batches, worked by OpenAI's client: results, errors, cancelling, restarts, and requests beside them."""

import json
import sqlite3
import threading
import time

import openai
import pytest

from graft_server import MODEL_NAME, PATIENCE, Server, state_folder

CHAT = "/v1/chat/completions"


def line(custom_id, body, url=CHAT, **changes):
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body} | changes


def chat(text="Say hello.", **fields):
    return {
        "model": MODEL_NAME, "messages": [{"role": "user", "content": text}], "max_tokens": 4, "temperature": 0
    } | fields


def upload(client, lines):
    text = "".join((entry if isinstance(entry, str) else json.dumps(entry)) + "\n" for entry in lines)
    return client.files.create(file=("input.jsonl", text.encode()), purpose="batch")


def create(client, lines, endpoint=CHAT, **options):
    return client.batches.create(
        input_file_id=upload(client, lines).id, endpoint=endpoint, completion_window="24h", **options
    )


def ended(client, batch):
    deadline = time.monotonic() + PATIENCE
    while batch.status not in ("completed", "failed", "cancelled", "expired"):
        assert time.monotonic() < deadline, batch
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    return batch


def results(client, file_id):
    return [json.loads(text) for text in client.files.content(file_id).text.splitlines()]


def test_end_to_end(client, server):
    lines = [line(f"r{index}", chat(f"Count to {index}.")) for index in range(40)]
    lines.insert(7, line("adapted", chat(adapter="r8-all")))
    lines.insert(9, line("hot", chat(temperature=9)))
    lines.insert(11, line("nobody", chat(adapter="nobody")))
    lines.insert(12, line("streamed", chat(stream=True)))
    batch = create(client, lines, metadata={"kind": "test"})
    assert batch.status == "validating" and batch.endpoint == CHAT and batch.completion_window == "24h"
    assert batch.expires_at == batch.created_at + 86400 and batch.output_file_id is None
    batch = ended(client, batch)
    assert batch.status == "completed" and batch.metadata == {"kind": "test"}
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (44, 41, 3)

    output = results(client, batch.output_file_id)
    failed = [entry["custom_id"] for entry in lines if entry["custom_id"] in ("hot", "nobody", "streamed")]
    assert [entry["custom_id"] for entry in output] == [
        entry["custom_id"] for entry in lines if entry["custom_id"] not in failed
    ]
    for entry in output:
        assert entry["error"] is None and entry["response"]["status_code"] == 200 and entry["response"]["request_id"]
    answers = {entry["custom_id"]: entry["response"]["body"] for entry in output}
    direct = client.chat.completions.create(**chat("Count to 5."))
    assert answers["r5"]["choices"][0]["message"]["content"] == direct.choices[0].message.content
    adapted = server.http.post(CHAT, json=chat(adapter="r8-all")).json()
    assert answers["adapted"]["choices"] == adapted["choices"] and answers["adapted"]["model"] == "r8-all"

    errors = {entry["custom_id"]: entry["response"] for entry in results(client, batch.error_file_id)}
    assert {name: response["status_code"] for name, response in errors.items()} == {
        "hot": 400, "nobody": 404, "streamed": 400
    }
    assert errors["hot"]["body"]["error"]["param"] == "temperature"
    assert client.files.retrieve(batch.output_file_id).purpose == "batch_output"


@pytest.mark.parametrize(
    "endpoint, body",
    [
        ("/v1/completions", {"prompt": "Once", "max_tokens": 3, "temperature": 0}),
        ("/v1/embeddings", {"input": ["Once", "twice"]}),
    ],
)
def test_other_endpoints(client, server, endpoint, body):
    batch = ended(client, create(client, [line("a", body, url=endpoint)], endpoint=endpoint))
    (entry,) = results(client, batch.output_file_id)
    answer, direct = entry["response"]["body"], server.http.post(endpoint, json=body).json()
    for key in ("choices", "data"):
        assert answer.get(key) == direct.get(key)
    assert batch.error_file_id is None


@pytest.mark.parametrize(
    "lines, errors",
    [
        (["{"], [("invalid_json_line", 1, None)]),
        (["[]", ""], [("invalid_json_line", 1, None)]),
        ([line("a", chat()), line("a", chat())], [("duplicate_custom_id", 2, "custom_id")]),
        ([line(7, chat())], [("missing_required_parameter", 1, "custom_id")]),
        (["", line("a", chat(), method="GET")], [("invalid_method", 2, "method")]),
        ([line("a", chat(), url="/v1/embeddings"), line("b", [])],
         [("mismatched_url", 1, "url"), ("missing_required_parameter", 2, "body")]),
        ([""], [("empty_file", None, None)]),
    ],
)
def test_invalid_lines(client, lines, errors):
    batch = ended(client, create(client, lines))
    assert batch.status == "failed" and batch.failed_at and batch.output_file_id is None
    assert [(error.code, error.line, error.param) for error in batch.errors.data] == errors


@pytest.mark.parametrize(
    "fields, param",
    [
        ({"completion_window": "48h"}, "completion_window"),
        ({"endpoint": "/v1/images"}, "endpoint"),
        ({"input_file_id": "file-none"}, "input_file_id"),
        ({"input_file_id": None}, "input_file_id"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 3600}}, "output_expires_after"),
    ],
)
def test_refused(client, server, fields, param):
    body = {"input_file_id": upload(client, [line("a", chat())]).id, "endpoint": CHAT, "completion_window": "24h"}
    reply = server.http.post("/v1/batches", json=body | fields)
    assert reply.status_code == 400 and reply.json()["error"]["param"] == param


def test_purpose(client, server):
    file = client.files.create(file=("a.jsonl", b"{}\n"), purpose="fine-tune")
    with pytest.raises(openai.BadRequestError, match="must be 'batch'"):
        client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    assert server.http.get("/v1/batches/batch_none").status_code == 404
    assert server.http.post("/v1/batches/batch_none/cancel").status_code == 404


def test_cancel_and_list(client, server):
    lines = [line(f"r{index}", chat(max_tokens=400, ignore_eos=True)) for index in range(60)]
    batch = create(client, lines)
    file = client.files.delete(batch.input_file_id)
    assert file.deleted, "a batch keeps its own link to the file"
    while client.batches.retrieve(batch.id).status != "in_progress":
        time.sleep(0.02)
    # Another request does not wait for the batch.
    before = time.monotonic()
    server.complete("Once", max_tokens=2)
    assert time.monotonic() - before < 20
    assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    batch = ended(client, batch)
    counts = batch.request_counts
    assert batch.status == "cancelled" and batch.cancelling_at <= batch.cancelled_at
    assert counts.total == 60 and counts.completed < 60 and counts.failed == 0
    if counts.completed:
        assert len(results(client, batch.output_file_id)) == counts.completed
    with pytest.raises(openai.BadRequestError, match="already"):
        client.batches.cancel(batch.id)
    later = ended(client, create(client, [line("a", chat())]))
    page = client.batches.list(limit=1)
    assert [entry.id for entry in page.data] == [later.id] and page.has_more
    assert next(iter(client.batches.list(after=later.id, limit=1))).id == batch.id


def test_restart(data_dir, adapters_dir):
    state = state_folder(data_dir)
    lines = [line(f"r{index}", chat(f"Tell me about {index}.", max_tokens=24)) for index in range(70)]
    first = Server("--adapters", adapters_dir, data_dir=data_dir, state=state)
    with first.client() as client:
        batch = create(client, lines)
        while not 3 <= client.batches.retrieve(batch.id).request_counts.completed:
            time.sleep(0.01)
        done = client.batches.retrieve(batch.id).request_counts.completed
    first.kill()
    with Server("--adapters", adapters_dir, data_dir=data_dir, state=state) as second, second.client() as client:
        batch = ended(client, batch)
        counts = batch.request_counts
        assert batch.status == "completed" and (counts.total, counts.completed, counts.failed) == (70, 70, 0)
        assert [entry["custom_id"] for entry in results(client, batch.output_file_id)] == [
            entry["custom_id"] for entry in lines
        ]
        # What was done before is not computed again.
        metrics = second.http.get("/metrics").text
        (generated,) = [
            float(row.rsplit(" ", 1)[1])
            for row in metrics.splitlines()
            if row.startswith("graft_requests_total{") and 'outcome="length"' in row and 'adapter="base"' in row
        ]
        assert generated <= 70 - done
    assert not list((state / "batches").iterdir())


def test_a_line_without_place_holds_up_no_other(data_dir):
    """A line with more answers than can ever wait fails; lines that fill the queue wait for one another."""
    with Server("--max-queue", 4, data_dir=data_dir) as server, server.client() as client:
        lines = [line("wide", chat(n=6))] + [line(f"r{index}", chat(n=1 + index % 4)) for index in range(12)]
        batch = ended(client, create(client, lines))
        counts = batch.request_counts
        assert batch.status == "completed" and (counts.completed, counts.failed) == (12, 1)
        (error,) = results(client, batch.error_file_id)
        assert error["custom_id"] == "wide" and error["response"]["status_code"] == 400
        assert error["response"]["body"]["error"]["param"] == "n"


def test_a_lost_batch_holds_up_no_other(data_dir):
    """Batches whose input or record was lost while the server was down, before one that is whole."""
    state = state_folder(data_dir)
    lines = [line(f"r{index}", chat(max_tokens=120, ignore_eos=True)) for index in range(80)]
    with Server(data_dir=data_dir, state=state) as server, server.client() as client:
        lost, damaged = create(client, lines), create(client, lines)
        whole = create(client, [line("a", chat())])
        while client.batches.retrieve(lost.id).request_counts.completed < 1:
            time.sleep(0.01)
    (state / "batches" / f"{lost.id}.jsonl").unlink()
    with sqlite3.connect(state / "graft.sqlite") as database:
        database.execute("UPDATE batch SET record = '{' WHERE id = ?", (damaged.id,))
    database.close()
    with Server(data_dir=data_dir, state=state) as server, server.client() as client:
        assert ended(client, whole).status == "completed"
        lost = client.batches.retrieve(lost.id)
        assert lost.status == "failed" and [error.code for error in lost.errors.data] == ["file_unreadable"]
        # What was computed is not lost.
        assert len(results(client, lost.output_file_id)) == lost.request_counts.completed > 0
        assert server.http.get(f"/v1/batches/{damaged.id}").status_code == 404


def test_a_busy_server_computes_batches(client, server):
    """Beside requests that never pause, a batch gets its share."""
    stop = threading.Event()

    def keep_busy():
        body = {"prompt": "Once", "max_tokens": 4000, "ignore_eos": True, "stream": True}
        while not stop.is_set():
            with server.http.stream("POST", "/v1/completions", json=body) as reply:
                for _ in reply.iter_lines():
                    if stop.is_set():
                        break

    threads = [threading.Thread(target=keep_busy, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        batch = ended(client, create(client, [line("a", chat("Hi.", max_tokens=2))]))
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE)
    assert batch.request_counts.completed == 1


def test_expiry(data_dir):
    state = state_folder(data_dir)
    with Server(data_dir=data_dir, state=state) as server, server.client() as client:
        batch = create(client, [line(f"r{index}", chat(max_tokens=200, ignore_eos=True)) for index in range(120)])
        while client.batches.retrieve(batch.id).request_counts.completed < 1:
            time.sleep(0.01)
    with sqlite3.connect(state / "graft.sqlite") as database:
        database.execute(
            "UPDATE batch SET record = json_set(record, '$.created_at', json_extract(record, '$.created_at') - 86400)"
        )
    database.close()
    with Server(data_dir=data_dir, state=state) as server, server.client() as client:
        batch = ended(client, batch)
        counts = batch.request_counts
        assert batch.status == "expired" and batch.expired_at >= batch.expires_at
        assert counts.total == counts.completed + counts.failed == 120 and counts.completed and counts.failed
        assert len(results(client, batch.output_file_id)) == counts.completed
        errors = results(client, batch.error_file_id)
        assert len(errors) == counts.failed
        assert {(entry["response"], entry["error"]["code"]) for entry in errors} == {(None, "batch_expired")}
