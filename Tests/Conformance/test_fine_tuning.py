"""Files and fine-tuning jobs through OpenAI's own client: data, jobs, what they make, and what survives."""

import json
import math
import random
import time

import openai
import pytest

from graft_server import MODEL, MODEL_NAME, PATIENCE, Server, run, state_folder
from test_errors import check

CHATS = [
    {"messages": [{"role": "user", "content": f"What is {a} plus {b}?"}, {"role": "assistant", "content": f"It is {a + b}."}]}
    for a, b in ((1, 2), (3, 4), (5, 6), (7, 8))
]
SMALL = {
    "max_steps": 4, "batch_size": 1, "learning_rate": 1e-3, "lora_r": 4, "lora_alpha": 8, "checkpoint_steps": 2,
    "target_modules": ["q_proj", "v_proj"], "scheduler": "constant", "shuffle": False,
}


def jsonl(rows) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def upload(client, rows, name="rows.jsonl"):
    data = rows if isinstance(rows, bytes) else jsonl(rows)
    return client.files.create(file=(name, data), purpose="fine-tune")


def create(client, rows=CHATS, settings=None, kind="supervised", **fields):
    method = {"type": kind, kind: {"hyperparameters": SMALL | (settings or {})}}
    fields = {"model": MODEL_NAME, "seed": 7} | fields
    return client.fine_tuning.jobs.create(training_file=upload(client, rows).id, method=method, **fields)


def await_status(client, job, *wanted):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = client.fine_tuning.jobs.retrieve(job.id)
        if found.status in wanted:
            return found
        assert found.status not in ("failed", "cancelled", "succeeded"), found.error
        time.sleep(0.1)
    raise AssertionError(f"the job is still {found.status}")


def steps(client, job):
    """The figures of each optimiser step, ascending."""
    events = client.fine_tuning.jobs.list_events(job.id, limit=1000).data
    return [event.data for event in reversed(events) if event.type == "metrics"]


@pytest.fixture(scope="module")
def trained(client):
    job = create(client, suffix="sums", metadata={"purpose": "test"}, validation_file=upload(client, CHATS[:1]).id)
    return await_status(client, job, "succeeded")


class TestFiles:
    def test_life(self, client, server):
        data = jsonl(CHATS)
        file = upload(client, data, name="my rows.jsonl")
        assert file.id.startswith("file-") and file.object == "file" and file.status == "processed"
        assert (file.bytes, file.filename, file.purpose) == (len(data), "my rows.jsonl", "fine-tune")
        assert client.files.retrieve(file.id) == file
        assert client.files.content(file.id).read() == data
        other = upload(client, b"x" * 3_000_000)
        assert client.files.content(other.id).read() == b"x" * 3_000_000
        assert [found.id for found in client.files.list(limit=1)][0] == other.id
        assert [found.id for found in client.files.list(order="desc", limit=1, after=other.id)][0] == file.id
        assert client.files.delete(file.id).deleted is True
        for call in (client.files.retrieve, client.files.content, client.files.delete):
            with pytest.raises(openai.NotFoundError):
                call(file.id)
        client.files.delete(other.id)

    def test_refusals(self, client, server):
        with pytest.raises(openai.BadRequestError) as error:
            client.files.create(file=("a", b"{}"), purpose="vision")
        assert error.value.param == "purpose"
        check(server.http.post("/v1/files", files={"file": ("a", b"{}")}), 400, param="purpose")
        check(server.http.post("/v1/files", data={"purpose": "fine-tune"}, files={"x": b""}), 400, param="file")
        check(server.http.post("/v1/files", json={}), 415)
        check(server.http.get("/v1/files?after=file-none"), 400, param="after")

    def test_limits_and_restart(self, data_dir):
        state = state_folder(data_dir)
        with Server("--max-file-size", "64KiB", data_dir=data_dir, state=state) as server:
            with server.client() as client:
                kept = upload(client, CHATS)
                with pytest.raises(openai.APIStatusError) as error:
                    upload(client, b"y" * 70_000)
                assert error.value.status_code == 413
                too_long = server.http.post(
                    "/v1/files", data={"purpose": "fine-tune"}, files={"file": b"z" * 3_000_000}
                )
                assert too_long.status_code == 413
            server.kill()
        assert sorted(path.name for path in (state / "files").iterdir()) == [kept.id]
        with Server(data_dir=data_dir, state=state) as server, server.client() as client:
            assert client.files.content(kept.id).read() == jsonl(CHATS)
            assert [file.id for file in client.files.list()] == [kept.id]


