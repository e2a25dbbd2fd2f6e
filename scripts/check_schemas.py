"""Compares the grammars of random JSON schemas with jsonschema, which validates, and with llguidance, which decodes.

For each schema some documents are drawn, valid and not. A document is in the grammar, in some order of its keys, if and only
if jsonschema finds it valid. Where llguidance answers otherwise, one of `RULES` has to say why; a difference that none explains is
an error. What llguidance refuses is counted.

usage: check_schemas.py [--schemas N] [--seed N] -- COMMAND   (the command runs the test SchemaComparisonTests)
"""

import argparse
import collections
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from decimal import Decimal

from llguidance import LLMatcher, LLTokenizer

from random_schemas import Validator, documents, schema, written


TOKENIZER = LLTokenizer("byte")
BOUNDS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}


def decoder(schema):
    """What llguidance makes of a schema: a function of texts, or a message."""
    grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema if isinstance(schema, dict) else {"allOf": [schema]}))
    matcher = LLMatcher(TOKENIZER, grammar)
    if matcher.is_error():
        return matcher.get_error()

    def accepts(text):
        matcher.reset()
        data = list(text.encode())
        return matcher.try_consume_tokens(data) == len(data) and matcher.is_accepting()

    return accepts


def numbers_mapped(value, change):
    """A JSON value with its numbers changed."""
    if isinstance(value, dict):
        return {key: numbers_mapped(inner, change) for key, inner in value.items()}
    if isinstance(value, list):
        return [numbers_mapped(inner, change) for inner in value]
    return change(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def as_double(number):
    return int(float(number)) if isinstance(number, int) else number


def within_64_bits(number):
    return max(-(2**63), min(2**63 - 1, as_double(number))) if isinstance(number, int) else number


def reads_numbers(change):
    """Whether jsonschema agrees with llguidance once the schema's numbers are changed."""
    return lambda schema, document, theirs, answer: Validator(numbers_mapped(schema, change)).is_valid(document) == answer


def wants_all_digits(schema, document, theirs, answer):
    """Whether llguidance accepts the document with one or two digits after each point, which is what the divisors have."""
    padded = [re.sub(r"-?\d+\.\d+", lambda found: f"{Decimal(found[0]):.{places}f}", text)
              for text in written(document) for places in (1, 2)]
    return "multipleOf" in json.dumps(schema) and not answer and any(map(theirs, padded))


def unbounded(schema):
    if isinstance(schema, dict):
        return {key: unbounded(inner) for key, inner in schema.items() if key not in BOUNDS}
    return [unbounded(inner) for inner in schema] if isinstance(schema, list) else schema


def wants_no_final_zeros(schema, document, theirs, answer):
    """Whether all digits are accepted where nothing bounds the numbers."""
    loose = decoder(unbounded(schema))
    return callable(loose) and wants_all_digits(schema, document, loose, answer)


# Why llguidance may answer otherwise than jsonschema: each rule tells whether it explains an answer.
RULES = {
    "it has the schema's numbers as doubles": reads_numbers(as_double),
    "it has the schema's whole numbers within 64 bits": reads_numbers(within_64_bits),
    "it wants decimals of a multipleOf with as many digits as the divisor has (0.50, not 0.5)": wants_all_digits,
    "beside some bounds it has no final zeros, so that it has no 0.50 as a multiple of 0.25": wants_no_final_zeros,
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--schemas", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
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

    counts = collections.Counter()
    refusals = collections.Counter()
    differences = collections.Counter()
    wrong, unexplained = [], []
    for (drawn, drawn_documents), answer in zip(cases, answers):
        validator = Validator(drawn)
        valid = [validator.is_valid(document) for document in drawn_documents]
        if isinstance(answer, str) and answer != "#: no value satisfies the schema":
            counts["schemas refused"] += 1
            refusals[re.sub(r"\d+", "N", answer.split(": ", 1)[1])] += 1
            continue
        accepted = [False] * len(valid) if isinstance(answer, str) else answer
        counts["schemas compared"] += 1
        theirs = decoder(drawn)
        if isinstance(theirs, str):
            counts["schemas that only llguidance refuses"] += 1
        for document, is_valid, is_accepted in zip(drawn_documents, valid, accepted):
            counts["documents, valid" if is_valid else "documents, not valid"] += 1
            if is_valid != is_accepted:
                wrong.append((drawn, document, is_valid))
            if callable(theirs):
                other = any(theirs(text) for text in written(document))
                if other != is_valid:
                    counts["documents that llguidance " + ("accepts though they are not valid" if other else "rejects though they are valid")] += 1
                    rule = next((name for name, explains in RULES.items() if explains(drawn, document, theirs, other)), None)
                    if rule:
                        differences[rule] += 1
                    else:
                        unexplained.append((drawn, document, other))
    for name, count in sorted(counts.items()):
        print(f"{count:7} {name}")
    for reason, count in refusals.most_common():
        print(f"{count:7} refused: {reason}")
    for rule, count in differences.most_common():
        print(f"{count:7} differences of llguidance: {rule}")
    for drawn, document, other in unexplained[:20]:
        print("UNEXPLAINED: llguidance", "accepts" if other else "rejects", json.dumps(document), "under", json.dumps(drawn))
    for drawn, document, is_valid in wrong[:20]:
        print("WRONG:", json.dumps(drawn), json.dumps(document), "is valid" if is_valid else "is not valid")
    print(f"{len(wrong)} wrong, {len(unexplained)} differences of llguidance unexplained")
    sys.exit(1 if wrong or unexplained else 0)


main()
