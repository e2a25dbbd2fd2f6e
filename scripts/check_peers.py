#!/usr/bin/env python3
"""Compares what Graft reads, writes and computes with transformers, PEFT, bitsandbytes, gguf and llama.cpp.

    check_peers.py [NAME...]     only the checks whose names contain one of these

The checks are in the modules of scripts/peer_checks. All run, whatever becomes of one; the exit code is 0 if all agree.
"""

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
        checks.load(module)
    chosen = {name: check for name, check in checks.CHECKS.items() if not names or any(part in name for part in names)}
    if not chosen:
        print(f"no check's name contains {' or '.join(names)}")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        return int(bool(checks.run(chosen, checks.Workplace(folder))))


if __name__ == "__main__":
    peers.build_peft()
    # The checks import torch and the others, which only that environment has.
    if pathlib.Path(sys.prefix) != peers.VENV:
        os.execv(peers.PYTHON, [str(peers.PYTHON), __file__, *sys.argv[1:]])
    sys.exit(main(sys.argv[1:]))
