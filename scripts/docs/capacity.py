#!/usr/bin/env python3
"""Computes the tables of docs/capacity.md from models' sizes and writes them into the page. `--check` only compares."""

import pathlib
import re
import sys
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/capacity.md"


@dataclass
class Model:
    """The sizes in a model's config.json."""
    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_value_heads: int
    head: int
    vocabulary: int
    tied: bool

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Inputs and outputs of a layer's linear modules: q, k, v, o, gate, up and down."""
        query, key = self.heads * self.head, self.key_value_heads * self.head
        return [(self.hidden, query), (self.hidden, key), (self.hidden, key), (query, self.hidden),
                (self.hidden, self.intermediate), (self.hidden, self.intermediate), (self.intermediate, self.hidden)]

    @property
    def linear(self) -> int:
        """Weights of all linear modules of all layers."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.shapes)

    @property
    def table(self) -> int:
        """Weights of the embedding; the head has as many."""
        return self.vocabulary * self.hidden

    @property
    def file(self) -> float:
        """Bytes of the prepared file: codes with scales in f32 and f16; embedding and head as published, head in bytes."""
        return self.linear * (0.5 + 4 / 64 + 2 / 64) + self.table * ((4 if self.tied else 8) + 1 + 2 / 64)

    @property
    def read(self) -> float:
        """Bytes that each pass reads: codes with scales in f16, and the head in bytes."""
        return self.linear * (0.5 + 2 / 64) + self.table * (1 + 2 / 64)

    @property
    def position(self) -> int:
        """Bytes of a position's keys and values as int16, with an f32 scale for each key and value of a head."""
        return self.layers * self.key_value_heads * (2 * self.head * 2 + 2 * 4)

    def adapter(self, rank: int) -> int:
        """Parameters of an adapter on all linear modules."""
        return self.layers * rank * sum(inputs + outputs for inputs, outputs in self.shapes)


MODELS = {
    "SmolLM2 135M": Model(576, 1536, 30, 9, 3, 64, 49152, True),
    "Llama 3.2 1B": Model(2048, 8192, 16, 32, 8, 64, 128_256, True),
    "Llama 3.1 8B": Model(4096, 14336, 32, 32, 8, 128, 128_256, False),
    "Llama 3.1 70B": Model(8192, 28672, 80, 64, 8, 128, 128_256, False),
    "Llama 3.1 405B": Model(16384, 53248, 126, 128, 8, 128, 128_256, False),
}
# The reference machine: GB that it reads a second times the share that decoding reaches; operations a second of a prefill.
READ = 30e9 * 0.77
OPERATIONS = 16 * 2 * MODELS["Llama 3.1 8B"].linear


def number(value: float) -> str:
    """Two significant digits, or as many as there are before the point."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def gigabytes(value: float) -> str:
    return f"{number(value / 1e9)} GB" if value >= 1e9 else f"{number(value / 1e6)} MB"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def tables() -> dict[str, str]:
    size = [[name, gigabytes(m.linear).replace(" GB", " billion").replace(" MB", " million"), gigabytes(m.file), gigabytes(m.read),
             f"{m.position / 1000:,.0f} kB", gigabytes(m.position * 8192)] for name, m in MODELS.items()]
    adapters = [[name, gigabytes(m.adapter(16) * 2), gigabytes(m.adapter(16) * 4), gigabytes(m.adapter(16) * 16)]
                for name, m in MODELS.items()]
    speed = [[name, number(READ / m.read), number(OPERATIONS / (2 * m.linear)),
              f"{number(m.read * 5 / 0.77 / 1e9)} GB/s"] for name, m in MODELS.items()]
    return {
        "sizes": table(["model", "linear weights", "prepared file", "base in memory", "one position", "8,192 positions"], size),
        "adapters": table(["model", "in memory, bf16", "PEFT file, f32", "parameters, gradients, moments in training"], adapters),
        "speeds": table(["model", "decode, tokens/s", "prefill, tokens/s", "bandwidth for 5 tokens/s"], speed),
    }


def main() -> None:
    old = new = PAGE.read_text()
    for name, text in tables().items():
        new = re.sub(rf"(<!-- {name} -->\n\n).*?(?=\n\n|\Z)\n", lambda found: found[1] + text, new, flags=re.S)
    if "--check" in sys.argv:
        sys.exit(0 if old == new else "docs/capacity.md is not what scripts/docs/capacity.py computes; run it")
    PAGE.write_text(new)


if __name__ == "__main__":
    main()
