#!/usr/bin/env python3
"""Runs the case of examples/orders as its README tells: all of its training, and all of its test.

Fails unless the adapter beats every way to ask the base. FILE gets the figures as JSON.

Usage: check_example.py [FILE]
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "Tests/Conformance"))
from graft_server import Server  # noqa: E402


def main():
    with tempfile.TemporaryDirectory() as state:
        output = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(state) / "figures.json"
        with Server("--compute", "fast", data_dir=pathlib.Path(state)) as server:
            subprocess.run([sys.executable, ROOT / "examples/orders/run.py", "--output", output],
                           env=os.environ | {"GRAFT_URL": server.url + "/v1"}, check=True)
        table = json.loads(output.read_text())["table"]
    best = max(line["exact"] for line in table if line["asked"].startswith("base"))
    adapter = next(line["exact"] for line in table if line["asked"] == "adapter")
    print(f"exactly right: {best:.0%} of the base at its best, {adapter:.0%} of the adapter")
    return int(adapter < best + 0.3)


if __name__ == "__main__":
    sys.exit(main())
