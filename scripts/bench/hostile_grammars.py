#!/usr/bin/env python3
"""Measures how long a request with a hostile grammar or schema keeps another client from its tokens: the gaps between the
tokens of a plain stream, alone, beside another plain stream, and beside each hostile request. They take turns in every round,
and every hostile request is new to the server, so that nothing of it is compiled already.

    scripts/bench/hostile_grammars.py [--rounds 5] [--tokens 96] [--only NAME,NAME] [--threads N] [--no-report]

The server is GRAFT_BINARY, or else .build/release/graft. Writes docs/benchmarks/PROCESSOR/hostile_grammars.{json,md}.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import threading
import time
import urllib.error
import urllib.request

from peers import GRAFT, PEERS, SMALL, cpu, write_report
from serving_servers import PATIENCE, Server

CHAT = "/v1/chat/completions"
HOSTILE_TOKENS = 64


def alternations(salt):
    """A grammar in which each alternative has another one in it."""
    nested = f'"{salt}"'
    for letter in "abcdefgh":
        nested = f'("{letter}" {nested} | {nested} "{letter}")'
    for _ in range(200):
        nested = f'("a" | {nested})'
    return {"grammar": f"root ::= {nested}"}


def combined(salt):
    """Alternatives that multiply."""
    members = [{"anyOf": [{"minimum": salt + i}, {"maxLength": 5 + i}, {"minItems": i}]} for i in range(6)]
    return {"guided_json": {"allOf": members}}


def enumeration(salt):
    words = [f"{(salt * 7919 + i * 104729) % 10**9:09d} {'abcdefghij'[i % 10] * 24}" for i in range(20_000)]
    return {"guided_json": {"enum": words}}


def keys(salt):
    """Many properties that may be left out, and patterns that overlap."""
    return {"guided_json": {
        "type": "object", "properties": {f"p{salt}_{i}": {"type": "number", "multipleOf": 0.07} for i in range(400)},
        "patternProperties": {f"^{letter}.*{letter}$": {"type": "string", "format": "date-time"} for letter in "abcdef"},
        "maxProperties": 20}}


HOSTILE = {
    "nested alternations": alternations,
    "counted repetitions": lambda salt: {"guided_regex": f"((a{{1,90}}b{{0,90}}){{1,90}}|{salt}){{1,9}}c"},
    "long repetition": lambda salt: {"guided_json": {"type": "string", "pattern": f"^({salt}|[a-z]?){{0,900}}$", "minLength": 3}},
    "ambiguous grammar": lambda salt: {"grammar": f'root ::= root root root | root root | "a" | "aa" | "" | "{salt}"'},
    "left and right recursion": lambda salt: {"grammar": f'root ::= x\nx ::= x "a" x | "a" x | x "a" | "a" | "{salt}"'},
    "huge enum": enumeration,
    "(a|aa)*b": lambda salt: {"guided_regex": f"(a|aa)*b{salt}"},
    "remembered letters": lambda salt: {"guided_regex": f"[ab]*a[ab]{{300}}c{salt}"},
    "1000 nested groups": lambda salt: {"guided_regex": "(" * 1000 + f"a{salt}" + ")*" * 1000},
    "classes of letters": lambda salt: {"guided_regex": f"(\\p{{L}}|\\p{{N}}{salt}|\\w){{1,400}}"},
    "combined alternatives": combined,
    "many keys": keys,
    "nested arrays": lambda salt: {"guided_json": {"$ref": "#/$defs/a", "$defs": {"a": {
        "anyOf": [{"type": "array", "items": {"$ref": "#/$defs/a"}, "maxItems": 40 + salt % 40},
                  {"type": "array", "prefixItems": [{"$ref": "#/$defs/a"}] * 8}, {"const": salt}]}}}},
}


def body(number, tokens, **fields):
    return {"messages": [{"role": "user", "content": f"Tell a long story about the number {number}."}], "stream": True,
            "temperature": 1, "seed": number, "max_tokens": tokens} | fields


def stream(server, request, seen=lambda: None):
    """The times of the events of an answer, and how it ended."""
    times, end = [], "?"
    post = urllib.request.Request(f"http://127.0.0.1:{server.port}{CHAT}", json.dumps(request).encode(),
                                  {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(post, timeout=PATIENCE) as reply:
            for line in reply:
                if not line.startswith(b"data: {"):
                    continue
                event = json.loads(line[6:])
                if "error" in event:
                    end = event["error"].get("code") or "error"
                elif event["choices"]:
                    if event["choices"][0]["delta"].get("content"):
                        times.append(time.monotonic())
                        seen()
                    end = event["choices"][0].get("finish_reason") or end
    except urllib.error.HTTPError as error:
        end = f"{error.code}"
    return times, end


def gaps(server, number, tokens, beside=None):
    """The gaps, in seconds, between the tokens of a plain stream. The other request comes when that has a few tokens."""
    count, started, other = 0, threading.Event(), {}

    def seen():
        nonlocal count
        count += 1
        if count == 4:
            started.set()

    def ask():
        started.wait(PATIENCE)
        begun = time.monotonic()
        times, other["end"] = stream(server, beside)
        other["tokens"], other["seconds"] = len(times), time.monotonic() - begun

    thread = threading.Thread(target=ask) if beside else None
    if thread:
        thread.start()
    times, end = stream(server, body(number, tokens, ignore_eos=True), seen)
    started.set()
    if thread:
        thread.join()
    assert end == "length", end
    return [b - a for a, b in zip(times, times[1:])][3:], other


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--only", default=None)
    parser.add_argument("--threads", default=None)
    parser.add_argument("--no-report", action="store_true")
    options = parser.parse_args()
    graft = os.environ.get("GRAFT_BINARY", GRAFT)
    threads = ["--threads", options.threads] if options.threads else []
    names = options.only.split(",") if options.only else list(HOSTILE)
    PEERS.mkdir(exist_ok=True)
    data = tempfile.mkdtemp(prefix="hostile-", dir=PEERS)
    found = {name: {"gaps": [], "others": []} for name in ["alone", "a plain request", *names]}
    try:
        server = Server("hostile", graft, "serve", "--model", SMALL, "--data-dir", data, *threads)
        try:
            with server:
                gaps(server, 0, 16)
                for number in range(1, options.rounds + 1):
                    order = list(found)
                    for place, name in enumerate(order if number % 2 else order[::-1]):
                        salt = 1000 * number + place
                        fields = HOSTILE[name](salt) if name in HOSTILE else {"ignore_eos": True} if name != "alone" else None
                        beside = None if fields is None else body(salt, HOSTILE_TOKENS, **fields)
                        between, other = gaps(server, number, options.tokens, beside)
                        found[name]["gaps"].append(between)
                        found[name]["others"].append(other)
                    print(f"round {number}/{options.rounds}", flush=True)
        finally:
            server.close()
    finally:
        shutil.rmtree(data, ignore_errors=True)
    report = {"processor": cpu("model name"), "rounds": options.rounds, "tokens": options.tokens, "beside": found}
    lines = ["# Hostile grammars beside a plain stream", "",
             f"{report['processor']}, SmolLM2-135M, a stream of {options.tokens} tokens; {options.rounds} rounds in turn. The median is of "
             "all gaps, the worst of each round's worst: their median, and the largest.", "",
             "| beside | median gap (ms) | worst gap: median, largest (ms) | what became of the other request |", "| --- | --- | --- | --- |"]
    for name, result in found.items():
        rounds = [[1000 * gap for gap in between] for between in result["gaps"]]
        worst = [max(between) for between in rounds]
        ends = sorted({f"{other['end']} ({other['tokens']} tokens)" for other in result["others"] if other})
        lines.append(f"| {name} | {statistics.median(gap for between in rounds for gap in between):.1f} "
                     f"| {statistics.median(worst):.1f}, {max(worst):.1f} | {', '.join(ends) or '-'} |")
    text = "\n".join(lines) + "\n"
    if options.no_report:
        print(text)
    else:
        write_report("hostile_grammars", report, text)


if __name__ == "__main__":
    main()
