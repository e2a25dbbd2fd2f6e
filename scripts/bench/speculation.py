#!/usr/bin/env python3
"""Measures what computing drafts gains: two servers of the small model, one with --speculation off, answer the same
requests in turn. Their answers must be equal. Writes docs/benchmarks/PROCESSOR/speculation.{json,md}.

Editing: a passage to be written again with one word changed. Summary: a passage to be summarised. Story: free text, drawn
at temperature 1, in which little is repeated. Schema: records with long fixed names in a JSON schema. Each as one request
after another, and the first also for eight clients at once.

For larger shapes, `graft bench` measures the time of a pass by its rows, and replays the small model's answers at these times:
the drafts and their rows are those that the engine would choose there. Passes of 3 and 4 rows are taken to have 4, and so
on. Drafts of grammars are not replayed; for records, the passes of the small model are counted at these times instead.

    scripts/bench/speculation.py [--rounds 5] [--threads N] [--shapes 1b,8b] [--tasks editing,story]
"""

import argparse
import concurrent.futures
import json
import re
import statistics
import subprocess
import tempfile
import time
import urllib.request

from peers import GRAFT, ROOT, SMALL, cpu, write_report
from serving_servers import Server

BOUNDS = [1, 2, 4, 8, 16, 32]
TEXT = (ROOT / "Benchmarks/text/declaration-and-constitution.txt").read_text()


def passages(count, words=140):
    """Passages of the text that begin with a paragraph."""
    paragraphs = [" ".join(p.split()) for p in TEXT.split("\n\n") if len(p.split()) > 40]
    return [" ".join(" ".join(paragraphs[i:i + 4]).split()[:words]) for i in range(count)]


def chat(text, max_tokens, **more):
    return {"messages": [{"role": "user", "content": text}], "max_tokens": max_tokens, "seed": 1, "temperature": 0, **more}


SCHEMA = {
    "type": "object", "additionalProperties": False,
    "properties": {name: {"type": "integer", "minimum": 0, "maximum": 9} for name in [
        "number_of_employees_in_the_department", "number_of_open_positions_in_the_department",
        "average_years_of_professional_experience", "number_of_completed_projects_this_year"]},
}
SCHEMA["required"] = list(SCHEMA["properties"])

TASKS = {
    "editing": [chat(f"Repeat this text word for word, but write 'nation' instead of 'people':\n\n{p}", 220)
                for p in passages(6)],
    "summary": [chat(f"Summarize this text:\n\n{p}", 160) for p in passages(6)],
    "story": [chat(f"Write a story about {what}.", 200, temperature=1, seed=i)
              for i, what in enumerate(["a lighthouse", "an old clock", "two rivers", "a lost dog", "the moon", "bread"])],
    "schema": [chat(f"Describe department {i}.", 160, response_format={
        "type": "json_schema", "json_schema": {"name": "department", "schema": SCHEMA}}) for i in range(6)],
}


def metrics(server):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
        return answer.read().decode()


def passes(page):
    """How many passes had up to so many rows, each count beside its bound."""
    below = [int(float(re.search(rf'graft_batch_rows_bucket\{{le="{b}(?:\.0)?"\}} (\S+)', page)[1])) for b in BOUNDS]
    return [b - a for a, b in zip([0, *below], below)]


def drafted(page):
    return [float(re.search(rf"^{name} (\S+)", page, re.M)[1])
            for name in ("graft_draft_tokens_total", "graft_draft_tokens_accepted_total")]


def answer(server, requests, clients):
    """Tokens a second, and the answers."""
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        answers = list(pool.map(lambda body: server.ask("/v1/chat/completions", body), requests))
    tokens = sum(a["usage"]["completion_tokens"] for a in answers)
    return tokens / (time.monotonic() - started), [a["choices"][0]["message"]["content"] for a in answers]


def pass_times(shape, threads):
    """Milliseconds of a decoding pass, for each of BOUNDS as its rows."""
    times = []
    for rows in BOUNDS:
        out = subprocess.run([GRAFT, "bench", "--shape", shape, "--sequences", str(rows), "--prompt", "8", "--generate", "16",
                              "--repetitions", "3", "--json", *threads], check=True, capture_output=True).stdout
        times.append(1000 * rows / json.loads(out)["decode_tokens_per_second"])
    return times


def conversations(server, requests, answers):
    """The tokens of prompts and answers."""
    def tokens(body):
        return server.ask("/tokenize", body)["tokens"]

    return [{"prompt": tokens({"messages": body["messages"]}),
             "answer": tokens({"prompt": answer, "add_special_tokens": False})}
            for body, answer in zip(requests, answers)]


