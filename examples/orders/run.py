#!/usr/bin/env python3
"""Measures what an adapter gains on a task that the small model cannot do: the base, an adapter's training, the adapter.

Needs `pip install openai` and the server that `make serve` starts. Prints the table of README.md.

    examples/orders/run.py [--url http://localhost:8080/v1] [--steps N] [--rows N] [--output FILE]
"""

import argparse
import json
import os
import pathlib
import time
from concurrent.futures import ThreadPoolExecutor

from openai import OpenAI

from orders import INSTRUCTIONS, SCHEMA, SYSTEM, judge
from traffic import Traffic

DATA = pathlib.Path(__file__).resolve().parent / "data"
SETTINGS = {"n_epochs": 1, "batch_size": 8, "learning_rate": 2e-3, "lora_r": 8, "lora_alpha": 16, "checkpoint_steps": 20}
# Rows of the training data that show the base several products, a delivery and a correction.
SHOTS = 4


def read(split):
    """The customers' messages of a split, and the orders that they mean."""
    rows = [json.loads(line)["messages"] for line in (DATA / f"{split}.jsonl").read_text().splitlines()]
    return [row[1]["content"] for row in rows], [row[2]["content"] for row in rows]


class Evaluation:
    """Asks for the order of each message of the test at temperature 0."""

    def __init__(self, client, limit):
        self.client = client
        self.messages, answers = (column[:limit] for column in read("test"))
        self.expected = [json.loads(answer) for answer in answers]
        self.table = []

    def add(self, title, model, system, shots=(), schema=False):
        """Asks all of the test, and adds a line to the table."""
        head = [{"role": "system", "content": system}]
        for message, answer in shots:
            head += [{"role": "user", "content": message}, {"role": "assistant", "content": answer}]
        form = {"type": "json_schema", "json_schema": {"name": "order", "schema": SCHEMA, "strict": True}}

        def ask(message):
            return self.client.chat.completions.create(
                model=model, messages=[*head, {"role": "user", "content": message}], temperature=0, max_tokens=200,
                **({"response_format": form} if schema else {}))

        started = time.monotonic()
        with ThreadPoolExecutor(8) as threads:
            replies = list(threads.map(ask, self.messages))
        line = {"asked": title} | judge([reply.choices[0].message.content for reply in replies], self.expected)
        line |= {"prompt_tokens": sum(reply.usage.prompt_tokens for reply in replies) / len(replies),
                 "seconds": time.monotonic() - started}
        self.table.append(line)
        print(markdown_line(line), flush=True)


HEADER = "| asked | JSON | exactly right | F1 | tokens of a prompt | time |\n| --- | --- | --- | --- | --- | --- |"


def markdown_line(line):
    return (f"| {line['asked']} | {line['json']:.0%} | {line['exact']:.0%} | {line['f1']:.2f} | {line['prompt_tokens']:.0f} | "
            f"{line['seconds']:.0f} s |")


def train(client, steps, limit):
    """Trains an adapter on the server, and returns the job when it has ended."""
    files = {}
    for field, split in (("training_file", "train"), ("validation_file", "validation")):
        lines = (DATA / f"{split}.jsonl").read_bytes().splitlines(keepends=True)
        rows = b"".join(lines if split == "train" else lines[:limit])
        files[field] = client.files.create(file=(f"{split}.jsonl", rows), purpose="fine-tune").id
    settings = SETTINGS | ({"max_steps": steps} if steps else {})
    job = client.fine_tuning.jobs.create(
        model="base", suffix="orders", seed=1, **files,
        method={"type": "supervised", "supervised": {"hyperparameters": settings}})
    while job.status not in ("succeeded", "failed", "cancelled"):
        time.sleep(1)
        job = client.fine_tuning.jobs.retrieve(job.id)
    if job.status != "succeeded":
        raise SystemExit(f"the job {job.status}: {job.error}")
    return job


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", default=os.environ.get("GRAFT_URL", "http://localhost:8080/v1"))
    parser.add_argument("--steps", type=int, help="steps of the training; all, if it is not given")
    parser.add_argument("--rows", type=int, help="rows of the test and the validation; all, if it is not given")
    parser.add_argument("--output", type=pathlib.Path, help="where the figures go as JSON")
    options = parser.parse_args()
    client = OpenAI(base_url=options.url, api_key=os.environ.get("GRAFT_API_KEY", "none"))
    test = Evaluation(client, options.rows)
    shots = list(zip(*read("train")))[:SHOTS]

    print(HEADER)
    test.add("base", "base", INSTRUCTIONS)
    test.add("base, schema", "base", INSTRUCTIONS, schema=True)
    test.add(f"base, {SHOTS} examples", "base", INSTRUCTIONS, shots)
    test.add(f"base, {SHOTS} examples, schema", "base", INSTRUCTIONS, shots, schema=True)
    started = time.monotonic()
    with Traffic(client) as traffic:
        job = train(client, options.steps, options.rows)
    seconds = time.monotonic() - started
    test.add("adapter", job.fine_tuned_model, SYSTEM)
    test.add("adapter, schema", job.fine_tuned_model, SYSTEM, schema=True)
    print(f"\nTrained {job.trained_tokens} tokens in {seconds:.0f} s beside {traffic.summary()}.")
    if options.output:
        figures = {"table": test.table, "trained_tokens": job.trained_tokens, "seconds": seconds, "traffic": traffic.figures()}
        options.output.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
