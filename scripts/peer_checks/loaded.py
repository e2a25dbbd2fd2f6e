"""Adapters of every kind that Graft reads, on real weights: PEFT makes them, and its logprobs are Graft's."""

import copy
import functools
import json
import subprocess
import sys
import urllib.request

import peers
import random_folders
import torch
import transformers_model
from checks import Differs, agree, check

TOLERANCE = 1e-3
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
ALL = ATTENTION + ["gate_proj", "up_proj", "down_proj"]


def lora(**fields):
    from peft import LoraConfig

    return LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], **fields})


def ia3(**fields):
    from peft import IA3Config

    return IA3Config(**fields)


# The configurations, made when a check runs, on the small model.
SMALL = {
    "saved-embedding": lambda: lora(modules_to_save=["embed_tokens"]),
    "saved-head": lambda: lora(modules_to_save=["lm_head"]),
    "saved-norms": lambda: lora(modules_to_save=["input_layernorm", "post_attention_layernorm", "model.norm"]),
    "embedding": lambda: lora(target_modules=["embed_tokens", "q_proj"]),
    "head": lambda: lora(target_modules=["lm_head", "down_proj"]),
    "head-dora": lambda: lora(target_modules=["lm_head", "down_proj"], use_dora=True),
    "lora-bias": lambda: lora(target_modules=ALL, lora_bias=True),
    "lora-regex": lambda: lora(target_modules=r".*\.(1|2\d)\..*(q|up)_proj"),
    "rslora": lambda: lora(target_modules="all-linear", use_rslora=True),
    "patterns": lambda: lora(target_modules=ALL, rank_pattern={"down_proj": 2, r"1\d.*q_proj": 6},
                             alpha_pattern={"up_proj": 24, "down_proj": 3}),
    "dora": lambda: lora(target_modules=ALL, use_dora=True, use_rslora=True),
    "tokens": lambda: lora(trainable_token_indices=[28, 198, 253, 284, 2000]),
    "ia3": lambda: ia3(),
    "ia3-attention": lambda: ia3(target_modules=ATTENTION, feedforward_modules=["o_proj"]),
}
# On random models whose classes have what the small model has not.
RANDOM = {
    "lora-fused": ("phi3", lambda: lora(target_modules="all-linear")),
    "dora-fused": ("phi3", lambda: lora(target_modules=["qkv_proj", "gate_up_proj"], use_dora=True)),
    "images": ("gemma3-images", lambda: lora(target_modules=r".*language_model.*_proj")),
    "base-biases": ("qwen2", lambda: lora(bias="all")),
    "saved-head-norms": ("qwen3", lambda: lora(modules_to_save=["q_norm", "k_norm"])),
    "saved-norms-after": ("olmo2", lambda: lora(modules_to_save=["layernorm", "model.norm"])),
    "ia3-fused": ("phi3", lambda: ia3(
        target_modules=["qkv_proj", "gate_up_proj", "down_proj"], feedforward_modules=["gate_up_proj"])),
    "saved-embedding-scaled": ("gemma2", lambda: lora(modules_to_save=["embed_tokens"])),
}
# On bases that PEFT changes when it makes the adapter: the values of `init_lora_weights`.
CHANGED_BASES = {"pissa": "pissa_niter_4", "olora": "olora", "corda": "corda", "loraga": "lora_ga"}
PREFIX = "base_model.model."


@functools.cache
def base(folder):
    """The model as Graft serves it; callers copy it, because PEFT changes the modules."""
    return transformers_model.load(folder, nf4=True)


def with_adapter(folder, config):
    from peft import get_peft_model

    return get_peft_model(copy.deepcopy(base(folder)), config).eval()


def randomize(model, share=0.1):
    """Draws factors, and moves the other trained values by a share of their mean size."""
    random = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            drawn = torch.randn(parameter.shape, generator=random)
            if "lora_" in name and "magnitude" not in name:
                parameter.copy_(drawn * (0.03 if "lora_A" in name else 0.05))
            else:
                parameter.add_(drawn * share * parameter.abs().mean())


