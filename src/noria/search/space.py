"""Parameters as data, and what is known of the trials so far."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from noria.errors import Invalid

Value = float | int | str | bool


class Float(Struct, frozen=True, tag="float"):
    """Any number from `low` to `high`; with `log`, as likely in each factor of ten as in the next."""

    low: float
    high: float
    log: bool = False


class Int(Struct, frozen=True, tag="int"):
    """A whole number from `low` to `high`, both included."""

    low: int
    high: int
    log: bool = False


class Choice(Struct, frozen=True, tag="choice"):
    """One of several values, in no order."""

    choices: tuple[Value, ...]


Parameter = Float | Int | Choice
Space = Mapping[str, Parameter]
Direction = Literal["minimize", "maximize"]


class Trial(Struct, frozen=True):
    """One set of parameters, and what came of it. `value` is None while it runs, and if it failed."""

    params: dict[str, Value]
    state: Literal["running", "done", "failed"] = "running"
    value: float | None = None


def check(space: Space) -> None:
    """Raises Invalid, naming the parameter, if nothing could be drawn from this space."""
    if not space:
        raise Invalid("There is nothing to search: no parameter was given.", "Give at least one, such as lr=1e-4..1e-1:log.")
    for name, parameter in space.items():
        match parameter:
            case Choice(choices) if not choices or len(set(map(repr, choices))) != len(choices):
                raise Invalid(f"The choices of '{name}' are empty or repeat themselves.", "Give each value once.")
            case Float(low, high, log) | Int(low, high, log):
                if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                    raise Invalid(f"'{name}' goes from {low} to {high}.", "Give the smaller number first.")
                if log and low <= 0:
                    raise Invalid(f"'{name}' starts at {low} on a logarithmic scale.", "Start above 0, or leave out :log.")


def parse(text: str) -> Parameter:
    """A parameter as it is typed: `1e-4..1e-1:log`, `0.0..0.5`, `16..128` (whole numbers) or `relu,gelu,tanh`.

    Choices that read as numbers, true or false are numbers and booleans.
    """
    ends, _, scale = text.strip().partition(":")
    first, dots, last = ends.partition("..")
    if dots:
        low, high = _value(first), _value(last)
        if isinstance(low, str) or isinstance(high, str) or scale not in ("", "log"):
            raise Invalid(f"'{text}' is not a range of numbers.", "Write it like 1e-4..1e-1:log or 16..128.")
        whole = type(low) is int and type(high) is int
        return Int(int(low), int(high), bool(scale)) if whole else Float(float(low), float(high), bool(scale))
    choices = tuple(_value(word.strip()) for word in text.split(","))
    if "" in choices:
        raise Invalid(f"'{text}' holds an empty choice.", "Write it like 16,32,64.")
    return Choice(choices)


def _value(text: str) -> Value:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def generator(seed: int, count: int) -> random.Random:
    """Random numbers for the suggestion after `count` trials: they depend on both and on nothing else."""
    digest = hashlib.blake2b(f"{seed}/{count}".encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "big"))


def draw(space: Space, numbers: random.Random) -> dict[str, Value]:
    """One point, each parameter on its own."""
    return {name: _draw(parameter, numbers) for name, parameter in space.items()}


def _draw(parameter: Parameter, numbers: random.Random) -> Value:
    match parameter:
        case Choice(choices):
            return choices[numbers.randrange(len(choices))]
        case Float(low, high, True):
            return min(max(math.exp(numbers.uniform(math.log(low), math.log(high))), low), high)
        case Float(low, high):
            return numbers.uniform(low, high)
        case Int(low, high, True):  # Every whole number owns its half below and above, on the logarithmic scale.
            exact = math.exp(numbers.uniform(math.log(low - 0.5), math.log(high + 0.5)))
            return min(max(round(exact), low), high)
        case Int(low, high):
            return numbers.randint(low, high)
