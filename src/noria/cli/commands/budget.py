"""noria budget"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from noria.cli.group import Group
from noria.cli.show import json_option

if TYPE_CHECKING:
    from noria.wire.budgets import Per, Standing, Whose


@click.group(cls=Group)
def command() -> None:
    """How many GPU-hours users and projects may take: set, list, remove.

    \b
    noria budget set --user ada --gpu-hours 1000
    noria budget set --project llm --gpu-hours 20000 --per total
    noria budget list
    """


_user_option = click.option("--user", "-u", default="", help="Of this user's jobs.")
_project_option = click.option("--project", "-x", default="", metavar="EXPERIMENT", help="Of all jobs in this experiment.")


@command.command("set")
@_user_option
@_project_option
@click.option("--gpu-hours", type=click.FloatRange(0), help="For jobs with GPUs.")
@click.option("--cpu-hours", type=click.FloatRange(0), help="For jobs without GPUs.")
@click.option("--per", type=click.Choice(["week", "month", "total"]), default="month", show_default=True)
@json_option
def set_(user: str, project: str, gpu_hours: float | None, cpu_hours: float | None, per: Per, as_json: bool) -> None:
    """Let jobs take so many hours. What may take more is refused when it is submitted; what runs, runs on."""
    from noria.cli.local import connect
    from noria.errors import Invalid
    from noria.wire import budgets as wire

    whose, name = _whose(user, project)
    server, found = connect(), list[wire.Standing]()
    if gpu_hours is None and cpu_hours is None:
        raise Invalid("How many hours?", "Write --gpu-hours 1000, --cpu-hours 1000 or both.")
    if gpu_hours is not None:
        found += server.call(wire.SET, wire.Set(wire.Budget(whose, name, "GPU", gpu_hours, per))).budgets
    if cpu_hours is not None:
        found += server.call(wire.SET, wire.Set(wire.Budget(whose, name, "CPU", cpu_hours, per))).budgets
    _show(found, as_json)


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Show all budgets, and what is used of them."""
    from noria.cli.local import connect
    from noria.wire import budgets as wire

    _show(connect().call(wire.LIST, wire.List()).budgets, as_json)


@command.command()
@_user_option
@_project_option
def remove(user: str, project: str) -> None:
    """Take all budgets of a user or a project away: it may take what it wants."""
    from noria.cli.local import connect
    from noria.wire import budgets as wire

    whose, name = _whose(user, project)
    connect().call(wire.REMOVE, wire.Remove(whose, name))
    click.echo(f"noria: {whose} {name} has no budget any more", err=True)


def _whose(user: str, project: str) -> tuple[Whose, str]:
    from noria.errors import Invalid

    if bool(user) == bool(project):
        raise Invalid("Whose budget?", "Write --user NAME or --project EXPERIMENT.")
    return ("user", user) if user else ("project", project)


def _show(found: list[Standing], as_json: bool) -> None:
    from noria.cli import show

    if as_json:
        show.as_json({"budgets": found})
        return
    show.table(
        ("FOR", "HOURS", "PER", "USED", "PROMISED", "LEFT", "RESETS", "BY"),
        [_row(each) for each in found],
        "No budgets: noria budget set --user NAME --gpu-hours 1000",
    )


def _row(each: Standing) -> tuple[str, ...]:
    from datetime import UTC, datetime

    asked, resets = each.budget, datetime.fromtimestamp(each.resets / 1000, UTC)
    share = f" ({each.used / asked.hours:.0%})" if asked.hours else ""
    most = sorted(each.users.items(), key=lambda pair: -pair[1])[:3] if asked.whose == "project" else []
    return (
        f"{asked.whose} {asked.name}",
        f"{asked.hours:,.0f} {asked.counts}",
        asked.per,
        f"{each.used:,.1f}{share}",
        f"{each.promised:,.1f}",
        f"{max(0.0, asked.hours - each.used - each.promised):,.1f}",
        f"{resets:%Y-%m-%d} UTC" if each.resets else "never",
        ", ".join(f"{user} {hours:,.1f}" for user, hours in most),
    )
