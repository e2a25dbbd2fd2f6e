#!/usr/bin/env python3
"""Draws the pictures of docs/inside.md: docs/images/inside-*.svg. `--check` only compares."""

import pathlib
import sys

IMAGES = pathlib.Path(__file__).resolve().parents[2] / "docs/images"
INK, LINE, BLUE, ORANGE, GREEN, GREY = "#22303a", "#9aa7b1", "#1f5f8b", "#c2571a", "#2f7d4f", "#e8edf1"
TINTS = {BLUE: "#d4e4f0", ORANGE: "#f8e0d2", GREEN: "#d6ecdf", INK: GREY}

# The 16 values of NF4, as bitsandbytes has them (QLoRA, Dettmers et al., 2023).
LEVELS = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
          -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
          0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0]


class Drawing:
    """Shapes on white, which is legible on dark pages, too."""

    def __init__(self, width: int, height: int):
        self.size = (width, height)
        self.parts: list[str] = []

    def text(self, x, y, text, size=13, anchor="start", colour=INK, bold=False):
        weight = ' font-weight="bold"' if bold else ""
        text = text.replace("&", "&amp;").replace("<", "&lt;")
        self.parts.append(f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"{weight}>{text}</text>')

    def box(self, x, y, width, height, text="", colour=INK, size=13):
        self.parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="3" fill="{TINTS[colour]}" '
                          f'stroke="{colour}"/>')
        if text:
            self.text(x + width / 2, y + height / 2 + size * 0.35, text, size, "middle", colour)

    def line(self, x1, y1, x2, y2, colour=LINE, width=1.5):
        self.parts.append(f'<path d="M{x1:g} {y1:g}L{x2:g} {y2:g}" stroke="{colour}" stroke-width="{width}" fill="none"/>')

    def arrow(self, x1, y1, x2, y2, colour=INK):
        """Straight, to the right or down."""
        self.line(x1, y1, x2, y2, colour)
        tip = f"{x2 - 7:g},{y2 - 4:g} {x2 - 7:g},{y2 + 4:g}" if y1 == y2 else f"{x2 - 4:g},{y2 - 7:g} {x2 + 4:g},{y2 - 7:g}"
        self.parts.append(f'<polygon points="{x2:g},{y2:g} {tip}" fill="{colour}"/>')

    @property
    def svg(self) -> str:
        width, height = self.size
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
                f'font-family="sans-serif">\n<rect width="{width}" height="{height}" rx="6" fill="white"/>\n'
                + "\n".join(self.parts) + "\n</svg>\n")


def nf4() -> Drawing:
    d = Drawing(760, 330)
    d.text(20, 28, "64 neighbouring weights of a row become 64 codes of 4 bits and one scale", 15, bold=True)
    weights = [0.031, -0.008, 0.000, -0.052, 0.017, 0.040, -0.021]
    scale = 0.052
    for index, weight in enumerate(weights + [None]):
        x = 100 + 78 * index
        d.box(x, 48, 70, 28, "…" if weight is None else f"{weight:.3f}")
        if weight is not None:
            code = min(range(16), key=lambda level: abs(LEVELS[level] - weight / scale))
            d.arrow(x + 35, 76, x + 35, 100)
            d.box(x, 100, 70, 28, f"{code:04b}", BLUE)
        else:
            d.box(x, 100, 70, 28, "…", BLUE)
    d.text(20, 67, "weights")
    d.text(20, 119, "codes", colour=BLUE)
    d.box(100, 142, 196, 28, f"scale: {scale}, the largest", ORANGE)
    d.text(310, 161, "32 bytes of codes, 2 of scale (4 in mode f32): 0.53 bytes a weight")
    d.text(20, 206, "The codes stand for 16 values between −1 and 1, close together where weights are frequent:")
    d.line(60, 246, 700, 246, INK)
    for code, level in enumerate(LEVELS):
        x = 380 + 320 * level
        d.line(x, 238, x, 254, BLUE, 2)
        # Neighbours in the middle stand too close for one line.
        d.text(x, 232 if code % 2 else 270, f"{code:04b}", 11, "middle", BLUE)
    for value in (-1, 0, 1):
        d.text(380 + 320 * value, 292, str(value).replace("-", "−"), 12, "middle")
    d.text(20, 316, "weight ≈ scale × value of its code", 13)
    return d


