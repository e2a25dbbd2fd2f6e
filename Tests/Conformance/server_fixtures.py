"""Fixtures of every suite that asks a running server. A suite's own `adapters_dir` says which adapters it has."""

import pytest

from graft_server import BINARY, MODEL, Server


def require_server():
    """Ends the run where there is no server to test."""
    for path, remedy in ((BINARY, "make build"), (MODEL, "make setup")):
        if not path.is_file():
            pytest.exit(f"{path} is missing: {remedy}", returncode=1)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Where the prepared base lies, made once for all servers."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def server(data_dir, adapters_dir):
    """One server for the whole run."""
    server = Server("--adapters", adapters_dir, data_dir=data_dir)
    yield server
    server.close()
