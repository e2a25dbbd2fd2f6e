#!/usr/bin/env python3
"""Measures what a schema costs while decoding: one server of the small model, without drafts, answers requests with and
without a schema in turn. All answers have as many tokens. Writes docs/benchmarks/PROCESSOR/schemas.{json,md}.

Text: one long string, in which nearly every token is allowed. Records: a long list of objects with names, numbers, choices
and dates. Each for one request at a time and for sixteen at once; each round asks for other answers (temperature 1).

    scripts/bench/schemas.py [--rounds 7] [--threads N]
"""

import argparse
import concurrent.futures
import statistics
import time

from peers import GRAFT, ROOT, SMALL, cpu, write_report
from serving_servers import Server

TOKENS = 128
RECORD = {
    "type": "object", "additionalProperties": False, "required": ["name", "age", "role", "since"],
    "properties": {
        "name": {"type": "string", "minLength": 3, "maxLength": 24}, "age": {"type": "integer", "minimum": 18, "maximum": 99},
        "role": {"enum": ["engineer", "designer", "manager", "analyst"]}, "since": {"type": "string", "format": "date"},
    },
}
SCHEMAS = {
    "no schema": None,
    "text": {"type": "string", "minLength": 4000},
    "records": {"type": "array", "items": RECORD, "minItems": 100},
}


def request(number, schema):
    body = {"messages": [{"role": "user", "content": f"List the people of department {number}."}], "max_tokens": TOKENS,
            "temperature": 1, "seed": number, "ignore_eos": True}
    if schema:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    return body


def rate(server, schema, clients, first):
    """Tokens a second."""
    requests = [request(first + i, schema) for i in range(max(clients, 3))]
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        answers = list(pool.map(lambda body: server.ask("/v1/chat/completions", body), requests))
    seconds = time.monotonic() - started
    for answer in answers:
        assert answer["usage"]["completion_tokens"] == TOKENS, answer
    return TOKENS * len(answers) / seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", default=None)
    options = parser.parse_args()
    threads = ["--threads", options.threads] if options.threads else []
    server = Server("schemas", GRAFT, "serve", "--model", SMALL, "--data-dir", f"{ROOT}/.build-peers/schemas",
                    "--speculation", "off", *threads)
    report = {"processor": cpu("model name"), "rounds": options.rounds, "clients": {}}
    lines = ["# Decoding with a schema", "",
             f"{report['processor']}, SmolLM2-135M, {TOKENS} tokens an answer, without drafts; medians of {options.rounds} rounds "
             "in turn.", "", "| clients | schema | tokens/s | ÷ no schema (all rounds) |", "| --- | --- | --- | --- |"]
    try:
        with server:
            for clients in (1, 16):
                rates = {name: [] for name in SCHEMAS}
                for number in range(options.rounds + 1):
                    order = list(SCHEMAS.items())
                    for name, schema in order if number % 2 else reversed(order):
                        # The first round compiles the schemas and is not counted.
                        found = rate(server, schema, clients, 100 * number)
                        if number:
                            rates[name].append(found)
                    print(f"{clients} clients, round {number}/{options.rounds}", flush=True)
                report["clients"][clients] = rates
                for name, found in rates.items():
                    ratios = sorted(a / b for a, b in zip(found, rates["no schema"]))
                    lines.append(f"| {clients} | {name} | {statistics.median(found):.0f} | {statistics.median(ratios):.3f} "
                                 f"({ratios[0]:.2f} to {ratios[-1]:.2f}) |")
    finally:
        server.close()
    write_report("schemas", report, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
