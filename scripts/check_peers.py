#!/usr/bin/env python3
"""Checks that PEFT reads what `graft train` writes, and that both then compute the same.

Trains adapters for a few steps, loads each into PEFT over the same NF4 base, and compares the logprobs of rows that were
not trained on with those that `graft serve --compute f32` answers over HTTP.
"""

import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "bench"))
import peers

DATA = peers.ROOT / "Benchmarks/training/uneven.jsonl"
TOLERANCE = 1e-3
ADAPTERS = {
    "plain": [],
    "rslora-patterns": ["--use-rslora", "true", "--target-modules", "q_proj,v_proj,down_proj", "--rank-pattern",
                        '{"down_proj": 4}'],
    "dora": ["--use-dora", "true"],
}
PROMPTS = 4


def train(folder, name, flags):
    peers.run(peers.GRAFT, "train", "--model", peers.SMALL, "--data", DATA, "--output", folder / name, "--max-steps", 3,
              "--batch-size", 2, "--learning-rate", "5e-3", "--scheduler", "constant", "--shuffle", "false",
              "--lora-r", 8, *flags, capture_output=True)


def prompts():
    rows = [json.loads(line)["tokens"] for line in open(DATA)]
    # The first six were trained on.
    return [row for row in rows[6:] if len(row) < 200][:PROMPTS]


class Server:
    """`graft serve` in f32 on a free port."""

    def __init__(self, adapters, state):
        command = [peers.GRAFT, "serve", "--model", peers.SMALL, "--compute", "f32", "--port", "0", "--adapters",
                   adapters, "--data-dir", state]
        self.process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        text=True)
        for line in self.process.stdout:
            if found := re.search(r"url=(http://\S+)", line):
                self.url = found[1]
                return
        raise RuntimeError("graft serve ended")

    def logprobs(self, adapter, ids):
        body = {"model": adapter, "prompt": ids, "max_tokens": 0, "echo": True, "logprobs": 0}
        request = urllib.request.Request(self.url + "/v1/completions", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as reply:
            return json.load(reply)["choices"][0]["logprobs"]["token_logprobs"][1:]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()


def peft_logprobs(adapter, rows):
    out = peers.run(peers.PYTHON, peers.ROOT / "scripts/peft_logprobs.py", peers.model_folder(), adapter,
                    input=json.dumps(rows).encode(), capture_output=True).stdout
    return json.loads(out.splitlines()[-1])


def main():
    peers.build_peft()
    rows = prompts()
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary) / "adapters"
        folder.mkdir()
        for name, flags in ADAPTERS.items():
            train(folder, name, flags)
        with Server(folder, pathlib.Path(temporary) / "state") as server:
            answers = {name: [server.logprobs(name, row) for row in rows] for name in ADAPTERS}
        for name, ours in answers.items():
            theirs = peft_logprobs(folder / name, rows)
            pairs = [(x, y) for a, b in zip(ours, theirs, strict=True) for x, y in zip(a, b, strict=True)]
            worst = max(abs(x - y) for x, y in pairs)
            agrees = worst <= TOLERANCE
            failed |= not agrees
            print(f"{name}: {len(pairs)} logprobs, largest difference {worst:.1e}: {'agrees' if agrees else 'DIFFERS'}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
