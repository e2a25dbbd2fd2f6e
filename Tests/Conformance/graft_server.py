"""Runs the graft binary: a server on a free port, or a command."""

import contextlib
import os
import queue
import re
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import httpx
import openai
import pytest

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("GRAFT_BINARY") or ".build/release/graft")
BINARY = BINARY if BINARY.is_absolute() else ROOT / BINARY
MODEL = ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_NAME = "SmolLM2-135M-Instruct.Q4_1"
FIXTURES = Path(__file__).resolve().parent / "fixtures"
ADAPTERS = ("r8-all", "r4-qv-rslora", "r4-pattern")
# Those and the DoRA adapter: all that the references were computed for.
REFERENCES = (*ADAPTERS, "r4-dora")

# Long enough for a busy machine; no test is about time in seconds but those that say so.
PATIENCE = 120


def environment() -> dict[str, str]:
    """The environment without settings that would reach the binary."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GRAFT_")}


def run(*arguments: object, stdin: bytes = b"", **options) -> subprocess.CompletedProcess:
    """Runs a command to its end."""
    command = [str(BINARY), *map(str, arguments)]
    return subprocess.run(
        command, input=stdin, capture_output=True, timeout=PATIENCE, env=environment() | options.pop("env", {}), **options
    )


@contextlib.contextmanager
def small_disk(folder, size):
    """A file system of so many bytes; skips where none can be mounted."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here: " + mounted.stderr.decode().strip())
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def state_folder(data_dir: Path) -> Path:
    """A data folder of its own, since a server holds its folder alone, with the prepared bases of `data_dir`."""
    folder = Path(tempfile.mkdtemp(prefix="state-", dir=data_dir))
    (data_dir / "bases").mkdir(exist_ok=True)
    (folder / "bases").symlink_to(data_dir / "bases")
    return folder


class Server:
    """A running `graft serve`, on a data folder of its own unless `state` names one."""

    def __init__(self, *arguments: object, data_dir: Path, state: Path | None = None, api_key: str | None = None,
                 port_line: str = r"url=(http://\S+)"):
        self.port_line = port_line
        self.state = state or state_folder(data_dir)
        command = [BINARY, "serve", "--model", MODEL, "--compute", "f32", "--port", "0", "--data-dir", self.state]
        command += arguments
        if api_key:
            command += ["--api-key", api_key]
        self.api_key = api_key
        self.log: list[str] = []
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, env=environment(),
        )
        urls: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, args=(urls,), daemon=True).start()
        try:
            self.url = urls.get(timeout=PATIENCE)
            if not self.url:
                raise RuntimeError("the server ended:\n" + "".join(self.log))
            self._await_health()
        except BaseException:
            self.process.kill()
            raise
        self.port = int(self.url.rsplit(":", 1)[1])
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE, headers=headers)

    def _read(self, urls: "queue.Queue[str]") -> None:
        for line in self.process.stdout:
            self.log.append(line)
            if found := re.search(self.port_line, line):
                urls.put(found[1])
        urls.put("")

    def _await_health(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                if httpx.get(self.url + "/health").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise RuntimeError("the server never became healthy:\n" + "".join(self.log))

    def client(self, **options) -> openai.OpenAI:
        return openai.OpenAI(**self._client_options(options))

    def async_client(self, **options) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(**self._client_options(options))

    def _client_options(self, options: dict) -> dict:
        return {
            "base_url": self.url + "/v1", "api_key": self.api_key or "none", "max_retries": 0, "timeout": PATIENCE
        } | options

    def complete(self, prompt, *, query: dict | None = None, **fields) -> dict:
        """A completion that must succeed; greedy unless told otherwise."""
        body = {"prompt": prompt, "temperature": 0} | fields
        reply = self.http.post("/v1/completions", json=body, params=query)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def kill(self) -> None:
        """kill -9: nothing is tidied up."""
        self.process.kill()
        self.process.wait()
        self.http.close()

    def interrupt(self) -> int:
        """Ctrl-C; returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=30)

    def close(self) -> None:
        """Ends the server, which must neither have crashed before nor crash now."""
        self.http.close()
        crashed = self.process.poll()
        if crashed is not None:
            raise AssertionError(f"the server ended by itself with {crashed}:\n" + "".join(self.log[-20:]))
        assert self.interrupt() in (0, 130), "".join(self.log[-20:])

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None and self.process.poll() is None:
            self.close()
        elif self.process.poll() is None:
            self.process.kill()
            self.process.wait()
