#!/usr/bin/env python3
"""Measures what training and serving cost each other in one process, and writes docs/benchmarks/PROCESSOR/living_together.{json,md}.

- latency: requests arrive by a Poisson process that keeps the engine about 40 % busy, the same ones with and without a
  training job, interleaved. Time between tokens; the job's speed beside its speed with no requests.
- lone: a job with no requests beside `graft train` on the same rows, interleaved.
- load: 16 clients that never pause, with and without a job: its share of the time, and what it takes from them.

Requests have prompts of 32 random tokens and 64 tokens of answer, greedy, streamed. Jobs train rank 16 on every linear of
the 135M model, on rows of 256 tokens.

    scripts/bench/living_together.py [--parts latency,lone,load] [--rounds 3] [--seconds 20] [--threads N]
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import tempfile
import threading
import time
import urllib.request

import training
import serving_load
from peers import OUT, cpu, processor, write_report
from serving_servers import Graft, PATIENCE

PROMPT, GENERATE = 32, 64
BUSY = 0.4
CLIENTS = 16
WARM = 12  # seconds of load until what training had before counts no more
REQUESTS_A_SECOND = 0.5  # of each client, at most
ROWS = training.DATA / "dense.jsonl"
FACTS = ("graft_step_seconds_sum", "graft_training_slice_seconds_count", "graft_training_seconds_total")


class Figures:
    """The server's counters, and how fast they rise."""

    def __init__(self, server):
        self.server, self.start = server, self.read(server)

    @staticmethod
    def read(server):
        return {"time": time.perf_counter()} | {name: value for name, value in server.counters().items() if name in FACTS}

    def rates(self):
        now = self.read(self.server)
        span = now["time"] - self.start["time"]
        return {fact: (now[fact] - self.start[fact]) / span for fact in FACTS}


class Job:
    """A fine-tuning job, and when each of its steps was reported."""

    def __init__(self, server, steps, batch):
        self.server, self.times = server, []
        self.tokens = []
        settings = {"max_steps": steps, "batch_size": batch, "lora_r": 16, "shuffle": False, "scheduler": "constant",
                    "learning_rate": 2e-4, "checkpoint_steps": steps}
        self.id = server.ask("/v1/fine_tuning/jobs", {
            "model": "base", "training_file": server.upload(ROWS.read_bytes(), "fine-tune"),
            "method": {"type": "supervised", "supervised": {"hyperparameters": settings}}})["id"]
        self.reader = threading.Thread(target=self.follow, daemon=True)
        self.reader.start()

    def follow(self):
        url = f"http://127.0.0.1:{self.server.port}/v1/fine_tuning/jobs/{self.id}/events?stream=true"
        with urllib.request.urlopen(url, timeout=PATIENCE) as events:
            for line in events:
                if line.startswith(b"data: {") and b'"metrics"' in line:
                    event = json.loads(line[6:])
                    if event["type"] == "metrics":
                        self.times.append(time.perf_counter())
                        self.tokens.append(event["data"]["tokens"])

    def await_steps(self, count):
        while len(self.times) < count:
            time.sleep(0.05)

    def cancel(self):
        self.server.ask(f"/v1/fine_tuning/jobs/{self.id}/cancel", {})
        self.reader.join(PATIENCE)

    def tokens_per_second(self):
        return sum(self.tokens[1:]) / (self.times[-1] - self.times[0])


PROMPTS = random.Random(0)


def prompt():
    """Never the same twice, so that no cache of prompts helps."""
    return [PROMPTS.randrange(100, 40000) for _ in range(PROMPT)]


def percentiles(values):
    cut = statistics.quantiles(values, n=1000, method="inclusive")
    return {"p50": cut[499], "p95": cut[949], "p99": cut[989], "max": max(values)}


def arrivals(server, rate, seconds, draw):
    """Requests by a Poisson process, and what the server's counters say of the time."""
    starts, at = [], draw.expovariate(rate)
    while at < seconds:
        starts.append(at)
        at += draw.expovariate(rate)
    plans = [[server.request(prompt(), None, GENERATE)] for _ in starts]
    figures = Figures(server)
    answers = serving_load.run(server.port, plans, server.read, starts).answers
    return answers, figures.rates()


def latency(server, rounds, seconds):
    draw = random.Random(1)
    rate = 1.0
    for _ in range(2):  # the rate that keeps the engine as busy as is wanted
        _, rates = arrivals(server, rate, 8, random.Random(draw.random()))
        rate = min(max(rate * BUSY / max(rates["graft_step_seconds_sum"], 0.05), 0.2), 20)
    runs = {"off": [], "on": []}
    speeds, gaps, firsts = [], {"off": [], "on": []}, {"off": [], "on": []}
    for _ in range(rounds):
        seed = draw.random()
        job = None
        for state in ("off", "on"):
            if state == "on":
                job = Job(server, 100_000, 1)
                job.await_steps(1)
                figures = Figures(server)
                time.sleep(seconds / 2)
                lone = figures.rates()["graft_training_slice_seconds_count"]
            answers, rates = arrivals(server, rate, seconds, random.Random(seed))
            gaps[state] += [gap for answer in answers for gap in answer.gaps]
            firsts[state] += [answer.first for answer in answers]
            runs[state].append(rates)
        busy = runs["off"][-1]["graft_step_seconds_sum"]
        speeds.append(runs["on"][-1]["graft_training_slice_seconds_count"] / (lone * (1 - busy)))
        job.cancel()
        print(f"busy {busy:.2f}, speed of training {speeds[-1]:.3f} of lone speed x idle share", flush=True)
    return {"arrivals_per_second": rate, "requests": len(firsts["off"]),
            "busy": statistics.median(run["graft_step_seconds_sum"] for run in runs["off"]),
            "training_speed": statistics.median(speeds),
            "between_tokens": {state: percentiles(gaps[state]) for state in gaps},
            "first_token": {state: percentiles(firsts[state]) for state in firsts}}


