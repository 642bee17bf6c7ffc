"""noria train"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from noria.cli.show import json_option

if TYPE_CHECKING:
    from noria.train.recipes import Recipe, Trained

_PROFILED = "5"


@click.command()
@click.argument("name", metavar="[RECIPE]", required=False)
@click.option("--set", "given", metavar="NAME=VALUE", multiple=True, help="Change a setting; may be given again.")
@click.option("--settings", "list_settings", is_flag=True, help="Show what can be set, and the defaults.")
@click.option("--profile", is_flag=True, help="Record five steps with torch's profiler; the trace is an artifact.")
@json_option
def command(name: str | None, given: tuple[str, ...], list_settings: bool, profile: bool, as_json: bool) -> None:
    """Train by a recipe, on data that packages ship; without one, list them.

    \b
    noria train digits --set lr=1e-3 --set epochs=3
    noria submit --gpus 1 -- noria train digits     in the queue, on any number of processes
    """
    import os

    from noria.cli import show
    from noria.train.recipes import RECIPES, run

    if name is None:
        _list(as_json)
    elif list_settings:
        _settings(RECIPES.get(name), as_json)
    else:
        if profile:
            os.environ.setdefault("NORIA_PROFILE", _PROFILED)
        trained = run(name, given)
        if os.environ.get("RANK", "0") == "0":
            show.as_json(_plain(trained)) if as_json else _said(RECIPES.get(name), trained, not given)


def _list(as_json: bool) -> None:
    from noria.cli import show
    from noria.train.recipes import RECIPES

    found = {name: RECIPES.get(name) for name in RECIPES.names()}
    if as_json:
        show.as_json({"recipes": [{"name": name, "learns": _title(each), "comes_to": {measure: str(goal) for measure, goal in each.STATED.items()}}
                                  for name, each in found.items()]})  # fmt: skip
        return
    show.table(("RECIPE", "COMES TO", "LEARNS"), [(name, _stated(each), _title(each)) for name, each in found.items()], "")


def _settings(recipe: Recipe, as_json: bool) -> None:
    from noria.cli import show
    from noria.train.recipes import settings

    found = settings(recipe).values()
    if as_json:
        show.as_json({"settings": {each.name: each.default for each in found}})
        return
    show.table(("SETTING", "DEFAULT", "KIND"), [(each.name, str(each.default), each.kind.__name__) for each in found], "")


def _plain(trained: Trained) -> dict[str, object]:
    found = [{"name": finding.name, "says": finding.says} for finding in trained.findings]
    return {"values": dict(trained.values), "findings": found}


def _said(recipe: Recipe, trained: Trained, as_stated: bool) -> None:
    for measure, value in trained.values.items():
        goal = recipe.STATED.get(measure)
        said = f"  (stated: {goal})" if goal and as_stated else ""
        click.echo(f"{measure} {value:.4f}{said}")
    for finding in trained.findings:
        click.echo(f"{finding.name}: {finding.says}")


def _title(recipe: Recipe) -> str:
    return (recipe.__doc__ or "").partition("\n")[0]


def _stated(recipe: Recipe) -> str:
    return ", ".join(f"{measure} {goal}" for measure, goal in recipe.STATED.items())
