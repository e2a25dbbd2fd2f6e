"""Quantised bases, with larger matrices than the tests', have the values that the libraries of their formats compute.

For each form of a Hugging Face folder (scripts/fixtures/quantized_fixtures.py) and each GGUF type that the package `gguf`
decodes there is a model of one layer, and a folder of the decoded values in F32. `graft prepare` must give both the same
fingerprint, which is a hash of every weight. Folders in NF4, whose codes are kept, are written by transformers and
bitsandbytes; Graft must give the logprobs of what these read in them.
"""

import importlib.util
import copy
import json
import re
import subprocess
import sys

import numpy as np
import peers
import torch
import transformers_model
from checks import Differs, agree, check
from random_folders import VOCABULARY, alphabet, rows, write_tokenizer

PACKAGES = ["compressed-tensors==0.20.1", "pydantic", "pydantic-core", "annotated-types", "typing-inspection", "loguru"]
if importlib.util.find_spec("compressed_tensors") is None:
    peers.run(sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", *PACKAGES)

import gguf  # noqa: E402
import gguf_fixtures  # noqa: E402
import quantized_fixtures  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402
from safetensors.torch import load_file as load_torch  # noqa: E402

# All of quantized_fixtures but bnb-fp4-nested: bitsandbytes decodes doubly quantised scales by fused operations, so their
# last bits differ.
FOLDERS = ["awq", "bnb-fp4", "bnb-int8", "compressed-2bit", "compressed-blocks", "compressed-fp8", "compressed-int8",
           "compressed-packed", "fbgemm-fp8", "fp8-blocks", "fp8-tensor", "gptq-2bit", "gptq-4bit-act-order", "gptq-8bit-v2"]
TYPES = {kind.name: kind for kind in gguf_fixtures.SCALES | gguf_fixtures.LATER}
FILE_NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}


