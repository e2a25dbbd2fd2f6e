"""What `graft --version` prints, and the script that finds the commit."""

import re
import shutil
import subprocess

import pytest

from graft_server import ROOT, run

GIT = ["git", "-c", "user.name=x", "-c", "user.email=x@x.example", "-c", "init.defaultBranch=main"]


def test_the_version_in_full():
    lines = run("--version").stdout.decode().splitlines()
    assert re.fullmatch(r"\d+\.\d+\.\d+ \(kernels: [a-z0-9-]+\)", lines[0])
    assert re.fullmatch(r"commit: (unknown|[0-9a-f]{12}(, changed)?)", lines[1])
    assert re.search(r"\bscalar\b", lines[2]) and lines[2].startswith("kernels in this build: ")
    for library in ("libevent", "OpenSSL", "OpenBLAS", "SQLite", "PCRE2", "xxHash", "libyaml"):
        assert re.search(rf"\b{library} \d+\.\d+", lines[3]), lines[3]
    assert len(lines) == 4


@pytest.fixture
def sources(tmp_path):
    """A repository with what the script reads."""
    folder = tmp_path / "graft"
    for name in ("scripts/package/write_commit.sh", "scripts/package/commit.txt", ".gitattributes", "Package.swift"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "Sources").mkdir()
    (folder / "Sources/a.swift").write_text("1\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*GIT, *command], cwd=folder, check=True)
    return folder


def commit(sources, output):
    """The commit that the script writes, and when the file was written."""
    output.mkdir(exist_ok=True)
    subprocess.run(["sh", sources / "scripts/package/write_commit.sh", output], check=True, cwd="/")
    assert [path.name for path in output.iterdir()] == ["Commit.swift"]
    file = output / "Commit.swift"
    return re.search(r'^let builtCommit = "(.*)"$', file.read_text(), re.M)[1], file.stat().st_mtime_ns


def test_a_clone(sources, tmp_path):
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=sources, text=True)[:12]
    found, time = commit(sources, tmp_path / "output")
    assert found == head
    (sources / "README.md").write_text("not built")
    assert commit(sources, tmp_path / "output") == (head, time), "the file is only written when it changes"
    (sources / "Sources/a.swift").write_text("2\n")
    assert commit(sources, tmp_path / "output")[0] == head + ", changed"


def test_an_archive(sources, tmp_path):
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=sources, text=True)[:12]
    archive = subprocess.check_output(["git", "archive", "--prefix=unpacked/", "HEAD"], cwd=sources)
    subprocess.run(["tar", "-x"], input=archive, cwd=tmp_path, check=True)
    assert commit(tmp_path / "unpacked", tmp_path / "output")[0] == head


def test_sources_without_a_commit(sources, tmp_path):
    shutil.rmtree(sources / ".git")
    assert commit(sources, tmp_path / "output")[0] == ""
    # Another repository's commit would be wrong.
    subprocess.run([*GIT, "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run([*GIT, "commit", "-q", "--allow-empty", "-m", "other"], cwd=tmp_path, check=True)
    assert commit(sources, tmp_path / "output")[0] == ""
