"""Makes DocC archives of the libraries, in .build-documentation, and fails on any warning but one: parameters that have no line
of their own, since a name that says all needs none. Usage: check_documentation.py SCRATCH, the folder of a release build."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

MODULES = ["Template", "Tokenization", "Formats", "Kernels", "Grammars", "Model", "Train", "Serve", "Client", "Console"]
ALLOWED = re.compile("Parameter '.*' is missing documentation")
root = Path(__file__).resolve().parents[1]
scratch = Path(sys.argv[1]).resolve()
build = next(scratch.glob("*-linux-gnu/release"))
target = json.loads(subprocess.check_output(["swift", "-print-target-info"]))["target"]["triple"]


def module_maps():
    """Options that tell the compiler of the C modules, which the libraries' interfaces may import."""
    maps = [*root.glob("Sources/C*/module.modulemap"), *build.glob("C*.build/module.modulemap"),
            *scratch.glob("checkouts/*/Sources/GRDBSQLite/module.modulemap")]
    return [word for path in maps for word in ("-Xcc", f"-fmodule-map-file={path}")]


def run(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


folder = root / ".build-documentation"
shutil.rmtree(folder, ignore_errors=True)
problems = []
for module in MODULES:
    graphs = folder / "graphs" / module
    graphs.mkdir(parents=True)
    run("swift-symbolgraph-extract", "-module-name", module, "-target", target, "-I", build / "Modules", *module_maps(),
        "-I", root / "Sources/CKernels/include", "-minimum-access-level", "public", "-skip-synthesized-members", "-output-dir", graphs)
    # Extensions of other modules' types belong to those modules' pages.
    for path in graphs.glob("*@*.json"):
        path.unlink()
    diagnostics = folder / f"{module}.json"
    run("docc", "convert", root / f"Sources/{module}/{module}.docc", "--additional-symbol-graph-dir", graphs,
        "--fallback-display-name", module, "--fallback-bundle-identifier", f"graft.{module}", "--diagnostics-file", diagnostics,
        "--output-dir", folder / f"{module}.doccarchive")
    for found in json.loads(diagnostics.read_text())["diagnostics"]:
        if found["severity"] not in ("warning", "error") or ALLOWED.fullmatch(found["summary"]):
            continue
        place = found.get("source", module).removeprefix(f"file://{root}/")
        line = found["range"]["start"]["line"] if "range" in found else 1
        problems.append(f"{place}:{line}: {found['summary']}")
    diagnostics.unlink()
shutil.rmtree(folder / "graphs")
if problems:
    sys.exit("\n".join([*problems, f"{len(problems)} warnings"]))
print(f"{len(MODULES)} archives in {os.path.relpath(folder)}")
