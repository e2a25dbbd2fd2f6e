"""What the pages in docs say about options, routes, fields, metrics and sizes, held against the program itself."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from graft_server import MODEL, ROOT, run

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
MOVING = sorted((DOCS / "guides").glob("from-*.md"))
COMMANDS = [
    "serve", "train", "sweep", "prepare", "chat", "generate", "bench", "doctor", "config", "tokenize", "backup", "restore",
    "adapters list", "adapters load", "adapters unload", "adapters remove", "adapters inspect", "adapters prune", "jobs list",
    "jobs follow", "jobs download",
]
FIELDS = re.compile(r"<!-- fields of (\S+) -->\n\n((?:\|.*\n)+)")


def cells(table: str) -> list[list[str]]:
    """The rows of a table, without its head."""
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines() if line.startswith("|")]
    return [row for index, row in enumerate(rows) if index >= 2]


def spans(page) -> list[str]:
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", page.read_text())


def answers(page) -> list[str]:
    """The code spans of the last cells of all tables: what Graft is said to have."""
    lines = [line for line in page.read_text().splitlines() if line.startswith("|")]
    return [span for line in lines for span in re.findall(r"`([^`]+)`", re.split(r"(?<!\\)\|", line)[-2])]


def fields() -> list[tuple[str, str, str]]:
    """Route, field with its value, and what becomes of it."""
    return [(route, row[0].strip("`"), row[1]) for page in MOVING for route, table in FIELDS.findall(page.read_text())
            for row in cells(table)]


@pytest.fixture(scope="module")
def options() -> set[str]:
    """The options of all commands."""
    texts = [run(*command.split(), "--help") for command in COMMANDS]
    assert all(text.returncode == 0 for text in texts)
    return {option for text in texts for option in re.findall(r"--[a-z][a-z0-9-]*", text.stdout.decode())}


@pytest.mark.parametrize("page", MOVING, ids=lambda page: page.stem)
def test_options_exist(page, options):
    named = {option for span in answers(page) for option in re.findall(r"--[a-z][a-z0-9-]*", span)}
    assert named and named <= options, named - options


def test_hyperparameters_exist(options):
    """Names that jobs take are those of `graft train`, with underscores."""
    table = (DOCS / "guides/from-openai.md").read_text().split("## Settings")[1].split("## Data")[0]
    named = set(re.findall(r"`((?:n|batch|learning|lora|target|gradient|max|scheduler)[a-z_]*)`", table))
    assert len(named) > 8
    assert {"--" + name.replace("_", "-") for name in named} <= options


def routes(spans) -> set[tuple[str, str]]:
    """The methods and paths that code spans name. Behind `GET` alone, the next path has that method, too."""
    found, methods = set(), []
    for span in spans:
        if named := re.fullmatch(r"(GET|POST|PUT|DELETE)(?: (/[^?\s]*)(?:\?\S*)?)?", span.replace("…", "/v1/fine_tuning/jobs")):
            methods.append(named[1])
            if named[2]:
                found |= {(method, re.sub(r"\{[^}]*\}", "{}", named[2])) for method in methods}
                methods = []
    return found


@pytest.fixture(scope="module")
def documented(server) -> set[tuple[str, str]]:
    paths = server.http.get("/openapi.json").json()["paths"]
    return {(method.upper(), re.sub(r"\{[^}]*\}", "{}", path)) for path, methods in paths.items() for method in methods}


@pytest.mark.parametrize("page", [*MOVING, DOCS / "capacity.md"], ids=lambda page: page.stem)
def test_routes_exist(page, documented):
    named = routes(answers(page) if page in MOVING else spans(page))
    assert named <= documented, named - documented


def test_every_route_is_in_the_tables(documented):
    """The tables of routes have those of the OpenAPI document, and beside them only the console."""
    named = {route for page in ("api.md", "training.md") for line in (DOCS / page).read_text().splitlines()
             if line.startswith("|") for route in routes(re.findall(r"`([^`]+)`", re.split(r"(?<!\\)\|", line)[1]))}
    assert named == documented | {("GET", "/")}, named ^ (documented | {("GET", "/")})


def test_metrics_exist(server):
    server.complete("a", max_tokens=2)
    served = server.http.get("/metrics").text
    for page in PAGES:
        for metric in spans(page):
            if re.fullmatch(r"graft_[a-z_]+[a-z]", metric):
                assert re.search(rf"^# TYPE {metric} ", served, re.M), f"{page.name}: {metric}"


def test_there_are_fields():
    assert len(fields()) > 40


@pytest.mark.parametrize("route, field, outcome", fields())
def test_a_field(server, route, field, outcome):
    """A field with its value is honoured, accepted or refused as its row says."""
    given = json.loads("{" + field.replace("\\|", "|") + "}")
    body = {"max_tokens": 2, "temperature": 0}
    body |= {"messages": [{"role": "user", "content": "a"}]} if "chat" in route else {"prompt": "a b c d e f"}
    reply = server.http.post(route, json=body | given)
    kind = re.match(r"honoured|accepted|refused", outcome)[0]
    if kind == "refused":
        assert reply.status_code == 400 and reply.json()["error"]["param"] in given, reply.text
    else:
        assert reply.status_code == 200, reply.text


# The pages themselves.


def slug(heading: str) -> str:
    return re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)).strip().lower())


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", *PAGES],
                         ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    for path, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", text):
        if "://" in path:
            continue
        target = page.parent / path if path else page
        assert target.exists(), path
        if anchor:
            assert anchor in {slug(heading) for heading in re.findall(r"^#+ (.*)$", target.read_text(), re.M)}, f"{path}#{anchor}"


def test_readme_shows_the_newest_two_reports():
    code = "import speed_report; print(speed_report.BEGIN + chr(10) + speed_report.readme_table() + speed_report.END)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "scripts/bench", capture_output=True, text=True, check=True)
    assert done.stdout.strip() in (ROOT / "README.md").read_text()
    assert done.stdout.count("\n| ") == 4


def test_the_site_lists_every_page():
    listed = re.findall(r"([\w./-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    own = [path for path in listed if not path.startswith("repository/")]
    assert sorted(own) == sorted(str(page.relative_to(DOCS)) for page in PAGES)
    assert all((ROOT / path.removeprefix("repository/")).is_file() for path in set(listed) - set(own))


def test_the_index_links_every_page():
    linked = set(re.findall(r"\]\(([\w./-]+\.md)\)", (DOCS / "README.md").read_text()))
    pages = {str(page.relative_to(DOCS)) for folder in (DOCS, DOCS / "guides") for page in folder.glob("*.md")} - {"README.md"}
    assert pages <= linked, pages - linked


def test_every_row_of_formats_names_tests_that_exist():
    """The last cells of the tables: suites, files, checks of peers, and cases or functions by their names."""
    swift = "\n".join(path.read_text() for path in (ROOT / "Tests").rglob("*.swift"))
    checks = "\n".join(path.read_text() for path in (ROOT / "scripts/peer_checks").glob("*.py"))

    def exists(name, column):
        if name.startswith("make "):
            return f"\n{name.removeprefix('make ')}:" in (ROOT / "Makefile").read_text()
        if name.endswith(".py"):
            return (ROOT / "Tests/Conformance" / name).is_file()
        if name.endswith("Tests"):
            return re.search(rf"\b(struct|class) {name}\b", swift)
        if column == "check":
            return f'"{name}' in checks
        return f"func {name}(" in swift or re.search(f'"{name.replace("*", "[a-z-]*")}"', swift)

    tables = [table.group() for table in re.finditer(r"(?:^\|.*\n)+", (DOCS / "formats.md").read_text(), re.M)]
    columns = [re.split(r"\|", table.splitlines()[0])[-2].strip() for table in tables]
    assert set(columns) == {"test", "check"}
    for table, column in zip(tables, columns):
        for row in cells(table):
            names = re.findall(r"`([^`]+)`", row[-1])
            assert names and all(exists(name, column) for name in names), row


@pytest.mark.parametrize("script", ["capacity", "drawings"])
def test_what_scripts_make_is_up_to_date(script):
    done = subprocess.run([sys.executable, ROOT / f"scripts/docs/{script}.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_computed_size_is_that_of_the_file(server, data_dir):
    """The formulas of the capacity page, for the small model: its prepared file, and a position's keys and values."""
    spec = importlib.util.spec_from_file_location("capacity", ROOT / "scripts/docs/capacity.py")
    capacity = importlib.util.module_from_spec(spec)
    sys.modules["capacity"] = capacity
    spec.loader.exec_module(capacity)
    model = capacity.MODELS["SmolLM2 135M"]
    prepared = run("prepare", "--model", MODEL, "--data-dir", data_dir)
    file = Path(prepared.stdout.decode().strip())
    assert abs(file.stat().st_size / model.file - 1) < 0.01
    assert f"{model.file / 1e6:.0f} MB" in prepared.stderr.decode()


def test_the_sweeps_are_those_of_their_page():
    """Every loss in the tables of the page on a first adapter is in the figures that the sweeps left."""
    figures = json.loads((DOCS / "benchmarks/sweeps.json").read_text())
    page = (DOCS / "guides/first-adapter.md").read_text()
    for name, sweep in figures.items():
        assert f"sweep-{name}.svg" in page and f"curves-{name}.svg" in page
        drawing = (DOCS / f"images/sweep-{name}.svg").read_text()
        (table,) = re.findall(rf"<!-- sweep {name} -->\n\n((?:\|.*\n)+)", page)
        for result, row in zip(sweep["runs"], cells(table), strict=True):
            assert row[0].strip("`") in result["settings"].values()
            best, last = min(loss for _, loss in result["validations"]), result["validations"][-1][1]
            assert row[1:4] == [f"{result['losses'][-1]:.2f}", f"{best:.2f}", f"{last:.2f}"], row
            assert f"{best:.4f}" in drawing
