#!/usr/bin/env python3
"""Checks that a base of eight billion weights is prepared and served in little memory.

Makes a folder with the configuration of Llama 3.1 8B, weights in BF16 and a tokenizer of its size, prepares it, serves it
with a context of 2,048 tokens and asks for an answer that fills the cache. The weights are a sparse file of zeros, which is
as large as the real one and takes no room on the disk; the norms are ones. What memory is used does not depend on the
values. The prepared base has 9 GB, which are deleted at the end, and the rest of the machine's memory is the page cache's.

Prints the largest memory that the process had of its own while preparing (`RssAnon`), and the largest resident set, mapped
pages of the base included, while serving (`VmRSS`).

Usage: check_memory.py [--folder PATH] [--tokens 2000] [--compute fast]
"""

import argparse
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[1]
GRAFT = pathlib.Path(os.environ.get("GRAFT_BINARY", ROOT / ".build/release/graft"))
PREPARE_LIMIT = 2 << 30
SERVE_LIMIT = int(5.2 * (1 << 30))
CONTEXT = 2048
HIDDEN, INTERMEDIATE, LAYERS, HEADS, KEY_VALUE_HEADS, VOCABULARY = 4096, 14336, 32, 32, 8, 128_256
CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": VOCABULARY, "hidden_size": HIDDEN,
    "intermediate_size": INTERMEDIATE, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
    "num_key_value_heads": KEY_VALUE_HEADS, "hidden_act": "silu", "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "tie_word_embeddings": False, "bos_token_id": None, "eos_token_id": 0,
    "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                     "original_max_position_embeddings": 8192, "rope_type": "llama3"},
}


def shapes():
    key_values = HIDDEN // HEADS * KEY_VALUE_HEADS
    result = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN), "lm_head.weight": (VOCABULARY, HIDDEN),
              "model.norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        result |= {
            prefix + "input_layernorm.weight": (HIDDEN,), prefix + "post_attention_layernorm.weight": (HIDDEN,),
            prefix + "self_attn.q_proj.weight": (HIDDEN, HIDDEN), prefix + "self_attn.k_proj.weight": (key_values, HIDDEN),
            prefix + "self_attn.v_proj.weight": (key_values, HIDDEN), prefix + "self_attn.o_proj.weight": (HIDDEN, HIDDEN),
            prefix + "mlp.gate_proj.weight": (INTERMEDIATE, HIDDEN), prefix + "mlp.up_proj.weight": (INTERMEDIATE, HIDDEN),
            prefix + "mlp.down_proj.weight": (HIDDEN, INTERMEDIATE),
        }
    return result


def write_weights(path):
    header, offset, norms = {}, 0, []
    for name, shape in shapes().items():
        size = 2 * shape[0] * (shape[1] if len(shape) == 2 else 1)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        if len(shape) == 1:
            norms.append((offset, size))
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        start = file.tell()
        for place, size in norms:
            file.seek(start + place)
            file.write(b"\x80\x3f" * (size // 2))
        file.truncate(start + offset)


def write_tokenizer(folder):
    """Byte-level BPE with a token for each id: 256 bytes, then pairs of earlier tokens."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) if byte in printable else None for byte in range(256)]
    others = iter(range(256, 512))
    letters = [letter or chr(next(others)) for letter in letters]
    vocabulary = {"<end>": 0} | {letter: index + 1 for index, letter in enumerate(letters)}
    merges = []
    for pair in ((first, second) for first in list(vocabulary)[1:] for second in letters):
        merges.append(pair)
        vocabulary["".join(pair)] = len(vocabulary)
    for pair in ((first + second, third) for first, second in merges[: 1 << 16] for third in letters[:2]):
        if len(vocabulary) == VOCABULARY:
            break
        if "".join(pair) not in vocabulary:
            merges.append(pair)
            vocabulary["".join(pair)] = len(vocabulary)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    end = {"id": 0, "content": "<end>", "special": True, "normalized": False, "lstrip": False, "rstrip": False,
           "single_word": False}
    (folder / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "added_tokens": [end], "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": [" ".join(pair) for pair in merges]}}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<end>"}))


class Peak:
    """The largest value of a field of /proc/PID/status, while a process runs."""

    def __init__(self, process, field):
        self.process, self.field, self.bytes = process, field, 0
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        while self.process.poll() is None:
            try:
                found = re.search(rf"{self.field}:\s+(\d+) kB", open(f"/proc/{self.process.pid}/status").read())
            except OSError:
                return
            self.bytes = max(self.bytes, int(found[1]) << 10 if found else 0)
            time.sleep(0.02)


def report(what, peak, limit):
    within = peak <= limit
    print(f"{what}: {peak / (1 << 30):.2f} GiB, {'within' if within else 'MORE THAN'} {limit / (1 << 30):.1f} GiB", flush=True)
    return within


def prepare(model, data):
    start = time.monotonic()
    process = subprocess.Popen([GRAFT, "prepare", "--model", model, "--data-dir", data], stdout=subprocess.DEVNULL)
    peak = Peak(process, "RssAnon")
    if process.wait():
        raise RuntimeError("graft prepare failed")
    print(f"prepared in {time.monotonic() - start:.0f} s", flush=True)
    return report("preparing, beyond the page cache", peak.bytes, PREPARE_LIMIT)


def serve(model, data, compute, tokens):
    process = subprocess.Popen(
        [GRAFT, "serve", "--model", model, "--data-dir", data, "--port", "0", "--context", str(CONTEXT), "--compute", compute,
         "--kv-memory", "1GiB"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    peak = Peak(process, "VmRSS")
    try:
        url = next((found[1] for line in process.stdout if (found := re.search(r"url=(http://\S+)", line))), None)
        if url is None:
            raise RuntimeError("graft serve ended")
        threading.Thread(target=process.stdout.read, daemon=True).start()
        start = time.monotonic()
        body = {"model": "base", "prompt": [1 + index % 256 for index in range(tokens)], "max_tokens": CONTEXT - tokens,
                "ignore_eos": True}
        request = urllib.request.Request(url + "/v1/completions", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as reply:
            usage = json.load(reply)["usage"]
        print(f"{usage['total_tokens']} tokens in the cache after {time.monotonic() - start:.0f} s", flush=True)
        complete = usage["total_tokens"] == CONTEXT
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
    return report(f"serving with --compute {compute}, mapped pages included", peak.bytes, SERVE_LIMIT) and complete


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", help="where the model and what is prepared lie; kept at the end")
    parser.add_argument("--tokens", type=int, default=CONTEXT - 16, help="of the prompt; the answer fills the cache")
    parser.add_argument("--compute", default="fast")
    parser.add_argument("--only", choices=["prepare", "serve"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="graft-memory-") as temporary:
        folder = pathlib.Path(arguments.folder or temporary)
        model = folder / "model"
        model.mkdir(parents=True, exist_ok=True)
        (model / "config.json").write_text(json.dumps(CONFIG))
        if not (model / "model.safetensors").exists():
            write_weights(model / "model.safetensors")
            write_tokenizer(model)
        good = arguments.only == "serve" or prepare(model, folder / "data")
        good &= arguments.only == "prepare" or serve(model, folder / "data", arguments.compute, arguments.tokens)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
