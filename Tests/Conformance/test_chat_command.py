"""`graft chat` on a terminal, with a model and with a server; `graft serve`, `train`, `sweep` and others as a person sees them."""

import json
import re
import shutil
import subprocess

import pytest

from graft_server import BINARY, FIXTURES, MODEL, ROOT, Server, run
from terminal import Terminal, on_terminal, plain
from test_commands import COMMON, one_line_error

GREEDY = ("--temperature", "0", "--max-tokens", "12")
PIRATE = FIXTURES / "adapters/r8-all"


class TestChat:
    def test_on_a_server(self, server, tmp_path):
        chat = Terminal("chat", "--url", server.url, *GREEDY, env={"XDG_STATE_HOME": str(tmp_path)})
        chat.expect("> ")
        chat.ask("What is the capital of France?", "Paris")
        chat.ask("/adapter", "no adapter")
        chat.ask("/adapter r8-all:0.5,r4-pattern", "adapter: r8-all:0.5,r4-pattern")
        chat.ask("/adapter nobody", "nobody")
        chat.ask("/adapter", "adapter: r8-all:0.5,r4-pattern")
        chat.ask("/nonsense", "there is no command /nonsense; /help lists them")
        chat.ask("/help", "/system TEXT")
        # The history brings the question back, and the line can be edited.
        chat.send("\x1b[A\x1b[A\x01\x0bWho är you?")
        chat.expect("Who är you?")
        chat.send("\x01\x0b\x04")
        assert chat.end() == 0
        history = tmp_path / "graft/chat-history"
        assert history.stat().st_mode & 0o777 == 0o600 and "capital" in history.read_text()

    def test_several_lines_are_one_message(self, server):
        lines = b'"""\nWhat is the capital\nof France?\n"""\nAnd what\\\nof Spain?\n'
        done = run("chat", "--url", server.url, *GREEDY, stdin=lines)
        first, second = done.stdout.decode().splitlines()[:2]
        messages = [
            {"role": "user", "content": "What is the capital\nof France?"}, {"role": "assistant", "content": first},
            {"role": "user", "content": "And what\nof Spain?"},
        ]
        body = {"messages": messages[:1], "temperature": 0, "max_tokens": 12}
        want = server.http.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
        assert want == first
        body["messages"] = messages
        want = server.http.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
        assert want == second

    def test_a_model_and_its_adapters(self, data_dir):
        lines = b"Once upon a time\n/reset\n/adapter %b:0.5\nOnce upon a time\n/reset\n/adapter none\nOnce upon a time\n" % str(PIRATE).encode()
        done = run("chat", "--model", MODEL, "--data-dir", data_dir, *COMMON, "--temperature", "0", "--max-tokens", "40", stdin=lines)
        assert done.returncode == 0, done.stderr
        base, named, tuned, none, again = done.stdout.decode().splitlines()
        assert base == again != tuned and "r8-all:0.5" in named and none == "no adapter"

    def test_unknown_commands_are_errors(self, data_dir):
        done = run("chat", "--model", MODEL, "--data-dir", data_dir, *COMMON, stdin=b"/nonsense\n/adapter nowhere\n")
        assert done.stdout == b"" and b"/nonsense" in done.stderr and b"nowhere" in done.stderr

    def test_ctrl_c_leaves_the_terminal_in_order(self, server, tmp_path):
        chat = Terminal("chat", "--url", server.url, "--temperature", "0", env={"XDG_STATE_HOME": str(tmp_path)})
        chat.expect("> ")
        question = "Write a long story about a ship."
        chat.send(question + "\r")
        # The story takes seconds: its first letter says that the answer runs, and that it will not have ended below.
        chat.expect(question + "\nO")
        chat.send("\x03")
        chat.expect("\n> ")
        chat.send("half a line\x03")
        assert chat.end() == 130

    def test_no_server(self, tmp_path):
        done = run("chat", "--url", "http://127.0.0.1:9", stdin=b"Hi\n")
        assert b"cannot be reached" in done.stderr and b"graft serve" in done.stderr


