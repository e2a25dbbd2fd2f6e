#!/usr/bin/env python3
"""Drives a server by its own OpenAPI document with schemathesis, for a bounded time.

A server error, a reply that is not as the document says, or one that never comes is a failure. The server has a small context, and
each request for text a short deadline, so that no request takes long.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import openapi_spec_validator
import requests

ROOT = pathlib.Path(__file__).resolve().parent.parent
GRAFT = pathlib.Path(os.environ.get("GRAFT_BINARY", ROOT / ".build/release/graft")).resolve()
MODEL = ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def start(state):
    command = [GRAFT, "serve", "--model", MODEL, "--port", "0", "--context", "256", "--adapters",
               ROOT / "examples/adapters", "--data-dir", state]
    server = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = []
    for line in server.stdout:
        lines.append(line)
        if found := re.search(r"url=(http://\S+)", line):
            return server, found[1]
    sys.exit("the server ended:\n" + "".join(lines))


def main():
    seconds, *more = sys.argv[1:] or ["120"]
    state = tempfile.mkdtemp(prefix="graft-openapi-")
    server, url = start(state)
    # The log is read, so that the server never waits for the pipe.
    log = tempfile.TemporaryFile()
    reader = subprocess.Popen(["cat"], stdin=server.stdout, stdout=log)
    try:
        openapi_spec_validator.validate(requests.get(url + "/openapi.json").json())
        command = [
            pathlib.Path(sys.executable).with_name("schemathesis"), "run", url + "/openapi.json", "--checks", CHECKS, "--max-time", seconds, "--request-timeout", "60", "--workers", "2",
            "--continue-on-failure", *more,
        ]
        environment = os.environ | {"SCHEMATHESIS_HOOKS": "check_openapi_hooks", "PYTHONPATH": str(ROOT / "scripts")}
        result = subprocess.run(list(map(str, command)), cwd=state, env=environment)
        healthy = requests.get(url + "/health", timeout=60).status_code == 200 and server.poll() is None
    finally:
        server.terminate()
        server.wait(60)
        reader.wait(10)
        shutil.rmtree(state, ignore_errors=True)
    if not healthy:
        sys.exit("the server is not healthy any more")
    sys.exit(result.returncode)


if __name__ == "__main__":
    main()
