#!/usr/bin/env python3
"""Compares what Graft reads, writes and computes with transformers, PEFT, bitsandbytes, gguf and llama.cpp.

    check_peers.py [NAME...]     only the checks whose names contain one of these

The checks are the modules of scripts/peer_checks.
"""

import importlib
import os
import pathlib
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "bench"), str(HERE / "peer_checks")]
import checks
import peers

MODULES = ["bases", "trained", "loaded", "exported", "quantized"]


def main(names):
    for module in MODULES:
        importlib.import_module(module)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        workplace = checks.Workplace(folder)
        for name, check in checks.CHECKS.items():
            if names and not any(part in name for part in names):
                continue
            try:
                print(f"{name}: {check(workplace)}: agrees", flush=True)
            except checks.Differs as difference:
                failed += 1
                print(f"{name}: {difference}: DIFFERS", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    peers.build_peft()
    # The checks import torch and the others, which only that environment has.
    if pathlib.Path(sys.prefix) != peers.VENV:
        os.execv(peers.PYTHON, [str(peers.PYTHON), __file__, *sys.argv[1:]])
    sys.exit(main(sys.argv[1:]))
