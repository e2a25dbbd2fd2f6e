#!/usr/bin/env python3
"""Measures Graft beside llama.cpp on the same shapes, interleaved, and writes docs/benchmarks/PROCESSOR/speed.{json,md,svg}.

Each round runs every program once; the medians over the rounds are compared. llama.cpp is built from the source inside
the sdist of the PyPI package llama-cpp-python; its 4-bit types are Q4_0 and IQ4_NL. The 135M model is real, the others
have random weights, which cost the same time.

A run keeps the figures of earlier runs that it does not measure again, and without llama.cpp those that were measured beside
it; --fresh forgets them.

    scripts/bench/speed.py [--shapes 135m,1b,8b] [--rounds 5] [--threads N] [--no-peers] [--fresh] [--contexts 2048,4096]
"""

import argparse
import datetime
import json
import os
import re
import statistics
import subprocess
import sys
import tarfile

import speed_report
from peers import AVX2_ONLY, GRAFT, OUT, PEERS, ROOT, SMALL, cpu, run, write_report

# The release whose source has llama.cpp's.
LLAMA_CPP_PYTHON = "0.3.36"
LLAMA = PEERS / ("llama-avx2" if AVX2_ONLY else "llama")
INSTRUCTIONS = (["-DGGML_NATIVE=OFF", *(f"-DGGML_{name}=ON" for name in ("AVX", "AVX2", "FMA", "F16C", "BMI2"))] if AVX2_ONLY
                else ["-DGGML_NATIVE=ON"])
# llama.cpp's kernels for tile registers take Q4_1, but not IQ4_NL.
TYPES = ["Q4_0", "IQ4_NL"] + (["Q4_1"] if "amx_tile" in cpu("flags").split() and not AVX2_ONLY else [])
# Prompt and generated tokens for each shape.
LENGTHS = {"135m": (512, 64), "1b": (128, 16), "8b": (128, 16)}
CONFIGS = {
    "1b": dict(hidden=2048, inner=8192, layers=16, heads=32, kv=8, head=64, vocabulary=128256),
    "8b": dict(hidden=4096, inner=14336, layers=32, heads=32, kv=8, head=128, vocabulary=128256),
}


# Long contexts, in tokens, and how many sequences decode in one pass.
CONTEXTS = {"135m": (2048, 4096, 8192), "1b": (2048, 4096, 8192), "8b": ()}
PASSES = speed_report.PASSES


def mend_tile_configuration(source):
    """GCC 12 drops the stores that fill the configuration of llama.cpp's tile registers, unless it must suppose that they
    are read."""
    path = source / "ggml/src/ggml-cpu/amx/mmq.cpp"
    call, barrier = "_tile_loadconfig(&tc);", '__asm__ volatile("" : : "r"(&tc) : "memory"); '
    text = path.read_text()
    if barrier not in text:
        if call not in text:
            raise OSError(f"{path} has no {call}")
        path.write_text(text.replace(call, barrier + call))


def llama_build():
    """What llama.cpp was built from and with, for the report."""
    cache = (LLAMA / "CMakeCache.txt").read_text()
    flags = ["avx2"] if AVX2_ONLY else cpu("flags").split()

    def setting(name):
        return next(iter(re.findall(rf"^{name}:\w+=(.*)$", cache, re.M)), "?")

    parts = [f"llama.cpp of llama_cpp_python-{LLAMA_CPP_PYTHON}", os.path.basename(setting("CMAKE_CXX_COMPILER"))]
    parts.append("OpenMP" if setting("GGML_OPENMP_ENABLED") == "ON" else "no OpenMP")
    return ", ".join(parts + [name for name in ("amx_int8", "avx512_vnni", "avx512f", "avx2") if name in flags][:1])


