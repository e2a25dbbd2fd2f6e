"""Trains a LoRA adapter with transformers, PEFT and bitsandbytes on a CPU, for scripts/bench/training.py.

    peft_train.py MODEL_FOLDER DATA.jsonl INITIAL_ADAPTER STEPS LEARNING_RATE COMPUTE_TYPE
    peft_train.py MODEL_FOLDER INITIAL_ADAPTER     writes an untrained adapter there

NF4 base without double quantisation, batches of four rows in file order, padded to the longest of their batch, constant
rate. Prints a JSON object: real tokens a second after the first step, the peak of resident memory after loading, and each
step's loss.
"""

import json
import pathlib
import sys
import time

import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

BATCH = 4


def status(name):
    line = next(line for line in open("/proc/self/status") if line.startswith(name))
    return int(line.split()[1]) * 1024


def load(folder, initial, compute):
    quantisation = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=getattr(torch, compute))
    base = AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=quantisation, dtype=getattr(torch, compute), device_map={"": "cpu"})
    # The whole batch's activations fit, so nothing is computed twice, which is PEFT's quickest way.
    base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
    return PeftModel.from_pretrained(base, initial, is_trainable=True)


def write_initial(folder, target):
    torch.manual_seed(1)
    settings = LoraConfig(r=16, lora_alpha=32, lora_dropout=0, target_modules="all-linear", task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(folder), settings).save_pretrained(target)


def batches(path, steps):
    rows = [json.loads(line) for line in open(path)]
    for step in range(steps):
        chosen = [rows[(step * BATCH + i) % len(rows)] for i in range(BATCH)]
        longest = max(len(row["tokens"]) for row in chosen)
        padded = {
            "input_ids": [row["tokens"] + [2] * (longest - len(row["tokens"])) for row in chosen],
            "labels": [row["labels"] + [-100] * (longest - len(row["tokens"])) for row in chosen],
            "attention_mask": [[1] * len(row["tokens"]) + [0] * (longest - len(row["tokens"])) for row in chosen],
        }
        yield sum(len(row["tokens"]) for row in chosen), {key: torch.tensor(value) for key, value in padded.items()}


def main():
    if len(sys.argv) == 3:
        return write_initial(*sys.argv[1:])
    folder, data, initial, steps, rate, compute = sys.argv[1:]
    model = load(folder, initial, compute)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=float(rate), weight_decay=0)
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak of memory counts from here
    losses, tokens, started = [], 0, 0.0
    for real, batch in batches(data, int(steps)):
        loss = model(**batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
        if len(losses) == 1:  # warms caches up, uncounted
            started = time.perf_counter()
        else:
            tokens += real
    seconds = time.perf_counter() - started
    print(json.dumps({"tokens_per_second": tokens / seconds, "peak_bytes": status("VmHWM"), "tokens": tokens,
                      "losses": losses}))


if __name__ == "__main__":
    main()
