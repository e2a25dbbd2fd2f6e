"""What the checks of `make check-peers` share: their list, the adapters that they begin with, and Graft's server.

A check is a function with the decorator `check`. It gets a `Workplace`, raises `Differs` where another program disagrees,
and returns what it compared, in a few words. The functions run in the environment of transformers, PEFT and bitsandbytes.
"""

import functools
import importlib
import json
import pathlib
import re
import signal
import subprocess
import traceback
import urllib.request

import peers

DATA = peers.ROOT / "Benchmarks/training/uneven.jsonl"
PROMPTS = 4
# What the adapters are trained with.
ADAPTERS = {
    "plain": [],
    "rslora-patterns": ["--use-rslora", "true", "--target-modules", "q_proj,v_proj,down_proj", "--rank-pattern",
                        '{"down_proj": 4}'],
    "dora": ["--use-dora", "true"],
}

# Every check by its name, "group/name", in the order in which they run.
CHECKS = {}


def check(*names):
    """Adds a function to the list. With several names it is several checks, and gets the last part of its name, too."""
    def add(function):
        for name in names:
            CHECKS[name] = function if len(names) == 1 else functools.partial(function, name=name.split("/")[-1])
        return function

    return add


def load(module):
    """Adds a module's checks to the list; if it cannot be loaded, one that fails for that reason."""
    try:
        importlib.import_module(module)
    except Exception as error:
        def fails(_, error=error):
            raise error
        CHECKS[f"{module}/import"] = fails


def run(chosen, workplace):
    """Runs checks, prints a line for each, and returns the names of those that do not agree. The others run whatever one
    raises."""
    failed = []
    for name, function in chosen.items():
        try:
            print(f"{name}: {function(workplace)}: agrees", flush=True)
            continue
        except Differs as difference:
            print(f"{name}: {difference}: DIFFERS", flush=True)
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            print(f"{name}: {type(error).__name__}: {error}: FAILED", flush=True)
        failed.append(name)
    print(f"{len(chosen) - len(failed)} of {len(chosen)} checks agree{'; not ' * bool(failed)}{', '.join(failed)}", flush=True)
    return failed


class Differs(Exception):
    """Another program reads or computes something else."""


def agree(what, difference, tolerance):
    """A sentence for a difference within the tolerance.
    Raises `Differs` for a larger one, and for one that is no number."""
    if not difference <= tolerance:
        raise Differs(f"{what}: {difference:.1e}, more than {tolerance:.0e}")
    return f"{what}: {difference:.1e}"


class Workplace:
    """A folder for what the checks write, and what several of them need."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.adapters = self.folder / "adapters"
        self.adapters.mkdir()

    def graft(self, *arguments):
        """Runs a command; its standard output."""
        done = subprocess.run([str(peers.GRAFT), *map(str, arguments)], capture_output=True, text=True)
        if done.returncode:
            raise Differs(f"graft {arguments[0]} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def adapter(self, name):
        """A trained adapter of `ADAPTERS`, a PEFT folder."""
        if not (self.adapters / name).exists():
            self.graft("train", "--model", peers.SMALL, "--data", DATA, "--output", self.adapters / name, "--max-steps",
                       3, "--batch-size", 2, "--learning-rate", "5e-3", "--scheduler", "constant", "--shuffle", "false",
                       "--lora-r", 8, *ADAPTERS[name])
        return self.adapters / name

    def model(self):
        """The small model's folder, in f32."""
        return peers.model_folder()

    def prompts(self):
        rows = [json.loads(line)["tokens"] for line in open(DATA)]
        # The first six were trained on.
        return [row for row in rows[6:] if len(row) < 200][:PROMPTS]

    def serve(self, adapters, model=None, *options):
        """A server of the small model, or of another one."""
        return Server(adapters, self.folder / "state", model or peers.SMALL, *options)


class Server:
    """`graft serve` in f32 on a free port."""

    def __init__(self, adapters, state, model, *options):
        adapters.mkdir(parents=True, exist_ok=True)
        command = [peers.GRAFT, "serve", "--model", model, "--compute", "f32", "--port", "0", "--adapters",
                   adapters, "--data-dir", state, *options]
        self.process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        text=True)
        for line in self.process.stdout:
            if found := re.search(r"url=(http://\S+)", line):
                self.url = found[1]
                return
        raise RuntimeError("graft serve ended")

    def logprobs(self, adapter, ids):
        """The logprobs of a prompt's tokens but the first."""
        body = {"model": adapter, "prompt": ids, "max_tokens": 0, "echo": True, "logprobs": 0}
        request = urllib.request.Request(self.url + "/v1/completions", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as reply:
            return json.load(reply)["choices"][0]["logprobs"]["token_logprobs"][1:]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
