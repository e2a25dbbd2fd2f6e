#!/usr/bin/env python3
"""Copies a PEFT adapter's folder with its weights rounded to bf16, in which Graft serves them anyway: half the bytes.

Usage: round_adapter.py SOURCE DESTINATION
"""

import json
import pathlib
import shutil
import struct
import sys


def rounded(words: bytes) -> bytes:
    """f32 values as bf16, to nearest, ties to even."""
    values = struct.unpack(f"<{len(words) // 4}I", words)
    return struct.pack(f"<{len(values)}H", *((v + 0x7FFF + (v >> 16 & 1)) >> 16 for v in values))


def main(source: pathlib.Path, destination: pathlib.Path):
    destination.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "adapter_config.json", destination)
    data = (source / "adapter_model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    body, new, parts, offset = data[8 + length :], {}, [], 0
    for name, entry in header.items():
        if name == "__metadata__":
            new[name] = entry
            continue
        assert entry["dtype"] == "F32", f"{name} is {entry['dtype']}"
        begin, end = entry["data_offsets"]
        part = rounded(body[begin:end])
        new[name] = {"dtype": "BF16", "shape": entry["shape"], "data_offsets": [offset, offset + len(part)]}
        parts.append(part)
        offset += len(part)
    text = json.dumps(new, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    (destination / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