class TestJob:
    def test_shape(self, trained, client):
        assert trained.object == "fine_tuning.job" and trained.id.startswith("ftjob-")
        name = trained.fine_tuned_model
        assert name.startswith(f"ft:{MODEL_NAME}:graft:sums:") and name.rsplit(":", 1)[1][0].isalpha()
        assert trained.finished_at >= trained.created_at and trained.error is None and trained.seed == 7
        assert trained.trained_tokens == sum(step["tokens"] for step in steps(client, trained))
        assert trained.metadata == {"purpose": "test"}
        settings = trained.method.supervised.hyperparameters
        assert settings.batch_size == 1 and settings.lora_r == 4 and settings.learning_rate_multiplier == 5
        assert trained.id in [job.id for job in client.fine_tuning.jobs.list()]
        assert trained.id in [job.id for job in client.fine_tuning.jobs.list(metadata={"purpose": "test"})]
        assert not list(client.fine_tuning.jobs.list(metadata={"purpose": "none"}))

    def test_events(self, trained, client, server):
        made = steps(client, trained)
        assert [step["step"] for step in made] == [1, 2, 3, 4]
        for step in made:
            assert step["train_loss"] > 0 and step["grad_norm"] > 0 and step["learning_rate"] == 1e-3
            assert step["tokens"] > step["loss_tokens"] > 0 and step["total_steps"] == 4
        page = client.fine_tuning.jobs.list_events(trained.id, limit=2)
        assert len(page.data) == 2 and page.has_more and "completed" in page.data[0].message
        every = list(client.fine_tuning.jobs.list_events(trained.id, limit=2))
        assert len({event.id for event in every}) == len(every) > 8
        lines = server.http.get(f"/v1/fine_tuning/jobs/{trained.id}/events?stream=true").text.split("\n\n")
        assert lines[-2] == "data: [DONE]"
        streamed = [json.loads(line.removeprefix("data: ")) for line in lines[:-2] if line != ": keep-alive"]
        assert [event["id"] for event in streamed] == [event.id for event in reversed(every)]

    def test_results(self, trained, client):
        text = client.files.content(trained.result_files[0]).read().decode()
        assert client.files.retrieve(trained.result_files[0]).purpose == "fine-tune-results"
        lines = text.splitlines()
        assert lines[0] == "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
        made = steps(client, trained)
        assert [float(line.split(",")[1]) for line in lines[1:]] == [step["train_loss"] for step in made]
        assert [bool(line.split(",")[3]) for line in lines[1:]] == [False, True, False, True]

    def test_checkpoints_serve(self, trained, client, server):
        checkpoints = client.fine_tuning.jobs.checkpoints.list(trained.id).data
        assert [checkpoint.step_number for checkpoint in checkpoints] == [4, 2]
        assert checkpoints[1].fine_tuned_model_checkpoint == f"{trained.fine_tuned_model}:ckpt-step-2"
        assert checkpoints[0].metrics.train_loss > 0 and checkpoints[0].metrics.valid_loss > 0
        ask = dict(messages=CHATS[0]["messages"][:1], max_tokens=8, temperature=0, logprobs=True)
        base = client.chat.completions.create(model=MODEL_NAME, **ask)
        tuned = client.chat.completions.create(model=trained.fine_tuned_model, **ask)
        assert tuned.model == trained.fine_tuned_model
        assert tuned.choices[0].logprobs != base.choices[0].logprobs
        named = server.http.post(
            "/v1/chat/completions", json=ask, params={"adapter": trained.fine_tuned_model}
        ).json()
        assert named["choices"][0]["message"]["content"] == tuned.choices[0].message.content
        last, half = (
            client.chat.completions.create(model=one.fine_tuned_model_checkpoint, **ask) for one in checkpoints
        )
        assert last.choices[0].logprobs == tuned.choices[0].logprobs != half.choices[0].logprobs
        assert trained.fine_tuned_model in {model.id for model in client.models.list()}

    def test_training_goes_on_from_it(self, trained, client):
        settings = {"max_steps": 1, "checkpoint_steps": 1, "target_modules": "auto"}
        job = create(client, CHATS[:1], settings, model=trained.fine_tuned_model)
        done = await_status(client, job, "succeeded")
        first = steps(client, trained)[0]["train_loss"]
        assert steps(client, done)[0]["train_loss"] < first

    def test_training_agrees_with_serving(self, client, server, trained):
        """The loss that training reports for an adapter is what completions say of the same tokens."""
        row = {"prompt": "The capital of France is", "completion": " Paris, and that of Spain is Madrid."}
        settings = {"max_steps": 2, "checkpoint_steps": 1}
        job = await_status(client, create(client, [row], settings), "succeeded")
        tokens = [
            server.http.post("/tokenize", json={"prompt": row[part], "add_special_tokens": False}).json()["tokens"]
            for part in ("prompt", "completion")
        ]
        end = server.http.post("/tokenize", json={"prompt": "<|im_end|>", "add_special_tokens": False}).json()["tokens"]
        prompt = tokens[0] + tokens[1] + end
        scored = server.complete(
            prompt, model=f"{job.fine_tuned_model}:ckpt-step-1", max_tokens=0, echo=True, logprobs=0
        )
        logprobs = scored["choices"][0]["logprobs"]["token_logprobs"]
        loss = -sum(logprobs[len(tokens[0]):]) / (len(prompt) - len(tokens[0]))
        assert loss == pytest.approx(steps(client, job)[1]["train_loss"], abs=1e-4)

    def test_preferences(self, client):
        question = {"messages": [{"role": "user", "content": "Say something."}]}
        row = {
            "input": question, "preferred_output": [{"role": "assistant", "content": "Something."}],
            "non_preferred_output": [{"role": "assistant", "content": "No."}],
        }
        settings = {"max_steps": 2, "checkpoint_steps": 2, "beta": 0.2}
        done = await_status(client, create(client, [row], settings, kind="dpo"), "succeeded")
        losses = [step["train_loss"] for step in steps(client, done)]
        assert losses[0] == pytest.approx(math.log(2), abs=1e-6) and losses[1] < losses[0]
        assert done.method.type == "dpo" and done.method.dpo.hyperparameters.beta == 0.2


