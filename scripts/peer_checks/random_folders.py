"""Folders of the random models of scripts/fixtures/random_models.py, larger than the tests', and GGUF files of them."""

import json
import subprocess
import sys

import peers
import torch
from checks import Differs

sys.path.insert(0, str(peers.ROOT / "scripts/fixtures"))
import random_models  # noqa: E402

VOCABULARY = 259
LARGER = dict(hidden_size=256, intermediate_size=704, vocab_size=VOCABULARY, num_attention_heads=16, num_key_value_heads=8)
MODELS = random_models.MODELS | random_models.MULTIMODAL
WITH_GGUF = [kind for kind in random_models.MODELS if kind not in random_models.WITHOUT_GGUF]


def alphabet():
    """What byte-level tokenizers write for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(rest)) for byte in range(256)]


def write_tokenizer(folder):
    """A byte-level tokenizer, whose end token has the id that the models' configurations name."""
    end = {"id": 2, "content": "<end>", "special": True, "normalized": False, "lstrip": False, "rstrip": False,
           "single_word": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    vocabulary = {letter: index + 3 for index, letter in enumerate(alphabet())} | {"!!": 0, "<b>": 1, "<end>": 2}
    (folder / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "added_tokens": [end], "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": [["!", "!"]]}}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<end>"}))


def rows(count, length):
    """Tokens of texts; none is special."""
    return [((random_models.numbers(f"row {row}", length) % 256).astype(int) + 3).tolist() for row in range(count)]


def folder(workplace, kind, **changes):
    """A folder of a model of `MODELS`, with other settings than there."""
    path = workplace.folder / "-".join(["random", kind, *map(str, changes)])
    if path.exists():
        return path
    settings = MODELS[kind]
    if "text_config" in settings:
        settings = {**settings, "text_config": {**LARGER, **settings["text_config"], **changes}}
    else:
        settings = {**settings, **LARGER, **changes}
    model = random_models.random_model(settings)[0]
    with torch.no_grad():
        # Larger matrices of the same values would give logits so large that rounding alone exceeds the tolerance.
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(0.25)
    model.save_pretrained(path)
    write_tokenizer(path)
    return path


def llama_cpp():
    """The folder of llama.cpp's source."""
    import speed

    speed.build_llama("llama-server", "llama-quantize")
    return next(peers.PEERS.glob("llama_cpp_python-*/vendor/llama.cpp"))


def gguf(folder):
    """The model of a folder as llama.cpp's converter writes it."""
    path = folder.with_suffix(".gguf")
    if not path.exists():
        # In a process of its own, because llama.cpp's source has a package `gguf` of its own.
        command = [sys.executable, peers.ROOT / "scripts/fixtures/llama_cpp_converter.py", llama_cpp(), folder, path]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if done.returncode:
            path.unlink(missing_ok=True)
            raise Differs(f"llama.cpp's converter ended: {done.stderr[-300:]}")
    return path
