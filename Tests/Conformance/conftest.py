"""Fixtures of the conformance suite: one server for the whole run, and the references it is held to."""

import gzip
import json
import shutil

import pytest

from graft_server import BINARY, FIXTURES, MODEL, REFERENCES, Server
from reference import Reference


def pytest_configure(config):
    for path, remedy in ((BINARY, "make build"), (MODEL, "make setup")):
        if not path.is_file():
            pytest.exit(f"{path} is missing: {remedy}", returncode=1)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Where the prepared base lies, made once for all servers."""
    return tmp_path_factory.mktemp("data")


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
def server(data_dir, adapters_dir):
    server = Server("--adapters", adapters_dir, data_dir=data_dir)
    yield server
    server.close()


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