class TestServe:
    def test_a_terminal_gets_one_block(self, data_dir, tmp_path, adapters_dir):
        server = Terminal(
            "serve", "--model", MODEL, *COMMON, "--port", "0", "--data-dir", tmp_path, "--adapters", adapters_dir, columns=100)
        server.expect("\"max_tokens\": 40}'\n")
        text = plain(server.written)
        assert re.search(r"adapters +4: .*r4-dora", text) and re.search(r"address +http://127", text), text
        assert "listening" not in text and all(len(line) <= 100 for line in text.split("Graft is ready")[1].splitlines())
        server.send("\x03")
        assert server.end() == 0

    @pytest.mark.parametrize("level", ["info", "debug"])
    def test_json_and_polls(self, data_dir, level):
        with Server("--log-format", "json", "--log-level", level, data_dir=data_dir, port_line=r'"url":"(http://[^"]+)"') as server:
            server.http.get("/health")
            server.http.get("/v1/models")
        lines = [json.loads(line) for line in server.log if line.startswith("{")]
        assert all({"time", "level", "message"} <= line.keys() for line in lines)
        paths = {line["path"]: line["level"] for line in lines if line["message"] == "request"}
        assert paths["/v1/models"] == "info" and paths.get("/health") == {"info": None, "debug": "debug"}[level]


class TestTrain:
    ROWS = '{"prompt": "Q: Who are you?\\nA:", "completion": " I am Graft."}\n' * 8

    def train(self, tmp_path, data_dir, *arguments):
        (tmp_path / "rows.jsonl").write_text(self.ROWS)
        return run(
            "train", "--model", MODEL, "--data-dir", data_dir, "--data", tmp_path / "rows.jsonl", "--output",
            tmp_path / "who", "--max-steps", 12, "--lora-r", 4, "--learning-rate", "4e-3", *arguments)

    def test_the_end(self, tmp_path, data_dir):
        done = self.train(tmp_path, data_dir, "--validation-split", "0.25")
        assert done.returncode == 0 and done.stdout.decode() == f"{tmp_path}/who\n"
        text = done.stderr.decode()
        assert re.search(r"step 12/12  loss \S+  accuracy \d+ %", text)
        assert re.search(r"validation loss +\S+ → \S+, \d+ % of the tokens right", text)
        prompt, before, after = re.search(r"prompt +(.*)\nbefore +(.*)\nafter +(.*)\n", text).groups()
        assert prompt.endswith("A:") and "I am Graft" in after and "I am Graft" not in before
        # The commands are as they must be typed.
        load = re.search(r"to a new server: +graft (.*)", text)[1].split()
        assert run(*load).stdout == b"who@1\n"
        tried = re.search(r"try it: +graft (.*)", text)[1].split()
        answer = run(*tried, "--temperature", "0", "--max-tokens", "4", stdin=b"Hello\n")
        assert answer.returncode == 0, answer.stderr

    def test_without_samples_and_held_out_rows(self, tmp_path, data_dir):
        text = self.train(tmp_path, data_dir, "--samples", "0").stderr.decode()
        assert "before  " not in text and "--validation-split 0.1" in text


class TestSweep:
    def test_grid(self, tmp_path, data_dir):
        (tmp_path / "rows.jsonl").write_text(TestTrain.ROWS)
        command = [
            "sweep", "--model", MODEL, "--data-dir", data_dir, "--data", tmp_path / "rows.jsonl", "--max-steps", 3,
            "--output", tmp_path / "out", "--lora-r", "2,4", "--target-modules", "q_proj,v_proj;o_proj",
            "--learning-rate", "1e-3",
        ]
        done = run(*command)
        assert done.returncode == 0, done.stderr
        results = json.loads((tmp_path / "out/sweep.json").read_text())
        assert {(r["settings"]["lora_r"], r["settings"]["target_modules"]) for r in results} == {
            (rank, targets) for rank in "24" for targets in ("q_proj,v_proj", "o_proj")}
        losses = [result["validation_loss"] for result in results]
        assert losses == sorted(losses)
        assert [line.split("\t")[-1] for line in done.stdout.decode().splitlines()] == [r["folder"] for r in results]
        for result in results:
            config = json.loads((tmp_path / "out" / result["folder"] / "adapter_config.json").read_text())
            assert config["r"] == int(result["settings"]["lora_r"])
        assert (tmp_path / "out/sweep.svg").read_text().count("<rect") == 5
        assert "not empty" in one_line_error(run(*command))
        assert run(*command, "--lora-alpha", "4,x").returncode == 2


