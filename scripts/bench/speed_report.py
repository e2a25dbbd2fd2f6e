"""The text and the picture of the reports that speed.py writes, and README's table of the newest two.

    scripts/bench/speed_report.py    writes README's table again
"""

import json

from peers import ROOT

PASSES = (1, 4, 16, 64, 128)
REPORTS = ROOT / "docs/benchmarks"
NAMES = {
    "amd-zen3": "AMD EPYC, Zen 3", "amd-zen4": "AMD EPYC, Zen 4", "amd-zen5": "AMD EPYC, Zen 5",
    "intel-skylake-server": "Intel Xeon, Skylake", "intel-ice-lake-server": "Intel Xeon, Ice Lake",
    "intel-sapphire-rapids": "Intel Xeon, Sapphire Rapids", "intel-emerald-rapids": "Intel Xeon, Emerald Rapids",
    "intel-granite-rapids": "Intel Xeon, Granite Rapids",
}
KERNELS = {"avx2": "AVX2", "avx512": "AVX-512", "vnni": "AVX-512 VNNI", "amx": "AMX"}
BEGIN, END = "<!-- speed: begin -->", "<!-- speed: end -->"
KEYS = ["prefill_tokens_per_second", "decode_tokens_per_second"]


def text(report, family):
    parts = heading(report, family)
    if report["shapes"]:
        parts += table(report)
    if report["contexts"]:
        parts += contexts_table(report["contexts"])
    if report["passes"]:
        parts += passes_table(report["passes"])
    parts += conditions(report["measured"])
    return parts + "".join(f"\n{line}\n" for line in report.get("left_out", []))


def conditions(measured):
    """When each part was measured, and how: a paragraph for the parts that were measured alike."""
    alike = {}
    for name, one in measured.items():
        alike.setdefault((one["threads"], one.get("peer")), []).append(f"{name} {one['when']}")
    return "".join(
        f"\nMeasured with {threads} threads{f', beside {peer}' if peer else ''} (date and commit): {'; '.join(names)}.\n"
        for (threads, peer), names in alike.items())


def best_peer(rows):
    """The best of the peer's types for prefill, and for decode; `None` where the peer was not measured."""
    return [max((row[key] for name, row in rows.items() if name.startswith("llama")), default=None) for key in KEYS]


def peer_ratios(rows):
    """The cells that compare Graft's prefill and decode with the peer's best; `None` where the peer was not measured."""
    best = best_peer(rows)
    return " | ".join(f"{rows['graft fast'][key] / value:.2f}" for key, value in zip(KEYS, best)) if best[0] else None


def heading(report, family):
    programs = [*report["shapes"].values(),
                *(length["programs"] for lengths in report["contexts"].values() for length in lengths.values())]
    kernels = sorted({row["kernels"] for rows in programs for row in rows.values() if "kernels" in row})
    return (f"Tokens a second on {report.get('processor', 'AMD EPYC')} ({family}; kernels: "
            f"{', '.join(kernels) or 'not recorded'}).\n")


def table(report):
    results = report["shapes"]
    rounds = ", ".join(f"{number} for {shape}" for shape, number in report["rounds"].items())
    lines = ["", f"One request; medians of interleaved rounds: {rounds}.", "",
             "| model | program | prefill | decode | prefill, share of integer peak | decode, share of read bandwidth |",
             "| --- | --- | --- | --- | --- | --- |"]
    for shape, rows in results.items():
        for name, row in rows.items():
            shares = ["", ""]
            if "prefill_share_of_peak" in row:
                shares = [f"{row['prefill_share_of_peak']:.0%}", f"{row['decode_share_of_bandwidth']:.0%}"]
            lines.append(f"| {shape} | {name} | {row['prefill_tokens_per_second']:.1f} | "
                         f"{row['decode_tokens_per_second']:.1f} | {shares[0]} | {shares[1]} |")
        if ratios := peer_ratios(rows):
            lines.append(f"| {shape} | graft fast ÷ llama.cpp's better | {ratios} | | |")
    return "\n".join(lines) + "\n"


