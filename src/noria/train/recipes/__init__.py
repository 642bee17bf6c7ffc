"""A shelf: one file is one task, learned from data that packages ship. `noria train digits --set lr=1e-3` runs one.

A recipe is also a page to copy: data, model, `Trainer`, and what it comes to.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from inspect import Parameter, signature
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, get_args, get_type_hints

from noria.errors import Invalid
from noria.plugins import Kind

if TYPE_CHECKING:
    from torch import Tensor, nn

    from noria.train.reading import Finding


class Goal(NamedTuple):
    """What a measure comes to with the recipe's own settings, on two cores; a test holds it to that."""

    least: float = -inf
    most: float = inf

    def __str__(self) -> str:
        return f"at least {self.least:g}" if self.most == inf else f"at most {self.most:g}"

    def met(self, value: float) -> bool:
        return self.least <= value <= self.most


class Trained(NamedTuple):
    """values: what was measured at the end, on examples that were held out, and `step`, the last one that was done. model, example: what is kept
    as the run's model, and inputs for it of any number of examples. findings: what its curves say. None of it on other ranks than 0."""

    values: Mapping[str, float] = {}
    step: int = 0
    model: nn.Module | None = None
    example: Tensor | None = None
    findings: Sequence[Finding] = ()


class Recipe(Protocol):
    """`train` takes plain values, all by keyword and each with a default, among them `seed`: what `--set` can change. All ranks call it.

    The first line of the file says what is learned, and how. STATED: by measure, what it comes to.
    """

    STATED: Mapping[str, Goal]

    def train(self, **settings: Any) -> Trained: ...


RECIPES: Kind[Recipe] = Kind("noria.train.recipes")


class Setting(NamedTuple):
    name: str
    kind: type
    default: Any
    optional: bool


def settings(recipe: Recipe) -> dict[str, Setting]:
    """What can be set, in the recipe's order."""
    hints = get_type_hints(recipe.train)
    return {name: _setting(each, hints[name]) for name, each in signature(recipe.train).parameters.items()}


def _setting(parameter: Parameter, hint: Any) -> Setting:
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not type(None)]
    return Setting(parameter.name, kinds[0], parameter.default, len(get_args(hint)) > len(kinds))


def parsed(recipe: Recipe, given: Sequence[str]) -> dict[str, Any]:
    """All settings, with those of `given`, each "name=value". Raises Invalid for a name that there is not, and for a value that does not fit."""
    known = settings(recipe)
    values = {name: each.default for name, each in known.items()}
    for pair in given:
        name, equals, text = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise Invalid(f"'{pair}' is no setting.", "Write --set name=value, as in --set lr=1e-3.")
        if name not in known:
            near = get_close_matches(name, known, 1)
            raise Invalid(
                f"This recipe has no setting '{name}'.", f"Did you mean {near[0]}?" if near else f"It has: {', '.join(known)}."
            )
        values[name] = _value(known[name], text.strip())
    return values


def _value(setting: Setting, text: str) -> Any:
    if setting.optional and text.lower() in ("", "none"):
        return None
    try:
        if setting.kind is bool:
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
        return setting.kind(float(text) if setting.kind is int and "e" in text else text)
    except (ValueError, KeyError, OverflowError):
        what = {int: "a whole number", float: "a number", bool: "true or false"}.get(setting.kind, setting.kind.__name__)
        raise Invalid(f"{setting.name} is {what}, not '{text}'.", f"Its default is {setting.default}.") from None


def run(name: str, given: Sequence[str] = ()) -> Trained:
    """Train by this recipe, in the job's run or in one of its own: settings, curves, what it came to, and the model are logged."""
    recipe = RECIPES.get(name)
    values = parsed(recipe, given)

    import torch

    import noria

    if threads := os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))
    torch.manual_seed(values["seed"])
    first = os.environ.get("RANK", "0") == "0"
    if first:
        if noria.active_run() is None:
            noria.start_run(run_name=name)
        noria.log_params({"recipe": name, **values})
    trained = recipe.train(**values)
    if first:
        noria.log(trained.values, step=trained.step)
        if trained.model is not None:
            example = trained.example[:2].numpy() if trained.example is not None else None
            noria.log_model(trained.model, "model", input_example=example)
    return trained
