#!/usr/bin/env python3
"""Measures how long masks take beside llguidance, for the same schemas, texts and vocabularies, in rounds that alternate, and
writes docs/benchmarks/PROCESSOR/masks.{json,md}.

Each program finds the mask before each token of each text. Compiling is timed apart from it. The vocabularies are the small
model's with 49k tokens and Llama 3's with 128k, which comes with llama.cpp's source. Run it in the environment that
`make check-schemas` makes.

    .build-schemas/bin/python scripts/bench/masks.py [--rounds 5] [--models FILE.gguf ...] [--no-peers]
"""

import argparse
import ctypes
import json
import pathlib
import statistics
import struct
import subprocess
import tempfile
import time

import speed
from peers import GRAFT, PEERS, SMALL, cpu, write_report

TEXT = (
    "It was a bright cold day, and the clocks were striking thirteen. The visitor, his chin on his chest, slipped quickly "
    'through the glass doors.\nÜber "alles": 100 % naïve café — 日本語 and 😀.'
)
COUNTRIES = (
    "Albania Algeria Andorra Angola Argentina Armenia Australia Austria Azerbaijan Bahamas Bahrain Bangladesh Barbados "
    "Belarus Belgium Belize Benin Bhutan Bolivia Botswana Brazil Brunei Bulgaria Burundi Cambodia Cameroon Canada Chad "
    "Chile China Colombia Croatia Cuba Cyprus Denmark Djibouti Ecuador Egypt Eritrea Estonia Ethiopia Fiji Finland France"
).split()


def record(properties, required=None, closed=True):
    result = {"type": "object", "properties": properties, "required": list(properties) if required is None else required}
    return {**result, "additionalProperties": False} if closed else result


