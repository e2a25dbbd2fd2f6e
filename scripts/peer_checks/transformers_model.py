"""Models of transformers and PEFT, in f32, and what they compute."""

import copy
from unittest import mock

import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText


def load(folder, nf4=False):
    """A model in f32. With `nf4` the decoder layers' linears are rounded to what NF4 can hold (blocks of 64, f32
    scales), as the base that Graft serves and trains adapters on."""
    kind = AutoModelForImageTextToText if hasattr(AutoConfig.from_pretrained(folder), "text_config") else AutoModelForCausalLM
    # Only the eager attention has all classes' soft caps.
    model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        for layer in getattr(model.model, "language_model", model.model).layers if nf4 else []:
            for module in layer.modules():
                if isinstance(module, torch.nn.Linear):
                    packed, state = quantize_4bit(module.weight.data, blocksize=64, quant_type="nf4")
                    module.weight.data = dequantize_4bit(packed, state).to(torch.float32)
    return model.eval()


def with_adapter(model, adapter):
    return PeftModel.from_pretrained(model, adapter).eval()


@torch.no_grad()
def all_logprobs(model, ids):
    """[tokens, vocabulary]"""
    return model(torch.tensor([ids]), use_cache=False).logits[0].float().log_softmax(-1)


def logprobs(model, ids):
    """Those of a prompt's tokens but the first."""
    return all_logprobs(model, ids)[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()


def exact_logprobs(model, rows):
    """Those of several prompts, in double precision, which transformers' norms and softmax leave unless their f32 means double,
    too: PEFT's own f32 was off by 8e-4 where Graft's was by 3e-4."""
    model = copy.deepcopy(model).double()
    with mock.patch.object(torch, "float32", torch.float64), mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
        return [value for row in rows for value in logprobs(model, row)]
