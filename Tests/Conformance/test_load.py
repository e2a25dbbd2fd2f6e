"""Under load: shared prompts, deadlines, a full queue, clients that leave, and what /metrics tells of it all."""

import threading
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from graft_server import PATIENCE, Server

PROMPT = "The capital of France is"
SYSTEM = "You are a helpful assistant who answers in short and plain sentences. " * 20


def metrics(server) -> dict[tuple, float]:
    """Every sample by name and labels, as Prometheus reads them."""
    reply = server.http.get("/metrics")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = {}
    for family in text_string_to_metric_families(reply.text):
        assert family.name.startswith("graft_") and family.documentation and family.type != "unknown"
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in samples
            samples[key] = sample.value
    return samples


def changes(before, after, name, **labels):
    key = (name, *sorted(labels.items()))
    return after.get(key, 0) - before.get(key, 0)


def await_metric(server, name, value, **labels):
    deadline = time.monotonic() + PATIENCE
    while (found := metrics(server)[(name, *sorted(labels.items()))]) != value:
        assert time.monotonic() < deadline, f"{name} is {found}"
        time.sleep(0.02)


def cached(answer) -> int:
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def test_metrics_count_requests_and_tokens(server):
    server.complete(PROMPT, max_tokens=1, query={"adapter": "r8-all:0.5"})
    before = metrics(server)
    server.complete(PROMPT, max_tokens=6)
    server.complete(PROMPT, max_tokens=4, n=2, query={"adapter": "r8-all:0.25"})
    after = metrics(server)
    assert changes(before, after, "graft_prompt_tokens_total", adapter="base") == 5
    assert changes(before, after, "graft_generated_tokens_total", adapter="base") == 6
    assert changes(before, after, "graft_generated_tokens_total", adapter="r8-all") == 8
    assert changes(before, after, "graft_requests_total", adapter="base", outcome="length") == 1
    assert changes(before, after, "graft_requests_total", adapter="r8-all", outcome="length") == 2
    assert changes(before, after, "graft_time_to_first_token_seconds_count") == 3
    assert changes(before, after, "graft_inter_token_latency_seconds_count") == 5 + 2 * 3
    assert changes(before, after, "graft_step_seconds_count") >= 10
    assert changes(before, after, "graft_batch_rows_sum") >= 16
    assert after[("graft_requests_running",)] == 0
    assert after[("graft_queue_length", ("adapter", "base"))] == 0
    assert after[("graft_adapters_loaded",)] >= 1 and after[("graft_adapter_memory_bytes",)] > 100_000
    used, kept, total = (after[("graft_kv_blocks", ("state", state))] for state in ("used", "cached", "total"))
    assert used == 0 and 0 < kept < total
    assert after[("graft_kv_bytes", ("state", "total"))] <= 2 << 30


def test_a_shared_beginning_is_computed_once(server):
    first = server.complete(SYSTEM + "One.", max_tokens=2)
    before = metrics(server)
    second = server.complete(SYSTEM + "Two.", max_tokens=2)
    after = metrics(server)
    assert cached(second) >= first["usage"]["prompt_tokens"] - 3
    rows = changes(before, after, "graft_batch_rows_sum")
    assert rows == second["usage"]["prompt_tokens"] - cached(second) + 1
    assert changes(before, after, "graft_prefix_cache_hits_total") == 1
    assert changes(before, after, "graft_prefix_cache_hit_tokens_total") == cached(second)
    # Under other weights nothing of it holds.
    for adapter in ("r8-all", "r8-all:0.5", "r4-pattern", "r8-all,r4-pattern"):
        assert cached(server.complete(SYSTEM + "Two.", max_tokens=1, query={"adapter": adapter})) == 0


def test_choices_share_their_prompt(server):
    prompt = SYSTEM + "Sixteen choices."
    before = metrics(server)
    answer = server.complete(prompt, n=16, max_tokens=3, temperature=1, seed=1)
    rows = changes(before, metrics(server), "graft_batch_rows_sum")
    assert rows <= answer["usage"]["prompt_tokens"] + 15 + 16 * 2
    alone = [server.complete(prompt, max_tokens=3, temperature=1, seed=seed)["choices"][0]["text"] for seed in (1, 2, 16)]
    assert alone == [answer["choices"][index]["text"] for index in (0, 1, 15)]


def test_the_prefix_cache_can_be_switched_off(data_dir):
    with Server("--prefix-cache", "off", data_dir=data_dir) as server:
        answers = [server.complete(PROMPT, max_tokens=4, logprobs=3) for _ in range(2)]
        assert [cached(answer) for answer in answers] == [0, 0]
        assert answers[0]["choices"] == answers[1]["choices"]
        assert metrics(server)[("graft_kv_blocks", ("state", "cached"))] == 0


