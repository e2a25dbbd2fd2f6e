#!/usr/bin/env python3
"""Measures Graft beside llama.cpp on the same shapes, interleaved, and writes docs/benchmarks/PROCESSOR/speed.{json,md,svg}.

Each round runs every program once; the medians over the rounds are compared. llama.cpp is built from the source inside
the sdist of the PyPI package llama-cpp-python; its 4-bit types are Q4_0 and IQ4_NL. The 135M model is real, the others
have random weights, which cost the same time.

    scripts/bench/speed.py [--shapes 135m,1b,8b] [--rounds 5] [--threads N] [--no-peers] [--add] [--contexts 2048,4096]
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile

from peers import GRAFT, OUT, PEERS, SMALL, cpu, processor, run, write_report

LLAMA = PEERS / "llama"
TYPES = ["Q4_0", "IQ4_NL"]
# Prompt and generated tokens for each shape.
LENGTHS = {"135m": (512, 64), "1b": (128, 16), "8b": (128, 16)}
CONFIGS = {
    "1b": dict(hidden=2048, inner=8192, layers=16, heads=32, kv=8, head=64, vocabulary=128256),
    "8b": dict(hidden=4096, inner=14336, layers=32, heads=32, kv=8, head=128, vocabulary=128256),
}


# Long contexts, in tokens, and how many sequences decode in one pass.
CONTEXTS = {"135m": (2048, 4096, 8192), "1b": (2048, 4096), "8b": ()}
PASSES = (1, 4, 16, 64, 128)


def compilers():
    """GCC 12 drops the stores that fill the configuration of llama.cpp's tile registers; clang does not."""
    if "amx_tile" in cpu("flags").split() and shutil.which("clang++"):
        return ["-DCMAKE_C_COMPILER=clang", "-DCMAKE_CXX_COMPILER=clang++"]
    return []


def build_llama(*targets):
    if all((LLAMA / "bin" / target).exists() for target in targets):
        return
    PEERS.mkdir(exist_ok=True)
    venv = PEERS / "venv"
    if not venv.exists():
        run(sys.executable, "-m", "venv", venv)
    pip = venv / "bin/pip"
    run(pip, "install", "-q", "scikit-build-core", "cmake", "ninja", "numpy", "gguf")
    run(pip, "download", "-q", "--no-deps", "--no-binary", "llama-cpp-python", "--no-build-isolation",
        "llama-cpp-python", "-d", PEERS, env={**os.environ, "PATH": f"{venv}/bin:{os.environ['PATH']}"})
    archive = sorted(PEERS.glob("llama_cpp_python-*.tar.gz"))[-1]
    with tarfile.open(archive) as tar:
        tar.extractall(PEERS, filter="data")
    source = next(PEERS.glob("llama_cpp_python-*/vendor/llama.cpp"))
    tools = {**os.environ, "PATH": f"{venv}/bin:{os.environ['PATH']}"}
    run("cmake", "-S", source, "-B", LLAMA, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON",
        "-DLLAMA_CURL=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DBUILD_SHARED_LIBS=OFF",
        "-DLLAMA_BUILD_SERVER=ON", "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF", *compilers(), env=tools)
    run("ninja", "-C", LLAMA, *targets, env=tools)


