#!/usr/bin/env python3
"""Measures Graft's server beside llama-server under the same load, and writes docs/benchmarks/PROCESSOR/serving.{json,md}.

Closed-loop clients ask the 135M model for streamed greedy completions: prompts of 32 random tokens, no two the same, 64
tokens each, whatever the model thinks of ending. Without adapter, all with one adapter, and client i with adapter i mod
16 (rank 16, all linear modules, random). Then 1,000 adapters of rank 16 on two modules, asked for by a Zipf law, once
with memory for all and once for 100, and a lone request beside `graft bench`. Each round runs every case once, and only
the server that is being measured runs meanwhile.

    scripts/bench/serving.py [--clients 1,4,16,64] [--rounds 3] [--threads N] [--no-peers] [--parts load,many,lone]
                             [--add]
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time

import speed
import serving_adapters
import serving_check
import serving_load
import serving_report
from peers import GRAFT, OUT, SMALL, run, write_report
from serving_load import LoadError
from serving_servers import Graft, LlamaServer

PROMPT, GENERATE = 32, 64
ADAPTERS, RANK = 16, 16
MANY, MANY_RANK, MANY_MODULES, MANY_FIT = 1000, 16, ("q_proj", "v_proj"), 100
LONE = 256  # tokens of the lone request
LOADS = ("none", "one", "mixed")
FAILURES = (LoadError, OSError, subprocess.CalledProcessError)


class Prompts:
    """Random prompts; every call gives new ones, so that no cache of prompts helps."""

    def __init__(self):
        self.seed = 0

    def take(self, clients, each, length=PROMPT):
        self.seed += 1
        np, _ = serving_adapters.packages()
        # Above the special tokens.
        flat = np.random.default_rng(self.seed).integers(100, 40000, (clients * each, length)).tolist()
        return [flat[c * each:(c + 1) * each] for c in range(clients)]


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def requests_each(clients):
    """Enough for the throughput of few clients to be measured over some seconds."""
    return max(2, 8 // clients)


def measure(server, prompts, adapter_of, generate=GENERATE):
    """The load of one request after another for each client; `adapter_of` is asked with the client and the request."""
    plans = [[server.request(prompt, adapter_of(client, number), generate) for number, prompt in enumerate(own)]
             for client, own in enumerate(prompts)]
    with server:
        return serving_load.run(server.port, plans, server.read)


def adapter_of(load):
    return {"none": lambda client, number: None, "one": lambda client, number: 0,
            "mixed": lambda client, number: client % ADAPTERS}[load]


class Cases:
    """Runs of each case, by (program, clients, load), and how they are told."""

    def __init__(self):
        self.runs, self.errors = {}, {}

    def run(self, key, function):
        """Measures once more, unless this case has failed before."""
        if key in self.errors:
            return
        try:
            measured = function()
        except FAILURES as error:
            self.errors[key] = str(error)
            say(f"{' '.join(map(str, key))}: {error}")
            return
        self.runs.setdefault(key, []).append(measured)
        say(f"{key[0]}, {key[1]} clients, {key[2]}: {measured.tokens_per_second:.1f} tokens/s, first token at most "
            f"{max(a.first for a in measured.answers) * 1e3:.0f} ms (clients: {measured.client_share:.1%} of a core)")

    def rows(self):
        rows = []
        for key, runs in self.runs.items():
            answers = [answer for run in runs for answer in run.answers]
            rows.append({
                "program": key[0], "clients": key[1], "load": key[2],
                "tokens_per_second": statistics.median(run.tokens_per_second for run in runs),
                "rounds": [run.tokens_per_second for run in runs], "requests": len(answers),
                "tokens": sum(answer.tokens for answer in answers),
                "first_token_ms": percentiles([answer.first for answer in answers]),
                "between_tokens_ms": percentiles([gap for answer in answers for gap in answer.gaps]),
                "generator_share_of_a_core": max(run.client_share for run in runs),
            })
        return rows


def percentiles(seconds):
    np, _ = serving_adapters.packages()
    values = np.percentile(seconds, [50, 95, 99]) * 1e3 if seconds else [0, 0, 0]
    return dict(zip(("p50", "p95", "p99"), map(float, values)))


def better_type(threads):
    """llama.cpp's faster 4-bit type for this load's mixture of prompt and generated tokens."""
    def seconds(kind):
        rates = speed.measure_llama("135m", kind, threads)
        return PROMPT / rates["prefill_tokens_per_second"] + GENERATE / rates["decode_tokens_per_second"]

    rounds = [[seconds(kind) for kind in speed.TYPES] for _ in range(3)]
    return min(zip(map(statistics.median, zip(*rounds)), speed.TYPES))[1]


def start_peers(threads, counts, files, prompts, results, left_out):
    """llama-server with a slot for each client, by number of clients, once its adapters have been seen to do the same
    as Graft's; nothing where it cannot be had."""
    servers = {}
    try:
        speed.build_llama("llama-bench", "llama-quantize", "llama-server")
        say("comparing the adapters' effect in both servers")
        results["same_adapters"] = serving_check.agreement(threads)
        for title, seen in results["same_adapters"].items():
            # What the adapter adds to the programs' own difference, against what it does.
            if not seen["difference"] - seen["difference_without"] < seen["effect"] / 10:
                raise LoadError(f"its adapter on {title} does something else than Graft's: {seen}")
        kind = better_type(threads)
        results["llama_type"] = kind
        for count in counts:
            servers[count] = LlamaServer(threads, speed.llama_model("135m", kind), files, count)
            measure(servers[count], prompts.take(ADAPTERS, 1), adapter_of("mixed"), 4)
    except FAILURES as error:
        left_out.append(f"llama-server could not be measured here: {error}")
        for server in servers.values():
            server.close()
        servers = {}
    return servers