class TestSamples:
    """`sample_prompts`: what each checkpoint answers is kept beside the base's answers."""

    PROMPTS = ["Who are you?", "Name three colours."]

    def test_they_are_kept_with_checkpoints(self, client):
        job = create(client, settings={"learning_rate": 0.01}, extra_body={"sample_prompts": self.PROMPTS})
        assert job.sample_prompts == self.PROMPTS
        await_status(client, job, "succeeded")
        deadline = time.monotonic() + PATIENCE
        while True:
            checkpoints = client.fine_tuning.jobs.checkpoints.list(job.id).data
            if len(checkpoints) == 2 and all(getattr(checkpoint, "samples", None) for checkpoint in checkpoints):
                break
            assert time.monotonic() < deadline
            time.sleep(0.1)

        def answer(model, prompt):
            messages = [{"role": "user", "content": prompt}]
            reply = client.chat.completions.create(model=model, messages=messages, temperature=0, max_tokens=48)
            return reply.choices[0].message.content

        for checkpoint in checkpoints:
            assert checkpoint.samples == [
                {"prompt": prompt, "base": answer("base", prompt), "answer": answer(checkpoint.fine_tuned_model_checkpoint, prompt)}
                for prompt in self.PROMPTS]
        assert any(sample["base"] != sample["answer"] for sample in checkpoints[0].samples)

    @pytest.mark.parametrize("prompts", ["Who?", [""], ["a"] * 9, [1], {}, ["x" * 4001]])
    def test_refusals(self, client, prompts):
        with pytest.raises(openai.BadRequestError) as error:
            create(client, extra_body={"sample_prompts": prompts})
        assert error.value.param == "sample_prompts" and "at most 8 strings" in error.value.message


