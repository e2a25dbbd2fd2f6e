"""Prints the logprobs of prompts' tokens as transformers and PEFT compute them in f32, for scripts/check_peers.py.

    peft_logprobs.py MODEL_FOLDER ADAPTER_FOLDER < prompts.json

The decoder layers' linears are quantised to NF4 by bitsandbytes (blocks of 64, f32 scales) and dequantised again, as
the base that the adapter was trained on.
"""

import json
import sys

import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from peft import PeftModel
from transformers import AutoModelForCausalLM


def quantise(model):
    """Rounds the decoder layers' linears to what NF4 can hold."""
    for layer in model.model.layers:
        for module in layer.modules():
            if isinstance(module, torch.nn.Linear):
                packed, state = quantize_4bit(module.weight.data, blocksize=64, quant_type="nf4")
                module.weight.data = dequantize_4bit(packed, state).to(torch.float32)


def main():
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
    with torch.no_grad():
        quantise(model)
        model = PeftModel.from_pretrained(model, sys.argv[2]).eval()
        answers = []
        for ids in json.load(sys.stdin):
            logits = model(torch.tensor([ids]), use_cache=False).logits[0, :-1]
            logprobs = logits.log_softmax(-1)
            answers.append(logprobs.gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist())
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
