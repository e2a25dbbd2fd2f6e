#!/usr/bin/env python3
"""Makes Benchmarks/training/{dense,uneven}.jsonl, which are committed, from Benchmarks/text and a seed.

Rows are token ids and labels, so that every program trains on the same. Dense rows have 256 tokens, all of them labels.
Uneven ones are as long as chats: log-normal, median 100, 8 to 512 tokens, their first third a prompt without loss.
"""

import json
import pathlib
import random
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"
TEXT = ROOT / "Benchmarks/text/declaration-and-constitution.txt"
OUT = ROOT / "Benchmarks/training"
DENSE_ROWS, DENSE_LENGTH = 48, 256
UNEVEN_ROWS, MEDIAN, SIGMA, SHORTEST, LONGEST = 96, 100, 0.8, 8, 512


def tokens():
    command = [ROOT / ".build/release/graft", "tokenize", "--model", MODEL, "--text"]
    return json.loads(subprocess.run(command, input=TEXT.read_bytes(), capture_output=True, check=True).stdout)


def write(name, rows):
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / name).write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))


def main():
    text, draw = tokens(), random.Random(1776)

    def row(length, prompt):
        first = draw.randrange(len(text) - length)
        ids = text[first:first + length]
        return {"tokens": ids, "labels": [-100] * prompt + ids[prompt:]}

    write("dense.jsonl", [row(DENSE_LENGTH, 0) for _ in range(DENSE_ROWS)])
    lengths = [round(MEDIAN * draw.lognormvariate(0, SIGMA)) for _ in range(UNEVEN_ROWS)]
    write("uneven.jsonl", [row(length, length // 3) for length in (min(max(n, SHORTEST), LONGEST) for n in lengths)])


if __name__ == "__main__":
    main()
