#!/usr/bin/env python3
"""Writes Sources/Formats/GGUF/Blocks/GGUFGridCodes.swift: the grids of ggml's IQ formats, out of the Python package
`gguf` (0.19, MIT licence), which has them in the form that is written: hexadecimal digits, 2 or 4 bits a value.

Usage: make_gguf_grids.py Sources/Formats/GGUF/Blocks/GGUFGridCodes.swift
"""

import importlib.metadata
import sys

from gguf import quants

GRIDS = ["IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"]
WIDTH = 112

licence = next(file for file in importlib.metadata.files("gguf") if file.name == "LICENSE").read_text()
lines = [
    "// Made by scripts/make_gguf_grids.py; not edited by hand.",
    "//",
    "// Source of the numbers: ggml-org/llama.cpp, gguf-py/gguf/quants.py, under this licence:",
    "//",
    *(f"// {line}".rstrip() for line in licence.strip().splitlines()),
    "",
    "/// The points of the grids of ggml's IQ formats, in the order of their indices, as hexadecimal digits.",
    "enum GGUFGridCodes {",
]
for name in GRIDS:
    kind = getattr(quants, name)
    points, size = kind.grid_shape
    bits = 2 if len(kind.grid_map) <= 4 else 4
    digits = kind.grid_hex.decode()
    assert len(digits) == points * size * bits // 4
    lines += [f"  /// {points} points of {size} codes of {bits} bits, the first code in the low bits of a byte.",
              f'  static let {name.lower().replace("_", "")} = """']
    lines += [f"    {digits[start : start + WIDTH]}\\" for start in range(0, len(digits), WIDTH)]
    lines[-1] = lines[-1][:-1]
    lines += ['    """']
lines += ["}"]
with open(sys.argv[1], "w") as file:
    file.write("\n".join(lines) + "\n")
