"""Random JSON schemas, documents that are likely to be valid under them or nearly so, and a validator that is exact."""

import itertools
import json
import re
from fractions import Fraction

import jsonschema

KEYS = ["a", "b", "c", "x1"]
PATTERNS = ["^a", "b$", "^[a-c]*$", "a|c", "^(ab)+$", "^.{2}$", "[0-9]", "^é?x", "^(?!a|c$)(?=.b|x)"]
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
    """Documents that are likely to be valid, near to valid, and arbitrary, each of which has few enough orders to try them all."""
    found = [value(rng) for _ in range(12)]
    for _ in range(12):
        found.append(sample(rng, schema))
    unique = {json.dumps(document, sort_keys=True): document for document in found}
    return [document for document in unique.values() if len(written(document)) < MOST_ORDERS]


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
    if isinstance(instance, str) and not re.search(pattern.replace("$", r"\Z"), instance):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


def multiple_of(validator, divisor, instance, schema):
    """Of the decimals as they are written: a double stands for its shortest one."""
    if validator.is_type(instance, "number") and Fraction(str(instance)) % Fraction(str(divisor)):
        yield jsonschema.ValidationError(f"{instance!r} is not a multiple of {divisor!r}")


def is_integer(checker, instance):
    return checker.is_type(instance, "number") and (isinstance(instance, int) or instance == int(instance))


Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator, {"pattern": pattern, "multipleOf": multiple_of},
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", is_integer))