def llama_model(shape, kind):
    """The model as llama.cpp reads it, in one of its 4-bit types."""
    path = PEERS / f"{shape}-{kind}.gguf"
    if path.exists():
        return path
    partial = path.with_suffix(".partial")
    if shape == "135m":
        run(LLAMA / "bin/llama-quantize", "--allow-requantize", SMALL, partial, kind, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
    else:
        write_random(partial, kind, **CONFIGS[shape])
    partial.rename(path)
    return path


def write_random(path, kind, hidden, inner, layers, heads, kv, head, vocabulary):
    """A Llama model of random weights; the head is Q8_0, as llama.cpp's own quantiser leaves it or nearly so."""
    sys.path[:0] = [str(p) for p in (PEERS / "venv").glob("lib/python3*/site-packages")]
    import gguf
    import numpy as np

    random = np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(layers)
    writer.add_context_length(8192)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(500000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(vocabulary)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list([f"<{i}>" for i in range(vocabulary)])
    writer.add_token_types([1] * vocabulary)
    writer.add_token_merges(["a b"])
    four_bit = gguf.GGMLQuantizationType[kind]

    def quantised(name, rows, columns, quantisation):
        block, size = gguf.GGML_QUANT_SIZES[quantisation]
        data = random.integers(0, 256, (rows, columns // block, size), dtype=np.uint8)
        data[:, :, :2] = np.frombuffer(np.float16(0.002).tobytes(), np.uint8)  # the block's scale
        writer.add_tensor(name, data.reshape(rows, -1), raw_dtype=quantisation)

    def norm(name):
        writer.add_tensor(name, np.ones(hidden, np.float32))

    quantised("token_embd.weight", vocabulary, hidden, gguf.GGMLQuantizationType.Q8_0)
    for layer in range(layers):
        p = f"blk.{layer}."
        norm(p + "attn_norm.weight")
        norm(p + "ffn_norm.weight")
        for name, rows, columns in [
            ("attn_q", heads * head, hidden), ("attn_k", kv * head, hidden), ("attn_v", kv * head, hidden),
            ("attn_output", hidden, heads * head), ("ffn_gate", inner, hidden), ("ffn_up", inner, hidden),
            ("ffn_down", hidden, inner),
        ]:
            quantised(f"{p}{name}.weight", rows, columns, four_bit)
    norm("output_norm.weight")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def graft_bench(shape, threads, compute, *flags):
    model = ["--model", SMALL] if shape == "135m" else ["--shape", shape]
    out = run(GRAFT, "bench", *model, "--threads", threads, "--compute", compute, "--repetitions", 1, "--json", *flags,
              capture_output=True).stdout
    return json.loads(out)


def measure_graft(shape, threads, compute):
    prompt, generate = LENGTHS[shape]
    return graft_bench(shape, threads, compute, "--prompt", prompt, "--generate", generate)


def llama_bench(shape, kind, threads, *flags):
    out = run(LLAMA / "bin/llama-bench", "-m", llama_model(shape, kind), "-t", threads, "-r", 1, "-o", "json", *flags,
              capture_output=True).stdout
    rows = json.loads(out)
    return {
        "prefill_tokens_per_second": next((r["avg_ts"] for r in rows if r["n_prompt"]), 0),
        "decode_tokens_per_second": next((r["avg_ts"] for r in rows if r["n_gen"]), 0),
    }


def measure_llama(shape, kind, threads):
    prompt, generate = LENGTHS[shape]
    return llama_bench(shape, kind, threads, "-p", prompt, "-n", generate)


def measure_context(shape, threads, length, kinds):
    """Prefill of so many tokens, and decode after them, by each program: tokens a second."""
    rows = {"graft fast": graft_bench(shape, threads, "fast", "--prompt", length, "--generate", 16, "--depth", length)}
    for kind, flash in kinds:
        prefill = llama_bench(shape, kind, threads, "-p", length, "-n", 0, "-fa", flash)
        decode = llama_bench(shape, kind, threads, "-p", 0, "-n", 16, "-d", length, "-fa", flash)
        rows[f"llama.cpp {kind}{', flash attention' if flash else ''}"] = {
            **prefill, "decode_tokens_per_second": decode["decode_tokens_per_second"]}
    return rows


def measure_contexts(shape, lengths, rounds, threads, peers):
    kinds = [(kind, flash) for kind in TYPES for flash in (0, 1)] if peers else []
    results = {}
    for length in lengths:
        runs = []
        for number in range(rounds):
            runs.append(measure_context(shape, threads, length, kinds))
            print(f"{shape} {length} tokens, round {number + 1}/{rounds}", flush=True)
        results[str(length)] = {"rounds": rounds, "programs": {name: median_of([r[name] for r in runs]) for name in runs[0]}}
    return results


def measure_passes(shape, rounds, threads):
    """Milliseconds of a pass that decodes one token of each of so many sequences."""
    times = {rows: [] for rows in PASSES}
    for _ in range(rounds):
        for rows in PASSES:
            out = graft_bench(shape, threads, "fast", "--prompt", 1, "--generate", 16, "--sequences", rows)
            times[rows].append(1000 * rows / out["decode_tokens_per_second"])
    return {rows: statistics.median(values) for rows, values in times.items()}


def median_of(runs):
    return {key: statistics.median(r[key] for r in runs) if isinstance(value, (int, float)) else value
            for key, value in runs[0].items()}


def compare(shape, rounds, threads, peers):
    contenders = {"graft fast": lambda: measure_graft(shape, threads, "fast")}
    if shape == "135m":
        for mode in ["bf16", "f32"]:
            contenders[f"graft {mode}"] = lambda mode=mode: measure_graft(shape, threads, mode)
    if peers:
        for kind in TYPES:
            llama_model(shape, kind)
            contenders[f"llama.cpp {kind}"] = lambda kind=kind: measure_llama(shape, kind, threads)
    runs = {name: [] for name in contenders}
    for number in range(rounds):
        for name, measure in contenders.items():
            runs[name].append(measure())
            print(f"{shape} round {number + 1}/{rounds} {name}: "
                  f"{runs[name][-1]['prefill_tokens_per_second']:.1f} prefill, "
                  f"{runs[name][-1]['decode_tokens_per_second']:.1f} decode", flush=True)
    return {name: median_of(results) for name, results in runs.items()}


def table(results, rounds, threads):
    text = ", ".join(f"{number} for {shape}" for shape, number in rounds.items())
    lines = [f"Tokens a second on {cpu('model name')} ({processor()}), {threads} threads, medians of interleaved rounds: {text}.", "",
             "| model | program | prefill | decode | prefill, share of integer peak | decode, share of read bandwidth |",
             "| --- | --- | --- | --- | --- | --- |"]
    for shape, rows in results.items():
        for name, row in rows.items():
            shares = ["", ""]
            if "prefill_share_of_peak" in row:
                shares = [f"{row['prefill_share_of_peak']:.0%}", f"{row['decode_share_of_bandwidth']:.0%}"]
            lines.append(f"| {shape} | {name} | {row['prefill_tokens_per_second']:.1f} | "
                         f"{row['decode_tokens_per_second']:.1f} | {shares[0]} | {shares[1]} |")
        best = {key: max((row[key] for name, row in rows.items() if name.startswith("llama")), default=None)
                for key in ["prefill_tokens_per_second", "decode_tokens_per_second"]}
        if best["prefill_tokens_per_second"]:
            ratios = [rows["graft fast"][key] / value for key, value in best.items()]
            lines.append(f"| {shape} | graft fast ÷ llama.cpp's better | {ratios[0]:.2f} | {ratios[1]:.2f} | | |")
    return "\n".join(lines) + "\n"


def contexts_table(contexts):
    lines = ["", "Long contexts: prefill of so many tokens, and decode of 16 tokens after them; medians of interleaved rounds.", "",
             "| model | tokens | program | prefill | decode |", "| --- | --- | --- | --- | --- |"]
    keys = ["prefill_tokens_per_second", "decode_tokens_per_second"]
    for shape, lengths in contexts.items():
        for length, measured in lengths.items():
            rows = measured["programs"]
            for name, row in rows.items():
                lines.append(f"| {shape} | {length} | {name} | {row[keys[0]]:.1f} | {row[keys[1]]:.1f} |")
            best = [max((row[key] for name, row in rows.items() if name.startswith("llama")), default=0) for key in keys]
            if best[0]:
                ratios = [rows["graft fast"][key] / value for key, value in zip(keys, best)]
                lines.append(f"| {shape} | {length} | graft ÷ llama.cpp's best (rounds: {measured['rounds']}) | {ratios[0]:.2f} | {ratios[1]:.2f} |")
    return "\n".join(lines) + "\n"


def passes_table(passes):
    lines = ["", "Time of a pass that decodes one token of each of n sequences, `fast`, in ms, and as a multiple of one row's.", "",
             "| model | " + " | ".join(f"n = {rows}" for rows in PASSES) + " |", "| --- |" + " --- |" * len(PASSES)]
    for shape, times in passes.items():
        times = list(times.values())
        lines.append(f"| {shape} | " + " | ".join(f"{t:.1f} ({t / times[0]:.1f})" for t in times) + " |")
    return "\n".join(lines) + "\n"


def plot(results):
    """Bars of every program's speed, relative to the fastest of its row."""
    bars, y = [], 30
    for shape, rows in results.items():
        for key, title in [("prefill_tokens_per_second", "prefill"), ("decode_tokens_per_second", "decode")]:
            bars.append(f'<text x="10" y="{y}" font-weight="bold">{shape} {title}, tokens/s</text>')
            y += 8
            most = max(row[key] for row in rows.values())
            for name, row in rows.items():
                width = 360 * row[key] / most
                colour = "#2a6f97" if name.startswith("graft") else "#adb5bd"
                bars.append(f'<rect x="140" y="{y}" width="{width:.1f}" height="14" fill="{colour}"/>'
                            f'<text x="132" y="{y + 11}" text-anchor="end">{name}</text>'
                            f'<text x="{146 + width:.1f}" y="{y + 11}">{row[key]:.1f}</text>')
                y += 18
            y += 22
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="580" height="{y}" font-family="sans-serif" font-size="12">'
            f'<rect width="580" height="{y}" fill="white"/>' + "".join(bars) + "</svg>\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shapes", default="135m,1b,8b")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--parts", default="request,contexts,passes", help="what to measure")
    parser.add_argument("--contexts", help="lengths of long contexts, by default those of each shape")
    parser.add_argument("--context-rounds", type=int, help="rounds of long contexts and of passes, by default half of --rounds")
    parser.add_argument("--add", action="store_true", help="keep what an earlier run measured and this one does not")
    options = parser.parse_args()
    parts = options.parts.split(",")
    context_rounds = options.context_rounds or max(options.rounds // 2, 1)
    peers, left_out = not options.no_peers, []
    if peers:
        try:
            build_llama("llama-bench", "llama-quantize")
        except (subprocess.CalledProcessError, OSError) as error:
            peers = False
            left_out.append(f"llama.cpp could not be built here: {error}")
    kept = json.loads((OUT / "speed.json").read_text()) if options.add else {}
    rounds, results, contexts, passes = (kept.get(key, {}) for key in ["rounds", "shapes", "contexts", "passes"])
    for shape in options.shapes.split(","):
        try:
            if "request" in parts:
                results[shape] = compare(shape, options.rounds, options.threads, peers)
                rounds[shape] = options.rounds
            if "contexts" in parts:
                lengths = map(int, options.contexts.split(",")) if options.contexts else CONTEXTS[shape]
                measured = measure_contexts(shape, lengths, context_rounds, options.threads, peers)
                contexts[shape] = dict(sorted({**contexts.get(shape, {}), **measured}.items(), key=lambda item: int(item[0])))
            if "passes" in parts:
                passes[shape] = measure_passes(shape, context_rounds, options.threads)
        except (subprocess.CalledProcessError, OSError) as error:
            left_out.append(f"{shape} could not be run: {error}")
    text = table(results, rounds, options.threads) + contexts_table(contexts) + passes_table(passes) + "".join(f"\n{line}\n" for line in left_out)
    write_report("speed", {"rounds": rounds, "shapes": results, "contexts": contexts, "passes": passes}, text)
    (OUT / "speed.svg").write_text(plot(results))


if __name__ == "__main__":
    main()