def lone(server, rounds, threads):
    steps = training.STEPS["dense"]
    command, job_speeds = [], []
    for _ in range(rounds):
        with server:
            job = Job(server, steps, 4)
            job.await_steps(steps)
            job.reader.join(PATIENCE)
        job_speeds.append(job.tokens_per_second())
        command.append(training.measure_graft("dense", threads)["tokens_per_second"])
        print(f"job {job_speeds[-1]:.1f} tokens/s, graft train {command[-1]:.1f}", flush=True)
    return {"job": statistics.median(job_speeds), "command": statistics.median(command)}


def load(server, seconds):
    def closed(seconds):
        each = max(2, int((WARM + seconds) * REQUESTS_A_SECOND))
        plans = [[server.request(prompt(), None, GENERATE) for _ in range(each)] for _ in range(CLIENTS)]
        done = threading.Event()
        found = {}

        def watch():
            time.sleep(WARM)
            figures = Figures(server)
            done.wait(seconds)
            found.update(figures.rates())

        watcher = threading.Thread(target=watch)
        watcher.start()
        measured = serving_load.run(server.port, plans, server.read)
        done.set()
        watcher.join()
        return measured, found

    without, _ = closed(seconds)
    job = Job(server, 100_000, 1)
    job.await_steps(1)
    beside, rates = closed(seconds)
    job.cancel()
    return {"share": rates["graft_training_seconds_total"], "tokens_per_second": beside.tokens_per_second,
            "tokens_per_second_without": without.tokens_per_second}


def report(results, threads):
    lines = [f"Training and serving in one process: SmolLM2-135M on {cpu('model name')} ({processor()}), {threads} threads.", "",
             "| | measured | goal |", "| --- | --- | --- |"]
    if found := results.get("latency"):
        off, on = found["between_tokens"]["off"], found["between_tokens"]["on"]
        lines += [f"| time between tokens, p99, with training ÷ without | {on['p99'] / off['p99']:.2f} | ≤ 1.2 |",
                  f"| speed of training ÷ (its lone speed × idle share) | {found['training_speed']:.2f} | ≥ 0.8 |"]
    if found := results.get("lone"):
        lines.append(f"| a job with no requests ÷ `graft train` | {found['job'] / found['command']:.3f} | ≥ 0.97 |")
    if found := results.get("load"):
        lines.append(f"| training's share of the time under full load, `--training-share 0.1` | {found['share']:.3f} | "
                     "≥ 0.1 |")
    if found := results.get("latency"):
        lines += ["", f"{found['requests']} requests, {found['arrivals_per_second']:.2f} a second (Poisson), which keep the "
                  f"engine {found['busy'] * 100:.0f} % busy; milliseconds:", "",
                  "| | p50 | p95 | p99 | max |", "| --- | --- | --- | --- | --- |"]
        for title, key in (("between tokens", "between_tokens"), ("first token", "first_token")):
            for state in ("off", "on"):
                cells = " | ".join(f"{found[key][state][p] * 1000:.1f}" for p in ("p50", "p95", "p99", "max"))
                lines.append(f"| {title}, training {state} | {cells} |")
    if found := results.get("lone"):
        lines += ["", f"Dense rows: {found['job']:.0f} tokens/s as a job, {found['command']:.0f} by `graft train`."]
    if found := results.get("load"):
        lines += ["", f"{CLIENTS} clients without pause get {found['tokens_per_second']:.0f} tokens/s beside a job, "
                  f"{found['tokens_per_second_without']:.0f} without."]
    write_report("living_together", results, "\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", default="latency,lone,load", help="those left out keep their last figures")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    known = OUT / "living_together.json"
    results = json.loads(known.read_text()) if known.exists() else {}
    with tempfile.TemporaryDirectory() as adapters:
        server = Graft(options.threads, pathlib.Path(adapters), [], name="graft-training")
        try:
            for part in options.parts.split(","):
                if part == "lone":
                    results[part] = lone(server, options.rounds, options.threads)
                    continue
                with server:
                    results[part] = (latency(server, options.rounds, options.seconds) if part == "latency"
                                     else load(server, options.seconds))
        finally:
            server.close()
    report(results, options.threads)


if __name__ == "__main__":
    main()