class TestSettings:
    def test_config_prints_what_holds(self, tmp_path):
        file = tmp_path / "graft.yaml"
        file.write_text(f"model: {MODEL}\nport: 81\nhost: localhost\napi-key: secret\n")
        env = {"GRAFT_CONFIG": str(file), "GRAFT_HOST": "127.0.0.2"}
        found = json.loads(run("config", "--json", "serve", "--max-queue", "7", env=env).stdout)
        settings = found["settings"]
        assert settings["port"] == {"value": "81", "source": f"line 2 of {file}"}
        assert settings["host"] == {"value": "127.0.0.2", "source": "GRAFT_HOST"}
        assert settings["max-queue"] == {"value": "7", "source": "command line"}
        assert settings["threads"]["source"] == "default" and settings["api-key"]["value"] == "(hidden)"
        assert json.loads(run("tokenize", "--config", file, stdin=b"a").stdout) == [81]
        wrong = tmp_path / "wrong.yaml"
        wrong.write_text("prot: 81\n")
        done = run("tokenize", "--config", wrong)
        assert done.returncode == 2 and b"line 1 of" in done.stderr and b"prot" in done.stderr
        assert run("tokenize", "--config", tmp_path / "none").returncode == 2

    def test_doctor(self, data_dir, tmp_path):
        done = run("doctor", "--json", "--model", MODEL, "--data-dir", data_dir)
        found = {entry["check"]: entry for entry in json.loads(done.stdout)}
        assert done.returncode == 0 and found["checksum"]["state"] == found["model"]["state"] == "ok"
        assert found["kernels"]["value"].split()[0] in run("--version").stdout.decode()
        cut = tmp_path / "cut.gguf"
        cut.write_bytes(MODEL.read_bytes()[:100_000])
        done = run("doctor", "--model", cut)
        assert done.returncode == 1 and b"problem" in done.stdout and "→".encode() in done.stdout
        assert run("doctor", "--model", MODEL, "--sha256", "0" * 64).returncode == 1

    @pytest.mark.parametrize(
        "command", ["serve", "train", "chat", "adapters", "adapters remove", "jobs", "jobs download", "sweep", "doctor"])
    def test_help_fits_80_columns(self, command):
        text, code = on_terminal(*command.split(), "--help")
        assert code == 0 and max(map(len, plain(text).splitlines())) <= 80


def test_install(tmp_path):
    """Completions that the shell reads, and pages that man formats without a complaint."""
    done = subprocess.run(["bash", ROOT / "scripts/install.sh", BINARY, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    script = tmp_path / "share/bash-completion/completions/graft"
    shell = f"source {script}; COMP_WORDS=(graft ad); COMP_CWORD=1; _graft graft ad graft; echo \"${{COMPREPLY[@]}}\""
    completed = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, cwd=tmp_path)
    assert "adapters" in completed.stdout, completed.stderr
    assert (tmp_path / "share/zsh/site-functions/_graft").read_text().startswith("#compdef graft")
    pages = sorted((tmp_path / "share/man/man1").iterdir())
    assert len(pages) > 20
    if shutil.which("groff"):
        for page in pages:
            shown = subprocess.run(["groff", "-man", "-Tutf8", "-ww", page], capture_output=True, text=True)
            assert shown.returncode == 0 and not shown.stderr, (page.name, shown.stderr)
            # Bold letters are printed twice, one over the other.
            assert "EXIT STATUS" in re.sub(".\x08", "", plain(shown.stdout))
