"""Every snippet of the README and of the pages in docs, run as it stands against a server of its own."""

import re
import subprocess
import sys

import pytest

from graft_server import BINARY, PATIENCE, ROOT, Server, environment

# What sets everything up is what runs this suite.
SET_UP = re.compile(r"^make (serve|test)\b")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# A block of commands or Python, with what stands before it if it is not run.
BLOCK = re.compile(r"^(?:<!-- not run: ([^\n]+) -->\n)?```(sh|python)\n(.*?)^```$", re.M | re.S)


def name(page) -> str:
    """A page's path below docs, or README.md."""
    return str(page.relative_to(ROOT / "docs")) if page.is_relative_to(ROOT / "docs") else page.name


def snippets() -> list[tuple[str, str, str]]:
    """Page, language and text of each block that is run, without the lines that set up."""
    found = []
    for page in PAGES:
        for reason, language, text in BLOCK.findall(page.read_text()):
            text = "".join(line for line in text.splitlines(keepends=True) if not SET_UP.match(line))
            if text.strip() and not reason:
                found.append((name(page), language, text))
    return found


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, data_dir):
    """A folder that looks like the repository's, and the server of the tour."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("models", "Tests", "examples"):
        (folder / name).symlink_to(ROOT / name)
    with Server("--adapters", ROOT / "examples/adapters", data_dir=data_dir) as server:
        yield folder, server


def test_there_are_snippets():
    assert len(snippets()) >= 20


def test_what_is_not_run_is_listed():
    """Every block that is not run has a row in the list in docs/README.md, with its reason and one of its commands."""
    left_out = [(name(page), reason, text) for page in PAGES for reason, _, text in BLOCK.findall(page.read_text()) if reason]
    listed = (ROOT / "docs/README.md").read_text().split("## Commands that are not run")[1]
    rows = [re.split(r" ?\| ?", line)[1:-1] for line in listed.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == len(left_out)
    for page, command, reason in rows:
        matching = [text for found, why, text in left_out if (found, why) == (page, reason)]
        assert len(matching) == 1 and command.strip("`") in matching[0], (page, command, reason)


def test_shell_blocks_are_marked_as_such():
    """A block in another language would not be run."""
    for page in PAGES:
        # Every second fence opens a block.
        for language in re.findall(r"^```(.*)$", page.read_text(), re.M)[::2]:
            assert language in ("sh", "python", "yaml", "ini", "json", "text"), f"{name(page)}: {language or 'no language'}"


@pytest.mark.parametrize("index", range(len(snippets())))
def test_snippet(workplace, data_dir, index):
    folder, server = workplace
    page, language, text = snippets()[index]
    text = text.replace("localhost:8080", f"localhost:{server.port}").replace(".build/release/graft", str(BINARY))
    # A curl that gets an error's status fails, and so does what goes on from it.
    command = ["bash", "-euo", "pipefail", "-c", 'curl() { command curl -sS --fail-with-body "$@"; }\n' + text]
    if language == "python":
        command = [sys.executable, "-c", text]
    done = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=4 * PATIENCE,
        env=environment() | {"GRAFT_DATA_DIR": str(data_dir / "readme")})
    assert done.returncode == 0, f"{page}:\n{text}\n{done.stdout}\n{done.stderr}"


def test_the_tours_adapters_have_a_visible_style(workplace):
    _, server = workplace
    body = {"messages": [{"role": "user", "content": "Name three colours."}], "max_tokens": 40, "temperature": 0}

    def answer(name: str) -> str:
        return server.http.post("/v1/chat/completions", params={"adapter": name}, json=body).json()["choices"][0]["message"]["content"]

    assert "Arr, matey!" in answer("pirate") and "Arr" not in answer("base")
    assert answer("shout").isupper() and not answer("base").isupper()


def client_rows() -> list[list[str]]:
    """The cells of each row of the table of client programs."""
    rows = [line for line in (ROOT / "docs/clients.md").read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in rows[2:]]


@pytest.mark.parametrize("row", range(len(client_rows())))
def test_a_client_has_its_test(row):
    """Each row names tests that exist, and the version that they are run with."""
    program, version, _, _, cell = client_rows()[row]
    tests = re.findall(r"`(test_\w+)\.py::(\w+)`", cell)
    assert tests and len(tests) == cell.count("::")
    for file, name in tests:
        path = ROOT / f"Tests/Clients/{file}.py"
        assert re.search(rf"^(?:def|class) {name}\b", path.read_text(), re.M), (file, name)
        pinned = (ROOT / f"Tests/Clients/requirements/{file.removeprefix('test_')}.txt").read_text()
        if program and version != "shape":
            assert re.search(rf"^{re.escape(program)}(?:\[\w+\])?=={re.escape(version)}$", pinned, re.M), (program, version)


def test_every_clients_test_has_a_row():
    named = {found for row in client_rows() for found in re.findall(r"`(test_\w+)\.py::", row[4])}
    assert named == {path.stem for path in (ROOT / "Tests/Clients").glob("test_*.py")}