STRING, INTEGER = {"type": "string"}, {"type": "integer"}
CASES = {
    "person": (
        record({
            "name": STRING, "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "email": {"type": "string", "format": "email"}, "tags": {"type": "array", "items": STRING},
            "address": record({"street": STRING, "zip": {"type": "string", "pattern": "^[0-9]{5}$"}}),
        }),
        {"name": "Ada Lovelace", "age": 36, "email": "ada.lovelace@example.org", "tags": ["mathematics", "poetry"],
         "address": {"street": "12 St James's Square", "zip": "12345"}},
    ),
    "article": (
        record({
            "title": {"type": "string", "minLength": 1, "maxLength": 100}, "summary": {"type": "string", "maxLength": 400},
            "sections": {"type": "array", "minItems": 1, "maxItems": 20,
                         "items": record({"heading": STRING, "body": STRING, "words": INTEGER}, ["heading"], False)},
        }, closed=False),
        {"title": "The clocks", "summary": TEXT, "sections": [
            {"heading": "Beginning", "body": TEXT, "words": 30}, {"heading": "End", "body": TEXT}]},
    ),
    "tree": (
        {"$defs": {"node": record({"value": {"anyOf": [STRING, {"type": "number"}, {"type": "null"}]},
                                   "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}})},
         "$ref": "#/$defs/node"},
        {"value": "root", "children": [
            {"value": i * 1.5, "children": [{"value": f"leaf {j}", "children": []} for j in range(3)]} for i in range(5)]},
    ),
    "event": (
        record({
            "id": {"type": "string", "format": "uuid"}, "kind": {"enum": ["created", "updated", "deleted", "archived"]},
            "at": {"type": "string", "format": "date-time"},
            "actor": {"anyOf": [record({"type": {"const": "user"}, "name": STRING}),
                                record({"type": {"const": "service"}, "url": {"type": "string", "format": "uri"}})]},
            "price": {"type": "number", "minimum": 0, "maximum": 99999},
            "extra": {"type": "object", "additionalProperties": {"type": ["string", "integer", "boolean", "null"]}},
        }),
        {"id": "123e4567-e89b-12d3-a456-426614174000", "kind": "archived", "at": "2024-02-29T23:59:59.123Z",
         "actor": {"type": "service", "url": "https://example.org/a/b?c=d#e"}, "price": 1234.5,
         "extra": {"colour": "red", "n": 12, "ok": True, "none": None}},
    ),
    "countries": (
        {"type": "array", "minItems": 1, "items": record({
            "country": {"enum": COUNTRIES}, "code": {"type": "string", "pattern": "^[A-Z]{2,3}$"}})},
        [{"country": country, "code": country[:2].upper()} for country in COUNTRIES[::6]],
    ),
    "60 fields": (
        record({f"field_{i}": {"type": "string", "maxLength": 20} if i % 3 else INTEGER for i in range(60)}, []),
        {f"field_{i}": "some short text" if i % 3 else i * 37 for i in range(60)},
    ),
    "shell tool": (
        record({"command": {"type": "array", "items": STRING}, "workdir": STRING, "timeout_ms": {"type": "number"}},
               ["command"]),
        {"command": ["bash", "-lc", "rg --files | head -n 20 && sed -n '1,40p' README.md"], "workdir": "/home/user",
         "timeout_ms": 120000},
    ),
    "any object": ({"type": "object"}, {"title": "The clocks", "text": TEXT, "list": [1, 2.5, True, None, {"a": []}]}),
}


def vocabulary(path):
    """The bytes of the tokens of a byte-level vocabulary; none for special ones."""
    with open(path, "rb") as file:
        def number(form):
            return struct.unpack("<" + form, file.read(struct.calcsize(form)))[0]

        def value(kind):
            if kind == 8:
                return file.read(number("Q"))
            if kind == 9:
                inner = number("I")
                return [value(inner) for _ in range(number("Q"))]
            return file.read({0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}[kind])

        assert file.read(4) == b"GGUF", "not a GGUF file"
        number("I"), number("Q")
        fields = {}
        for _ in range(number("Q")):
            key = file.read(number("Q")).decode()
            fields[key] = value(number("I"))
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {chr(byte): byte for byte in plain}
    letters |= {chr(256 + index): byte for index, byte in enumerate(b for b in range(256) if b not in plain)}
    kinds = [struct.unpack("<i", kind)[0] for kind in fields["tokenizer.ggml.token_type"]]
    return [bytes(map(letters.__getitem__, token.decode())) if kind == 1 else b""
            for token, kind in zip(fields["tokenizer.ggml.tokens"], kinds)]


def longest(tokens, ids, text):
    """The text as tokens, each the longest that fits."""
    result, position, most = [], 0, max(map(len, tokens))
    while position < len(text):
        length = next(n for n in range(most, 0, -1) if text[position:position + n] in ids and position + n <= len(text))
        result.append(ids[text[position:position + length]])
        position += length
    return result


def peer(tokens, cases):
    """llguidance's milliseconds to compile each case, and the microseconds of its masks."""
    from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

    class Words:
        eos_token_id, bos_token_id, special_token_ids = 0, None, []

        def __call__(self, text):
            return []

    Words.tokens = [token or b"<special>" for token in tokens]
    tokenizer = LLTokenizer(TokenizerWrapper(Words()))
    mask = (ctypes.c_int32 * ((len(tokens) + 31) // 32))()
    result = {}
    for case in cases:
        start = time.perf_counter()
        matcher = LLMatcher(tokenizer, json.dumps({"grammars": [{"json_schema": case["schema"]}]}))
        compiling = (time.perf_counter() - start) * 1e3
        assert not matcher.get_error(), matcher.get_error()
        times = []
        for token in case["tokens"]:
            start = time.perf_counter()
            matcher.unsafe_compute_mask_ptr(ctypes.addressof(mask), ctypes.sizeof(mask))
            times.append((time.perf_counter() - start) * 1e6)
            assert matcher.consume_token(token), case["name"]
        result[case["name"]] = compiling, times
    return result


def summary(cases):
    """The figures of one program for some cases: of each the milliseconds to compile and the microseconds of the masks."""
    times = sorted(time for _, times in cases for time in times)
    return {"compile_ms": statistics.mean(compiling for compiling, _ in cases), "mask_us_mean": statistics.mean(times),
            "mask_us_p99": times[min(len(times) - 1, int(len(times) * 0.99))]}


def measure(model, rounds, with_peer):
    """The medians over the rounds, for each case and for all together."""
    tokens = vocabulary(model)
    ids = {token: index for index, token in reversed(list(enumerate(tokens))) if token}
    cases = [{"name": name, "schema": schema,
              "tokens": longest(tokens, ids, json.dumps(document, ensure_ascii=False).encode())}
             for name, (schema, document) in CASES.items()]
    names = [*CASES, "all"]
    runs = {"graft": [], "llguidance": []}
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(json.dumps(case) + "\n" for case in cases)
        file.flush()
        for number in range(rounds):
            output = subprocess.run(
                [GRAFT, "bench", "--model", model, "--masks", file.name, "--repetitions", "1", "--json"],
                check=True, capture_output=True, text=True).stdout
            runs["graft"].append({row["name"]: row for row in json.loads(output)["schemas"]})
            if with_peer:
                found = peer(tokens, cases)
                runs["llguidance"].append({
                    name: summary([case for one, case in found.items() if name in (one, "all")]) for name in names})
            print(f"{len(tokens)} tokens, round {number + 1}/{rounds}", flush=True)
    results = {
        name: {program: speed.median_of([{key: value for key, value in run[name].items() if key != "name"} for run in found])
               for program, found in runs.items() if found}
        for name in names}
    return {"tokens": len(tokens), "schemas": results}


def table(result):
    columns = ["compile_ms", "mask_us_mean", "mask_us_p99"]
    lines = [f"## {result['tokens']} tokens", "",
             "| schema | compile, ms | llguidance | mask, mean µs | llguidance | 99 % | llguidance | known state, mean |",
             "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for name, programs in result["schemas"].items():
        cells = []
        for column in columns:
            cells += [f"{programs[program][column]:.2f}" if program in programs else "–" for program in ("graft", "llguidance")]
        lines.append(f"| {name} | {' | '.join(cells)} | {programs['graft']['again_us_mean']:.1f} |")
    return lines + [""]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-peers", action="store_true")
    arguments = parser.parse_args()
    models = arguments.models
    if not models:
        speed.fetch_llama()
        models = [SMALL, next(PEERS.glob("llama_cpp_python-*/vendor/llama.cpp/models/ggml-vocab-llama-bpe.gguf"))]
    results = {"processor": cpu("model name"), "rounds": arguments.rounds,
               "vocabularies": [measure(model, arguments.rounds, not arguments.no_peers) for model in models]}
    lines = ["# Masks of grammars", "", f"{results['processor']}, medians of {arguments.rounds} rounds in turn.", ""]
    for result in results["vocabularies"]:
        lines += table(result)
    write_report("masks", results, "\n".join(lines))


if __name__ == "__main__":
    main()
