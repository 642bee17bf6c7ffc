"""noria rules"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from noria.cli.group import Group
from noria.cli.show import json_option

if TYPE_CHECKING:
    from noria.wire.rules import Kept

_INSTEAD = {
    "create": "noria rules add FILE",
    "edit": "noria rules add --replace FILE",
    "delete": "noria rules remove NAME",
    "rm": "noria rules remove NAME",
    "ls": "noria rules list",
    "run": "noria rules fire NAME",
    "trigger": "noria rules fire NAME",
    "dry-run": "noria rules test FILE --since 30d",
    "log": "noria rules history NAME",
    "disable": "noria rules pause NAME",
    "enable": "noria rules resume NAME",
}


@click.group(cls=Group, instead=_INSTEAD)
def command() -> None:
    """When something happens, do this: schedules and triggers, and what they do.

    A rule is a few lines of TOML. `when` names one trigger: schedule, dataset, model_version, metric, drift, job_ended or manual.
    `then` are steps in order, each one action; their texts may name the event and what earlier steps have answered.

    \b
    name = "nightly"
    when = { schedule = "30 2 * * mon-fri", zone = "Europe/Berlin" }
    then = [{ note = "It is {event.at}" }]
    missed = "once"                            # or "all", or "skip"

    \b
    noria rules test nightly.toml --since 30d  what it would have done; nothing is
    noria rules add nightly.toml               from now on it fires
    noria rules list                           when next, and how it went
    noria rules history nightly                each firing; `noria rules show FIRING` tells its steps
    """


@command.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--replace", is_flag=True, help="In place of the rule of that name; its history stays.")
@json_option
def add(file: Path, replace: bool, as_json: bool) -> None:
    """Keep the rules of a TOML file: one at its top, or several under [[rule]].

    If one has a mistake in it, none is kept. What happened before now is none of their business.
    """
    from noria.automation.written import read
    from noria.cli import show
    from noria.cli.local import connect
    from noria.wire import rules as wire

    kept = connect().call(wire.ADD, wire.Add(read(file), replace)).rules
    if as_json:
        show.as_json({"rules": kept})
        return
    for each in kept:
        click.echo(f"noria: rule '{each.rule.name}' waits for {_when(each)}", err=True)


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the rules: what they wait for, when they fire next, and how their firings ended."""
    from noria.cli import show
    from noria.cli.local import connect
    from noria.wire import rules as wire

    found = connect().call(wire.LIST, wire.List()).rules
    if as_json:
        show.as_json({"rules": found})
        return
    show.table(
        ("NAME", "STATE", "WHEN", "THEN", "NEXT", "FIRINGS", "LAST"),
        [
            (each.rule.name, each.state, _trigger(each), _steps(each.rule.then), _next(each), _counts(each), _last(each))
            for each in found
        ],
        "No rules yet: noria rules add FILE, and `noria rules --help` shows one.",
    )


@command.command("show")
@click.argument("name")
@json_option
def show_(name: str, as_json: bool) -> None:
    """Show a rule and when it fires next, or all that happened at the steps of a firing.

    NAME is a rule's, or the beginning of a firing's id.
    """
    from noria.cli import firings, show
    from noria.cli.local import connect
    from noria.errors import NotFound
    from noria.wire import rules as wire

    server = connect()
    try:
        kept = server.call(wire.GET, wire.Key(name)).rule
    except NotFound as missing:
        try:
            told = server.call(wire.FIRING, wire.One(name))
        except NotFound:
            raise missing from None
        if as_json:
            show.as_json(told)
        else:
            firings.tell(told)
        return
    recent = server.call(wire.HISTORY, wire.History(name, max_results=5)).firings
    if as_json:
        show.as_json({"rule": kept, "firings": recent})
        return
    click.echo(firings.toml(kept.rule))
    click.echo(f"{kept.state}, added by {kept.user or 'nobody known'} {show.ago(kept.created)}; {_counts(kept)}")
    for time in kept.upcoming:
        click.echo(f"next  {firings.moment(time, kept.rule)}")
    if recent:
        click.echo()
        firings.table(recent)


@command.command()
@click.argument("name")
def remove(name: str) -> None:
    """Take a rule away, with its history. What its steps have begun elsewhere goes on there."""
    from noria.cli.local import connect
    from noria.wire import rules as wire

    connect().call(wire.REMOVE, wire.Key(name))
    click.echo(f"noria: rule '{name}' is gone", err=True)


@command.command()
@click.argument("name")
@json_option
def pause(name: str, as_json: bool) -> None:
    """Have a rule hear nothing and start nothing. What is under way goes on."""
    _pause(name, True, as_json)


@command.command()
@click.argument("name")
@json_option
def resume(name: str, as_json: bool) -> None:
    """Have a paused rule hear again. What happened meanwhile is passed over, scheduled times included."""
    _pause(name, False, as_json)