def compare(workplace, served, folder, model, rows, prepare=None):
    """Compares the logprobs of the adapter "a" among those in a folder, or of the one that `prepare` gives the name."""
    ours, plain = [], []
    with workplace.serve(workplace.folder / served, folder) as server:
        if prepare is not None:
            prepare(server)
        for row in rows:
            ours += server.logprobs("a", row)
            plain += server.logprobs("base", row)
    theirs = transformers_model.exact_logprobs(model, rows)
    if len(ours) != len(theirs):
        raise Differs(f"{len(ours)} logprobs instead of {len(theirs)}")
    effect = max(abs(x - y) for x, y in zip(plain, theirs))
    if not effect > 20 * TOLERANCE:
        raise Differs(f"the adapter changes too little to be compared: {effect:.1e}")
    worst = max(abs(x - y) for x, y in zip(ours, theirs))
    return agree(f"largest difference of {len(ours)} logprobs, which it changes by up to {effect:.1f}", worst, TOLERANCE)


def saved(workplace, name):
    return workplace.folder / name / "a"


@check(*(f"loaded/{name}" for name in SMALL))
def peft_computes_the_same(workplace, name):
    folder = workplace.model()
    model = with_adapter(folder, SMALL[name]())
    randomize(model)
    model.save_pretrained(saved(workplace, name))
    return compare(workplace, name, None, model, workplace.prompts())


@check(*(f"loaded/{name}" for name in RANDOM))
def peft_computes_the_same_on_a_random_model(workplace, name):
    kind, config = RANDOM[name]
    folder = random_folders.folder(workplace, kind)
    model = with_adapter(folder, config())
    randomize(model)
    model.save_pretrained(saved(workplace, name))
    return compare(workplace, name, folder, model, random_folders.rows(3, 80))


def with_changed_base(workplace, method):
    """The small model with an adapter of `CHANGED_BASES`. CorDA looks at the model's activations first, LoRA-GA at its gradients;
    of those that take long, only a few layers are changed."""
    from peft import get_peft_model
    from peft.tuners.lora.config import CordaConfig, LoraGAConfig
    from peft.tuners.lora.corda import preprocess_corda
    from peft.tuners.lora.loraga import preprocess_loraga

    model, rows = copy.deepcopy(base(workplace.model())), [torch.tensor([row]) for row in workplace.prompts()]
    fields = {"target_modules": ["q_proj", "down_proj"], "init_lora_weights": CHANGED_BASES[method]}
    if method == "corda":
        config = lora(**fields, layers_to_transform=[0, 7, 29], corda_config=CordaConfig())
        preprocess_corda(model, config, lambda: [model(row) for row in rows])
    elif method == "loraga":
        config = lora(**fields, layers_to_transform=[0, 7, 29], lora_ga_config=LoraGAConfig())
        preprocess_loraga(model, config, lambda: [model(row, labels=row).loss.backward() for row in rows])
    else:
        config = lora(**fields)
    return get_peft_model(model, config).eval()


@check(*(f"loaded/{name}-{form}" for name in CHANGED_BASES for form in ("initial", "converted")))
def a_changed_base_is_undone(workplace, name):
    """The adapter is either beside its initial one, or converted by PEFT."""
    method, form = name.split("-")
    model = with_changed_base(workplace, method)
    folder = saved(workplace, name)
    initial = folder / "initial_adapter" if form == "initial" else workplace.folder / f"{name}-initial"
    model.save_pretrained(initial)
    random = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                drawn = torch.randn(parameter.shape, generator=random)
                parameter.add_(drawn * 0.2 * parameter.abs().mean())
    theirs = copy.deepcopy(model)
    model.save_pretrained(folder, **({} if form == "initial" else {"path_initial_model_for_weight_conversion": initial}))
    return compare(workplace, name, None, theirs, workplace.prompts())


def transposed(tensor):
    return tensor.T.contiguous()


def write_old_names(folder, tensors, config):
    """A raw state dictionary of the model under the adapter, with the adapter's name in the tensors'."""
    from safetensors.torch import save_file

    renamed = {name.removeprefix(PREFIX).replace(".weight", ".default.weight"): value for name, value in tensors.items()}
    save_file(renamed, folder / "adapter_model.safetensors")


