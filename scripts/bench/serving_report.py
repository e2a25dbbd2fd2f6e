"""The serving benchmark's results as Markdown."""

import statistics

from peers import cpu, processor

LOADS = {"none": "no adapter", "one": "one adapter", "mixed": "16 adapters, mixed"}


def text(results):
    """`results` has each part's own: its threads, rounds, figures, and what could not be measured."""
    some = next(iter(results.values()))
    lines = [
        f"Serving SmolLM2-135M on {cpu('model name')} ({processor()}), {some['threads']} threads: medians of interleaved rounds, "
        "percentiles over all their requests. Closed loop: each client sends its next request when its last has ended. "
        "Prompts of 32 random tokens, no two the same, 64 tokens each, greedy, streamed. Adapters are random, of rank 16 "
        "on all seven linear modules; mixed means that client i has adapter i mod 16.", "",
    ]
    if (load := results.get("load", {})).get("cases"):
        lines += [f"Medians of {load['rounds']} rounds:", "", *load_table(load["cases"]), "",
                  *ratio_table(load["cases"]), ""]
        if load.get("same_adapters"):
            lines += [same_adapters(load["same_adapters"]), ""]
    if (many := results.get("many", {})).get("cases"):
        lines += [*many_table(many), ""]
    if (lone := results.get("lone", {})).get("share"):
        lines += [f"A lone request of {lone['tokens']} tokens decodes at {lone['http']:.1f} tokens/s over HTTP; `graft "
                  f"bench` at {lone['bench']:.1f} ({lone['share']:.1%}; medians of {len(lone['runs'][0])}).", ""]
    for part in results.values():
        for line in part["left_out"]:
            lines += [line, ""]
    return "\n".join(lines)


def same_adapters(checks):
    seen = "; ".join(f"{check['difference']:.2f} with an adapter on {title} that moves them by {check['effect']:.2f}"
                     for title, check in checks.items())
    without = statistics.mean(check["difference_without"] for check in checks.values())
    return ("llama-server's adapters are Graft's, converted. Checked before measuring, on the same NF4 weights: the 20 "
            "most probable next tokens' log-probabilities differ between the servers by "
            f"{without:.2f} on average without adapter, by {seen}.")


def head(first):
    return [f"| {first} | tokens/s | first token ms, p50 / p95 / p99 | between tokens ms, p50 / p95 / p99 |",
            "| " + " | ".join(["---"] * (first.count("|") + 4)) + " |"]


def numbers(row):
    def three(values, digits):
        return " / ".join(f"{values[key]:.{digits}f}" for key in ("p50", "p95", "p99"))

    return f"{row['tokens_per_second']:.1f} | {three(row['first_token_ms'], 0)} | {three(row['between_tokens_ms'], 1)}"


def load_table(rows):
    lines = head("clients | adapters | program")
    for row in sorted(rows, key=lambda row: (row["clients"], list(LOADS).index(row["load"]), row["program"])):
        lines.append(f"| {row['clients']} | {LOADS[row['load']]} | {row['program']} | {numbers(row)} |")
    return lines


def told(clients):
    return "1 client" if clients == 1 else f"{clients} clients"


def ratio_table(rows):
    by = {(row["program"].split()[0], row["clients"], row["load"]): row for row in rows}
    lines = ["| | |", "| --- | --- |"]

    def ratio(title, above, below):
        if above in by and below in by:
            value = by[above]["tokens_per_second"] / by[below]["tokens_per_second"]
            lines.append(f"| {title} | {value:.2f} |")

    counts = sorted({row["clients"] for row in rows})
    for clients in counts:
        for load, name in LOADS.items():
            ratio(f"{told(clients)}, {name}: graft ÷ llama-server", ("graft", clients, load),
                  ("llama-server", clients, load))
    for clients in counts:
        for program in ("graft", "llama-server"):
            ratio(f"{told(clients)}, {program}: mixed ÷ one adapter", (program, clients, "mixed"),
                  (program, clients, "one"))
    for program in ("graft", "llama-server"):
        if (program, 16, "mixed") in by:
            value = by[program, 16, "mixed"]["first_token_ms"]["p99"]
            lines.append(f"| 16 clients, mixed, {program}: first token, p99 | {value:,.0f} ms |")
    return lines


def many_table(many):
    rows = {row["load"]: row for row in many["cases"]}
    kind = f"rank {many['rank']} on {' and '.join(many['modules'])}, {many['bytes'] / 1e6:.1f} MB each"
    starts = ", ".join(f"{seconds:.1f} s with {title}" for title, seconds in many["seconds_to_register"].items())
    lines = [f"{many['adapters']:,} adapters registered ({kind}; the first start took {starts}), each asked for once "
             f"before, the most wanted last; 16 clients, medians of {many['rounds']} rounds. With memory for {many['fit']}, "
             "the least recently used go and come back from the data folder:", "", *head("adapters")]
    lines += [f"| {load} | {numbers(row)} |" for load, row in rows.items()]
    first = "16 by Zipf, memory for all"
    for load, row in rows.items():
        if load.startswith("1,000") and first in rows:
            share = row["tokens_per_second"] / rows[first]["tokens_per_second"]
            lines.append(f"| {load} ÷ {first} | {share:.2f} | | |")
    return lines
