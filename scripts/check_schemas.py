"""Compares the grammars of random JSON schemas with jsonschema, which validates, and with llguidance, which decodes.

For each schema some documents are drawn, valid and not. A document is in the grammar, in some order of its keys, if and only
if jsonschema finds it valid. Where llguidance answers otherwise it is counted: it wants decimals of a `multipleOf` with as
many digits as the divisor has (0.50, not 0.5), and refuses what it does not support.

usage: check_schemas.py [--schemas N] [--seed N] -- COMMAND   (the command runs the test SchemaComparisonTests)
"""

import argparse
import collections
import itertools
import json
import os
import random
import re
import subprocess
import sys
import tempfile

import jsonschema
from llguidance import LLMatcher, LLTokenizer

KEYS = ["a", "b", "c", "x1"]
PATTERNS = ["^a", "b$", "^[a-c]*$", "a|c", "^(ab)+$", "^.{2}$", "[0-9]", "^é?x"]
STRINGS = ["", "a", "b", "ab", "abab", "cb", "é", "éx", "x", "a1", "😀", 'q"', "\n", "12"]
NUMBERS = [-7, -2, -1, 0, 1, 2, 3, 5, 10, 12, 99, 0.5, -0.5, 1.25, 2.5, 100, 2**53 + 1, 2**64 + 1, 12345678901234567890123,
           -12345678901234567890123]
MOST_ORDERS = 2_000


def scalar(rng):
    return rng.choice([None, True, False, rng.choice(NUMBERS), rng.choice(STRINGS), rng.choice(STRINGS)])


def value(rng, depth=2):
    kind = rng.random()
    if depth == 0 or kind < 0.5:
        return scalar(rng)
    if kind < 0.75:
        return [value(rng, depth - 1) for _ in range(rng.randint(0, 3))]
    return {key: value(rng, depth - 1) for key in rng.sample(KEYS, rng.randint(0, 3))}


def schema(rng, depth=3):
    if depth == 0 or rng.random() < 0.1:
        return rng.choice([True, {}, {"type": "integer"}, {"type": "string"}, {"const": scalar(rng)}, {"enum": [scalar(rng), scalar(rng)]}, {"type": "null"}, {"type": ["boolean", "number"]}])
    inner = lambda: schema(rng, depth - 1)
    kind = rng.choice(["object"] * 4 + ["array"] * 3 + ["string"] * 2 + ["number"] * 2 + ["combination"] * 3 + ["enum"])
    result = {}
    if kind == "object":
        result["type"] = "object"
        if rng.random() < 0.8:
            result["properties"] = {key: inner() for key in rng.sample(KEYS, rng.randint(0, 3))}
        if rng.random() < 0.5:
            result["required"] = rng.sample(KEYS, rng.randint(0, 2))
        if rng.random() < 0.5:
            result["additionalProperties"] = rng.choice([False, inner()])
        if rng.random() < 0.2:
            result["patternProperties"] = {rng.choice(PATTERNS): inner()}
        if rng.random() < 0.15:
            result[rng.choice(["minProperties", "maxProperties"])] = rng.randint(0, 2)
        if rng.random() < 0.1:
            result["propertyNames"] = {"pattern": rng.choice(PATTERNS)}
        if rng.random() < 0.1:
            result["dependentRequired"] = {rng.choice(KEYS): [rng.choice(KEYS)]}
    elif kind == "array":
        result["type"] = "array"
        if rng.random() < 0.7:
            result["items"] = inner()
        if rng.random() < 0.3:
            result["prefixItems"] = [inner() for _ in range(rng.randint(1, 2))]
        if rng.random() < 0.3:
            result["minItems"] = rng.randint(0, 2)
        if rng.random() < 0.3:
            result["maxItems"] = rng.randint(0, 3)
        if rng.random() < 0.2:
            result["contains"] = inner()
        if rng.random() < 0.15:
            result["uniqueItems"] = True
    elif kind == "string":
        if rng.random() < 0.8:
            result["type"] = "string"
        if rng.random() < 0.6:
            result["pattern"] = rng.choice(PATTERNS)
        if rng.random() < 0.4:
            result["minLength"] = rng.randint(0, 2)
        if rng.random() < 0.4:
            result["maxLength"] = rng.randint(0, 4)
    elif kind == "number":
        result["type"] = rng.choice(["integer", "number", ["integer", "null"]])
        if rng.random() < 0.5:
            result[rng.choice(["minimum", "exclusiveMinimum"])] = rng.choice(NUMBERS)
        if rng.random() < 0.5:
            result[rng.choice(["maximum", "exclusiveMaximum"])] = rng.choice(NUMBERS)
        if rng.random() < 0.3:
            result["multipleOf"] = rng.choice([1, 2, 3, 5, 0.5, 0.25])
    elif kind == "enum":
        result["enum"] = [value(rng, 1) for _ in range(rng.randint(1, 4))]
    else:
        combiner = rng.choice(["anyOf", "anyOf", "oneOf", "allOf", "not", "if"])
        if combiner == "not":
            result = {"not": inner()}
        elif combiner == "if":
            result = {"if": inner(), "then": inner(), "else": inner()}
        else:
            result = {combiner: [inner() for _ in range(rng.randint(1, 3))]}
        if rng.random() < 0.3:
            result["type"] = rng.choice(["object", "array", "string", "integer"])
        if rng.random() < 0.2:
            result[rng.choice(["unevaluatedProperties", "unevaluatedItems"])] = rng.choice([False, inner()])
    return result


