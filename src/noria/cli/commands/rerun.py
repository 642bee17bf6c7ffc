"""noria rerun"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from noria.cli.show import json_option

if TYPE_CHECKING:
    from noria.client.http import Server
    from noria.types import Job


@click.command()
@click.argument("run")
@click.option("--compare", is_flag=True, help="Also say what was different, the likeliest cause first.")
@click.option("--on", metavar="CLUSTER", help="Where.  [default: where it ran]")
@click.option("--seed", metavar="SEED", help="With another seed.")
@click.option("--set", "given", multiple=True, metavar="NAME=VALUE", help="With another value for a parameter; repeat.")
@click.option("--env", multiple=True, metavar="NAME[=VALUE]", help="Pass a variable, such as one that held a secret; repeat.")
@click.option("--here", is_flag=True, help="With the code and the data as they are now in its folder.")
@click.option("--locked", is_flag=True, help="In an environment with the packages that it had, built anew if it must be.")
@click.option("--check/--no-check", default=True, help="Look first whether the data that it named are there.  [default: check]")
@json_option
def command(
    run: str, compare: bool, on: str | None, seed: str | None, given: tuple[str, ...], env: tuple[str, ...], here: bool, locked: bool, check: bool, as_json: bool
) -> None:  # fmt: skip
    """Do a run again, and say whether the same came out.

    RUN is its id, the beginning of it, or its name. Its code is unpacked as it was, with what was not committed; the command, the seeds, the parameters and what it asked for are the same. It becomes a run of its own, tagged with the one that it repeats.

    \b
    noria rerun 4f1c                  are its metrics the same, bit for bit?
    noria rerun 4f1c --compare        and if not, what was different?
    noria rerun 4f1c --here --compare what did my change do?
    noria rerun 4f1c --seed 1         was it luck?
    """
    from noria.cli import again, find, show
    from noria.cli.local import connect, settle
    from noria.projects import capsule_fetch
    from noria.projects.asks import variables

    server = connect()
    settle(server)
    old = find.run(server, run)
    found = capsule_fetch.capsule(server, old)
    wanted = again.Wanted(on or "", seed or "", _sets(given), variables(env), here, check)
    spec = again.spec(server, old, found, wanted)
    if locked:
        spec = again.locked(spec, found)
    elif apart := again.installed(found):
        shown = ", ".join(apart[:5]) + (f" and {len(apart) - 5} more" if len(apart) > 5 else "")
        click.echo(f"noria: installed otherwise by now: {shown}; --locked builds the environment as it was", err=True)
    job = again.submitted(server, spec, old)
    click.echo(
        f"noria: run {job.run_id[:8]} does run {old.info.run_id[:8]} '{old.info.run_name}' again, as job {job.id[:6]}", err=True
    )
    job = _waited(server, job)
    settle(server)
    new = find.run(server, job.run_id)
    if job.exit_code != 0 and not as_json:
        click.echo(
            f"noria: job {job.id[:6]} {job.state.lower()}: {job.reason or job.exit_code}; `noria logs {job.id[:6]}` shows what it printed",
            err=True,
        )
    told = again.compared(server, find.run(server, old.info.run_id), new)
    if as_json:
        show.as_json({"job": job, **again.plain(told)})
    else:
        again.tell(told, causes=compare)
    sys.exit(1 if job.exit_code is None else job.exit_code)


def _sets(given: tuple[str, ...]) -> dict[str, str]:
    from noria.errors import Invalid

    for each in given:
        if "=" not in each:
            raise Invalid(f"--set {each}: there is no value.", "Write --set NAME=VALUE.")
    return {name: value for name, _, value in (each.partition("=") for each in given)}


def _waited(server: Server, job: Job) -> Job:
    """The job, once it has ended."""
    from noria.cli.commands.wait import wait
    from noria.cli.progress import bar

    with bar(f"job {job.id[:6]}"):
        (ended,) = wait(server, job.id)
    return ended
