"""What the clients ask for. The strings are short and the numbers bounded, so that a small model always finishes."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

QUESTION = "Describe a person."


class Person(BaseModel):
    """A person."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=12)
    age: int = Field(ge=0, le=120)
    mood: Literal["glad", "sad", "calm"]


class Team(BaseModel):
    """A team with its members: a nested model, which becomes a `$ref`."""

    model_config = ConfigDict(extra="forbid")

    members: list[Person] = Field(min_length=1, max_length=2)
    captain: Person | None


class Cat(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Literal["cat"]
    lives: int = Field(ge=0, le=9)


class Dog(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Literal["dog"]
    is_good: bool


class Pet(BaseModel):
    """A pet: a union of which one key decides, and a set."""

    model_config = ConfigDict(extra="forbid")

    animal: Cat | Dog = Field(discriminator="kind")
    colours: set[Literal["black", "white", "brown"]]


def get_weather(city: Literal["Paris", "Rome"]) -> str:
    """The weather of a city.

    Args:
        city: The city.
    """
    return f"It is sunny in {city}."


def get_time(zone: Literal["UTC", "CET"]) -> str:
    """The time of a zone.

    Args:
        zone: The zone.
    """
    return f"It is noon in {zone}."