def measure_load(options, results, left_out):
    """Every program, number of clients, and choice of adapters."""
    folder, names, files = serving_adapters.make("rank16", ADAPTERS, RANK, gguf=options.peers)
    graft, peers, cases, prompts = Graft(options.threads, folder, names), {}, Cases(), Prompts()
    try:
        measure(graft, prompts.take(ADAPTERS, 1), adapter_of("mixed"), 4)  # every adapter has been read then
        if options.peers:
            peers = start_peers(options.threads, options.clients, files, prompts, results, left_out)
        for number in range(options.rounds):
            say(f"round {number + 1}/{options.rounds}")
            for clients in options.clients:
                for load in LOADS:
                    if load == "mixed" and clients == 1:
                        continue  # the same as one adapter
                    servers = {"graft": graft}
                    if clients in peers:
                        servers[f"llama-server {results['llama_type']}"] = peers[clients]
                    for label, server in servers.items():
                        asked = prompts.take(clients, requests_each(clients))
                        cases.run((label, clients, load), lambda: measure(server, asked, adapter_of(load)))
    finally:
        for server in (graft, *peers.values()):
            server.close()
    results["cases"] = cases.rows()
    left_out += [f"{' '.join(map(str, key))}: {error}" for key, error in cases.errors.items()]


def measure_many(options, results, left_out):
    """1,000 adapters in one server: requests spread over them by a Zipf law, and over the first 16 alone; with memory
    for all of them, and for 100, so that the others are evicted and brought back."""
    folder, names, _ = serving_adapters.make("many16", MANY, MANY_RANK, MANY_MODULES, gguf=False)
    size, cases = serving_adapters.bytes_in_memory(MANY_RANK, MANY_MODULES), Cases()
    seconds = {}
    for title, count in (("memory for all", MANY + 1), (f"memory for {MANY_FIT}", MANY_FIT)):
        budget = f"{count * size // 1024 + 1}KiB"
        server = Graft(options.threads, folder, names, "--adapter-memory", budget, name="graft-many")
        seconds[title] = server.seconds_to_start
        say(f"{MANY} adapters registered in {server.seconds_to_start:.1f} s, {title}")
        try:
            measure_zipf(options, server, title, cases)
        finally:
            server.close()
    results |= {"adapters": MANY, "rank": MANY_RANK, "modules": MANY_MODULES, "bytes": size, "fit": MANY_FIT,
                "cases": cases.rows(), "seconds_to_register": seconds}
    left_out += [f"{' '.join(map(str, key))}: {error}" for key, error in cases.errors.items()]