class TestSteering:
    LONG = {"max_steps": 400, "checkpoint_steps": 200}

    def test_pause_resume_cancel_and_queue(self, client, server):
        job = create(client, settings=self.LONG)
        second = create(client, settings=self.LONG)
        await_status(client, job, "running")
        assert client.fine_tuning.jobs.retrieve(second.id).status == "queued"
        # Requests are answered meanwhile.
        server.complete("Hello", max_tokens=4)
        while not steps(client, job):
            time.sleep(0.1)
        assert client.fine_tuning.jobs.retrieve(job.id).estimated_finish >= job.created_at
        assert client.fine_tuning.jobs.cancel(second.id).status == "cancelled"
        assert client.fine_tuning.jobs.pause(job.id).status == "paused"
        made = len(steps(client, job))
        assert made >= 1
        with pytest.raises(openai.BadRequestError):
            client.fine_tuning.jobs.pause(job.id)
        client.fine_tuning.jobs.resume(job.id)
        await_status(client, job, "running")
        while len(steps(client, job)) <= made:
            time.sleep(0.1)
        assert [step["step"] for step in steps(client, job)][: made + 1] == list(range(1, made + 2))
        cancelled = client.fine_tuning.jobs.cancel(job.id)
        assert cancelled.status == "cancelled" and cancelled.fine_tuned_model is None and cancelled.finished_at
        for call in (client.fine_tuning.jobs.cancel, client.fine_tuning.jobs.resume):
            with pytest.raises(openai.BadRequestError):
                call(job.id)

    def test_refusals(self, client, server):
        def refused(status=400, **fields):
            with pytest.raises(openai.APIStatusError) as error:
                create(client, **fields)
            assert error.value.status_code == status
            return error.value

        assert refused(status=404, model="nobody").code == "model_not_found"
        unknown = refused(settings={"lora_x": 1})
        assert unknown.param == "method.supervised.hyperparameters.lora_x"
        assert refused(settings={"lora_dropout": 3}).param.endswith("lora_dropout")
        assert refused(settings={"beta": 0.1}).param.endswith("beta")
        assert refused(suffix="x" * 65).param == "suffix"
        with pytest.raises(openai.BadRequestError) as error:
            client.fine_tuning.jobs.create(model=MODEL_NAME, training_file="file-none")
        assert error.value.param == "training_file"
        reply = server.http.post("/v1/fine_tuning/jobs", json={"model": MODEL_NAME})
        check(reply, 400, param="training_file")
        check(server.http.get("/v1/fine_tuning/jobs/ftjob-none"), 404)
        check(server.http.get("/v1/fine_tuning/jobs/ftjob-none/events"), 404)
        check(server.http.get("/v1/fine_tuning/jobs/ftjob-none/events?stream=true"), 404)
        check(server.http.post("/v1/fine_tuning/jobs/ftjob-none/cancel"), 404)

    def test_bad_data(self, client):
        rows = [
            {"messages": []}, {"messages": [{"role": "robot", "content": "a"}]}, CHATS[0],
            {"messages": [{"role": "user", "content": "a"}]}, {"messages": [{"role": "assistant"}]},
        ]
        with pytest.raises(openai.BadRequestError) as error:
            create(client, jsonl(rows) + b"\n{")
        assert (error.value.code, error.value.param) == ("invalid_training_file", "training_file")
        message = error.value.message
        for line, name in (
            (1, "missing_messages_list"), (2, "unrecognized_role"), (4, "example_missing_assistant_message"),
            (5, "message_missing_key"), (6, "invalid_json"),
        ):
            assert f"line {line}: {name}" in message
        assert "line 3" not in message

    def test_lossless_rows_are_counted(self, client):
        silent = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]}
        job = create(client, [silent, *CHATS], {"max_steps": 1})
        messages = [event.message for event in client.fine_tuning.jobs.list_events(job.id, limit=100)]
        assert any("4 examples" in message and "1 without loss" in message for message in messages)
        await_status(client, job, "succeeded")

    def test_too_large_for_the_memory(self, data_dir):
        with Server("--training-memory", "8MiB", data_dir=data_dir) as server, server.client() as client:
            with pytest.raises(openai.BadRequestError) as error:
                create(client)
            assert error.value.code == "insufficient_memory" and "There are 8 MiB" in error.value.message


