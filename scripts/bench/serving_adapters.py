"""Random LoRA adapters of SmolLM2-135M, as PEFT folders for Graft and as GGUF files for llama-server."""

import json
import subprocess
import sys

from peers import PEERS, run

MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LAYERS, HEADS, KV_HEADS = 30, 9, 3
HIDDEN, KV, INNER = 576, 192, 1536
# Each module's folder in the model, its name in a GGUF file, and its out_features and in_features.
LINEARS = {
    "q_proj": ("self_attn", "attn_q", HIDDEN, HIDDEN),
    "k_proj": ("self_attn", "attn_k", KV, HIDDEN),
    "v_proj": ("self_attn", "attn_v", KV, HIDDEN),
    "o_proj": ("self_attn", "attn_output", HIDDEN, HIDDEN),
    "gate_proj": ("mlp", "ffn_gate", INNER, HIDDEN),
    "up_proj": ("mlp", "ffn_up", INNER, HIDDEN),
    "down_proj": ("mlp", "ffn_down", HIDDEN, INNER),
}


def packages():
    """numpy and gguf; where this Python has none, from the peers' environment, made if need be."""
    for attempt in range(2):
        try:
            import gguf
            import numpy

            return numpy, gguf
        except ImportError:
            if attempt:
                raise
        venv = PEERS / "venv"
        if not venv.exists():
            PEERS.mkdir(exist_ok=True)
            run(sys.executable, "-m", "venv", venv)
        run(venv / "bin/pip", "install", "-q", "numpy", "gguf", stdout=subprocess.DEVNULL)
        sys.path[:0] = [str(p) for p in venv.glob("lib/python3*/site-packages")]


def bytes_in_memory(rank, modules):
    """Of an adapter in bf16 as Graft keeps it (rank a multiple of 16)."""
    return LAYERS * sum(2 * rank * (rows + columns) + 64 for _, _, rows, columns in (LINEARS[m] for m in modules))


def tensors(seed, rank, modules, size):
    """(layer, module) -> (A, rank × in_features; B, out_features × rank), in f16.
    `size` is B's standard deviation."""
    np, _ = packages()
    random = np.random.default_rng(seed)
    made = {}
    for layer in range(LAYERS):
        for module in modules:
            _, _, rows, columns = LINEARS[module]
            a = random.standard_normal((rank, columns), np.float32) * np.float32(columns**-0.5)
            b = random.standard_normal((rows, rank), np.float32) * np.float32(size)
            made[layer, module] = a.astype(np.float16), b.astype(np.float16)
    return made


def write_peft(folder, made, rank, modules):
    """The two files of PEFT; alpha is twice the rank."""
    header, data, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for (layer, module), pair in made.items():
        parent = LINEARS[module][0]
        for letter, tensor in zip("AB", pair):
            name = f"base_model.model.model.layers.{layer}.{parent}.{module}.lora_{letter}.weight"
            end = offset + tensor.nbytes
            header[name] = {"dtype": "F16", "shape": list(tensor.shape), "data_offsets": [offset, end]}
            data.append(tensor.tobytes())
            offset = end
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "lora_dropout": 0.0,
        "bias": "none", "target_modules": list(modules), "fan_in_fan_out": False, "inference_mode": True,
        "base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct",
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + b"".join(data))
    # Last, so that a folder with a configuration is complete.
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n")


def interleave(b, heads):
    """A head's rows in llama.cpp's order for q and k: its rotary embedding turns neighbours (2i, 2i + 1), where the
    checkpoint's turns halves (i, i + half)."""
    return b.reshape(heads, 2, b.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(b.shape)


def write_gguf(path, made, rank):
    """The file as llama.cpp's converter makes it: f32, which llama-server is also faster with than with f16."""
    np, gguf = packages()
    partial = path.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 2.0 * rank)
    for (layer, module), (a, b) in made.items():
        name = f"blk.{layer}.{LINEARS[module][1]}.weight"
        if module in ("q_proj", "k_proj"):
            b = interleave(b, HEADS if module == "q_proj" else KV_HEADS)
        writer.add_tensor(name + ".lora_a", a.astype(np.float32))
        writer.add_tensor(name + ".lora_b", b.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.rename(path)


def make(group, count, rank, modules=MODULES, size=0.01, seed=0, gguf=True):
    """`count` adapters in a folder of their own, where they are not there yet: the folder with the PEFT folders, their
    names, and the GGUF files."""
    folder = PEERS / "adapters" / group
    names = [f"a{index:04d}" for index in range(count)]
    files = [PEERS / "adapters" / f"{group}-gguf" / f"{name}.gguf" for name in names]
    if gguf:
        files[0].parent.mkdir(parents=True, exist_ok=True)
    for index, (name, file) in enumerate(zip(names, files)):
        wants_peft, wants_gguf = not (folder / name / "adapter_config.json").exists(), gguf and not file.exists()
        if not wants_peft and not wants_gguf:
            continue
        made = tensors((seed, index), rank, modules, size)
        if wants_peft:
            write_peft(folder / name, made, rank, modules)
        if wants_gguf:
            write_gguf(file, made, rank)
    return folder, names, files
