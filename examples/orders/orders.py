"""The task: a customer's message becomes an order in JSON. The prompts, the schema, and how an answer is judged."""

import json
from collections import Counter

PRODUCTS = ["rye bread", "white bread", "baguette", "croissant", "cheese roll", "cinnamon bun", "apple tart", "carrot cake",
            "chocolate muffin", "pretzel"]
DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday"]

SCHEMA = {
    "type": "object",
    "properties": {
        "customer": {"type": "string", "maxLength": 40},
        "day": {"enum": DAYS},
        "delivery": {"type": "boolean"},
        "items": {
            "type": "array", "minItems": 1, "maxItems": 5,
            "items": {
                "type": "object",
                "properties": {"product": {"enum": PRODUCTS}, "quantity": {"type": "integer", "minimum": 1, "maximum": 99}},
                "required": ["product", "quantity"], "additionalProperties": False,
            },
        },
    },
    "required": ["customer", "day", "delivery", "items"], "additionalProperties": False,
}

# What the adapter is trained with, and what it is asked with.
SYSTEM = "Turn the order into JSON."
# What the base is asked with: all that a person would need to know.
INSTRUCTIONS = f"""You turn a bakery's orders into JSON. Answer with one JSON object and nothing else:
{{"customer": the customer's name, "day": the day in lower case, "delivery": true if the order is to be delivered or false if \
the customer comes to the shop, "items": [{{"product": the product in the singular, "quantity": a number}}]}}
The products are: {", ".join(PRODUCTS)}.
The days are: {", ".join(DAYS)}.
If the customer corrects a number, the last one counts. A dozen is 12, half a dozen 6, a couple 2."""


def parse(text):
    """The object that an answer is, or nothing. A code block around it is forgiven."""
    text = text.strip().removeprefix("```json").removeprefix("```").removesuffix("```")
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def facts(order):
    """The single statements of an order, with how often it makes each; whatever else an answer holds is a statement, too."""
    order = order or {}
    items = order.get("items", [])
    found = [[name, value] for name, value in order.items() if name != "items"]
    found += [["item", item] for item in (items if isinstance(items, list) else [items])]
    return Counter(json.dumps(fact, sort_keys=True) for fact in found)


def judge(answers, expected):
    """The shares of answers that are JSON objects and that are exactly right, and F1 over the orders' statements."""
    parsed = [parse(answer) for answer in answers]
    pairs = [(facts(found), facts(order)) for found, order in zip(parsed, expected, strict=True)]
    right = sum((claimed & wanted).total() for claimed, wanted in pairs)
    stated = sum(claimed.total() + wanted.total() for claimed, wanted in pairs)
    return {"json": sum(found is not None for found in parsed) / len(pairs),
            "exact": sum(claimed == wanted for claimed, wanted in pairs) / len(pairs), "f1": 2 * right / stated}
