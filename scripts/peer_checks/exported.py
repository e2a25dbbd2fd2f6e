"""Other programs read what `graft export` writes, and mean the same."""

import json
import re
import socket
import subprocess
import time
import urllib.request

import numpy as np

import peers
from checks import Differs, agree, check

LLAMA_TYPES = {"f32": 1e-3, "f16": 3e-3, "bf16": 2e-2}

# llama.cpp rounds activations, too: to bf16, and to 8 bits in blocks.
MERGED_TYPES = {"f16": 3e-2, "bf16": 2e-1, "q8_0": 8e-1}


def deltas(adapter):
    """scale · BA of each projection of a PEFT folder, by Hugging Face's name of the weight, in f64."""
    from safetensors.numpy import load_file

    config = json.loads((adapter / "adapter_config.json").read_text())
    tensors = load_file(adapter / "adapter_model.safetensors")
    found = {}
    for name, a in tensors.items():
        if not name.endswith(".lora_A.weight"):
            continue
        module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        rank = a.shape[0]
        alpha = next((value for key, value in config.get("alpha_pattern", {}).items()
                      if re.match(rf"(.*\.)?({key})$", module)), config["lora_alpha"])
        scale = alpha / (rank ** 0.5 if config.get("use_rslora") else rank)
        b = tensors[name.replace("lora_A", "lora_B")]
        found[module + ".weight"] = scale * (b.astype(np.float64) @ a.astype(np.float64))
    return found


def largest_difference(found, wanted):
    """Between two dictionaries of matrices, relative to the largest value of each matrix."""
    if set(found) != set(wanted):
        raise Differs(f"other weights: {sorted(set(found) ^ set(wanted))[:3]}")
    return max(np.abs(found[name] - wanted[name]).max() / np.abs(wanted[name]).max() for name in wanted)