def written(document):
    """The document's texts with its keys in every order, up to a limit."""
    if isinstance(document, list):
        return ["[" + ",".join(parts) + "]" for parts in itertools.islice(itertools.product(*map(written, document)), MOST_ORDERS)]
    if isinstance(document, dict):
        pairs = [[json.dumps(key, ensure_ascii=False) + ": " + text for text in written(inner)] for key, inner in document.items()]
        orders = itertools.chain.from_iterable(itertools.product(*order) for order in itertools.permutations(pairs))
        return ["{" + ", ".join(parts) + "}" for parts in itertools.islice(orders, MOST_ORDERS)]
    return [json.dumps(document, ensure_ascii=False)]


def documents(rng, schema):
    """Documents that are likely to be valid, near to valid, and arbitrary."""
    found = [value(rng) for _ in range(12)]
    for _ in range(12):
        found.append(sample(rng, schema))
    unique = {json.dumps(document, sort_keys=True): document for document in found}
    return list(unique.values())


def sample(rng, schema, depth=4):
    if not isinstance(schema, dict) or depth == 0 or rng.random() < 0.1:
        return scalar(rng)
    if "enum" in schema:
        return rng.choice(schema["enum"])
    if "const" in schema:
        return schema["const"]
    for combiner in ("anyOf", "oneOf", "allOf"):
        if combiner in schema:
            return sample(rng, rng.choice(schema[combiner]), depth - 1)
    if "if" in schema:
        return sample(rng, schema[rng.choice(["if", "then", "else"])], depth - 1)
    kind = schema.get("type", "string")
    kind = rng.choice(kind) if isinstance(kind, list) else kind
    if kind == "object":
        keys = [key for key in list(schema.get("properties", {})) + schema.get("required", []) + [rng.choice(KEYS)] if rng.random() < 0.7 or key in schema.get("required", [])]
        return {key: sample(rng, schema.get("properties", {}).get(key, schema.get("additionalProperties", True)), depth - 1) for key in keys}
    if kind == "array":
        prefix = schema.get("prefixItems", [])
        count = rng.randint(schema.get("minItems", 0), schema.get("maxItems", 3) if schema.get("maxItems", 3) >= schema.get("minItems", 0) else 3)
        return [sample(rng, prefix[i] if i < len(prefix) else schema.get("items", True), depth - 1) for i in range(count)]
    if kind in ("integer", "number"):
        return rng.choice(NUMBERS)
    return {"null": None, "boolean": True}.get(kind, rng.choice(STRINGS))


def pattern(validator, pattern, instance, schema):
    """`$` matches only at the end, as in ECMA-262; in Python it also matches before a last line end."""
    if isinstance(instance, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), instance):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": pattern})


def decoder(schema, tokenizer):
    """What llguidance makes of a schema: a function of texts, or a message."""
    grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema if isinstance(schema, dict) else {"allOf": [schema]}))
    matcher = LLMatcher(tokenizer, grammar)
    if matcher.is_error():
        return matcher.get_error()

    def accepts(text):
        matcher.reset()
        data = list(text.encode())
        return matcher.try_consume_tokens(data) == len(data) and matcher.is_accepting()

    return accepts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--schemas", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=0, help="how many differences of llguidance to print")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    cases = []
    for _ in range(options.schemas):
        drawn = schema(rng)
        cases.append((drawn, documents(rng, drawn)))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "cases.jsonl")
        with open(path, "w") as output:
            for drawn, drawn_documents in cases:
                output.write(json.dumps({"schema": drawn, "documents": [written(document) for document in drawn_documents]}) + "\n")
        subprocess.run(options.command, check=True, env=os.environ | {"SCHEMA_CASES": path}, stdout=subprocess.DEVNULL)
        answers = [json.loads(line) for line in open(path + ".answers")]
    assert len(answers) == len(cases)

    tokenizer = LLTokenizer("byte")
    counts = collections.Counter()
    refusals = collections.Counter()
    wrong, differences = [], []
    for (drawn, drawn_documents), answer in zip(cases, answers):
        validator = Validator(drawn)
        valid = [validator.is_valid(document) for document in drawn_documents]
        if isinstance(answer, str) and answer != "#: no value satisfies the schema":
            counts["schemas refused"] += 1
            refusals[re.sub(r"\d+", "N", answer.split(": ", 1)[1])] += 1
            continue
        accepted = [False] * len(valid) if isinstance(answer, str) else answer
        counts["schemas compared"] += 1
        theirs = decoder(drawn, tokenizer)
        if isinstance(theirs, str):
            counts["schemas that only llguidance refuses"] += 1
        for document, is_valid, is_accepted in zip(drawn_documents, valid, accepted):
            counts["documents, valid" if is_valid else "documents, not valid"] += 1
            if is_valid != is_accepted:
                wrong.append((drawn, document, is_valid))
            if callable(theirs):
                other = any(theirs(text) for text in written(document))
                if other != is_accepted:
                    counts["documents that llguidance " + ("accepts though they are not valid" if other else "rejects though they are valid")] += 1
                    differences.append((drawn, document))
    for name, count in sorted(counts.items()):
        print(f"{count:7} {name}")
    for reason, count in refusals.most_common():
        print(f"{count:7} refused: {reason}")
    for drawn, document in differences[: options.show]:
        print("llguidance differs:", json.dumps(drawn), json.dumps(document))
    for drawn, document, is_valid in wrong[:20]:
        print("WRONG:", json.dumps(drawn), json.dumps(document), "is valid" if is_valid else "is not valid")
    print(f"{len(wrong)} wrong")
    sys.exit(1 if wrong else 0)


main()
