"""The command line: tokenize, prepare, generate, exit codes, and what damaged files say."""

import json
import os
import re
import signal
import subprocess

import pytest

from graft_server import BINARY, FIXTURES, MODEL, MODEL_NAME, Server, environment, run

COMMON = ("--compute", "f32")


def one_line_error(done: subprocess.CompletedProcess, *, code: int = 1) -> str:
    """What a failed command says: one line, after the progress bar's if there was one."""
    assert done.returncode == code, done.stderr.decode()
    lines = [line for line in done.stderr.decode().splitlines() if not line.startswith("Preparing ")]
    assert len(lines) == 1 and lines[0].startswith("graft: "), lines
    return lines[0]


class TestTokenize:
    @pytest.mark.parametrize("form", ["gguf", "hf"])
    def test_reference(self, reference, hf_dir, form):
        model = MODEL if form == "gguf" else hf_dir
        assert len(reference.tokenization) > 8
        for case in reference.tokenization:
            done = run("tokenize", "--model", model, stdin=case["text"].encode())
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout) == case["ids"], case["text"]

    def test_special_tokens_as_text(self):
        parsed = json.loads(run("tokenize", "--model", MODEL, stdin=b"<|im_end|>").stdout)
        plain = json.loads(run("tokenize", "--model", MODEL, "--text", stdin=b"<|im_end|>").stdout)
        assert parsed == [2] and len(plain) > 1 and 2 not in plain

    def test_long_text(self, reference):
        text = "".join(case["text"] for case in reference.tokenization) * 300
        ids = json.loads(run("tokenize", "--model", MODEL, stdin=text.encode()).stdout)
        assert reference.bytes_of(ids) == text.encode()

    def test_bytes_that_are_no_text(self):
        assert "UTF-8" in one_line_error(run("tokenize", "--model", MODEL, stdin=b"\xff\xfe"))


class TestUsage:
    @pytest.mark.parametrize(
        "arguments",
        [
            ["nothing"], ["serve"], ["tokenize"], ["serve", "--model", MODEL, "--port", "70000"],
            ["serve", "--model", MODEL, "--nonsense"], ["serve", "--model", MODEL, "--compute", "f16"],
            ["generate", "--model", MODEL, "--max-tokens", "0"], ["serve", "--model", MODEL, "--threads", "0"],
            ["serve", "--model", MODEL, "--kv-memory", "5 apples"], ["serve", "--model", MODEL, "--tls-key", "x"],
        ],
    )
    def test_wrong_usage_is_2(self, arguments):
        done = run(*arguments)
        assert done.returncode == 2
        assert done.stderr and not done.stdout

    @pytest.mark.parametrize("name", [None, "serve", "prepare", "generate", "tokenize"])
    def test_help_is_0(self, name):
        done = run(*([name] if name else []), "--help")
        assert done.returncode == 0
        assert b"USAGE: graft" in done.stdout

    def test_settings_from_the_environment(self):
        done = run("tokenize", stdin=b"a", env={"GRAFT_MODEL": str(MODEL)})
        assert json.loads(done.stdout) == [81]
        wrong = run("serve", env={"GRAFT_MODEL": str(MODEL), "GRAFT_PORT": "many"})
        assert wrong.returncode == 2 and b"GRAFT_PORT" in wrong.stderr

    def test_the_kernels_that_run_are_named(self, data_dir, tmp_path):
        forced = {"GRAFT_KERNELS": "scalar"}
        assert b"(kernels: scalar)" in run("--version", env=forced).stdout
        assert b"(kernels: scalar)" not in run("--version").stdout
        config = tmp_path / "config.yaml"
        config.write_text("kernels: scalar\n")
        from_file = {"GRAFT_CONFIG": str(config)}
        assert b"(kernels: scalar)" in run("--version", env=from_file).stdout
        doctor = json.loads(run("doctor", "--json", "--data-dir", data_dir, env=from_file).stdout)
        assert next(entry for entry in doctor if entry["check"] == "kernels")["value"].startswith("scalar ")
        wrong = run("--version", env={"GRAFT_KERNELS": "fast"})
        assert wrong.returncode == 2 and b"GRAFT_KERNELS" in wrong.stderr
        bench = ["bench", "--model", MODEL, "--data-dir", data_dir, "--prompt", 2, "--generate", 1, "--repetitions", 1, "--json"]
        assert json.loads(run(*bench, env=forced).stdout)["kernels"] == "scalar"
        assert json.loads(run(*bench, "--kernels", "scalar").stdout)["kernels"] == "scalar"
        with Server("--kernels", "scalar", data_dir=data_dir) as server:
            assert 'kernels="scalar"' in server.http.get("/metrics").text
            assert any("scalar" in line for line in server.log)