class TestTimeout:
    @pytest.mark.parametrize("value", [0, -1, "5", True, [], 1e9])
    def test_wrong_values(self, server, value):
        reply = server.http.post("/v1/completions", json={"prompt": PROMPT, "timeout": value})
        assert reply.status_code == 400 and reply.json()["error"]["param"] == "timeout"

    def test_a_running_request_ends_with_what_it_has(self, server):
        answer = server.complete(PROMPT, max_tokens=5000, ignore_eos=True, timeout=3)
        assert answer["choices"][0]["finish_reason"] == "length"
        assert 0 < answer["usage"]["completion_tokens"] < 5000

    @pytest.mark.parametrize("stream", [False, True])
    def test_without_a_token_it_is_an_error(self, server, stream):
        body = {"prompt": PROMPT, "max_tokens": 5, "timeout": 1e-6, "stream": stream}
        reply = server.http.post("/v1/completions", json=body)
        assert reply.status_code == 408
        assert reply.headers["x-should-retry"] == "false"
        error = reply.json()["error"]
        assert error["code"] == "timeout" and error["param"] == "timeout"

    def test_enough_time_changes_nothing(self, server):
        assert (
            server.complete(PROMPT, max_tokens=4, timeout=1000)["choices"]
            == server.complete(PROMPT, max_tokens=4)["choices"]
        )


@pytest.fixture(scope="module")
def narrow(data_dir, adapters_dir):
    """A server with one place to run and two to wait."""
    with Server("--max-running", 1, "--max-queue", 2, "--adapters", adapters_dir, data_dir=data_dir) as server:
        yield server


class TestFullQueue:
    def ask(self, server, **fields):
        """A stream that is still going on, and how to end it."""
        opened, leave = threading.Event(), threading.Event()

        def run():
            body = {"prompt": PROMPT, "max_tokens": 4000, "ignore_eos": True, "stream": True} | fields
            with server.http.stream("POST", "/v1/completions", json=body) as reply:
                for _ in reply.iter_lines():
                    opened.set()
                    if leave.is_set():
                        return

        thread = threading.Thread(target=run, daemon=True)
        thread.start()

        def end():
            leave.set()
            thread.join(PATIENCE)

        return opened, end

    @pytest.mark.parametrize("stream", [False, True])
    def test_one_too_many_is_refused(self, narrow, stream):
        opened, end = self.ask(narrow)
        assert opened.wait(PATIENCE)
        _, end_waiting = self.ask(narrow)
        await_metric(narrow, "graft_queue_length", 1, adapter="base")
        body = {"prompt": PROMPT, "max_tokens": 2, "n": 2, "stream": stream}
        reply = narrow.http.post("/v1/completions", json=body)
        assert reply.status_code == 429
        assert 1 <= int(reply.headers["retry-after"]) <= 60
        error = reply.json()["error"]
        assert error["code"] == "rate_limit_exceeded" and error["message"]
        # Its other choices wait no more.
        await_metric(narrow, "graft_queue_length", 1, adapter="base")
        assert metrics(narrow)[("graft_requests_running",)] == 1
        end()
        end_waiting()
        await_metric(narrow, "graft_requests_running", 0)
        narrow.complete(PROMPT, max_tokens=2)

    def test_more_answers_than_can_ever_wait_are_an_error(self, narrow):
        reply = narrow.http.post("/v1/completions", json={"prompt": PROMPT, "max_tokens": 2, "n": 3})
        assert reply.status_code == 400 and reply.json()["error"]["param"] == "n"

    def test_clients_that_leave_free_their_places(self, narrow):
        before = metrics(narrow)
        opened, end = self.ask(narrow, prompt=PROMPT + " not")
        assert opened.wait(PATIENCE)
        body = {"prompt": PROMPT, "max_tokens": 2}
        for _ in range(2):
            with pytest.raises(Exception):
                narrow.http.post("/v1/completions", json=body, timeout=0.5)
        await_metric(narrow, "graft_queue_length", 0, adapter="base")
        end()
        await_metric(narrow, "graft_requests_running", 0)
        after = metrics(narrow)
        assert changes(before, after, "graft_requests_total", adapter="base", outcome="cancelled") == 3
        assert after[("graft_kv_blocks", ("state", "used"))] == 0

    def test_a_deadline_passes_in_the_queue(self, narrow):
        opened, end = self.ask(narrow)
        assert opened.wait(PATIENCE)
        body = {"prompt": PROMPT, "max_tokens": 2, "timeout": 0.2}
        reply = narrow.http.post("/v1/completions", json=body, params={"adapter": "r8-all"})
        assert reply.status_code == 408 and reply.json()["error"]["code"] == "timeout"
        end()

    def test_one_place_serves_all(self, narrow):
        answers = []

        def ask(adapter, count):
            for _ in range(count):
                body = {"prompt": PROMPT, "max_tokens": 8}
                # One that has just ended may still be about to leave its place.
                while (reply := narrow.http.post("/v1/completions", json=body, params={"adapter": adapter})).status_code == 429:
                    time.sleep(0.05)
                answers.append((adapter, reply.status_code))

        threads = [threading.Thread(target=ask, args=(adapter, 5)) for adapter in ("base", "r8-all", "r4-pattern")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert [status for _, status in answers] == [200] * 15


def test_scarce_memory_preempts_and_changes_nothing(server, data_dir):
    """More requests than the cache can hold at once: some are put back and computed again, with the same results."""
    prompts = [f"Item {index}: once upon a time, in a small village" for index in range(8)]
    fields = dict(max_tokens=100, ignore_eos=True, logprobs=1)
    alone = [server.complete(prompt, **fields)["choices"][0] for prompt in prompts]
    with Server("--kv-memory", "16MiB", data_dir=data_dir) as scarce:
        answer = scarce.complete(prompts, **fields)
        state = metrics(scarce)
    assert [choice | {"index": 0} for choice in answer["choices"]] == alone
    assert state[("graft_preemptions_total",)] > 0
