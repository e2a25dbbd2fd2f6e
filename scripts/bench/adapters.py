#!/usr/bin/env python3
"""Measures what loading adapters costs a running server, and writes docs/benchmarks/PROCESSOR/adapters.{json,md}.

`cycles`: loads and unloads over HTTP, with the resident memory sampled. `peak`: its peak while one large adapter is
loaded. `stream`: the gaps between a lone stream's tokens while another client uploads adapters that nobody
has seen and loads others by path, beside the same stream alone.

    scripts/bench/adapters.py [--cycles 10000] [--rounds 3] [--threads N] [--parts cycles,peak,stream]
"""

import argparse
import http.client
import json
import multiprocessing
import os
import pathlib
import re
import signal
import statistics
import sys
import threading
import time

import serving_adapters
import serving_load
from serving import Prompts, adapter_of, measure, say
from peers import OUT, cpu, processor, write_report
from serving_servers import Graft

FILES = ("adapter_config.json", "adapter_model.safetensors")
SAMPLES = 20
LARGE_RANK = 64
RANK, GENERATE, REQUESTS = 16, 256, 4
MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ ")


def resident(server):
    """KiB of anonymous memory, and of adapters' mapped files; not of other files, which come and go as the system
    likes."""
    process = pathlib.Path(f"/proc/{server.process.pid}")
    anonymous = int(re.search(r"RssAnon:\s+(\d+)", (process / "status").read_text())[1])
    mapped, is_adapter = 0, False
    for line in (process / "smaps").read_text().splitlines():
        if MAPPING.match(line):
            is_adapter = "/adapters/" in line
        elif is_adapter and line.startswith("Rss:"):
            mapped += int(line.split()[1])
    return anonymous, mapped


def ask(connection, method, path, body, kind="application/json"):
    connection.request(method, path, body, {"Content-Type": kind})
    reply = connection.getresponse()
    text = reply.read()
    if reply.status != 200:
        raise serving_load.LoadError(f"{method} {path}: {reply.status} {text[:200]!r}")


def connect(port):
    return http.client.HTTPConnection("127.0.0.1", port, timeout=serving_load.PATIENCE)


def load(connection, name, folder):
    ask(connection, "POST", "/v1/load_lora_adapter", json.dumps({"lora_name": name, "lora_path": folder}))


def unload(connection, name):
    ask(connection, "POST", "/v1/unload_lora_adapter", json.dumps({"lora_name": name}))


def changed(folder, number):
    """An adapter's files, with other contents for every number."""
    files = {file: (folder / file).read_bytes() for file in FILES}
    # The last half of a float, finite whatever it becomes.
    return files | {FILES[1]: files[FILES[1]][:-2] + (number & 0x3FFF).to_bytes(2, "little")}


def put(connection, name, files):
    mark = "part-of-an-adapter"
    body = b"".join(
        f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{file}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode() + data + b"\r\n" for file, data in files.items())
    ask(connection, "PUT", f"/v1/adapters/{name}", body + f"--{mark}--\r\n".encode(),
        f"multipart/form-data; boundary={mark}")