def contexts_table(contexts):
    lines = ["", "Long contexts: prefill of so many tokens, and decode of 16 tokens after them; medians of interleaved rounds.", "",
             "| model | tokens | program | prefill | decode |", "| --- | --- | --- | --- | --- |"]
    for shape, lengths in contexts.items():
        for length, measured in lengths.items():
            rows = measured["programs"]
            for name, row in rows.items():
                lines.append(f"| {shape} | {length} | {name} | {row[KEYS[0]]:.1f} | {row[KEYS[1]]:.1f} |")
            if ratios := peer_ratios(rows):
                lines.append(f"| {shape} | {length} | graft ÷ llama.cpp's best (rounds: {measured['rounds']}) | {ratios} |")
    return "\n".join(lines) + "\n"


def passes_table(passes):
    lines = ["", "Time of a pass that decodes one token of each of n sequences, `fast`, in ms, and as a multiple of one row's.", "",
             "| model | " + " | ".join(f"n = {rows}" for rows in PASSES) + " |", "| --- |" + " --- |" * len(PASSES)]
    for shape, times in passes.items():
        times = list(times.values())
        lines.append(f"| {shape} | " + " | ".join(f"{t:.1f} ({t / times[0]:.1f})" for t in times) + " |")
    return "\n".join(lines) + "\n"


def plot(results):
    """Bars of every program's speed, relative to the fastest of its row."""
    bars, y = [], 30
    for shape, rows in results.items():
        for key, title in zip(KEYS, ["prefill", "decode"]):
            bars.append(f'<text x="10" y="{y}" font-weight="bold">{shape} {title}, tokens/s</text>')
            y += 8
            most = max(row[key] for row in rows.values())
            for name, row in rows.items():
                width = 360 * row[key] / most
                colour = "#2a6f97" if name.startswith("graft") else "#adb5bd"
                bars.append(f'<rect x="140" y="{y}" width="{width:.1f}" height="14" fill="{colour}"/>'
                            f'<text x="132" y="{y + 11}" text-anchor="end">{name}</text>'
                            f'<text x="{146 + width:.1f}" y="{y + 11}">{row[key]:.1f}</text>')
                y += 18
            y += 22
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="580" height="{y}" font-family="sans-serif" font-size="12">'
            f'<rect width="580" height="{y}" fill="white"/>' + "".join(bars) + "</svg>\n")


def newest_reports(count=2):
    """Reports with the small model beside its peer, the newest first: (family, report)."""
    found = []
    for path in REPORTS.glob("*/speed.json"):
        report = json.loads(path.read_text())
        rows = report["shapes"].get("135m", {})
        # README has no row for a processor whose newer instructions were left out.
        if best_peer(rows)[0] and not path.parent.name.endswith("-avx2"):
            found.append((report["measured"]["135m"]["when"], path.parent.name, report))
    return [(family, report) for _, family, report in sorted(found, key=lambda entry: entry[:2], reverse=True)[:count]]


def readme_table():
    lines = ["| processor | prefill | llama.cpp | ratio | decode | llama.cpp | ratio |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for family, report in newest_reports():
        rows = report["shapes"]["135m"]
        kernels = KERNELS.get(rows["graft fast"].get("kernels"), "")
        cells = [NAMES.get(family, family) + (f" ({kernels})" if kernels else "")]
        for key, peer in zip(KEYS, best_peer(rows)):
            mine = rows["graft fast"][key]
            cells += [f"{mine:.0f}", f"{peer:.0f}", f"{mine / peer:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def update_readme():
    path = ROOT / "README.md"
    before, rest = path.read_text().split(BEGIN)
    path.write_text(before + BEGIN + "\n" + readme_table() + END + rest.split(END)[1])


if __name__ == "__main__":
    update_readme()
