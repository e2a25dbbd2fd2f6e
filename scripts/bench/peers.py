"""What the scripts share that run Graft beside other programs: where things lie, the environment of transformers, PEFT
and bitsandbytes, and the small model as a Hugging Face folder."""

import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEERS = ROOT / ".build-peers"
VENV = PEERS / "peft-venv"
PYTHON = VENV / "bin/python"
GRAFT = ROOT / ".build/release/graft"
SMALL = ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"
PACKAGES = ["transformers==5.23.0", "peft==0.21.2", "bitsandbytes==0.50.2", "accelerate"]
# What torch and the others import on a CPU; PEFT's CorDA imports attrs.
PURE = ["attrs", "filelock", "sympy", "networkx", "jinja2", "fsspec", "typing-extensions", "numpy", "safetensors", "tokenizers",
        "huggingface_hub", "packaging", "regex", "pyyaml", "tqdm", "psutil", "requests", "gguf"]
CPU_TORCH = "torch==2.13.0+cpu"


def run(*command, **options):
    return subprocess.run([str(c) for c in command], check=True, **options)


def cpu(field):
    """What the kernel says of the processor: its `model name`, its `flags`."""
    return next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith(field)), "?")


# Processors by vendor, family and models, as /proc/cpuinfo numbers them.
FAMILIES = [
    ("AuthenticAMD", 25, [*range(0x00, 0x10), *range(0x20, 0x60)], "amd-zen3"),
    ("AuthenticAMD", 25, [*range(0x10, 0x20), *range(0x60, 0xB0)], "amd-zen4"),
    ("AuthenticAMD", 26, range(0x100), "amd-zen5"),
    ("GenuineIntel", 6, [85], "intel-skylake-server"),
    ("GenuineIntel", 6, [106, 108], "intel-ice-lake-server"),
    ("GenuineIntel", 6, [143], "intel-sapphire-rapids"),
    ("GenuineIntel", 6, [207], "intel-emerald-rapids"),
    ("GenuineIntel", 6, [173, 174], "intel-granite-rapids"),
]


def processor():
    """The processor's family, which names the folder of its reports: no report replaces another family's."""
    try:
        vendor, family, model = cpu("vendor_id"), int(cpu("cpu family")), int(next(
            line.split(":", 1)[1] for line in open("/proc/cpuinfo") if re.match(r"model\s*:", line)))
    except (StopIteration, ValueError):
        return "unknown"
    for name in [name for v, f, models, name in FAMILIES if (v, f) == (vendor, family) and model in models]:
        return name
    return f"{vendor}-{family}-{model}".lower()


# With AVX2_ONLY=1 both sides have AVX2 and nothing newer, as on older processors: Graft and torch by variables, llama.cpp by its
# build. The reports have a folder of their own.
AVX2_ONLY = os.environ.get("AVX2_ONLY") == "1"
LIMITS = {"GRAFT_KERNELS": "avx2", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"} if AVX2_ONLY else {}
os.environ.update(LIMITS)

OUT = ROOT / "docs/benchmarks" / (processor() + ("-avx2" if AVX2_ONLY else ""))


def write_report(name, results, text):
    """Writes figures to NAME.json and their text to NAME.md in this processor's folder, and prints the text."""
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    (OUT / f"{name}.md").write_text(text)
    print(text)


def build_peft():
    """Makes the environment unless it is there. torch is its build for CPUs; without that, PyPI's, which is large."""
    done, wanted = VENV / "done", "\n".join([*PURE, CPU_TORCH, *PACKAGES])
    if done.exists() and done.read_text() == wanted:
        return
    PEERS.mkdir(exist_ok=True)
    if not PYTHON.exists():
        run(sys.executable, "-m", "venv", VENV)
    pip = [PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    run(*pip, *PURE)
    for torch in [["--no-deps", CPU_TORCH], ["torch"]]:
        if subprocess.run([str(c) for c in pip + torch], stderr=subprocess.DEVNULL).returncode == 0:
            break
    run(*pip, "--no-deps", *PACKAGES)
    run(PYTHON, "-c", "import bitsandbytes, peft, torch, transformers", stdout=subprocess.DEVNULL)
    done.write_text(wanted)


def model_folder():
    """The small model's folder, its weights as the GGUF has them in f32."""
    folder = PEERS / "smollm2-135m"
    if not (folder / "config.json").exists():
        run(PYTHON, __file__, folder)
    return folder


def write_model_folder(folder):
    import gguf
    import numpy as np
    from gguf.quants import dequantize
    from safetensors.numpy import save_file

    reader = gguf.GGUFReader(SMALL)

    def field(name):
        return reader.fields[name].contents()

    heads, kv_heads = field("llama.attention.head_count"), field("llama.attention.head_count_kv")
    names = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
             "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
             "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    tops = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    weights = {}
    for tensor in reader.tensors:
        values = np.array(dequantize(tensor.data, tensor.tensor_type), np.float32)
        if tensor.name in tops:
            weights[tops[tensor.name]] = values
            continue
        _, layer, kind, _ = tensor.name.split(".")
        if kind in ("attn_q", "attn_k"):  # GGUF has the two halves of a rotated pair side by side
            count = heads if kind == "attn_q" else kv_heads
            rows, columns = values.shape
            values = values.reshape(count, rows // count // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
        weights[f"model.layers.{layer}.{names[kind]}.weight"] = np.ascontiguousarray(values)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "attention_bias": False,
        "mlp_bias": False, "tie_word_embeddings": True, "dtype": "float32", "bos_token_id": 1, "eos_token_id": 2,
        "pad_token_id": 2, "hidden_size": field("llama.embedding_length"),
        "intermediate_size": field("llama.feed_forward_length"), "num_hidden_layers": field("llama.block_count"),
        "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "head_dim": field("llama.rope.dimension_count"), "vocab_size": field("llama.vocab_size"),
        "max_position_embeddings": field("llama.context_length"), "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": field("llama.rope.freq_base")},
    }
    # Written last: it says that the folder is whole.
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")


if __name__ == "__main__":
    write_model_folder(pathlib.Path(sys.argv[1]))
