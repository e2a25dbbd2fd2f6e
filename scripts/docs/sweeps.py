#!/usr/bin/env python3
"""Makes the plots of docs/guides/first-adapter.md: `graft sweep` on the small model, one hyperparameter at a time.

For each sweep, docs/images gets the drawing that Graft made (sweep-NAME.svg) and the curves of its runs
(curves-NAME.svg), which are drawn here from the checkpoints; docs/benchmarks/sweeps.json gets the figures, and the page
their table. Ten minutes for all on two threads. Usage: scripts/docs/sweeps.py [rate|rank|alpha|dropout|targets ...]
"""

import json
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
GRAFT = os.environ.get("GRAFT_BINARY") or ROOT / ".build/release/graft"
MODEL = ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"
DATA = ROOT / "examples/data/pirate.jsonl"
IMAGES = ROOT / "docs/images"
PAGE = ROOT / "docs/guides/first-adapter.md"
FIGURES = ROOT / "docs/benchmarks/sweeps.json"

# What all runs share: a third of the 36 rows is held out, and the other 24 are gone through five times.
COMMON = ["--validation-split", "0.33", "--seed", "42"]
USUAL = ["--n-epochs", "5", "--checkpoint-steps", "5"]
RATE = ["--learning-rate", "1e-3"]
SWEEPS = {
    "rate": ["--learning-rate", "2e-5,2e-4,1e-3,4e-3,1e-2,3e-2", *USUAL],
    "rank": ["--lora-r", "1,4,16,64", *RATE, *USUAL],
    "alpha": ["--lora-alpha", "2,8,32,128,512", *RATE, *USUAL],
    "targets": ["--target-modules", "q_proj,v_proj;q_proj,k_proj,v_proj,o_proj;gate_proj,up_proj,down_proj;all-linear",
                *RATE, *USUAL],
    "dropout": ["--lora-dropout", "0,0.1,0.5", *RATE, "--n-epochs", "8", "--checkpoint-steps", "8"],
}
COLOURS = ["#1f5f8b", "#c2571a", "#2f7d4f", "#7a4ea3", "#b08900", "#a33b5c"]


def runs(folder):
    """The runs of a sweep in the order of its values, with the losses that their last checkpoints record."""
    results = json.loads((folder / "sweep.json").read_text())
    for result in sorted(results, key=lambda result: int(result["folder"].removeprefix("run-"))):
        run = folder / result.pop("folder")
        last = max(run.glob("checkpoint-*/trainer.json"), key=lambda path: int(path.parent.name.removeprefix("checkpoint-")))
        progress = json.loads(last.read_text())["progress"]
        result["losses"] = [round(loss, 4) for loss in progress["losses"]]
        result["validations"] = [[step, round(loss, 4)] for step, loss in progress["validations"]]
        yield result


def curves(title, results):
    """A drawing: the validation losses of each run as a line with dots, its training losses as a faint one."""
    top = min(6.0, max(max(r["losses"] + [loss for _, loss in r["validations"]]) for r in results))
    steps = len(results[0]["losses"])
    width, left, right, high, low = 640, 48, 470, 44, 292

    def at(step, loss):
        y = low - (low - high) * min(loss, top) / top
        return f"{left + (right - left) * (step - 1) / (steps - 1):.1f},{y:.1f}"

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="330" font-family="sans-serif" font-size="11">',
             f'<rect width="{width}" height="330" fill="white"/><text x="16" y="24" font-size="14">{title}</text>']
    for value in range(math.floor(top) + 1):
        y = low - (low - high) * value / top
        parts.append(f'<path d="M{left} {y:.1f}H{right}" stroke="#e3e3e3"/>'
                     f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value}</text>')
    parts.append(f'<text x="{left}" y="312">step 1</text><text x="{right}" y="312" text-anchor="end">step {steps}</text>')
    for index, result in enumerate(results):
        colour, label = COLOURS[index], ", ".join(result["settings"].values()).replace("_proj", "")
        training = " ".join(at(step + 1, loss) for step, loss in enumerate(result["losses"]))
        points = [at(step, loss) for step, loss in result["validations"]]
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-opacity="0.3" points="{training}"/>')
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{" ".join(points)}"/>')
        parts += ['<circle cx="{}" cy="{}" r="3" fill="{}"/>'.format(*point.split(","), colour) for point in points]
        y = high + 12 + 18 * index
        parts.append(f'<path d="M{right + 14} {y - 4}h16" stroke="{colour}" stroke-width="2"/>'
                     f'<text x="{right + 36}" y="{y}">{label}</text>')
    return "\n".join(parts) + "\n</svg>\n"


def write_table(name, results):
    """Writes the table of a sweep into the page."""
    lines = ["| value | last training loss | best validation loss | last validation loss | parameters |", "| --- | --- | --- | --- | --- |"]
    for run in results:
        (value,) = run["settings"].values()
        best = min(loss for _, loss in run["validations"])
        lines.append(f"| `{value}` | {run['losses'][-1]:.2f} | {best:.2f} | {run['validations'][-1][1]:.2f} | {run['parameters']:,} |")
    page = PAGE.read_text()
    PAGE.write_text(re.sub(rf"(<!-- sweep {name} -->\n\n)(?:\|.*\n)*", lambda found: found[1] + "\n".join(lines) + "\n", page))


def sweep(name):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder) / "sweep"
        subprocess.run([GRAFT, "sweep", "--model", MODEL, "--data", DATA, "--output", folder, *COMMON, *SWEEPS[name]], check=True)
        results = list(runs(folder))
        (IMAGES / f"sweep-{name}.svg").write_text((folder / "sweep.svg").read_text())
    title = f"validation (dots) and training losses by {' '.join(results[0]['settings']).replace('_', ' ')}"
    (IMAGES / f"curves-{name}.svg").write_text(curves(title, results))
    write_table(name, results)
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    figures[name] = {"arguments": [*COMMON, *SWEEPS[name]], "runs": results}
    # One line a run.
    text = ",\n".join(
        f'"{key}": {{"arguments": {json.dumps(value["arguments"])}, "runs": [\n'
        + ",\n".join(json.dumps(run) for run in value["runs"]) + "\n]}" for key, value in figures.items())
    FIGURES.write_text("{\n" + text + "\n}\n")


if __name__ == "__main__":
    for name in sys.argv[1:] or SWEEPS:
        sweep(name)
