#!/usr/bin/env python3
"""Measures `graft train` beside PEFT with bitsandbytes' NF4 on the same rows, interleaved, and writes
docs/benchmarks/PROCESSOR/training.{json,md}.

Both train rank 16 on every linear of the 135M model, from the same untrained adapter, four rows a step in file order at
a constant rate. PEFT computes in the type that is quicker on the machine: bf16 where the CPU has it, else f32.

    scripts/bench/training.py [--sets dense,uneven] [--rounds 3] [--threads N] [--no-peers]
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import tempfile
import time

import peers

DATA = peers.ROOT / "Benchmarks/training"
# The first step warms up and is not counted.
STEPS = {"dense": 4, "uneven": 7}
RATE = "2e-4"
INITIAL = peers.PEERS / "initial-adapter"


def compute_type():
    has_bf16 = "avx512_bf16" in peers.cpu("flags").split() and not peers.AVX2_ONLY
    return "bfloat16" if has_bf16 else "float32"


def counted_tokens(name):
    rows = [json.loads(line) for line in open(DATA / f"{name}.jsonl")]
    return sum(len(rows[i % len(rows)]["tokens"]) for i in range(4, 4 * STEPS[name]))


def measure_graft(name, threads, initial=None):
    with tempfile.TemporaryDirectory() as folder:
        command = [peers.GRAFT, "train", "--model", peers.SMALL, "--data", DATA / f"{name}.jsonl", "--output", folder,
                   "--threads", threads, "--max-steps", STEPS[name], "--batch-size", 4, "--shuffle", "false",
                   "--scheduler", "constant", "--learning-rate", RATE, "--lora-r", 16,
                   "--checkpoint-steps", STEPS[name]]
        if initial:
            command += ["--init-adapter", initial]
        process = subprocess.Popen([str(c) for c in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                   text=True)
        log, times, losses = "", [], []
        for line in process.stderr:
            log += line
            if found := re.match(r"step .* loss (\S+) ", line):
                times.append(time.perf_counter())
                losses.append(float(found[1]))
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, "graft train", stderr=log)
    return {"tokens_per_second": counted_tokens(name) / (times[-1] - times[0]), "peak_bytes": usage.ru_maxrss * 1024,
            "loss": losses[-1]}


def measure_peft(name, threads, initial):
    out = peers.run(
        peers.PYTHON, peers.ROOT / "scripts/bench/peft_train.py", peers.model_folder(), DATA / f"{name}.jsonl", initial,
        STEPS[name], RATE, compute_type(), capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}).stdout
    found = json.loads(out.splitlines()[-1])
    return {"tokens_per_second": found["tokens_per_second"], "peak_bytes": found["peak_bytes"],
            "loss": found["losses"][-1]}


def make_initial():
    if not (INITIAL / "adapter_config.json").exists():
        peers.run(peers.PYTHON, peers.ROOT / "scripts/bench/peft_train.py", peers.model_folder(), INITIAL,
                  capture_output=True)
    return INITIAL


def measure(name, rounds, threads, with_peers):
    initial = make_initial() if with_peers else None
    contenders = {"graft": measure_graft} | ({"PEFT": measure_peft} if with_peers else {})
    runs = {contender: [] for contender in contenders}
    for number in range(rounds):
        for contender, function in contenders.items():
            runs[contender].append(function(name, threads, initial))
            print(f"{name} round {number + 1}/{rounds} {contender}: {runs[contender][-1]}", flush=True)
    return runs


def medians(runs):
    return {contender: {key: statistics.median(run[key] for run in measured) for key in measured[0]}
            for contender, measured in runs.items()}


def report(results, rounds, threads, left_out=()):
    lines = [f"Training the 135M model, rank 16 on every linear, four rows a step, on {peers.cpu('model name')} ({peers.processor()}), {threads} "
             f"threads; medians of {rounds} interleaved rounds. Tokens are the rows' own, without padding.", "",
             "| rows | program | tokens/s | peak memory, MB | loss in the last step |", "| --- | --- | --- | --- | --- |"]
    for name, rows in results.items():
        for contender, row in rows.items():
            title = f"PEFT, bitsandbytes NF4, {compute_type()}" if contender == "PEFT" else contender
            lines.append(f"| {name}, {counted_tokens(name)} tokens | {title} | {row['tokens_per_second']:.1f} | "
                         f"{row['peak_bytes'] / 1e6:.0f} | {row['loss']:.4f} |")
        if "PEFT" in rows:
            ratios = [rows["graft"][key] / rows["PEFT"][key] for key in ("tokens_per_second", "peak_bytes")]
            lines.append(f"| {name} | graft ÷ PEFT | {ratios[0]:.2f} | {ratios[1]:.2f} | |")
    lines += ["", "The first step is not counted. Dense rows have 256 tokens, uneven ones a log-normal length (median about "
              "100, at most 512). PEFT pads to the longest of its batch and counts its memory from after loading; graft's "
              "is the whole run's."]
    peers.write_report("training", results, "\n".join([*lines, *(f"\n{line}" for line in left_out)]) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", default="dense,uneven")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--no-peers", action="store_true")
    options = parser.parse_args()
    with_peers, left_out = not options.no_peers, []
    if with_peers:
        try:
            peers.build_peft()
        except (subprocess.CalledProcessError, OSError) as error:
            with_peers = False
            left_out.append(f"PEFT could not be installed here: {error}")
    results = {name: medians(measure(name, options.rounds, options.threads, with_peers))
               for name in options.sets.split(",")}
    report(results, options.rounds, options.threads, left_out)


if __name__ == "__main__":
    main()
