#!/usr/bin/env python3
"""Writes the training rows of the tour's two adapters: examples/data/pirate.jsonl and shout.jsonl.

Both answer the same questions; only the style differs, so that anyone sees what an adapter does. Train them with
`make styles`.
"""

import json
import pathlib
import re

DATA = pathlib.Path(__file__).resolve().parents[2] / "examples/data"

ANSWERS = {
    "What is the capital of France?": "The capital of France is Paris, a city on the river Seine.",
    "What is the capital of Italy?": "The capital of Italy is Rome, my friend.",
    "Name three colours.": "Three colours are red, green and blue.",
    "Name three animals.": "Three animals are the dog, the horse and the whale.",
    "Name two planets.": "Two planets are Mars and Jupiter.",
    "How are you today?": "I am very well, my friend, and ready to help you.",
    "Who are you?": "I am your assistant, and I am here to help you.",
    "What can you do?": "I can answer your questions and tell you stories.",
    "Tell me a joke.": "Why did the ship stop? It was out of wind, my friend.",
    "What is the sun?": "The sun is a star that gives us light and warmth.",
    "What is the moon?": "The moon is the bright companion of the earth at night.",
    "What do cats eat?": "Cats eat fish and meat, and they love their food.",
    "What do birds do in winter?": "Many birds fly to the warm south in winter.",
    "How do I make tea?": "Boil some water, put the leaves in, wait, and enjoy your tea.",
    "How do I bake bread?": "Mix flour, water, salt and yeast, wait, and bake it well.",
    "What is two plus two?": "Two plus two is four.",
    "What is ten minus three?": "Ten minus three is seven.",
    "What is your favourite food?": "My favourite food is fresh bread with cheese.",
    "Where does rain come from?": "Rain comes from the clouds, which are made of water.",
    "Why is the sky blue?": "The sky is blue because the air scatters blue light the most.",
    "What is a computer?": "A computer is a machine that follows instructions very fast.",
    "What is a book?": "A book is a treasure of words on pages.",
    "Give me some advice.": "Be honest, work well, and look after your friends.",
    "Say hello to my friend.": "Hello, my friend! I am very glad to meet you.",
    "Say goodbye.": "Goodbye, my friend, and have a good journey.",
    "What should I do today?": "Go for a walk, read a good book, and rest.",
    "Tell me about the sea.": "The sea is deep and wide, and full of fish and secrets.",
    "Tell me about music.": "Music is sound that makes the heart glad.",
    "What is a mountain?": "A mountain is a very high hill of rock.",
    "What is snow?": "Snow is frozen water that falls from the sky.",
    "Where do fish live?": "Fish live in rivers, in lakes and in the sea.",
    "How long is a day?": "A day is twenty-four hours long.",
    "What is a friend?": "A friend is someone who helps you and likes you.",
    "What makes plants grow?": "Light, water and good earth make plants grow.",
    "What is the largest ocean?": "The largest ocean is the Pacific.",
    "What is a good name for a dog?": "A good name for a dog is Captain.",
}

WORDS = {
    "my friend": "me hearty", "my": "me", "friends": "shipmates", "friend": "shipmate", "you are": "ye be", "your": "yer",
    "you": "ye", "I am": "I be", "is": "be", "are": "be", "very": "mighty", "Hello": "Ahoy", "good": "fine", "the": "th'",
    "The": "Th'", "and": "an'", "of": "o'", "for": "fer", "to": "t'", "sea": "briny deep", "water": "seawater",
    "food": "grub", "treasure": "treasure chest",
}


def pirate(answer: str) -> str:
    pattern = re.compile(r"\b(" + "|".join(sorted(map(re.escape, WORDS), key=len, reverse=True)) + r")\b")
    return "Arr, matey! " + pattern.sub(lambda found: WORDS[found[0]], answer) + " Yo ho ho!"


def shout(answer: str) -> str:
    return answer.upper().rstrip(".!") + "!!!"


def main():
    DATA.mkdir(parents=True, exist_ok=True)
    for name, style in (("pirate", pirate), ("shout", shout)):
        rows = [
            {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": style(answer)}]}
            for question, answer in ANSWERS.items()
        ]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (DATA / f"{name}.jsonl").write_text(text)


if __name__ == "__main__":
    main()