def measure_cycles(options):
    """Loads and unloads one name, of three adapters in turn, some of them used between."""
    folder, names, _ = serving_adapters.make("rank4", 3, 4, gguf=False)
    server, samples = Graft(options.threads, folder, names, name="graft-cycles"), []
    question = json.dumps({"model": "cycle", "prompt": "Once upon a time", "max_tokens": 1})

    def sample(number):
        samples.append((number, *resident(server)))
        say(f"after {number} cycles: {samples[-1][1]} KiB, {samples[-1][2]} KiB of adapters")

    try:
        with server:
            connection = connect(server.port)
            for name in names:
                unload(connection, name)
            started = time.monotonic()
            for number in range(options.cycles):
                if number % max(options.cycles // SAMPLES, 1) == 0:
                    sample(number)
                load(connection, "cycle", names[number % 3])
                if number % 10 == 0:
                    ask(connection, "POST", "/v1/completions", question)
                unload(connection, "cycle")
            sample(options.cycles)
    finally:
        server.close()
    return {"cycles": options.cycles, "seconds": time.monotonic() - started, "resident_kib": samples}


def measure_peak(options):
    """Memory before, at most during and after the upload of one large adapter that nobody has seen."""
    folder, names, _ = serving_adapters.make(f"rank{LARGE_RANK}", 2, LARGE_RANK, gguf=False)
    server = Graft(options.threads, folder, names, name="graft-peak")
    file = (folder / names[0] / FILES[1]).stat().st_size
    peaks, is_over = [], threading.Event()

    def watch():
        while not is_over.is_set():
            peaks.append(resident(server))
            time.sleep(0.0005)

    try:
        with server:
            connection = connect(server.port)
            for name in names:
                unload(connection, name)
            time.sleep(2)  # until what the start needed has gone back
            before = resident(server)
            thread = threading.Thread(target=watch)
            thread.start()
            put(connection, "large", changed(folder / names[0], 1))
            is_over.set()
            thread.join()
            connection.request("GET", "/v1/adapters/large")
            adapter = json.loads(connection.getresponse().read())["bytes"]
            after = resident(server)
    finally:
        server.close()
    found = {"rank": LARGE_RANK, "file_kib": file // 1024, "adapter_kib": adapter // 1024,
             "resident_kib": [before, [max(values) for values in zip(*peaks)], after]}
    say(f"one adapter: {found}")
    return found


def keep_loading(port, folder, names, is_over, queue):
    """Uploads new contents and loads known ones in turn, in a process of its own, which yields to the server."""
    os.nice(19)
    connection, seconds = connect(port), []
    number = 0
    while not is_over.is_set():
        files = changed(folder / names[0], number)
        for step in (lambda: put(connection, "uploaded", files),
                     lambda: load(connection, "loaded", names[number % len(names)])):
            started = time.monotonic()
            step()
            seconds.append(time.monotonic() - started)
        number += 1
        time.sleep(0.02)
    queue.put(seconds)


def measure_stream(options):
    folder, names, _ = serving_adapters.make("rank16", 16, RANK, gguf=False)
    server, prompts = Graft(options.threads, folder, names, name="graft-stream"), Prompts()
    gaps, loads = {"alone": [], "loading": []}, []

    def stream():
        return [gap for answer in measure(server, prompts.take(1, REQUESTS), adapter_of("none"), GENERATE).answers
                for gap in answer.gaps]

    try:
        stream()
        for _ in range(options.rounds):
            gaps["alone"] += stream()
            is_over, queue = multiprocessing.Event(), multiprocessing.Queue()
            process = multiprocessing.Process(target=keep_loading, args=(server.port, folder, names, is_over, queue))
            process.start()
            try:
                gaps["loading"] += stream()
            finally:
                is_over.set()
            with server:
                loads += queue.get(timeout=serving_load.PATIENCE)
                process.join()
    finally:
        server.close()
    np, _ = serving_adapters.packages()
    rows = {}
    for title, seconds in gaps.items():
        values = np.percentile(seconds, [50, 90, 99, 100]) * 1e3
        rows[title] = dict(zip(("p50", "p90", "p99", "max"), map(float, values))) | {"gaps": len(seconds)}
        say(f"{title}: {rows[title]}")
    return {"rank": RANK, "loads": len(loads), "seconds_to_load": statistics.median(loads), "gaps_ms": rows}


def mebibytes(kibibytes):
    return f"{kibibytes / 1024:.1f}"


def text(results):
    lines = [f"Loading adapters into a server of SmolLM2-135M on {cpu('model name')} ({processor()}), {results['threads']} threads. "
             "Memory is what is resident: anonymous (RssAnon of /proc/PID/status), and the adapters' mapped files "
             "(/proc/PID/smaps).", ""]
    if cycles := results.get("cycles"):
        lines += [f"{cycles['cycles']:,} times over HTTP one of three adapters of rank 4 (all linear modules) was "
                  f"loaded and unloaded, every tenth used for a token between, in {cycles['seconds']:.0f} s:", "",
                  "| cycles | anonymous memory, MiB | adapters, MiB |", "| --- | --- | --- |"]
        lines += [f"| {number:,} | {mebibytes(anonymous)} | {mebibytes(mapped)} |"
                  for number, anonymous, mapped in cycles["resident_kib"]] + [""]
    if peak := results.get("peak"):
        before, most, after = ((mebibytes(anonymous), mebibytes(mapped)) for anonymous, mapped in peak["resident_kib"])
        lines += [f"One new adapter of rank {peak['rank']}, uploaded: file {mebibytes(peak['file_kib'])} MiB, in use "
                  f"{mebibytes(peak['adapter_kib'])} MiB. Anonymous memory {before[0]} MiB before, at most {most[0]} MiB "
                  f"meanwhile, {after[0]} MiB after; adapters {before[1]}, {most[1]} and {after[1]} MiB.", ""]
    if stream := results.get("stream"):
        lines += [f"A lone stream of {GENERATE} tokens a request, alone, and while another client uploads new adapters "
                  f"of rank {stream['rank']} and loads known ones in turn ({stream['loads']} loads, a median of "
                  f"{stream['seconds_to_load'] * 1e3:.0f} ms each):", "",
                  "| | gaps | between tokens ms, p50 | p90 | p99 | most |", "| --- | --- | --- | --- | --- | --- |"]
        for title, row in stream["gaps_ms"].items():
            lines.append(f"| {title} | {row['gaps']} | " + " | ".join(
                f"{row[key]:.1f}" for key in ("p50", "p90", "p99", "max")) + " |")
        lines.append("")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cycles", type=int, default=10000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--parts", default="cycles,peak,stream")
    options = parser.parse_args()
    # Ended from outside, it still ends its servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    serving_adapters.packages()
    parts = {"cycles": measure_cycles, "peak": measure_peak, "stream": measure_stream}
    # Parts that are not measured now stay as they were.
    file = OUT / "adapters.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    results["threads"] = options.threads
    for part in options.parts.split(","):
        results[part] = parts[part](options)
    write_report("adapters", results, text(results))


if __name__ == "__main__":
    main()