class TestDryRun:
    LLAMA_405B = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 128256, "hidden_size": 16384,
        "intermediate_size": 53248, "num_hidden_layers": 126, "num_attention_heads": 128, "num_key_value_heads": 8,
        "max_position_embeddings": 131072, "rope_theta": 500000.0, "rms_norm_eps": 1e-5, "hidden_act": "silu",
    }

    def sizes(self, model, tmp_path, *options: str) -> dict[str, float]:
        done = run("prepare", "--dry-run", "--model", model, "--data-dir", tmp_path / "data", *options)
        assert done.returncode == 0 and not (tmp_path / "data").exists(), done.stderr
        return {name: float(size) for name, size in re.findall(r"^ *(\w+) +([\d.]+) GiB", done.stdout.decode(), re.M)}

    def test_a_configuration_is_enough(self, tmp_path):
        (tmp_path / "config.json").write_text(json.dumps(self.LLAMA_405B))
        sizes = self.sizes(tmp_path, tmp_path, "--context", "2048")
        # Half a byte for a weight and two bytes for the scale of 64; keys and values of two bytes and their scales.
        assert 200 < sizes["weights"] < 204 and 0.98 < sizes["cache"] < 1.1 and sizes["disk"] > sizes["weights"]
        assert sizes["memory"] == pytest.approx(sizes["weights"] + sizes["cache"] + sizes["workspace"], abs=0.02)

    def test_it_is_what_prepare_writes(self, data_dir, tmp_path):
        done = run("prepare", "--model", MODEL, "--data-dir", data_dir)
        size = os.stat(done.stdout.decode().strip()).st_size
        assert self.sizes(MODEL, tmp_path)["disk"] == pytest.approx(size / 2**30, abs=0.006)


class TestBadModels:
    def prepare(self, model, tmp_path):
        return run("prepare", "--model", model, "--data-dir", tmp_path / "data")

    def test_missing(self, tmp_path):
        assert "nowhere.gguf" in one_line_error(self.prepare(tmp_path / "nowhere.gguf", tmp_path))

    def test_not_a_model(self, tmp_path):
        file = tmp_path / "text.gguf"
        file.write_text("This is not a model. " * 100)
        assert "text.gguf" in one_line_error(self.prepare(file, tmp_path))

    def test_empty(self, tmp_path):
        file = tmp_path / "empty.gguf"
        file.touch()
        assert "empty.gguf" in one_line_error(self.prepare(file, tmp_path))

    @pytest.mark.parametrize("size", [3, 20, 100, 5000, 1_000_000, 50_000_000, 98_362_431])
    def test_truncated(self, tmp_path, size):
        file = tmp_path / "short.gguf"
        with MODEL.open("rb") as whole:
            file.write_bytes(whole.read(size))
        assert "short.gguf" in one_line_error(self.prepare(file, tmp_path))
        assert not list((tmp_path / "data").rglob("*.graft")), "nothing half-made is left"

    def test_other_architecture(self, tmp_path):
        data = MODEL.read_bytes()
        key = data.index(b"general.architecture")
        value = data.index(b"llama", key)
        assert value - key < 60
        file = tmp_path / "other.gguf"
        file.write_bytes(data[:value] + b"mamba" + data[value + 5 :])
        assert "mamba" in one_line_error(self.prepare(file, tmp_path))

    def test_folder_without_weights(self, hf_dir, tmp_path):
        assert "safetensors" in one_line_error(self.prepare(hf_dir, tmp_path))

    def test_unwritable_data_folder(self, tmp_path):
        (tmp_path / "data").write_text("a file, no folder")
        assert "data" in one_line_error(self.prepare(MODEL, tmp_path))


class TestPrepared:
    @pytest.fixture
    def prepared(self, tmp_path):
        """Prepares, and returns how to do it again and the file that was made."""

        def prepare():
            done = run("prepare", "--model", MODEL, "--data-dir", tmp_path)
            assert done.returncode == 0, done.stderr
            return done

        done = prepare()
        assert b"Preparing" in done.stderr
        (file,) = tmp_path.glob("bases/*.graft")
        assert done.stdout.decode().strip() == str(file)
        return prepare, file

    def test_once_is_enough(self, prepared):
        prepare, file = prepared
        before = file.stat()
        again = prepare()
        after = file.stat()
        assert b"Preparing" not in again.stderr
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    @pytest.mark.parametrize("damage", ["head", "middle", "end", "truncated", "empty"])
    def test_damage_is_found_and_mended(self, prepared, damage):
        prepare, file = prepared
        whole = file.read_bytes()
        if damage == "truncated":
            file.write_bytes(whole[:-4096])
        elif damage == "empty":
            file.write_bytes(b"")
        else:
            offset = {"head": 200, "middle": len(whole) // 2, "end": len(whole) - 1}[damage]
            with file.open("r+b") as target:
                target.seek(offset)
                target.write(bytes([whole[offset] ^ 0x10]))
        again = prepare()
        assert b"Preparing" in again.stderr
        assert file.read_bytes() == whole, "preparing gives the same bytes each time"

    def test_two_at_once_make_one(self, tmp_path):
        command = [str(BINARY), "prepare", "--model", str(MODEL), "--data-dir", str(tmp_path)]
        both = [subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()) for _ in "ab"]
        outputs = [process.communicate(timeout=120) for process in both]
        assert [process.returncode for process in both] == [0, 0]
        assert outputs[0][0] == outputs[1][0]
        assert sum(b"Preparing" in error for _, error in outputs) == 1
        assert len(list(tmp_path.glob("bases/*.graft"))) == 1