class TestSurviving:
    SETTINGS = {"max_steps": 8, "checkpoint_steps": 2, "lora_dropout": 0.1, "shuffle": True}

    def test_kill_and_stop(self, data_dir):
        """However often the process ends, the adapter has the bytes of a run that nothing disturbed."""
        state = state_folder(data_dir)
        chance = random.Random(5)
        with Server(data_dir=data_dir, state=state) as server, server.client() as client:
            whole = await_status(client, create(client, settings=self.SETTINGS), "succeeded")
            expected = [step["train_loss"] for step in steps(client, whole)]
            wanted = content(server, whole.fine_tuned_model)
            job = create(client, settings=self.SETTINGS)
            time.sleep(chance.uniform(0.2, 1.5))
            server.kill()
        for attempt in range(3):
            with Server(data_dir=data_dir, state=state) as server, server.client() as client:
                if client.fine_tuning.jobs.retrieve(job.id).status != "succeeded":
                    time.sleep(chance.uniform(0.3, 2))
                if attempt == 1:
                    server.close()
                else:
                    server.kill()
        with Server(data_dir=data_dir, state=state) as server, server.client() as client:
            done = await_status(client, job, "succeeded")
            assert [step["train_loss"] for step in steps(client, done)] == expected
            assert content(server, done.fine_tuned_model) == wanted
            assert [one.step_number for one in client.fine_tuning.jobs.checkpoints.list(done.id)] == [8, 6, 4]
            assert not list((state / "jobs").iterdir())


def content(server, name):
    """The hash of an adapter's files."""
    return server.http.get(f"/v1/adapters/{name}").json()["content_hash"]


def test_preview(data_dir, tmp_path):
    data = tmp_path / "rows.jsonl"
    data.write_bytes(jsonl(CHATS[:2]))
    shown = run("train", "--model", MODEL, "--data", data, "--preview", "--data-dir", data_dir)
    assert shown.returncode == 0, shown.stderr
    text = shown.stdout.decode()
    assert "<|im_start|>assistant\n[[It is 3.<|im_end|>]]\n" in text and "[[It is 7.<|im_end|>]]" in text
    assert "2 rows" in text
    data.write_text('{"messages": []}\n{"messages": [{"role": "x"}]}')
    refused = run("train", "--model", MODEL, "--data", data, "--preview", "--data-dir", data_dir)
    assert refused.returncode == 1 and b"line 1: missing_messages_list" in refused.stderr
    assert b"line 2: unrecognized_role" in refused.stderr


