"""`graft train`: what its folder may hold, going on with a run, what it says of data and flags, and the plot."""

import hashlib
import json
import re
import shutil
import signal
import subprocess

import pytest

from graft_server import BINARY, MODEL, environment, run
from test_commands import one_line_error

ROWS = [{"prompt": f"{a}+{b}=", "completion": f"{a + b}"} for a, b in ((1, 2), (3, 4), (5, 6), (7, 8), (2, 9))]
SMALL = (
    "--max-steps", "4", "--batch-size", "1", "--checkpoint-steps", "1", "--lora-r", "2", "--target-modules", "q_proj",
    "--layers-to-transform", "0,1", "--validation-split", "0.2", "--lora-dropout", "0.1", "--learning-rate", "1e-3",
)


@pytest.fixture
def rows(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)))
    return file


@pytest.fixture
def train(data_dir, rows):
    def train(*arguments, **options):
        return run(
            "train", "--model", MODEL, "--compute", "f32", "--data-dir", data_dir, "--data", rows, *arguments, **options
        )

    return train


@pytest.fixture
def resume(data_dir):
    """Only what differs from run to run."""
    return lambda *arguments: run("train", "--resume", "--data-dir", data_dir, *arguments)


def done(process) -> str:
    assert process.returncode == 0, process.stderr.decode()
    return process.stderr.decode()


def contents(folder) -> str:
    return hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()


def checkpoints(folder) -> set:
    return {found.name for found in folder.glob("checkpoint-*")}


def everything(folder) -> dict:
    return {found.relative_to(folder): found.read_bytes() for found in sorted(folder.rglob("*")) if found.is_file()}


class TestFolder:
    def test_a_folder_that_is_not_empty(self, train, tmp_path):
        folder = tmp_path / "out"
        done(train("--output", folder, *SMALL))
        assert checkpoints(folder) == {f"checkpoint-{step}" for step in range(1, 5)}
        first, before = contents(folder), everything(folder)
        said = one_line_error(train("--output", folder, *SMALL))
        assert "not empty" in said and "--resume" in said and "--overwrite" in said and str(folder) in said
        assert everything(folder) == before
        # What is wrong with the new run is found out before the old one goes.
        assert train("--output", folder, "--overwrite", "--target-modules", "foo").returncode == 2
        assert everything(folder) == before

        (folder / "notes.txt").write_text("mine")
        done(train("--output", folder, "--overwrite", *SMALL, "--max-steps", "2", "--seed", "1"))
        assert contents(folder) != first and (folder / "notes.txt").read_text() == "mine"
        # None of the earlier run's checkpoints is left to be taken for this one's.
        assert checkpoints(folder) == {"checkpoint-1", "checkpoint-2"}

    def test_any_file_counts(self, train, tmp_path):
        folder = tmp_path / "out"
        folder.mkdir()
        (folder / "thesis.txt").write_text("mine")
        assert "not empty" in one_line_error(train("--output", folder, *SMALL))
        assert everything(folder).keys() == {(folder / "thesis.txt").relative_to(folder)}

    def test_an_empty_folder_is_fine(self, train, tmp_path):
        folder = tmp_path / "out"
        folder.mkdir()
        done(train("--output", folder, *SMALL, "--max-steps", "1"))

    def test_nothing_to_resume(self, resume, train, tmp_path):
        for folder in (tmp_path / "missing", tmp_path / "empty", tmp_path / "other"):
            if folder.name != "missing":
                folder.mkdir()
            if folder.name == "other":
                (folder / "adapter_config.json").write_text("{}")
            for process in (resume("--output", folder), train("--output", folder, "--resume", *SMALL)):
                said = one_line_error(process)
                assert "resume" in said and str(folder) in said
        assert not (tmp_path / "missing").exists()

    def test_both_flags(self, train, tmp_path):
        assert train("--output", tmp_path / "out", "--resume", "--overwrite").returncode == 2