def fingerprint(workplace, model):
    command = [peers.GRAFT, "prepare", "--model", model, "--data-dir", workplace.folder / "prepared"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    found = re.search(r"fingerprint (\w+)", done.stderr)
    if found is None:
        raise Differs(f"graft prepare: {done.stderr.strip()}")
    return found[1]


def compare(workplace, model, values):
    """Prepares a model and its values."""
    if fingerprint(workplace, model) != fingerprint(workplace, plain(workplace.folder / f"{model.name}-plain", values)):
        raise Differs("other weights than the library's")
    return f"{sum(tensor.size for tensor in values.values())} weights, the same fingerprint"


def plain(folder, tensors):
    """A folder of F32 values, by their Hugging Face names."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(quantized_fixtures.config()))
    save_file({name: np.ascontiguousarray(values, np.float32) for name, values in tensors.items()},
              folder / "model.safetensors")
    write_tokenizer(folder)
    return folder


def others():
    """The tensors that are not quantised."""
    random = np.random.default_rng(5)
    sizes, layer = quantized_fixtures.Sizes, quantized_fixtures.LAYER
    norm = np.ones(sizes.hidden, np.float32)
    return {
        "model.embed_tokens.weight": random.standard_normal((sizes.vocabulary, sizes.hidden)).astype(np.float32),
        "model.norm.weight": norm, layer + "input_layernorm.weight": norm,
        layer + "post_attention_layernorm.weight": norm,
    }


def write_gguf(path, kind):
    """Returns the values by their Hugging Face names."""
    sizes, random, values = quantized_fixtures.Sizes, np.random.default_rng(6), others()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(sizes.hidden)
    writer.add_feed_forward_length(sizes.intermediate)
    writer.add_block_count(1)
    writer.add_head_count(sizes.heads)
    writer.add_head_count_kv(sizes.key_value_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(["!!", "<b>", "<end>", *alphabet()])
    writer.add_token_types([1, 1, 3] + [1] * 256)
    writer.add_token_merges(["! !"])
    writer.add_eos_token_id(2)
    for name, file_name in [("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"),
                            (quantized_fixtures.LAYER + "input_layernorm", "blk.0.attn_norm"),
                            (quantized_fixtures.LAYER + "post_attention_layernorm", "blk.0.ffn_norm")]:
        writer.add_tensor(file_name + ".weight", values[name + ".weight"])
    for module, (rows, columns) in quantized_fixtures.shapes().items():
        data = gguf_fixtures.blocks(kind, rows, columns, random)
        if kind == gguf.GGMLQuantizationType.MXFP4:
            # Exponents that keep the values finite.
            data.reshape(-1, 17)[:, 0] &= 0x7F
        writer.add_tensor(f"blk.0.{FILE_NAMES[module]}.weight", data, raw_dtype=kind)
        weights = gguf.quants.dequantize(data, kind).reshape(rows, columns)
        heads = {"q_proj": sizes.heads, "k_proj": sizes.key_value_heads}.get(module.split(".")[1])
        if heads:
            # The inverse of the converter's permutation.
            weights = weights.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
        values[f"{quantized_fixtures.LAYER}{module}.weight"] = weights
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values


def enlarge():
    sizes = quantized_fixtures.Sizes
    sizes.hidden, sizes.intermediate, sizes.heads, sizes.key_value_heads, sizes.vocabulary = 1024, 2816, 16, 4, VOCABULARY


@check(*(f"quantized/{name}" for name in FOLDERS))
def folders_have_the_librarys_values(workplace, name):
    enlarge()
    root = workplace.folder / "quantized"
    if not root.exists():
        quantized_fixtures.folders(root)
    model = root / name
    write_tokenizer(model)
    # numpy has no bfloat16.
    stored = load_torch(model / "model.safetensors")
    values = {key: stored[key].float().numpy() for key in others()} | load_file(model / "expected.safetensors")
    return compare(workplace, model, values)


@check(*(f"quantized/{name}" for name in TYPES))
def types_have_ggufs_values(workplace, name):
    enlarge()
    path = workplace.folder / f"{name}.gguf"
    return compare(workplace, path, write_gguf(path, TYPES[name]))


# What transformers is told of each folder in NF4.
NF4 = {
    "bnb-nf4": {}, "bnb-nf4-nested": {"bnb_4bit_use_double_quant": True},
    "bnb-nf4-skips": {"bnb_4bit_use_double_quant": True, "llm_int8_skip_modules": ["lm_head", "v_proj", "down_proj"]},
}


def decode(model):
    """Replaces the modules of bitsandbytes by plain ones. Matrices are decoded flat: bitsandbytes' decoder for processors is
    wrong for rows of no whole number of blocks."""
    import bitsandbytes

    for name, module in list(model.named_modules()):
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            state = copy.deepcopy(module.weight.quant_state)
            shape, state.shape = state.shape, (state.shape.numel(),)
            values = bitsandbytes.functional.dequantize_4bit(module.weight.data.reshape(-1, 1), state).float().reshape(shape)
            plain = torch.nn.Linear(shape[1], shape[0], bias=False)
            plain.weight.data = values
            model.set_submodule(name, plain)
    return model.eval()


@check(*(f"quantized/{name}" for name in NF4))
def transformers_and_bitsandbytes_compute_the_same(workplace, name):
    from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

    plain, quantized = workplace.folder / f"{name}-plain", workplace.folder / name
    # The rows of down_proj are no whole number of blocks.
    config = quantized_fixtures.config() | dict(
        vocab_size=VOCABULARY, hidden_size=1024, intermediate_size=2808, num_attention_heads=16, num_key_value_heads=4,
        head_dim=64, initializer_range=0.04, max_position_embeddings=128)
    torch.manual_seed(8)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(config.pop("model_type"), **config)).save_pretrained(plain)
    settings = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32, **NF4[name])
    AutoModelForCausalLM.from_pretrained(
        plain, dtype=torch.float32, quantization_config=settings).save_pretrained(quantized)
    write_tokenizer(quantized)
    tokens = rows(4, 100)
    with workplace.serve(workplace.folder / "none", quantized) as server:
        ours = [value for row in tokens for value in server.logprobs("base", row)]
    model = decode(AutoModelForCausalLM.from_pretrained(quantized, dtype=torch.float32))
    theirs = [value for row in tokens for value in transformers_model.logprobs(model, row)]
    worst = max(abs(x - y) for x, y in zip(ours, theirs, strict=True))
    return agree(f"largest difference of {len(ours)} logprobs", worst, 1e-3)