class TestPreview:
    """`POST /v1/fine_tuning/preview`: what a job would learn and need."""

    def preview(self, server, client, rows, settings=None, kind="supervised", **fields):
        method = {"type": kind, kind: {"hyperparameters": SMALL | (settings or {})}}
        body = {"model": MODEL_NAME, "training_file": upload(client, rows).id, "method": method} | fields
        return server.http.post("/v1/fine_tuning/preview", json=body)

    def test_it_says_what_the_job_does(self, server, client, trained):
        settings = {"max_steps": "auto", "n_epochs": 3, "batch_size": 2}
        count = len(server.http.get("/v1/fine_tuning/jobs?limit=1000").json()["data"])
        found = self.preview(server, client, CHATS, settings).json()
        assert found["valid"] is True and found["problems"] == [] and found["examples"] == len(CHATS)
        assert len(server.http.get("/v1/fine_tuning/jobs?limit=1000").json()["data"]) == count
        assert found["steps"] == 6 and found["total_tokens"] == 3 * found["epoch_tokens"]
        for row, chat in zip(found["rows"], CHATS, strict=True):
            assert "".join(run["text"] for run in row["runs"] if run["learnt"]) == chat["messages"][1]["content"] + "<|im_end|>"
            assert chat["messages"][0]["content"] in row["runs"][0]["text"] and not row["runs"][0]["learnt"]
        job = await_status(client, create(client, settings=settings), "succeeded")
        events = client.fine_tuning.jobs.list_events(job.id, limit=100).data
        assert steps(client, job)[-1]["total_steps"] == found["steps"]
        assert sum(step["loss_tokens"] for step in steps(client, job)) == 3 * found["epoch_learnt_tokens"]
        summary = next(event.data for event in events if "memory_bytes" in (event.data or {}))
        assert summary["memory_bytes"] == found["memory"]["bytes"]
        assert found["hyperparameters"]["lora_r"] == 4 and found["hyperparameters"]["n_epochs"] == 3

    def test_pairs(self, server, client):
        pair = {"prompt": "Q:", "chosen": " yes", "rejected": " no"}
        found = self.preview(server, client, [pair], {"max_steps": 5}, kind="dpo").json()
        assert [row["kind"] for row in found["rows"]] == ["chosen", "rejected"]
        assert ["".join(run["text"] for run in row["runs"] if run["learnt"]).strip()[:3] for row in found["rows"]] == ["yes", "no<"]
        assert found["steps"] == 5 and found["total_tokens"] == 5 * found["epoch_tokens"]

    def test_problems_by_line(self, server, client):
        rows = jsonl(CHATS[:1]) + b"\n{\n" + jsonl([{"messages": [{"role": "robot", "content": "x"}]}])
        found = self.preview(server, client, rows).json()
        assert found["valid"] is False and found["param"] == "training_file" and "rows" not in found
        assert found["problem_count"] == len(found["problems"])
        assert {(problem["line"], problem["code"]) for problem in found["problems"]} >= {
            (2, "invalid_json"), (3, "unrecognized_role")
        }
        found = self.preview(server, client, [{"messages": 1}] * 30).json()
        assert found["problem_count"] == 30 and len(found["problems"]) == 20
        found = self.preview(server, client, b"a,b\n1,2\n").json()
        assert found["valid"] is False and found["problems"][0]["line"] is None
        found = self.preview(server, client, CHATS, validation_file=upload(client, b"{\n").id).json()
        assert found["valid"] is False and found["param"] == "validation_file"

    def test_refusals_are_those_of_a_job(self, server, client):
        settings = "method.supervised.hyperparameters."
        check(self.preview(server, client, CHATS, {"lora_r": 0}), 400, param=settings + "lora_r", code="invalid_hyperparameter")
        check(self.preview(server, client, CHATS, training_file="file-none"), 400, param="training_file", code="file_not_found")
        check(self.preview(server, client, CHATS, model="nothing"), 404, param="model", code="model_not_found")
