#!/usr/bin/env python3
"""Measures how long a request with a hostile grammar or schema keeps another client from its tokens: the gaps between the
tokens of a plain stream and of one with a schema, alone, beside another plain stream, and beside each hostile request. They take
turns in every round, and every hostile request and every schema is new to the server, so that nothing of it is compiled already.

    scripts/bench/hostile_grammars.py [--rounds 5] [--tokens 96] [--answers 1] [--only NAME,NAME] [--threads N] [--no-report]

With --answers 16, each hostile request has 16 answers at once.

The server is GRAFT_BINARY, or else .build/release/graft. Writes docs/benchmarks/PROCESSOR/hostile_grammars.{json,md}.
"""

import argparse
import http.client
import json
import os
import shutil
import statistics
import tempfile
import threading
import time

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


# Whose tokens are waited for.
VICTIMS = {
    "plain": lambda salt: {"ignore_eos": True},
    "schema": lambda salt: {"guided_json": {"type": "array", "minItems": 400, "items": {
        "type": "object", "required": [f"name{salt}", "age", "tags"], "additionalProperties": False, "properties": {
            f"name{salt}": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]{2,9}$"}, "maxItems": 3}}}}},
}
# The server takes requests from two addresses for those of two clients.
VICTIM, OTHER = "127.0.0.2", "127.0.0.3"


def body(number, tokens, **fields):
    return {"messages": [{"role": "user", "content": f"Tell a long story about the number {number}."}], "stream": True,
            "temperature": 1, "seed": number, "max_tokens": tokens} | fields


def stream(server, address, request, seen=lambda: None):
    """The times of the events of an answer to a client at an address, and how it ended."""
    times, end = [], "?"
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE, source_address=(address, 0))
    try:
        connection.request("POST", CHAT, json.dumps(request), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        if reply.status != 200:
            return times, f"{reply.status}"
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
    finally:
        connection.close()
    return times, end


def gaps(server, victim, beside=None):
    """The gaps, in seconds, between the tokens of a stream. The other client's request comes when that has a few tokens."""
    count, started, other = 0, threading.Event(), {}

    def seen():
        nonlocal count
        count += 1
        if count == 4:
            started.set()

    def ask():
        started.wait(PATIENCE)
        begun = time.monotonic()
        times, other["end"] = stream(server, OTHER, beside)
        other["tokens"], other["seconds"] = len(times), time.monotonic() - begun

    thread = threading.Thread(target=ask) if beside else None
    if thread:
        thread.start()
    times, end = stream(server, VICTIM, victim, seen)
    started.set()
    if thread:
        thread.join()
    assert end == "length", end
    return [b - a for a, b in zip(times, times[1:])][3:], other


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--answers", type=int, default=1)
    parser.add_argument("--only", default=None)
    parser.add_argument("--threads", default=None)
    parser.add_argument("--no-report", action="store_true")
    options = parser.parse_args()
    graft = os.environ.get("GRAFT_BINARY", GRAFT)
    threads = ["--threads", options.threads] if options.threads else []
    names = options.only.split(",") if options.only else list(HOSTILE)
    PEERS.mkdir(exist_ok=True)
    data = tempfile.mkdtemp(prefix="hostile-", dir=PEERS)
    found = {f"{victim}, {name}": {"gaps": [], "others": []} for victim in VICTIMS for name in ["alone", "a plain request", *names]}
    try:
        server = Server("hostile", graft, "serve", "--model", SMALL, "--data-dir", data, *threads)
        try:
            with server:
                gaps(server, body(0, 16, ignore_eos=True))
                for number in range(1, options.rounds + 1):
                    order = list(found)
                    for place, key in enumerate(order if number % 2 else order[::-1]):
                        salt = 1000 * number + place
                        kind, name = key.split(", ", 1)
                        fields = HOSTILE[name](salt) if name in HOSTILE else {"ignore_eos": True}
                        beside = None if name == "alone" else body(salt, HOSTILE_TOKENS, n=options.answers, **fields)
                        victim = body(number, options.tokens, **VICTIMS[kind](salt))
                        between, other = gaps(server, victim, beside)
                        found[key]["gaps"].append(between)
                        found[key]["others"].append(other)
                    print(f"round {number}/{options.rounds}", flush=True)
        finally:
            server.close()
    finally:
        shutil.rmtree(data, ignore_errors=True)
    report = {"processor": cpu("model name"), "rounds": options.rounds, "tokens": options.tokens, "answers": options.answers,
              "beside": found}
    lines = ["# Hostile grammars beside another client's stream", "",
             f"{report['processor']}, SmolLM2-135M, a stream of {options.tokens} tokens, plain or with a schema; {options.rounds} rounds in "
             f"turn. The other client's request has {options.answers} answers. The median is of all gaps, the worst of each round's worst: "
             "their median, and the largest.", "",
             "| the stream, beside | median gap (ms) | worst gap: median, largest (ms) | what became of the other request |", "| --- | --- | --- | --- |"]
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