def batch() -> Drawing:
    d = Drawing(760, 316)
    d.text(20, 28, "One pass, five requests, three of them with adapters", 15, bold=True)
    rows = [("A, decoding", "pirate", BLUE), ("B, decoding", "pirate", BLUE), ("C, decoding", "shout", ORANGE),
            ("D, prompt", "none", INK), ("D, prompt", "none", INK), ("E, decoding", "none", INK)]
    for index, (request, adapter, colour) in enumerate(rows):
        y = 60 + 40 * index
        d.text(20, y + 19, request, 12)
        d.box(108, y, 78, 30, "row x", colour)
        d.line(186, y + 15, 214, y + 15, INK)
        d.arrow(372, y + 15, 620, y + 15)
        d.box(620, y, 78, 30, "row y", colour)
    d.parts.append(f'<rect x="214" y="54" width="158" height="242" rx="4" fill="{GREY}" stroke="{INK}"/>')
    d.text(293, 158, "W · x", 18, "middle")
    d.text(293, 182, "the base in NF4,", 12, "middle")
    d.text(293, 198, "read once for all rows", 12, "middle")
    d.text(500, 48, "s · B (A x)", 13, "middle")
    for y, height, name, colour in ((57, 76, "pirate: B · A", BLUE), (137, 36, "shout: B · A", ORANGE)):
        d.box(430, y, 140, height, name, colour)
    d.text(500, 218, "nothing is added", 12, "middle", LINE)
    return d


def scheduler() -> Drawing:
    d = Drawing(760, 270)
    d.text(20, 28, "Passes of the engine, one after the other", 15, bold=True)
    # Each pass: rows by request, in the order that they are stacked.
    passes = [
        [("A", 6, INK)], [("A", 1, BLUE), ("B", 4, INK)], [("A", 1, BLUE), ("B", 4, INK)],
        [("A", 1, BLUE), ("B", 1, ORANGE), ("C", 2, INK)], [("A", 1, BLUE), ("B", 1, ORANGE), ("C", 1, GREEN)],
        [("B", 1, ORANGE), ("C", 1, GREEN)], [],
    ]
    for index, rows in enumerate(passes):
        x, y = 40 + 100 * index, 232
        for name, count, colour in rows:
            for _ in range(count):
                y -= 27
                d.box(x, y, 74, 23, name + (": prompt" if colour == INK else ": token"), colour, 11)
        if rows:
            d.text(x + 37, 252, f"pass {index + 1}", 12, "middle")
    d.box(640, 205, 74, 23, "training", INK, 11)
    d.text(677, 252, "idle", 12, "middle")
    d.line(30, 232, 730, 232, INK)
    return d


def slices() -> Drawing:
    d = Drawing(760, 246)
    d.text(20, 28, "An optimiser step, cut into slices", 15, bold=True)
    d.text(20, 66, "step")
    steps = [("forward", 3, BLUE), ("loss", 1, ORANGE), ("backward", 4, GREEN), ("forward", 3, BLUE), ("loss", 1, ORANGE),
             ("backward", 4, GREEN), ("AdamW", 1, INK)]
    x = 110
    for name, count, colour in steps:
        for _ in range(count):
            d.box(x, 48, 33, 28, "", colour)
            x += 36
        d.text(x - 18 * count - 2, 94, name, 12, "middle", colour)
    d.text(110, 116, "microbatch 1", 12, colour=LINE)
    d.text(398, 116, "microbatch 2", 12, colour=LINE)
    d.text(20, 160, "requests")
    d.text(20, 212, "training")
    d.line(110, 228, 730, 228, INK)
    # Kernel calls and passes take turns on one thread pool.
    time = [("s", 2), ("p", 3), ("p", 3), ("s", 3), ("p", 3), ("s", 6)]
    x = 110
    for kind, count in time:
        for _ in range(count if kind == "s" else 1):
            if kind == "s":
                d.box(x, 196, 33, 28, "", BLUE)
                x += 36
            else:
                d.box(x, 144, 70, 28, "pass", INK)
                x += 73
    return d


DRAWINGS = {"nf4": nf4, "batch": batch, "scheduler": scheduler, "slices": slices}


def main() -> None:
    for name, draw in DRAWINGS.items():
        path = IMAGES / f"inside-{name}.svg"
        if "--check" not in sys.argv:
            path.write_text(draw().svg)
        elif not path.exists() or path.read_text() != draw().svg:
            sys.exit(f"{path.name} is not what scripts/docs/drawings.py draws; run it")


if __name__ == "__main__":
    main()
