#!/usr/bin/env python3
"""Runs the tests of the client programs, Tests/Clients, against one server: each in an environment of its own.

Usage: check_clients.py [--only NAME,NAME] [pytest's arguments]
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
TESTS = ROOT / "Tests/Clients"
ENVIRONMENTS = ROOT / ".build-clients"
sys.path.insert(0, str(ROOT / "Tests/Conformance"))
from graft_server import Server


def python_of(name):
    """The environment's Python. It is made again when its requirements have changed."""
    folder, requirements = ENVIRONMENTS / name, TESTS / f"requirements/{name}.txt"
    python, installed = folder / "bin/python", folder / "requirements.txt"
    if not installed.exists() or installed.read_text() != requirements.read_text():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]
        subprocess.run(pip, check=True)
        shutil.copy(requirements, installed)
    return python


def run(name, url, arguments):
    """Whether the client's tests pass."""
    started = time.monotonic()
    test = TESTS / f"test_{name}.py"
    # The clients keep caches and report what they do, unless they are told not to; nothing of a person's own is used.
    with tempfile.TemporaryDirectory() as home:
        environment = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ} | {
            "HOME": home, "GRAFT_CLIENTS_URL": url, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1",
            "DSPY_CACHEDIR": home, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "OPENAI_AGENTS_DISABLE_TRACING": "1"}
        done = subprocess.run(
            [python_of(name), "-m", "pytest", "-p", "no:cacheprovider", "-q", "-W", "ignore", test, *arguments],
            env=environment, cwd=ROOT, stdin=subprocess.DEVNULL)
    print(f"{name}: {'passed' if done.returncode == 0 else 'FAILED'} in {time.monotonic() - started:.0f} s\n", flush=True)
    return done.returncode == 0


def main():
    names = sorted(path.stem for path in (TESTS / "requirements").glob("*.txt"))
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", type=lambda text: text.split(","), default=names)
    options, arguments = parser.parse_known_args()
    if unknown := set(options.only) - set(names):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    for name in options.only:
        print(f"Preparing {name}", flush=True)
        python_of(name)
    with tempfile.TemporaryDirectory() as state:
        with Server("--adapters", ROOT / "examples/adapters", data_dir=pathlib.Path(state)) as server:
            passed = [run(name, server.url, arguments) for name in options.only]
    print(f"{sum(passed)} passed, {len(passed) - sum(passed)} failed")
    return int(not all(passed))


if __name__ == "__main__":
    sys.exit(main())
