#!/usr/bin/env python3
"""Measures what a running batch costs other requests, and what it gets beside them, at several values of --batch-share, and
writes docs/benchmarks/PROCESSOR/batches.{json,md}.

A number of clients never pause: each sends its next request when its last has ended. Requests and lines have prompts of 32
random tokens and 64 tokens of answer, greedy. Rounds are interleaved: first no batch, then one at each share. The last row is
a batch alone.

    scripts/bench/batches.py [--clients 1,4,16] [--shares 0,0.05,0.2] [--rounds 3] [--seconds 6] [--threads N]
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

import serving_load
from peers import cpu, processor, write_report
from serving_servers import Graft

PROMPT, GENERATE = 32, 64
LINES = 4000
SAMPLE = 0.2  # seconds between two looks at the server's counters
TOKENS = "graft_generated_tokens_total"
PROMPTS = random.Random(0)


def prompt():
    """Never the same twice, so that no cache of prompts helps."""
    return [PROMPTS.randrange(100, 40000) for _ in range(PROMPT)]


def generated(server):
    """The tokens that the server has generated; it names no count before the first."""
    return server.counters().get(TOKENS, 0)


def start_batch(server):
    bodies = ({"prompt": prompt(), "max_tokens": GENERATE, "temperature": 0, "ignore_eos": True} for _ in range(LINES))
    lines = [{"custom_id": str(number), "method": "POST", "url": "/v1/completions", "body": body}
             for number, body in enumerate(bodies)]
    file = server.upload("\n".join(map(json.dumps, lines)).encode(), "batch")
    batch = server.ask("/v1/batches", {
        "input_file_id": file, "endpoint": "/v1/completions", "completion_window": "24h"})["id"]
    while generated(server) == 0:
        time.sleep(0.05)
    return batch


class Watch:
    """Reads the server's count of tokens while requests run."""

    def __init__(self, server):
        self.server, self.samples, self.done = server, [], threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        started = time.perf_counter()
        while not self.done.is_set():
            self.samples.append((time.perf_counter() - started, generated(self.server)))
            self.done.wait(SAMPLE)

    def end(self):
        self.done.set()
        self.thread.join()

    def rate(self, start, end):
        """Tokens a second between two times."""
        kept = [sample for sample in self.samples if start <= sample[0] <= end]
        (first, before), (last, after) = kept[0], kept[-1]
        return (after - before) / (last - first)


def measure(server, clients, requests):
    plans = [[server.request(prompt(), None, GENERATE) for _ in range(requests)] for _ in range(clients)]
    watch = Watch(server)
    try:
        measured = serving_load.run(server.port, plans, server.read)
    finally:
        watch.end()
    # Towards the end some clients are done, and the batch gets the passes that they leave.
    total = watch.rate(0.1 * measured.seconds, 0.8 * measured.seconds)
    return {"gaps": [gap for answer in measured.answers for gap in answer.gaps],
            "firsts": [answer.first for answer in measured.answers],
            "live": measured.tokens_per_second, "batch": max(total - measured.tokens_per_second, 0)}


def percentile(values, percent):
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def summary(runs):
    gaps, firsts = ([value for run in runs for value in run[name]] for name in ("gaps", "firsts"))
    return {"between_p50": percentile(gaps, 50), "between_p99": percentile(gaps, 99),
            "first_p50": percentile(firsts, 50), "first_p95": percentile(firsts, 95),
            "live": statistics.median(run["live"] for run in runs), "batch": statistics.median(run["batch"] for run in runs)}


def report(results, threads):
    lines = [f"A batch beside clients that never pause: SmolLM2-135M on {cpu('model name')} ({processor()}), {threads} threads.", "",
             f"Medians of {results['rounds']} interleaved rounds for tokens a second; milliseconds over all rounds.", "",
             "| clients | batch | between tokens, p50 | p99 | first token, p50 | p95 | clients' tokens/s | batch's tokens/s |",
             "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for clients, states in results["clients"].items():
        for state, found in states.items():
            times = " | ".join(f"{found[name] * 1000:.1f}" for name in ("between_p50", "between_p99", "first_p50", "first_p95"))
            batch = "none" if state == "none" else f"`--batch-share {state}`"
            speed = "" if state == "none" else f"{found['batch']:.0f}"
            lines.append(f"| {clients} | {batch} | {times} | {found['live']:.0f} | {speed} |")
    lines += ["", f"A batch alone has {results['alone']:.0f} tokens/s."]
    write_report("batches", results, "\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", default="1,4,16")
    parser.add_argument("--shares", default="0,0.05,0.2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6, help="of a run with no batch, about")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    shares = options.shares.split(",")
    results = {"rounds": options.rounds, "clients": {}}
    servers = {}
    with tempfile.TemporaryDirectory() as adapters:
        try:
            for state in ["none", *shares]:
                flags = [] if state == "none" else ["--batch-share", state]
                servers[state] = Graft(options.threads, pathlib.Path(adapters), [], *flags, name=f"graft-batches-{state}")
            for share in shares:
                with servers[share] as server:
                    start_batch(server)
            with servers[shares[0]] as server:
                watch = Watch(server)
                time.sleep(options.seconds)
                watch.end()
                results["alone"] = watch.rate(0.2 * options.seconds, options.seconds)
            for clients in map(int, options.clients.split(",")):
                with servers["none"] as server:
                    speed = measure(server, clients, 2)["live"]
                requests = max(2, round(speed * options.seconds / clients / GENERATE))
                runs = {state: [] for state in servers}
                for _ in range(options.rounds):
                    for state, server in servers.items():
                        with server:
                            runs[state].append(measure(server, clients, requests))
                results["clients"][clients] = {state: summary(found) for state, found in runs.items()}
                print(clients, results["clients"][clients], flush=True)
        finally:
            for server in servers.values():
                server.close()
    report(results, options.threads)


if __name__ == "__main__":
    main()