def replayed(times, answers):
    """How many times as fast each task is with drafts, at a shape's times of passes."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        for name, tokens in answers.items():
            file.writelines(json.dumps({"name": name, "pass_ms": times, **one}) + "\n" for one in tokens)
        file.flush()
        found = json.loads(subprocess.run([GRAFT, "bench", "--drafts", file.name, "--json"], check=True,
                                          capture_output=True).stdout)
    return {one["name"]: one["gain"] for one in found}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", default=None)
    parser.add_argument("--shapes", default="")
    parser.add_argument("--tasks", help="only these, separated by commas; no report is written")
    options = parser.parse_args()
    threads = ["--threads", options.threads] if options.threads else []
    servers = [Server(f"speculation-{mode}", GRAFT, "serve", "--model", SMALL, "--data-dir",
                      f"{ROOT}/.build-peers/speculation-{mode}", "--speculation", mode, *threads) for mode in ("off", "on")]
    report = {"processor": cpu("model name"), "rounds": options.rounds, "tasks": {}}
    spoken = {}
    try:
        cases = [*((n, r, 1) for n, r in TASKS.items()), ("editing, 8 clients", 8 * TASKS["editing"], 8)]
        for name, requests, clients in cases:
            if options.tasks and name not in options.tasks.split(","):
                continue
            rates = {"off": [], "on": []}
            for repetition in range(options.rounds + 1):
                found = {}
                # Each goes first in turn.
                for mode, server in sorted(zip(("off", "on"), servers), key=lambda pair: pair[0], reverse=repetition % 2 == 0):
                    with server:
                        if repetition == 1 and mode == "on":
                            before = metrics(server)
                        rate, texts = answer(server, requests, clients)
                        if mode == "on":
                            page = metrics(server)
                            if clients == 1 and name != "schema" and repetition == 0:
                                spoken[name] = conversations(server, requests, texts)
                    found[mode] = texts
                    if repetition > 0:
                        rates[mode].append(rate)
                assert found["off"] == found["on"], f"{name}: the answers differ"
            made = [b - a for a, b in zip(drafted(before), drafted(page))]
            report["tasks"][name] = {
                "off": statistics.median(rates["off"]), "on": statistics.median(rates["on"]),
                "ratio": statistics.median(b / a for a, b in zip(rates["off"], rates["on"])),
                "ratios": sorted(b / a for a, b in zip(rates["off"], rates["on"])),
                "drafted": made[0], "accepted": made[1],
                "passes": [b - a for a, b in zip(passes(before), passes(page))],
            }
            print(name, json.dumps(report["tasks"][name]), flush=True)
    finally:
        for server in servers:
            server.close()
    report["shapes"] = {}
    for shape in filter(None, options.shapes.split(",")):
        times = pass_times(shape, threads)
        report["shapes"][shape] = {"milliseconds": dict(zip(map(str, BOUNDS), times))}
        report["shapes"][shape] |= replayed(times, spoken)
        if schema := report["tasks"].get("schema"):
            spent = sum(n * t for n, t in zip(schema["passes"], times))
            report["shapes"][shape]["schema"] = (sum(schema["passes"]) + schema["accepted"]) * times[0] / spent
        print(shape, json.dumps(report["shapes"][shape]), flush=True)
    if options.tasks:
        return
    lines = ["# Speculation", "",
             f"{report['processor']}, SmolLM2-135M, medians of {options.rounds} rounds; the servers answer in turn, equal "
             "text for text.", "",
             "| task | off, tokens/s | on, tokens/s | on ÷ off (all rounds) | drafted | right |", "| --- | --- | --- | --- | --- | --- |"]
    for name, task in report["tasks"].items():
        spread = f"{task['ratio']:.2f} ({task['ratios'][0]:.2f} to {task['ratios'][-1]:.2f})"
        lines.append(f"| {name} | {task['off']:.0f} | {task['on']:.0f} | {spread} | {task['drafted']:.0f} | "
                     f"{100 * task['accepted'] / max(task['drafted'], 1):.0f} % |")
    for shape, figures in report["shapes"].items():
        lines += ["", f"Computed for the {shape} shape, by the small model's answers and this shape's time of a pass ("
                  + ", ".join(f"{rows} rows {ms:.0f} ms" for rows, ms in figures["milliseconds"].items()) + "): "
                  + ", ".join(f"{name} {value:.2f}" for name, value in figures.items() if name != "milliseconds") + "."]
    write_report("speculation", report, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