@check("exported/gguf-plain", "exported/gguf-rslora-patterns")
def gguf_reads_the_adapter(workplace, name):
    """The Python package reads B and A; the rows of q and k are permuted as llama.cpp's converter does."""
    import gguf

    adapter = workplace.adapter(name.removeprefix("gguf-"))
    file = workplace.folder / f"{name}.gguf"
    workplace.graft("export", "gguf", "--model", workplace.model(), adapter, file)
    reader = gguf.GGUFReader(file)
    alpha = reader.fields["adapter.lora.alpha"].contents()
    if reader.fields["general.type"].contents() != "adapter" or reader.fields["adapter.type"].contents() != "lora":
        raise Differs("the metadata name no LoRA adapter")
    config = json.loads((workplace.model() / "config.json").read_text())
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    tensors = {t.name: t.data.astype(np.float64) for t in reader.tensors}
    wanted, found = deltas(adapter), {}
    for module in wanted:
        ours = names.get_name(module, try_suffixes=[".weight"])
        a, b = tensors.pop(ours + ".lora_a"), tensors.pop(ours + ".lora_b")
        if count := heads.get(ours.split(".")[2]):
            b = b.reshape(count, b.shape[0] // count // 2, 2, -1).swapaxes(1, 2).reshape(b.shape)
        found[module] = alpha / b.shape[1] * (b @ a)
    if tensors:
        raise Differs(f"unknown tensors: {list(tensors)[:3]}")
    return agree("largest relative difference of B·A", largest_difference(found, wanted), 1e-6)


class LlamaServer:
    """llama-server with an adapter, its cache in f32."""

    def __init__(self, model, *arguments):
        import speed

        speed.build_llama("llama-server", "llama-quantize")
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [speed.LLAMA / "bin/llama-server", "-m", model, *arguments, "--port", port, "-c", 512, "-t", 2,
                   "-ctk", "f32", "-ctv", "f32", "-fa", "off", "--no-warmup"]
        self.process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        for _ in range(600):
            if self.process.poll() is not None:
                raise Differs("llama-server does not load it")
            try:
                with urllib.request.urlopen(self.url + "/health", timeout=5):
                    return self
            except OSError:
                time.sleep(0.1)
        self.__exit__()
        raise Differs("llama-server does not start")

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def next_logprobs(self, ids, answer=None, count=40):
        """Logprobs of the most likely next tokens, by token. Those are of the model; with `answer` the server takes that token,
        whatever its logprob: it says nothing of one that ends the text, or is no whole character."""
        body = {"prompt": ids, "n_predict": 1, "temperature": 0, "n_probs": count, "cache_prompt": False}
        if answer is not None:
            body["logit_bias"] = [[answer, 1000]]
        request = urllib.request.Request(self.url + "/completion", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as reply:
            answer = json.load(reply)["completion_probabilities"][0]["top_logprobs"]
        return {entry["id"]: entry["logprob"] for entry in answer}


def next_difference(server, model, prompts, answer=None):
    """The largest difference of the logprobs of likely next tokens, after some lengths of each prompt."""
    import transformers_model

    differences = []
    for ids in prompts[:2]:
        theirs = transformers_model.all_logprobs(model, ids)
        for length in range(len(ids) // 3, len(ids), len(ids) // 3):
            found = server.next_logprobs(ids[:length], answer)
            differences += [abs(value - theirs[length - 1, token].item()) for token, value in found.items()]
    return f"largest difference of {len(differences)} logprobs", max(differences)


def full_gguf():
    """The small model as GGUF with its values in f32."""
    import speed

    path = peers.PEERS / "135m-F32.gguf"
    if not path.exists():
        speed.build_llama("llama-server", "llama-quantize")
        partial = path.with_suffix(".partial")
        peers.run(speed.LLAMA / "bin/llama-quantize", "--allow-requantize", peers.SMALL, partial, "F32",
                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        partial.rename(path)
    return path


@check(*[f"exported/llama-server-{name}" for name in LLAMA_TYPES])
def llama_server_computes_the_same(workplace, name):
    """llama-server's logprobs with the adapter are PEFT's over the same weights."""
    import transformers_model

    kind = name.removeprefix("llama-server-")
    adapter = workplace.adapter("rslora-patterns")
    file = workplace.folder / f"{name}.gguf"
    workplace.graft("export", "gguf", "--model", peers.SMALL, "--type", kind, adapter, file)
    model = transformers_model.with_adapter(transformers_model.load(workplace.model()), adapter)
    with LlamaServer(full_gguf(), "--lora", file) as server:
        return agree(*next_difference(server, model, workplace.prompts()), LLAMA_TYPES[kind])


# By the check's name: the class, what its settings have that the random models' have not, and what is adapted. The converter leaves
# the rows of q and k in their order for qwen2 and turns them for llama, and knows fused modules of phi3, whose window llama.cpp
# says that it does not compute; granite multiplies the embedding and divides the logits.
TABLES = {"target_modules": ["embed_tokens", "lm_head", "q_proj"], "rank_pattern": {"lm_head": 6, "q_proj": 2}}
OTHER_CLASSES = {
    "qwen2": ("qwen2", {}, {}), "phi3": ("phi3", {"sliding_window": None}, {}),
    "tables-llama": ("llama3", {}, TABLES), "tables-granite": ("granite", {}, TABLES),
}


@check(*[f"exported/llama-server-{part}" for part in OTHER_CLASSES])
def llama_server_computes_the_same_of_another_class(workplace, name):
    """As above, over a random model of a class."""
    import random_folders
    import torch
    import transformers_model
    from peft import LoraConfig, get_peft_model

    kind, settings, fields = OTHER_CLASSES[name.removeprefix("llama-server-")]
    folder = random_folders.folder(workplace, kind, **settings)
    config = LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": "all-linear", **fields})
    model = get_peft_model(transformers_model.load(folder), config).eval()
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape) * 0.06)
    adapter, file = workplace.folder / f"{name}-adapter", workplace.folder / f"{name}.gguf"
    model.save_pretrained(adapter)
    workplace.graft("export", "gguf", "--model", folder, "--type", "f32", adapter, file)
    prompts = random_folders.rows(2, 60)
    with LlamaServer(random_folders.gguf(folder), "--lora", file) as server:
        return agree(*next_difference(server, model, prompts, random_folders.alphabet().index("a") + 3), 1e-3)


@check("exported/mlx-plain", "exported/mlx-rslora-patterns", "exported/mlx-dora")
def mlx_folder_means_the_same(workplace, name):
    """MLX-LM's formula, scale · (x A) B, over the files' tensors. (MLX itself does not run here.)"""
    from safetensors.numpy import load_file

    adapter = workplace.adapter(name.removeprefix("mlx-"))
    folder = workplace.folder / name
    workplace.graft("export", "mlx", "--model", workplace.model(), adapter, folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    parameters = config["lora_parameters"]
    tensors = load_file(folder / "adapters.safetensors")
    layers = json.loads((workplace.model() / "config.json").read_text())["num_hidden_layers"]
    found = {}
    for tensor in [t for t in tensors if t.endswith(".lora_a")]:
        module = tensor.removesuffix(".lora_a")
        _, _, layer, key = module.split(".", 3)
        a, b = tensors.pop(tensor), tensors.pop(module + ".lora_b")
        if key not in parameters["keys"] or int(layer) < layers - config["num_layers"]:
            raise Differs(f"MLX-LM would not adapt {module}")
        if a.shape[1] != parameters["rank"] or b.shape[0] != parameters["rank"]:
            raise Differs(f"{module} has rank {a.shape[1]}")
        found[module + ".weight"] = parameters["scale"] * (a.astype(np.float64) @ b).T
    if name == "mlx-dora":
        peft = load_file(adapter / "adapter_model.safetensors")
        for module in found:
            own = peft[f"base_model.model.{module.removesuffix('.weight')}.lora_magnitude_vector"]
            if not np.array_equal(tensors.pop(module.removesuffix("weight") + "m"), own):
                raise Differs(f"other magnitudes of {module}")
    if tensors or config["fine_tune_type"] != ("dora" if name == "mlx-dora" else "lora"):
        raise Differs(f"unknown tensors: {list(tensors)[:3]}")
    return agree("largest relative difference of B·A", largest_difference(found, deltas(adapter)), 1e-6)


@check("exported/merged-plain", "exported/merged-rslora-patterns", "exported/merged-dora")
def merged_equals_peft(workplace, name):
    """The weights are `merge_and_unload`'s, rounded to bf16: nearly all to the bit, and the logits within the rounding."""
    import torch
    import transformers_model
    from transformers import AutoModelForCausalLM

    adapter = workplace.adapter(name.removeprefix("merged-"))
    folder = workplace.folder / name
    workplace.graft("export", "merged", "--model", workplace.model(), "--shard-size", "100MiB", adapter, folder)
    if not (folder / "model.safetensors.index.json").exists():
        raise Differs("there is only one file")
    ours = AutoModelForCausalLM.from_pretrained(folder)
    if ours.dtype != torch.bfloat16:
        raise Differs(f"the type is {ours.dtype}")
    theirs = transformers_model.with_adapter(transformers_model.load(workplace.model()), adapter).merge_and_unload()
    unequal = total = 0
    own = ours.state_dict()
    for key, wanted in theirs.state_dict().items():
        # Only the weights are rounded: the rotary embedding's frequencies stay in f32, as in a model that is loaded.
        wanted.copy_(wanted.to(torch.bfloat16))
        wanted = wanted.to(torch.bfloat16)
        # Adjacent numbers of bf16 are at most 2⁻⁷ of their size apart.
        if not torch.allclose(own[key].float(), wanted.float(), rtol=2 ** -7, atol=1e-6):
            raise Differs(f"{key} has other values")
        unequal += int((own[key] != wanted).sum())
        total += wanted.numel()
    agree("share of unequal weights", unequal / total, 1e-3)
    ours = ours.float()
    rows = workplace.prompts()
    worst = max((transformers_model.all_logprobs(ours, row) - transformers_model.all_logprobs(theirs, row)).abs().max()
                for row in rows)
    return f"{unequal} of {total} weights are rounded otherwise, " + agree("largest difference of logprobs", worst, 2e-2)


@check(*[f"exported/merged-gguf-{name}" for name in MERGED_TYPES])
def llama_server_computes_the_merged_model(workplace, name):
    """The matrices are `merge_and_unload`'s, rounded by the package gguf: nearly all bytes. llama-server loads the file, and
    its logprobs are PEFT's within what the rounding costs. The weights are the folder's or the GGUF's."""
    import gguf
    import transformers_model
    from gguf.quants import quantize

    kind = name.removeprefix("merged-gguf-")
    adapter = workplace.adapter("dora")
    file = workplace.folder / f"{name}.gguf"
    source = [peers.SMALL] if kind == "f16" else [workplace.model(), "--like", peers.SMALL]
    workplace.graft("export", "merged", "--model", *source, "--type", kind, adapter, file)
    model = transformers_model.with_adapter(transformers_model.load(workplace.model()), adapter).merge_and_unload()
    wanted, tensors = model.state_dict(), {t.name: t for t in gguf.GGUFReader(file).tensors}
    unequal = total = 0
    for layer in range(0, model.config.num_hidden_layers, 7):
        # Those whose rows are in the same order.
        for ours, theirs in (("attn_v", "self_attn.v_proj"), ("attn_output", "self_attn.o_proj"),
                             ("ffn_down", "mlp.down_proj")):
            tensor = tensors[f"blk.{layer}.{ours}.weight"]
            values = wanted[f"model.layers.{layer}.{theirs}.weight"].numpy()
            expected = quantize(values, tensor.tensor_type).view(np.uint8).ravel()
            found = np.asarray(tensor.data).view(np.uint8).ravel()
            if tensor.tensor_type.name != kind.upper() or found.shape != expected.shape:
                raise Differs(f"{tensor.name} is in {tensor.tensor_type.name}")
            unequal, total = unequal + int((found != expected).sum()), total + found.size
    agree("share of unequal bytes", unequal / total, 1e-3)
    with LlamaServer(file) as server:
        return f"{unequal} of {total} bytes differ, " + agree(
            *next_difference(server, model, workplace.prompts()), MERGED_TYPES[kind])


@check("exported/bitsandbytes", "exported/bitsandbytes-double")
def bitsandbytes_has_the_bytes(workplace, name):
    """transformers loads the folder with the bytes that bitsandbytes computes from the weights. A few of the scales' own
    codes differ: on a CPU, bitsandbytes looks them up in a table of 65,536 bins, and takes a neighbour, or among the codes
    near zero one of the same bin."""
    import torch
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    is_double = name.endswith("double")
    folder = workplace.folder / name
    workplace.graft("export", "bitsandbytes", "--model", workplace.model(), *["--double-quant"] * is_double, folder)
    stored = load_file(folder / "model.safetensors")
    original = load_file(workplace.model() / "model.safetensors")
    model = AutoModelForCausalLM.from_pretrained(folder)
    loaded = dict(model.named_parameters())
    nested = codes = 0
    for key, weight in original.items():
        if not key.endswith("_proj.weight"):
            if not torch.equal(stored[key], weight):
                raise Differs(f"{key} has other values")
            continue
        packed, state = quantize_4bit(weight, blocksize=64, quant_type="nf4", compress_statistics=is_double)
        theirs = state.as_dict(packed=True)
        if not torch.equal(stored[key], packed) or not torch.equal(stored[key + ".quant_map"], theirs["quant_map"]):
            raise Differs(f"{key} has other codes")
        texts = [json.loads(bytes(t.tolist())) for t in (stored[key + ".quant_state.bitsandbytes__nf4"],
                                                       theirs["quant_state.bitsandbytes__nf4"])]
        offsets = [text.pop("nested_offset", 0) for text in texts]
        if texts[0] != texts[1] or abs(offsets[0] - offsets[1]) > 1e-6 * abs(offsets[1]):
            raise Differs(f"{key} has another state: {texts}")
        if is_double:
            nested_map = theirs["nested_quant_map"]
            ours = stored[key + ".absmax"].int()
            steps = (ours - theirs["absmax"].int()).abs()
            values = (nested_map[ours] - nested_map[theirs["absmax"].int()]).abs()
            if not torch.equal(stored[key + ".nested_quant_map"], nested_map) or ((steps > 1) & (values > 2 ** -14)).any():
                raise Differs(f"{key} has other scales")
            nested, codes = nested + int((steps > 0).sum()), codes + steps.numel()
        elif not torch.equal(stored[key + ".absmax"], theirs["absmax"]):
            raise Differs(f"{key} has other scales")
        found = loaded[key]
        if not torch.equal(dequantize_4bit(found.data, found.quant_state).float(),
                           dequantize_4bit(stored[key], state).float()) and not is_double:
            raise Differs(f"{key} is loaded with other values")
    if is_double:
        return agree(f"share of {codes} codes of scales that differ", nested / codes, 1e-2)
    return "every byte of codes and scales"


@check("exported/extracted")
def extraction_is_the_nearest(workplace):
    """What is kept of each projection is what numpy's singular values say is the most that the rank can keep."""
    from safetensors.torch import load_file

    rank = 4
    merged, tuned = workplace.folder / "to-extract", workplace.folder / "extracted"
    workplace.graft("export", "merged", "--model", workplace.model(), workplace.adapter("plain"), merged)
    found = json.loads(workplace.graft("export", "extracted", "--model", workplace.model(), "--tuned", merged, "--rank",
                                       rank, "--json", tuned))
    base, other = (load_file(folder / "model.safetensors") for folder in (workplace.model(), merged))
    worst = 0
    own = deltas(tuned)
    parts = [part for part in found if part["name"].endswith("_proj.weight")]
    # The singular values of all would take minutes.
    for part in parts[::25]:
        difference = (other[part["name"]].float() - base[part["name"]].float()).double().numpy()
        squares = np.linalg.svd(difference, compute_uv=False) ** 2
        total = squares.sum()
        kept = 1 - ((difference - own[part["name"]]) ** 2).sum() / total
        worst = max(worst, abs(kept - part["kept"]), squares[:rank].sum() / total - kept)
    return agree(f"largest loss against the best of {len(parts[::25])} projections", worst, 2e-3)