class TestResume:
    @pytest.fixture
    def stopped(self, data_dir, rows, tmp_path):
        """A run that Ctrl-C ended behind its first step."""
        folder = tmp_path / "stopped"
        command = [BINARY, "train", "--model", MODEL, "--compute", "f32", "--data-dir", data_dir, "--data", rows]
        process = subprocess.Popen(
            list(map(str, [*command, "--output", folder, *SMALL])), stderr=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, env=environment(),
        )
        for line in process.stderr:
            if line.startswith("step 1/"):
                process.send_signal(signal.SIGINT)
        assert process.wait() in (130, 0)
        return folder

    def test_only_what_changes(self, stopped, train, resume, rows, tmp_path):
        done(train("--output", tmp_path / "whole", *SMALL))
        moved = rows.rename(tmp_path / "moved.jsonl")
        assert str(rows) in one_line_error(resume("--output", stopped))
        done(resume("--output", stopped, "--data", moved))
        assert contents(stopped) == contents(tmp_path / "whole")

    def test_from_another_folder(self, stopped, train, resume, tmp_path):
        done(train("--output", tmp_path / "whole", *SMALL))
        done(run("train", "--resume", "--output", "stopped", cwd=tmp_path))
        assert contents(stopped) == contents(tmp_path / "whole")

    @pytest.mark.parametrize(
        "flags, values",
        [
            (["--learning-rate", "0.002"], ["learning_rate", "0.001", "0.002"]), (["--seed", "5"], ["seed", "42", "5"]),
            (["--lora-r", "3"], ["lora_r", "2", "3"]), (["--compute", "fast"], ["compute", "f32", "fast"]),
            (["--learning-rate-multiplier", "10"], ["learning_rate", "0.001", "0.002"]),
            (["--n-epochs", "2"], ["n_epochs", "3", "2"]),
        ],
    )
    def test_mismatches_print_both(self, stopped, resume, flags, values):
        before = everything(stopped)
        said = one_line_error(resume("--output", stopped, *flags))
        assert all(value in said for value in values), said
        assert everything(stopped) == before

    def test_other_data(self, stopped, resume, rows, tmp_path):
        other = tmp_path / "other.jsonl"
        other.write_text(rows.read_text().replace("11", "12"))
        assert "data" in one_line_error(resume("--output", stopped, "--data", other))


class TestData:
    """What is said of files that are none, and of rows in other forms; more in the tests of the data itself."""

    CHAT = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}

    def preview(self, data_dir, tmp_path, data, *arguments):
        file = tmp_path / "data.jsonl"
        file.write_bytes(data if isinstance(data, bytes) else data.encode())
        return run("train", "--model", MODEL, "--data-dir", data_dir, "--data", file, "--preview", *arguments)

    @pytest.mark.parametrize(
        "data, words",
        [
            (json.dumps([CHAT, CHAT]), ["JSON array", "jq"]), (json.dumps([CHAT] * 50, indent=2), ["JSON array", "jq"]),
            (json.dumps(CHAT, indent=2), ["jq"]), ("instruction,output\na,b\n" * 40, ["CSV"]), ("", ["empty"]),
            (json.dumps(CHAT).encode("utf-16"), ["UTF-16", "iconv"]),
        ],
        ids=["array", "array over lines", "pretty-printed", "CSV", "empty", "UTF-16"],
    )
    def test_no_jsonl(self, data_dir, tmp_path, data, words):
        said = one_line_error(self.preview(data_dir, tmp_path, data))
        assert "data.jsonl" in said and all(word in said for word in words), said

    def test_a_mark_and_crlf(self, data_dir, tmp_path):
        line = json.dumps(self.CHAT)
        shown = self.preview(data_dir, tmp_path, f"\ufeff{line}\r\n{line}\r\n")
        assert done(shown) == "" and shown.stdout.decode().count("[[yo") == 2

    def test_mappings_are_told(self, data_dir, tmp_path, train, rows):
        row = json.dumps({"instruction": "Add.", "input": "1 2", "output": "3"})
        shown = self.preview(data_dir, tmp_path, row)
        done(shown)
        assert "Alpaca" in shown.stdout.decode() and "[[3" in shown.stdout.decode()
        rows.write_text("\n".join([row] * 3))
        assert "Alpaca" in done(train("--output", tmp_path / "out", *SMALL, "--max-steps", "1"))

    def test_errors_are_counted(self, data_dir, tmp_path):
        failed = self.preview(data_dir, tmp_path, json.dumps(self.CHAT) + "\n" + '{"messages":[]}\n' * 500)
        said = failed.stderr.decode()
        assert failed.returncode == 1 and said.count("missing_messages_list") == 20
        assert "500 errors" in said and "480 more" in said