def fetch_llama():
    """llama.cpp's source, and an environment with what builds it and reads its files."""
    source = PEERS / f"llama_cpp_python-{LLAMA_CPP_PYTHON}/vendor/llama.cpp"
    if source.exists() and (PEERS / "venv").exists():
        return source
    PEERS.mkdir(exist_ok=True)
    venv = PEERS / "venv"
    if not venv.exists():
        run(sys.executable, "-m", "venv", venv)
    pip = venv / "bin/pip"
    run(pip, "install", "-q", "scikit-build-core", "cmake", "ninja", "numpy", "gguf")
    run(pip, "download", "-q", "--no-deps", "--no-binary", "llama-cpp-python", "--no-build-isolation",
        f"llama-cpp-python=={LLAMA_CPP_PYTHON}", "-d", PEERS, env=with_tools())
    with tarfile.open(PEERS / f"llama_cpp_python-{LLAMA_CPP_PYTHON}.tar.gz") as tar:
        tar.extractall(PEERS, filter="data")
    return source


def with_tools():
    return {**os.environ, "PATH": f"{PEERS / 'venv'}/bin:{os.environ['PATH']}"}


def build_llama(*targets):
    if all((LLAMA / "bin" / target).exists() for target in targets):
        return
    source, tools = fetch_llama(), with_tools()
    mend_tile_configuration(source)
    run("cmake", "-S", source, "-B", LLAMA, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", *INSTRUCTIONS,
        "-DLLAMA_CURL=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DBUILD_SHARED_LIBS=OFF",
        "-DLLAMA_BUILD_SERVER=ON", "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF", env=tools)
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
        # The block's scale, and for Q4_1 its minimum: no value may be infinite.
        for number in range(2 if quantisation == gguf.GGMLQuantizationType.Q4_1 else 1):
            data[:, :, 2 * number:2 * number + 2] = np.frombuffer(np.float16(0.002).tobytes(), np.uint8)
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
    # Of several prompts the longest is measured; the others warm up.
    prompts = sorted((r for r in rows if r["n_prompt"]), key=lambda r: -r["n_prompt"])
    return {
        "prefill_tokens_per_second": next((r["avg_ts"] for r in prompts), 0),
        "decode_tokens_per_second": next((r["avg_ts"] for r in rows if r["n_gen"]), 0),
    }


def measure_llama(shape, kind, threads):
    prompt, generate = LENGTHS[shape]
    return llama_bench(shape, kind, threads, "-p", prompt, "-n", generate)


def measure_context(shape, threads, length, kinds):
    """Prefill of so many tokens, and decode after them, by each program: tokens a second."""
    rows = {"graft fast": graft_bench(shape, threads, "fast", "--prompt", length, "--generate", 16, "--depth", length)}
    for kind, flash in kinds:
        # A short prompt warms up; llama-bench's own warm-up would compute the long one twice.
        prefill = llama_bench(shape, kind, threads, "-p", f"64,{length}", "-n", 0, "-fa", flash, "--no-warmup")
        decode = llama_bench(shape, kind, threads, "-p", 0, "-n", 16, "-d", length, "-fa", flash)
        rows[f"llama.cpp {kind}{', flash attention' if flash else ''}"] = {
            **prefill, "decode_tokens_per_second": decode["decode_tokens_per_second"]}
    return rows


def measure_contexts(shape, lengths, rounds, threads, types):
    kinds = [(kind, flash) for kind in types for flash in (0, 1)]
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


def compare(shape, rounds, threads, types, left_out):
    contenders = {"graft fast": lambda: measure_graft(shape, threads, "fast")}
    if shape == "135m":
        for mode in ["bf16", "f32"]:
            contenders[f"graft {mode}"] = lambda mode=mode: measure_graft(shape, threads, mode)
    for kind in types:
        contenders[f"llama.cpp {kind}"] = lambda kind=kind: measure_llama(shape, kind, threads)
    runs = {name: [] for name in contenders}
    for number in range(rounds):
        for name, measure in list(contenders.items()):
            try:
                runs[name].append(measure())
            except (subprocess.CalledProcessError, OSError) as error:
                # A peer that fails takes no figure of the others with it.
                if name.startswith("graft"):
                    raise
                left_out.append(f"{shape}, {name}: {error}")
                del contenders[name], runs[name]
                continue
            print(f"{shape} round {number + 1}/{rounds} {name}: "
                  f"{runs[name][-1]['prefill_tokens_per_second']:.1f} prefill, "
                  f"{runs[name][-1]['decode_tokens_per_second']:.1f} decode", flush=True)
    return {name: median_of(results) for name, results in runs.items()}


