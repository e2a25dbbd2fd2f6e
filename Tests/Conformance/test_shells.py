"""The completions in the shells themselves."""

import os
import shutil
import subprocess

import pytest

from graft_server import BINARY, PATIENCE, run
from terminal import Terminal


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """A folder with the command as `graft`, and each shell's script."""
    folder = tmp_path_factory.mktemp("completions")
    (folder / "graft").symlink_to(BINARY)
    for shell, name in (("zsh", "_graft"), ("fish", "graft.fish")):
        done = run("--generate-completion-script", shell)
        assert done.returncode == 0, done.stderr
        (folder / name).write_bytes(done.stdout)
    return folder


def variables(scripts):
    return {"PATH": f"{scripts}:{os.environ['PATH']}", "HOME": str(scripts), "LC_ALL": "C.UTF-8"}


@pytest.mark.skipif(not shutil.which("fish"), reason="there is no fish")
def test_fish(scripts):
    def suggestions(line):
        command = ["fish", "--no-config", "-c", f"source {scripts}/graft.fish; complete -C '{line}'"]
        done = subprocess.run(command, env=variables(scripts), capture_output=True, text=True, timeout=PATIENCE, check=True)
        return [line.split("\t")[0] for line in done.stdout.splitlines()]

    assert suggestions("graft ser") == ["serve"]
    assert suggestions("graft jobs pa") == ["pause"]
    assert suggestions("graft serve --kv-m") == ["--kv-memory"]
    assert {"terminal", "text", "json"} <= set(suggestions("graft serve --log-format "))
    assert suggestions("graft nonsense --kv-m") == []


@pytest.mark.skipif(not shutil.which("zsh"), reason="there is no zsh")
def test_zsh(scripts):
    shell = Terminal("-f", "-i", program="zsh", columns=200, env=variables(scripts))
    shell.ask(f"PS1='> '; fpath=({scripts} $fpath); autoload -Uz compinit; compinit -D -u; echo is-rea''dy", "is-ready")
    for typed, completed in (("graft ser", "graft serve "), ("graft jobs pa", "graft jobs pause "),
                             ("graft serve --kv-m", "graft serve --kv-memory "),
                             ("graft serve --log-format j", "graft serve --log-format json ")):
        shell.send(typed + "\t")
        shell.expect(completed)
        # Ctrl-U deletes the line.
        shell.send("\x15")
    shell.send("exit\n")
    shell.end()
