"""The servers that are measured: how each is started, asked, and understood."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from speed import LLAMA
from peers import GRAFT, LIMITS, PEERS, SMALL
from serving_load import LoadError, post

PATIENCE = 300  # seconds to load


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """A running server, stopped (SIGSTOP) but for the time of `awake`, so that it costs the others nothing."""

    def __init__(self, name, *command):
        self.name, self.port = name, free_port()
        self.log = PEERS / f"serving-{name}.log"
        started = time.monotonic()
        with open(self.log, "wb") as log:
            environment = {k: v for k, v in os.environ.items() if not k.startswith(("GRAFT_", "LLAMA_"))} | LIMITS
            self.process = subprocess.Popen([*map(str, command), "--port", str(self.port)], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            self.await_health()
        except BaseException:
            self.close()
            raise
        self.seconds_to_start = time.monotonic() - started
        self.process.send_signal(signal.SIGSTOP)

    def await_health(self):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise LoadError(f"{self.name} ended: {self.log.read_text(errors='replace')[-400:]}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.05)
        raise LoadError(f"{self.name} was not ready within {PATIENCE} s")

    def __enter__(self):
        self.process.send_signal(signal.SIGCONT)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGSTOP)

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def ask(self, path, body):
        """An answer that is not streamed, as JSON."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)


class Graft(Server):
    def __init__(self, threads, adapters, names, *flags, name="graft"):
        self.names = names
        # A data folder of its own: a server holds its folder alone. The prepared base is shared by all.
        PEERS.mkdir(exist_ok=True)
        self.data = pathlib.Path(tempfile.mkdtemp(prefix="serving-", dir=PEERS))
        bases = PEERS / "bases"
        bases.mkdir(exist_ok=True)
        (self.data / "bases").symlink_to(bases)
        super().__init__(name, GRAFT, "serve", "--model", SMALL, "--threads", threads, "--data-dir", self.data,
                         "--adapters", adapters, *flags)

    def close(self):
        super().close()
        shutil.rmtree(self.data, ignore_errors=True)

    def request(self, prompt, adapter, tokens):
        query = "" if adapter is None else f"?adapter={self.names[adapter]}"
        return post("/v1/completions" + query, {
            "prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True, "ignore_eos": True,
            "stream_options": {"include_usage": True},
        })

    def upload(self, data, purpose):
        """Uploads a file of these bytes, and returns its id."""
        boundary = "graft-benchmark"
        parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n'.encode(),
                 f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="rows.jsonl"\r\n\r\n'.encode(),
                 data, f"\r\n--{boundary}--\r\n".encode()]
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/files", b"".join(parts),
                                         {"Content-Type": f"multipart/form-data; boundary={boundary}"})
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)["id"]

    def counters(self):
        """The server's metrics by name, each summed over its labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=PATIENCE) as answer:
            lines = [line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if not line.startswith("#")]
        values = {}
        for name, value in lines:
            name = name.split("{")[0]
            values[name] = values.get(name, 0.0) + float(value)
        return values

    @staticmethod
    def read(event):
        if "error" in event:
            raise LoadError(f"an answer broke off: {event['error']}")
        usage = event.get("usage")
        return "".join(c["text"] for c in event["choices"]), usage and usage["completion_tokens"]

    def distribution(self, prompt, adapter):
        """Log-probabilities of the 20 most probable next tokens, by their text."""
        query = "" if adapter is None else f"?adapter={self.names[adapter]}"
        answer = self.ask("/v1/completions" + query,
                          {"prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": 20})
        top = answer["choices"][0]["logprobs"]["top_logprobs"][0]
        return {token: value for token, value in top.items() if not token.startswith("bytes:")}


class LlamaServer(Server):
    """llama-server with a slot for each client and every adapter loaded but not applied. Its cache of prompts is off:
    no two prompts here are the same, so that it could only cost time."""

    def __init__(self, threads, model, adapters, slots=16, name="llama-server"):
        super().__init__(f"{name}-{slots}", LLAMA / "bin/llama-server", "--model", model, "--threads", threads,
                         "--threads-batch", threads, "--parallel", slots, "--ctx-size", 256 * slots, "--no-ui",
                         "--cache-ram", 0, "--lora", ",".join(map(str, adapters)), "--lora-init-without-apply")

    def request(self, prompt, adapter, tokens):
        body = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "stream": True, "ignore_eos": True,
                "cache_prompt": False}
        return post("/completion", body | self.applied(adapter))

    @staticmethod
    def applied(adapter):
        # Adapters that a list leaves out have scale 0, but without any list all have 1, whatever the flag says.
        return {"lora": [{"id": 0, "scale": 0.0} if adapter is None else {"id": adapter, "scale": 1.0}]}

    @staticmethod
    def read(event):
        if "error" in event:
            raise LoadError(f"an answer broke off: {event['error']}")
        return event["content"], event["tokens_predicted"] if event["stop"] else None

    def distribution(self, prompt, adapter):
        """Log-probabilities of the 2,000 most probable next tokens, by their text."""
        body = {"prompt": prompt, "n_predict": 1, "temperature": -1, "n_probs": 2000, "cache_prompt": False}
        answer = self.ask("/completion", body | self.applied(adapter))
        return {entry["token"]: entry["logprob"] for entry in answer["completion_probabilities"][0]["top_logprobs"]}