def commit():
    """The commit that is measured; empty where there is no repository."""
    found = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return found.stdout.strip()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shapes", default="135m,1b,8b")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--parts", default="request,contexts,passes", help="what to measure")
    parser.add_argument("--contexts", help="lengths of long contexts, by default those of each shape")
    parser.add_argument("--context-rounds", type=int, help="rounds of long contexts and of passes, by default half of --rounds")
    parser.add_argument("--types", default=",".join(TYPES), help="llama.cpp's types, separated by commas")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs measured and this one does not")
    options = parser.parse_args()
    parts = options.parts.split(",")
    context_rounds = options.context_rounds or max(options.rounds // 2, 1)
    types, left_out = [] if options.no_peers else options.types.split(","), []
    if types:
        try:
            build_llama("llama-bench", "llama-quantize")
        except (subprocess.CalledProcessError, OSError) as error:
            types = []
            left_out.append(f"llama.cpp could not be built here: {error}")
    file = OUT / "speed.json"
    report = json.loads(file.read_text()) if file.exists() and not options.fresh else {}
    for key in ["rounds", "shapes", "contexts", "passes", "measured"]:
        report.setdefault(key, {})
    report["processor"] = cpu("model name")

    def is_kept(name):
        """Whether figures stay because they were measured beside llama.cpp, which this run leaves out."""
        kept = not types and "peer" in report["measured"].get(name, {})
        if kept:
            print(f"{name} is left as it was measured beside llama.cpp", flush=True)
        return kept

    def measured(name, beside_peer):
        report["measured"][name] = {"when": f"{datetime.date.today()} {commit()}".strip(), "threads": options.threads}
        if beside_peer:
            report["measured"][name]["peer"] = llama_build()

    for shape in options.shapes.split(","):
        try:
            if "request" in parts and not is_kept(shape):
                report["shapes"][shape] = compare(shape, options.rounds, options.threads, types, left_out)
                report["rounds"][shape] = options.rounds
                measured(shape, beside_peer=types)
            if "contexts" in parts:
                lengths = list(map(int, options.contexts.split(",")) if options.contexts else CONTEXTS[shape])
                lengths = [length for length in lengths if not is_kept(f"{shape} at {length}")]
                found = measure_contexts(shape, lengths, context_rounds, options.threads, types)
                known = {**report["contexts"].get(shape, {}), **found}
                report["contexts"][shape] = dict(sorted(known.items(), key=lambda item: int(item[0])))
                for length in lengths:
                    measured(f"{shape} at {length}", beside_peer=types)
            if "passes" in parts:
                report["passes"][shape] = measure_passes(shape, context_rounds, options.threads)
                measured(f"{shape} passes", beside_peer=False)
        except (subprocess.CalledProcessError, OSError) as error:
            left_out.append(f"{shape} could not be run: {error}")
    # What an earlier run could not measure of other shapes stays missing.
    shapes = tuple(options.shapes.split(","))
    report["left_out"] = [line for line in report.get("left_out", []) if not line.startswith(("llama.cpp", *shapes))] + left_out
    write_report("speed", report, speed_report.text(report, OUT.name))
    if report["shapes"]:
        (OUT / "speed.svg").write_text(speed_report.plot(report["shapes"]))
    speed_report.update_readme()


if __name__ == "__main__":
    main()