def _pause(name: str, paused: bool, as_json: bool) -> None:
    from noria.cli import show
    from noria.cli.local import connect
    from noria.wire import rules as wire

    kept = connect().call(wire.PAUSE, wire.Pause(name, paused)).rule
    if as_json:
        show.as_json(kept)
    else:
        click.echo(f"noria: rule '{name}' is {'paused' if paused else f'active, and waits for {_when(kept)}'}", err=True)


@command.command()
@click.argument("name")
@click.option("--set", "-P", "given", multiple=True, metavar="NAME=VALUE", help="What {event.NAME} is to be; may be repeated.")
@click.option("--wait", is_flag=True, help="Wait for its end; exit with 1 unless it is done.")
@json_option
def fire(name: str, given: tuple[str, ...], wait: bool, as_json: bool) -> None:
    """Have a rule fire now, whatever it waits for.

    \b
    noria rules fire retrain
    noria rules fire retrain -P name=digits -P digest=sha256:12ab --wait
    """
    from noria.cli import firings, show
    from noria.cli.local import connect
    from noria.wire import rules as wire

    server = connect()
    found = server.call(wire.FIRE, wire.Fire(name, firings.pairs(given))).firing
    if wait:
        found = firings.follow(server, found)
    if as_json:
        show.as_json(found)
    else:
        click.echo(found.id)
        note = f": {found.note}" if found.note else ""
        click.echo(f"noria: firing {found.id[:8]} of '{name}' is {found.state}{note}", err=True)
    if wait and found.state != "done":
        raise SystemExit(1)


@command.command()
@click.argument("name", default="")
@click.option(
    "--state", type=click.Choice(["waiting", "running", "done", "failed", "stopped", "skipped"]), help="Only those in this state."
)
@click.option("--limit", default=30, type=click.IntRange(1, 1000), show_default=True, help="Firings at most.")
@json_option
def history(name: str, state: str | None, limit: int, as_json: bool) -> None:
    """List the firings of a rule, or of all: what happened, how it ended and why, the newest first."""
    from noria.cli import firings, show
    from noria.cli.local import connect
    from noria.wire import rules as wire

    found = connect().call(wire.HISTORY, wire.History(name, state or "", limit)).firings
    if as_json:
        show.as_json({"firings": found})
    else:
        firings.table(found)


@command.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--since", default="30d", show_default=True, help="How far back: 12h, 30d, or a time such as 2026-11-01T08:00.")
@click.option("--until", default="", help="Up to when, likewise; for a schedule it may lie ahead.", show_default="now")
@json_option
def test(file: Path, since: str, until: str, as_json: bool) -> None:
    """Say what rules would have done in the past that is recorded: which events they wait for, when, and with which steps.

    Nothing is done and nothing is kept. The same judgement is used as at work.
    """
    from noria.automation.written import read
    from noria.cli import firings, show
    from noria.cli.local import connect, settle
    from noria.wire import rules as wire

    first, last = firings.when(since), firings.when(until) if until else 0
    rules, server = read(file), connect()
    settle(server)
    found = {rule.name: server.call(wire.TEST, wire.Test(rule, first, last)) for rule in rules}
    if as_json:
        show.as_json({"rules": [{"name": name, "tested": each} for name, each in found.items()]})
        return
    for rule in rules:
        firings.would(rule, found[rule.name], since)


@command.command()
@click.option("--once", is_flag=True, help="Do what is due and exit, as cron wants it where a site ends what stays.")
@click.option("--workers", default=4, type=click.IntRange(1, 64), show_default=True, help="Steps that are done at once.")
def work(once: bool, workers: int) -> None:
    """Do the steps of rules here, for a server elsewhere.

    In the foreground. A server has an engine of its own; this one is for another machine, where the steps find what they need. Several may
    work at once: each step is one engine's, and goes to another if that is not heard of.
    """
    from noria.automation.engine import Engine
    from noria.cli.local import connect
    from noria.client.http import Server

    there = connect()
    engine = Engine(lambda: Server(there.url, there.token), workers=workers)
    if once:
        click.echo(f"noria: {engine.once()} steps done", err=True)
        return
    click.echo(f"noria: engine {engine.name} works for {there.url}", err=True)
    try:
        engine.run()
    except KeyboardInterrupt:
        engine.stop()


def _trigger(kept: Kept) -> str:
    return ", ".join(f"{name}={value}" for name, value in kept.rule.when.items())


def _steps(steps: list[dict[str, Any]]) -> str:
    return " → ".join(next(iter(step)) for step in steps)


def _next(kept: Kept) -> str:
    from noria.cli import firings

    return firings.moment(kept.upcoming[0], kept.rule) if kept.upcoming else "-"


def _counts(kept: Kept) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(kept.counts.items())) or "no firings"


def _last(kept: Kept) -> str:
    from noria.cli import show

    return f"{kept.last.state} {show.ago(kept.last.started)}" if kept.last else "-"


def _when(kept: Kept) -> str:
    return f"{_next(kept)} ({_trigger(kept)})" if kept.upcoming else _trigger(kept)
