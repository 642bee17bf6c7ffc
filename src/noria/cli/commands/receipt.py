"""noria receipt"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from noria.cli.show import json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from noria.client.http import Server
    from noria.wire.receipts import Ask, Receipt, Spent

_NAMES = {
    "compute": "compute", "communication": "communication", "data": "data wait", "checkpoint": "checkpoints", "startup": "start-up",
    "lost": "lost to failure", "idle": "idle", "unused": "no process",
}  # fmt: skip
_WIDTH = 24
_LISTED = 15


@click.command()
@click.argument("name", metavar="[JOB|RUN]", required=False)
@click.option("--user", "-u", default="", help="Of all jobs of this user.")
@click.option("--project", "-x", default="", metavar="EXPERIMENT", help="Of all jobs in this experiment.")
@click.option("--since", default="30d", show_default=True, help="With --user or --project: jobs that ended since, or go on.")
@json_option
def command(name: str | None, user: str, project: str, since: str, as_json: bool) -> None:
    """Show what a job did with its GPUs, and what to ask for next time.

    Without GPUs, CPUs are counted. With --user or --project: all jobs together, and those that took most.
    """
    import time

    from noria import units
    from noria.cli import show
    from noria.cli.local import connect
    from noria.errors import Invalid
    from noria.wire.receipts import Ask

    if bool(name) == bool(user or project):
        raise Invalid(
            "Whose receipt?", "Write noria receipt JOB, noria receipt --user NAME or noria receipt --project EXPERIMENT."
        )
    server, begin = connect(), int(time.time() * 1000) - 1000 * units.seconds(since)
    found = _of(server, name) if name else _all(server, Ask(user=user, experiment=project, since=begin))
    if len(found) == 1:
        found = [_with_peak(server, found[0])]
    if as_json:
        from noria.jobs.receipts import proposed

        show.as_json({"receipts": [{**show.plain(each), "next": proposed(each)} for each in found]})
    elif name and len(found) == 1:
        _one(found[0])
    else:
        who = " ".join(filter(None, [name, user, f"in {project}" if project else ""]))
        _many(who if name else f"{who} since {since}", found)


def _of(server: Server, name: str) -> list[Receipt]:
    """Of a job or an array, or of the job of a run."""
    from noria.cli import find
    from noria.errors import NotFound
    from noria.wire.receipts import RECEIPTS, Ask

    try:
        return server.call(RECEIPTS, Ask(name)).receipts
    except NotFound as missing:
        try:
            run = find.run(server, name)
        except NotFound:
            raise missing from None
        job = next((tag.value for tag in run.data.tags if tag.key == "noria.job"), "")
        if not job:
            raise NotFound(f"Run '{name}' was no job.", "`noria submit` starts jobs, and these have receipts.") from None
        return server.call(RECEIPTS, Ask(job)).receipts


def _all(server: Server, asked: Ask) -> list[Receipt]:
    from msgspec.structs import replace

    from noria.wire.receipts import RECEIPTS

    found: list[Receipt] = []
    while True:
        page = server.call(RECEIPTS, asked)
        found += page.receipts
        if not page.next_token:
            return found
        asked = replace(asked, token=page.next_token)


def _one(receipt: Receipt) -> None:
    from noria.cli import show

    spent, head = receipt.spent, (show.job_id(receipt.job), receipt.name, receipt.state, receipt.user, receipt.experiment)
    click.echo(click.style("  ".join(filter(None, head)), bold=True))
    tries = f", in {receipt.tries} tries" if receipt.tries > 1 else ""
    waited = show.span(1000 * spent.queue / receipt.devices)
    what = f"{receipt.devices} {receipt.counts}{'s' * (receipt.devices > 1)}"
    click.echo(f"{what} for {show.span(1000 * receipt.seconds)}{tries}, after {waited} in the queue\n")
    if not receipt.tries:
        click.echo("It has not run yet.", err=True)
        return
    _classes(spent, receipt.counts)
    click.echo()
    for title, value in _lines(receipt):
        click.echo(f"  {title:<16}  {value}")


def _lines(receipt: Receipt) -> list[tuple[str, str]]:
    from noria.jobs.receipts import proposed

    how = "" if receipt.steps else " (its program logs no time/compute, so that idle is all that can be told from work)"
    lines = [("effective", f"{receipt.spent.effective:.1%} of the time went into steps that count{how}")]
    if receipt.joules is not None:
        lines.append(("energy of GPUs", f"{_energy(receipt.joules)}, measured for {receipt.metered:.0%} of the time"))
    if asks := proposed(receipt):
        lines.append(("next time", f"{' '.join(f'{name} {value}' for name, value in asks.items())}   ({_used(receipt)})"))
    return lines


def _used(receipt: Receipt) -> str:
    from noria.cli import show

    used, parts = receipt.used, [f"it used {show.span(1000 * receipt.used.time)}"]
    if used.mem:
        parts.append(f"{show.size(used.mem)} on a node")
    if used.gpus:
        parts.append(f"{used.gpus} GPU{'s' * (used.gpus > 1)} of a node")
    if used.cpus:
        parts.append(f"{used.cpus:.1f} CPUs a task")
    return ", ".join(parts)


def _energy(joules: float) -> str:
    return f"{joules / 3.6e6:,.2f} kWh" if joules >= 36_000 else f"{joules / 3600:,.1f} Wh"


def _classes(spent: Spent, counts: str) -> None:
    """A line for each class that there is, the largest unit that keeps figures readable."""
    unit, seconds = (f"{counts}-h", 3600) if spent.given >= 360 else (f"{counts}-s", 1)
    for name, title in _NAMES.items():
        value = getattr(spent, name)
        if value > 0:
            share = value / spent.given
            bar = "█" * round(share * _WIDTH) or "▏"
            click.echo(f"  {title:<16}  {value / seconds:>12,.2f} {unit}  {share:>6.1%}  {bar}")
    click.echo(click.style(f"  {'in all':<16}  {spent.given / seconds:>12,.2f} {unit}", bold=True))


def _many(who: str, found: Sequence[Receipt]) -> None:
    from noria.cli import show
    from noria.jobs.receipts import total

    if not found:
        click.echo(f"No jobs of {who}.", err=True)
        return
    for counts in ("GPU", "CPU"):
        own = sorted((each for each in found if each.counts == counts), key=lambda each: -each.spent.given)
        if not own:
            continue
        spent, joules = total(own), [each.joules for each in own if each.joules is not None]
        click.echo(click.style(f"{who}: {len(own)} job{'s' * (len(own) > 1)} with {counts}s", bold=True) + "\n")
        if spent.given:
            _classes(spent, counts)
        said = f"{spent.effective:.1%} of the time went into steps that count" if spent.given else "none has run"
        click.echo(f"\n  {said}" + (f"; {_energy(sum(joules))} for GPUs" if joules else "") + "\n")
        show.table(
            ("JOB", "NAME", "USER", "STATE", f"{counts}-H", "EFFECTIVE", "LOST", "IDLE", "NO PROCESS"),
            [_row(each) for each in own[:_LISTED]],
            "",
        )
        click.echo(f"and {len(own) - _LISTED} smaller ones\n" if len(own) > _LISTED else "")


def _row(receipt: Receipt) -> tuple[str, ...]:
    from noria.cli import show

    spent = receipt.spent
    shares = [f"{share:.0%}" if spent.given else "-" for share in (
        spent.effective, *(value / (spent.given or 1) for value in (spent.lost, spent.idle, spent.unused)))]  # fmt: skip
    return (show.job_id(receipt.job), receipt.name[:30], receipt.user, receipt.state, f"{spent.given / 3600:,.1f}", *shares)


def _with_peak(server: Server, receipt: Receipt) -> Receipt:
    """With what the job's launchers saw, where its folder is on this machine: samples miss short tasks and short peaks."""
    from pathlib import Path

    from msgspec.structs import replace

    from noria.jobs.folder import Folder
    from noria.wire import jobs

    folder = server.call(jobs.GET, jobs.Key(receipt.job)).job.folder
    nodes = Folder(Path(folder)).nodes() if folder else []
    peak = max((sum(rank.peak or 0 for rank in node.ranks) for node in nodes), default=0)
    return replace(receipt, used=replace(receipt.used, mem=max(peak, receipt.used.mem)))