class TestChat:
    QUESTION = b"What is the capital of France?\n"

    def chat(self, data_dir, *arguments, stdin=QUESTION, **options):
        arguments = ("--temperature", "0", *arguments)
        return run("chat", "--model", MODEL, "--data-dir", data_dir, *COMMON, *arguments, stdin=stdin, **options)

    def test_each_line_is_a_message(self, data_dir, server):
        done = self.chat(data_dir, "--max-tokens", "20", stdin=self.QUESTION + b"\nAnd of Spain?\n/reset\n" + self.QUESTION)
        assert done.returncode == 0, done.stderr
        first, second, third = done.stdout.decode().splitlines()
        assert "Paris" in first and third == first != second
        messages = [
            {"role": "user", "content": "What is the capital of France?"}, {"role": "assistant", "content": first},
            {"role": "user", "content": "And of Spain?"},
        ]
        body = {"messages": messages, "temperature": 0, "max_tokens": 20}
        answer = server.http.post("/v1/chat/completions", json=body).json()
        assert answer["choices"][0]["message"]["content"] == second

    def test_system_message_and_adapter(self, data_dir):
        settings = ([], ["--adapter", FIXTURES / "adapters/r8-all"], ["--system", "You are a poet."])
        story = b"Once upon a time\n"
        assert len({self.chat(data_dir, "--max-tokens", "40", *more, stdin=story).stdout for more in settings}) == 3

    def test_interrupted(self, data_dir):
        command = [BINARY, "chat", "--model", MODEL, "--data-dir", data_dir, *COMMON]
        with subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
        ) as process:
            process.stdin.write(b"Count from one to ten thousand, one number a line.\n")
            process.stdin.flush()
            assert process.stdout.read(4)
            # The first stops the answer, after which the next message is taken; the second the program.
            process.send_signal(signal.SIGINT)
            process.stdin.write(b"Hello!\n")
            process.stdin.flush()
            process.stdin.close()
            assert process.wait(timeout=60) in (0, 130)


class TestGenerate:
    PROMPT = "The capital of France is"

    def generate(self, data_dir, *arguments, **options):
        return run("generate", "--model", MODEL, "--data-dir", data_dir, *COMMON, *arguments, **options)

    @pytest.mark.parametrize("variant", ["base", "r8-all"])
    def test_reference(self, reference, data_dir, variant):
        greedy = [step["id"] for step in reference.prompts[0]["by"][variant]["greedy"]]
        adapter = [] if variant == "base" else ["--adapter", FIXTURES / "adapters" / variant]
        done = self.generate(
            data_dir, "--prompt", self.PROMPT, "--max-tokens", len(greedy), "--temperature", "0", *adapter
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == reference.bytes_of(greedy) + b"\n"
        assert re.search(rb"5 tokens in, 24 out", done.stderr)

    def test_prompt_from_standard_input_and_seed(self, data_dir):
        texts = [
            self.generate(data_dir, "--max-tokens", "10", "--seed", seed, stdin=self.PROMPT.encode()).stdout
            for seed in (3, 3, 4)
        ]
        assert texts[0] == texts[1] != texts[2]

    def test_refusals(self, data_dir, adapters_dir):
        assert "empty" in one_line_error(self.generate(data_dir, "--prompt", ""))
        biased = self.generate(data_dir, "--prompt", "a", "--adapter", adapters_dir / "biased")
        assert "bias" in one_line_error(biased)
        assert "context" in one_line_error(self.generate(data_dir, "--prompt", "a", "--max-tokens", "9000"))

    def test_interrupted_is_130(self, data_dir):
        command = [BINARY, "generate", "--model", MODEL, "--data-dir", data_dir, *COMMON,
                   "--prompt", self.PROMPT, "--max-tokens", "4000"]
        process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, env=environment())
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(timeout=30) == 130


def test_base_is_called_as_told(data_dir):
    with Server("--served-model-name", "tiny", data_dir=data_dir) as server:
        assert [model["id"] for model in server.http.get("/v1/models").json()["data"]] == ["tiny"]
        assert server.complete("Hi", model="tiny", max_tokens=1)["model"] == "tiny"
        assert server.http.post("/v1/completions", json={"prompt": "Hi", "model": MODEL_NAME}).status_code == 404