class TestFlags:
    @pytest.mark.parametrize(
        "flags, words",
        [
            (["--target-modules", "foo"], ["--target-modules", "foo", "q_proj", "down_proj", "all-linear"]),
            (["--target-modules", "q_proj,foo"], ["--target-modules", "foo", "q_proj", "down_proj"]),
            (["--layers-to-transform", "99"], ["--layers-to-transform", "99"]),
            (["--lora-r", "0"], ["--lora-r", "0", "512"]), (["--lora-r", "many"], ["--lora-r"]),
            (["--scheduler", "steps"], ["--scheduler", "cosine"]), (["--beta", "0.1"], ["--beta", "dpo"]),
            (["--learning-rate", "1", "--learning-rate-multiplier", "2"], ["--learning-rate-multiplier"]),
        ],
    )
    def test_errors_name_the_flag(self, train, tmp_path, flags, words):
        failed = train("--output", tmp_path / "out", *flags)
        said = failed.stderr.decode()
        assert failed.returncode == 2 and all(word in said for word in words), said
        # Where usage is shown, it is this command's.
        assert not re.search(r"usage: graft (?!train)", said, re.I) and "<subcommand>" not in said
        assert not (tmp_path / "out").exists()

    def test_a_single_module(self, train, tmp_path):
        done(train("--output", tmp_path / "out", *SMALL, "--max-steps", "1", "--target-modules", "v_proj"))
        assert json.loads((tmp_path / "out/adapter_config.json").read_text())["target_modules"] == ["v_proj"]

    def test_what_says_the_same_as_an_adapter(self, train, tmp_path):
        done(train("--output", tmp_path / "first", *SMALL, "--max-steps", "1"))
        start = ("--init-adapter", tmp_path / "first", "--max-steps", "1", "--batch-size", "1")
        done(train("--output", tmp_path / "second", *start, "--lora-r", "2", "--target-modules", "q_proj"))
        failed = train("--output", tmp_path / "third", *start, "--lora-r", "4")
        assert failed.returncode == 2 and "--lora-r" in failed.stderr.decode() and "2" in failed.stderr.decode()
        assert not (tmp_path / "third").exists()
        # In another form it is the same adapter.
        assert run("export", "gguf", "--model", MODEL, tmp_path / "first", tmp_path / "a.gguf").returncode == 0
        done(train("--output", tmp_path / "fourth", "--init-adapter", tmp_path / "a.gguf", *start[2:]))
        weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("second", "fourth")]
        assert weights[0] == weights[1]
        # It would be gone before it is read.
        assert train("--output", tmp_path / "first", "--overwrite", *start).returncode != 0
        assert (tmp_path / "first/adapter_model.safetensors").exists()


def test_the_plot(train, tmp_path):
    done(train("--output", tmp_path / "out", *SMALL))
    plot = (tmp_path / "out/loss.svg").read_text()
    assert all(f">{name}<" in plot for name in ("training loss", "running mean", "validation loss"))
    assert plot.count("<polyline") == 3
    shutil.rmtree(tmp_path / "out")
    flags = [flag for pair in zip(SMALL[::2], SMALL[1::2]) if pair[0] != "--validation-split" for flag in pair]
    done(train("--output", tmp_path / "out", *flags))
    assert "validation loss" not in (tmp_path / "out/loss.svg").read_text()
