"""Fixtures of the conformance suite: one server for the whole run, and the references it is held to."""

import gzip
import json
import math
import shutil

import pytest

from graft_server import ADAPTERS, BINARY, FIXTURES, MODEL, Server
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
    """The three reference adapters, and a DoRA adapter, which has to be refused."""
    folder = tmp_path_factory.mktemp("adapters")
    for name in ADAPTERS:
        shutil.copytree(FIXTURES / "adapters" / name, folder / name)
    dora = folder / "r4-dora"
    dora.mkdir()
    shutil.copy(FIXTURES / "dora_config.json", dora / "adapter_config.json")
    (dora / "adapter_model.safetensors").write_bytes(dora_weights())
    return folder


def dora_weights() -> bytes:
    """A whole set of tensors, all zeros, as fixtures/dora_config.json asks for them."""
    outputs = {"mlp.up_proj": 1536, "self_attn.q_proj": 576, "self_attn.v_proj": 192}
    header, end = {}, 0
    for layer in range(30):
        for module, width in outputs.items():
            parts = {"lora_A.weight": [4, 576], "lora_B.weight": [width, 4], "lora_magnitude_vector": [width]}
            for part, shape in parts.items():
                begin, end = end, end + 4 * math.prod(shape)
                name = f"base_model.model.model.layers.{layer}.{module}.{part}"
                header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(end)


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
