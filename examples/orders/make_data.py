#!/usr/bin/env python3
"""Writes the orders that a bakery's customers might send, with what was ordered: train.jsonl, validation.jsonl, test.jsonl.

Each split has phrases and names of its own (PHRASES, NAMES), so that no sentence of the test was seen in training. All
splits share the bakery's products, the days and the words for numbers, which are the task itself. The same seed writes
the same bytes.
"""

import json
import pathlib
import random

from orders import DAYS, PRODUCTS, SYSTEM

FOLDER = pathlib.Path(__file__).resolve().parent / "data"
SIZES = {"train": 320, "validation": 40, "test": 120}

NUMBERS = {1: ["one", "1"], 2: ["two", "2", "a couple of"], 3: ["three", "3"], 4: ["four", "4"], 5: ["five", "5"],
           6: ["six", "6", "half a dozen"], 8: ["eight", "8"], 10: ["ten", "10"], 12: ["twelve", "12", "a dozen"],
           15: ["fifteen", "15"], 20: ["twenty", "20"], 24: ["24", "two dozen"]}
PLURALS = {"rye bread": "rye breads", "white bread": "white breads", "baguette": "baguettes", "croissant": "croissants",
           "cheese roll": "cheese rolls", "cinnamon bun": "cinnamon buns", "apple tart": "apple tarts",
           "carrot cake": "carrot cakes", "chocolate muffin": "chocolate muffins", "pretzel": "pretzels"}

# {items}, {day} and {name} are filled in; each phrase says whether the order is delivered.
PHRASES = {
    "train": {
        True: [
            "Hi, could you deliver {items} on {day}? Thanks, {name}",
            "Please bring {items} to our office on {day}. The name is {name}.",
            "This is {name}. I need {items} delivered {day}.",
            "{name} here, we would like {items} brought to the house {day} morning.",
            "Can {items} be dropped off at our place on {day}? {name}",
            "On {day} we have a party. Please send over {items}. Regards, {name}",
            "Delivery for {name}: {items}, {day} please.",
            "Good morning! {items} to our door on {day}, if you can. Best, {name}",
            "My name is {name} and I can't come in, so please deliver {items} on {day}.",
            "For {day}: {items}. Please send them by your driver. {name}",
        ],
        False: [
            "Hello, I'd like {items} for {day}. I will pick them up. {name}",
            "Please put aside {items}, I'll come by on {day}. The name is {name}.",
            "This is {name}. Can I collect {items} on {day}?",
            "{name} here. I will fetch {items} at the shop {day} morning.",
            "Could you have {items} ready on {day}? My son will come and get them. {name}",
            "On {day} I am in town, so keep {items} for me. Regards, {name}",
            "Pickup for {name}: {items}, {day} please.",
            "Good morning! I'll stop by {day} to get {items}. Best, {name}",
            "My name is {name}, I want to order {items} and collect them on {day}.",
            "For {day}: {items}. I'll take them with me after work. {name}",
        ],
    },
    "validation": {
        True: [
            "{name} again! Would you deliver {items} this {day}?",
            "We need {items}. Bring them round on {day} please, {name}.",
        ],
        False: [
            "{name} again! I'll walk over {day} and pick up {items}.",
            "We need {items}. I can collect on {day}, {name}.",
        ],
    },
    "test": {
        True: [
            "Dear bakers, {items} please, delivered to my flat {day} afternoon. Yours, {name}",
            "Is it possible to have {items} delivered this coming {day}? You can reach me under {name}.",
            "Hey it's {name}, my car broke down, can your driver bring me {items}? {day} would be great",
            "{day}, delivery, {items}, {name}",
            "I was told that you deliver. We'd take {items} on {day}. Ask for {name} at the door.",
            "order from {name}: please ship {items} to the school by {day}",
        ],
        False: [
            "Dear bakers, {items} please, I'll be in your shop {day} afternoon. Yours, {name}",
            "Is it possible to pick up {items} this coming {day}? You can reach me under {name}.",
            "Hey it's {name}, I'm passing your shop anyway, can you keep {items} for me? {day} would be great",
            "{day}, pickup, {items}, {name}",
            "I don't need delivery. I'd come for {items} on {day}. Ask for {name} if I'm late.",
            "order from {name}: please pack {items}, someone collects them at the counter on {day}",
        ],
    },
}
# What people say when they change their mind: {wrong} is said first, {right} counts.
CORRECTIONS = {
    "train": ["{wrong}, no, {right} {product}", "{wrong}, sorry, I mean {right} {product}"],
    "validation": ["{wrong}, wait, {right} {product}"],
    "test": ["{wrong}, or rather {right} {product}", "{wrong}, oh, make that {right} {product}"],
}
NAMES = {
    "train": ["Marta", "Peter Lind", "Aisha", "Tom", "Mrs Weber", "Jonas", "Olga Petrova", "Mr Chen", "Ines", "Bob Miller",
              "Fatima", "Lars", "Greta Holm", "Pablo", "Mrs Novak", "Ivan", "Sofia Costa", "Ahmed", "Julia", "Mr Brown",
              "Nadia", "Victor", "Ellen Park", "Hugo", "Mrs Okafor", "Stefan", "Lily", "Mr Rossi", "Zoe Martin", "Karl"],
    "validation": ["Andrea", "Mr Silva", "Ruth Klein", "Emil"],
    "test": ["Beatrice", "Mr Tanaka", "Noah Fischer", "Yasmin", "Mrs Dubois", "Erik", "Carla Mendes", "Oscar", "Priya",
             "Mr Walsh", "Helena Berg", "Samuel"],
}


def spoken(draw, split, product, quantity):
    """A product and its number, as people say them."""
    noun = product if quantity == 1 else PLURALS[product]
    if draw.random() < 0.15:
        wrong = draw.choice([number for number in NUMBERS if number != quantity])
        return draw.choice(CORRECTIONS[split]).format(
            wrong=NUMBERS[wrong][0], right=draw.choice(NUMBERS[quantity]), product=noun)
    return f"{draw.choice(NUMBERS[quantity])} {noun}"


def order(draw, split):
    """A row: the message of a customer, and the order that it means."""
    delivery = draw.random() < 0.5
    name, day = draw.choice(NAMES[split]), draw.choice(DAYS)
    items = [{"product": product, "quantity": draw.choice(list(NUMBERS))}
             for product in draw.sample(PRODUCTS, draw.choice([1, 2, 2, 3]))]
    parts = [spoken(draw, split, item["product"], item["quantity"]) for item in items]
    listed = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    text = draw.choice(PHRASES[split][delivery]).format(items=listed, day=day.capitalize(), name=name)
    meant = {"customer": name, "day": day, "delivery": delivery, "items": items}
    return {"messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text[0].upper() + text[1:]},
                         {"role": "assistant", "content": json.dumps(meant)}]}


def rows(split):
    """The rows of a split, all different."""
    draw, found = random.Random(f"orders {split}"), {}
    while len(found) < SIZES[split]:
        row = order(draw, split)
        found[row["messages"][1]["content"]] = row
    return list(found.values())


def main(folder=FOLDER):
    folder.mkdir(parents=True, exist_ok=True)
    for split in SIZES:
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(split)))


if __name__ == "__main__":
    main()
