"""Fixtures of the clients' tests. scripts/check_clients.py starts one server for all of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120


@pytest.fixture(scope="session")
def url() -> str:
    """The base URL that a client is given."""
    server = os.environ.get("GRAFT_CLIENTS_URL") or pytest.exit("run the tests by `make check-clients`", returncode=1)
    return server + "/v1"


@pytest.fixture(scope="session")
def settings(url) -> dict:
    """The settings that all clients of the openai package take."""
    return {"base_url": url, "api_key": "none"}


@pytest.fixture
def run_example(url):
    """Runs a program of `examples/clients` and returns what it printed."""

    def run(name: str, *command: str) -> str:
        path = ROOT / "examples/clients" / name
        done = subprocess.run(
            [*(command or [sys.executable]), str(path)], env=os.environ | {"GRAFT_URL": url}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
