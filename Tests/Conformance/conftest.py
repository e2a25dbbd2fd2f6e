"""Fixtures of the conformance suite: one server for the whole run, and the references it is held to."""

import gzip
import json
import shutil

import pytest

from graft_server import FIXTURES, REFERENCES
from reference import Reference
from server_fixtures import data_dir, require_server, server  # noqa: F401


def pytest_configure(config):
    require_server()


@pytest.fixture(scope="session")
def adapters_dir(tmp_path_factory):
    """The reference adapters, and one with an option that has to be refused."""
    folder = tmp_path_factory.mktemp("adapters")
    for name in REFERENCES:
        shutil.copytree(FIXTURES / "adapters" / name, folder / name)
    shutil.copytree(FIXTURES / "adapters/r4-qv-rslora", folder / "biased")
    config = json.loads((folder / "biased/adapter_config.json").read_text())
    (folder / "biased/adapter_config.json").write_text(json.dumps(config | {"lora_bias": True}))
    return folder


@pytest.fixture(scope="session")
def client(server):
    with server.client() as client:
        yield client


@pytest.fixture(scope="session")
def reference(hf_dir):
    return Reference(hf_dir)


@pytest.fixture(scope="session")
def hf_dir(tmp_path_factory):
    """The model's tokenizer as a Hugging Face folder holds it, without weights."""
    folder = tmp_path_factory.mktemp("hf")
    for name in ("config.json", "tokenizer_config.json"):
        shutil.copy(FIXTURES / "hf" / name, folder)
    (folder / "tokenizer.json").write_bytes(gzip.decompress((FIXTURES / "hf/tokenizer.json.gz").read_bytes()))
    return folder