def measure_zipf(options, server, title, cases):
    np, _ = serving_adapters.packages()
    random, clients, each, prompts = np.random.default_rng(3), 16, 8, Prompts()

    def zipf(count):
        shares = 1 / np.arange(1, count + 1)
        drawn = random.choice(count, (clients, each), p=shares / shares.sum())
        return lambda client, number: int(drawn[client, number])

    # Every adapter once, the most wanted last: warm.
    rounds = -(-MANY // clients)
    warm = measure(server, prompts.take(clients, rounds, 1), lambda c, n: MANY - 1 - min(n * clients + c, MANY - 1), 1)
    say(f"each asked for once in {warm.seconds:.1f} s")
    loads = {"client i has adapter i": lambda: adapter_of("mixed"), "16 by Zipf": lambda: zipf(ADAPTERS),
             "1,000 by Zipf": lambda: zipf(MANY)}
    for _ in range(options.rounds):
        for load, draw in loads.items():
            asked = prompts.take(clients, each)
            cases.run(("graft", clients, f"{load}, {title}"), lambda: measure(server, asked, draw()))


def measure_lone(options, results, _):
    """The decode rate of one request over HTTP, beside that of `graft bench`, without server and sampling."""
    folder, names, _ = serving_adapters.make("rank16", ADAPTERS, RANK, gguf=False)
    server, http, alone, prompts = Graft(options.threads, folder, names, name="graft-lone"), [], [], Prompts()
    try:
        measure(server, prompts.take(1, 1, 1), adapter_of("none"), LONE)
        for number in range(max(9, options.rounds)):
            http.append(measure(server, prompts.take(1, 1, 1), adapter_of("none"), LONE).answers[0].rate)
            out = run(GRAFT, "bench", "--model", SMALL, "--threads", options.threads, "--prompt", 1, "--generate", LONE,
                      "--repetitions", 1, "--data-dir", server.data, "--json", capture_output=True).stdout
            alone.append(json.loads(out)["decode_tokens_per_second"])
            say(f"lone request: {http[-1]:.1f} tokens/s over HTTP, {alone[-1]:.1f} in graft bench")
    finally:
        server.close()
    rates = {"http": statistics.median(http), "bench": statistics.median(alone)}
    results |= rates | {"share": rates["http"] / rates["bench"], "runs": [http, alone], "tokens": LONE}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", default="1,4,16,64")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--no-peers", dest="peers", action="store_false")
    parser.add_argument("--parts", default="load,many,lone")
    parser.add_argument("--add", action="store_true", help="keep an earlier run's results of the other parts")
    options = parser.parse_args()
    options.clients = [int(count) for count in options.clients.split(",")]
    # Ended from outside, it still ends its servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    serving_adapters.packages()
    kept = OUT / "serving.json"
    results = json.loads(kept.read_text()) if options.add else {}
    parts = {"load": measure_load, "many": measure_many, "lone": measure_lone}
    for part in options.parts.split(","):
        found, left_out = {"threads": options.threads, "rounds": options.rounds}, []
        try:
            parts[part](options, found, left_out)
        except FAILURES as error:
            left_out.append(f"{part} could not be run: {error}")
            say(left_out[-1])
        results[part] = found | {"left_out": left_out}
    write_report("serving", results, serving_report.text(results))


if __name__ == "__main__":
    main()