def write_mlx(folder, tensors, config):
    """As MLX-LM's own names and shapes have it: y += scale · (x A) B."""
    from safetensors.torch import save_file

    renamed = {}
    for name, value in tensors.items():
        name = name.removeprefix(PREFIX).replace("lora_A.weight", "lora_a").replace("lora_B.weight", "lora_b")
        renamed[name] = transposed(value)
    (folder / "adapter_model.safetensors").unlink()
    save_file(renamed, folder / "adapters.safetensors")
    parameters = {"rank": config.r, "scale": config.lora_alpha / config.r, "dropout": 0.0,
                  "keys": ["self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps({"fine_tune_type": "lora", "num_layers": -1,
                                                            "lora_parameters": parameters}))


def write_torchtune(folder, tensors, config):
    """torchtune's own names; q's rows are in the order of its rotary embedding, whose pairs are neighbours."""
    from safetensors.torch import save_file

    modules = {"self_attn.q_proj": "attn.q_proj", "self_attn.v_proj": "attn.v_proj", "mlp.down_proj": "mlp.w2"}
    heads = base(peers.model_folder()).config.num_attention_heads
    renamed = {}
    for name, value in tensors.items():
        name = name.removeprefix(PREFIX + "model.").replace("lora_A", "lora_a").replace("lora_B", "lora_b")
        if "q_proj.lora_b" in name:
            rows, rank = value.shape
            value = value.reshape(heads, 2, rows // heads // 2, rank).transpose(1, 2).reshape(rows, rank).contiguous()
        for theirs, ours in modules.items():
            name = name.replace(theirs, ours)
        renamed[name] = value
    save_file(renamed, folder / "adapter_model.safetensors")


def write_gguf(folder, tensors, config):
    """As llama.cpp's converter does it."""
    converter = random_folders.llama_cpp() / "convert_lora_to_gguf.py"
    done = subprocess.run([sys.executable, str(converter), "--base", str(peers.model_folder()), "--outtype", "f32",
                           "--outfile", str(folder / "adapter.gguf"), str(folder)], capture_output=True, text=True)
    if done.returncode:
        raise Differs(f"llama.cpp's converter ended: {done.stderr[-300:]}")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).unlink()


FORMS = {"old-names": write_old_names, "mlx": write_mlx, "torchtune": write_torchtune, "gguf": write_gguf}


@check(*(f"loaded/{name}" for name in FORMS))
def other_programs_files_mean_the_same(workplace, name):
    from safetensors.torch import load_file

    config = lora(target_modules=["q_proj", "v_proj", "down_proj"])
    model = with_adapter(workplace.model(), config)
    randomize(model)
    folder = saved(workplace, name)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    FORMS[name](folder, load_file(folder / "adapter_model.safetensors"), config)
    return compare(workplace, name, None, model, workplace.prompts())


@check("loaded/set-cat", "loaded/set-linear")
def a_set_with_a_name_is_pefts_weighted_adapter(workplace, name):
    from peft import PeftModel

    combination = name.removeprefix("set-")
    folder = workplace.folder / name
    for part, modules in (("x", ["q_proj", "v_proj"]), ("y", ["v_proj", "down_proj"])):
        model = with_adapter(workplace.model(), lora(target_modules=modules, lora_alpha=8 if part == "x" else 12))
        randomize(model)
        model.save_pretrained(folder / part)
        del model
    model = PeftModel.from_pretrained(copy.deepcopy(base(workplace.model())), folder / "x", adapter_name="x")
    model.load_adapter(folder / "y", adapter_name="y")
    model.add_weighted_adapter(["x", "y"], [0.7, 0.3], "sum", combination_type=combination)
    model.set_adapter("sum")

    def combine(server):
        body = json.dumps({"adapters": "x:0.7,y:0.3", "combination": combination}).encode()
        request = urllib.request.Request(server.url + "/v1/adapters/a", body, {"Content-Type": "application/json"},
                                         method="PUT")
        urllib.request.urlopen(request).close()

    return compare(workplace, name, None, model.eval(), workplace.prompts(), combine)
