"""noria runs"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
from msgspec import structs

from noria.cli.group import Group
from noria.cli.show import json_option

if TYPE_CHECKING:
    from noria.bridges.bring import Summary
    from noria.client.http import Server
    from noria.types import Experiment, Run
    from noria.wire.experiments import ViewType

_INSTEAD = {
    "search": 'noria runs list --filter "metrics.loss < 0.3"',
    "describe": "noria runs show RUN",
    "get": "noria runs show RUN",
    "csv": "noria runs export --format csv",
    "follow": "noria runs watch RUN",
    "tail": "noria runs watch RUN",
    "compare": "noria runs diff OLD NEW",
    "rerun": "noria rerun RUN",
}


@click.group(cls=Group, instead=_INSTEAD)
def command() -> None:
    """Runs: list, show, watch, compare, delete, import, export.

    A RUN is its id, the beginning of it, or its name.

    \b
    noria runs list --filter "metrics.loss < 0.3" --order-by "metrics.loss"
    noria runs show 4f1c --plot loss
    noria runs watch 4f1c
    noria runs diff 4f1c 9be0
    noria runs import ./mlruns
    noria runs export runs.csv
    """


_experiment_option = click.option(
    "--experiment",
    "-x",
    "experiments",
    multiple=True,
    metavar="NAME",
    help="Of this experiment, by name or id; repeat.",
    show_default="all",
)
_filter_option = click.option("--filter", "text", default="", help="Such as: metrics.loss < 0.3 and params.lr = '0.1'")


@command.command("list")
@_filter_option
@click.option("--order-by", multiple=True, help="Such as: 'metrics.loss ASC'; repeat for ties.", show_default="newest first")
@_experiment_option
@click.option("--limit", default=100, type=click.IntRange(1, 50_000), show_default=True, help="Runs at most.")
@click.option("--deleted", is_flag=True, help="Only those that were deleted.")
@click.option(
    "--column",
    "-c",
    "asked",
    multiple=True,
    metavar="KEY",
    help="Show metrics.KEY, params.KEY or tags.KEY; repeat.",
    show_default="what fits",
)
@json_option
def list_(
    text: str,
    order_by: tuple[str, ...],
    experiments: tuple[str, ...],
    limit: int,
    deleted: bool,
    asked: tuple[str, ...],
    as_json: bool,
) -> None:
    """List runs.

    The filter is MLflow's language: metrics.KEY, params.KEY, tags.KEY, and attributes such as status, run_name and start_time.
    """
    from noria.cli import columns, show
    from noria.cli.local import connect, settle
    from noria.wire import runs

    server = connect()
    settle(server)
    chosen = _experiments(server, experiments, deleted)
    names = {each.experiment_id: each.name for each in chosen}
    view: ViewType = "DELETED_ONLY" if deleted else "ACTIVE_ONLY"
    found = server.call(runs.SEARCH, runs.Search(list(names), text, view, limit, list(order_by)))
    if as_json:
        show.as_json({"runs": found.runs})
        return
    shown = columns.choose(found.runs, names, show.columns(), f"{text} {' '.join(order_by)}", asked)
    rows = list(zip(*(each.cells for each in shown), strict=True))
    show.table([each.head for each in shown], rows, _nothing(text, deleted))
    if found.next_page_token:
        click.echo(f"noria: the first {limit}; --limit shows more", err=True)


def _nothing(text: str, deleted: bool) -> str:
    if text:
        return "No run matches this filter."
    return (
        "No run is deleted." if deleted else "No runs yet: log one with `import noria; noria.log(loss=0.3)`, or try noria demo."
    )


def _experiments(server: Server, asked: tuple[str, ...], deleted: bool) -> list[Experiment]:
    from noria.cli import find

    if asked:
        return [find.experiment(server, each) for each in asked]
    return find.all_experiments(server, deleted=deleted)


@command.command()
@click.argument("run")
@click.option("--history", multiple=True, metavar="KEY", help="Also all points of this metric; repeat.")
@click.option("--plot", multiple=True, metavar="KEY", help="Also draw this metric; repeat.")
@click.option("--curves", is_flag=True, help="Also a small curve of each metric.")
@click.option("--files", is_flag=True, help="List all of its files, not only the first.")
@json_option
def show(run: str, history: tuple[str, ...], plot: tuple[str, ...], curves: bool, files: bool, as_json: bool) -> None:
    """Show one run: metrics, parameters, tags, data, models and files."""
    from noria.cli import describe, show

    server = _settled()
    seen = describe.look(server, _find(server, run), None if files or as_json else describe.FILES)
    run_id = seen.run.info.run_id
    if as_json:
        show.as_json({**describe.plain(seen), "history": {key: describe.points(server, run_id, key) for key in history}})
        return
    describe.tell(server, seen, sparks=curves)
    for key in plot:
        describe.plot(server, run_id, key)
    for key in history:
        click.echo()
        rows = [(str(each["step"]), show.figure(each["value"])) for each in describe.points(server, run_id, key)]
        show.table(("STEP", key), rows, f"No points of {key}.")


@command.command()
@click.argument("run")
@click.option("--metric", "-m", "keys", multiple=True, metavar="KEY", help="Only this metric; repeat.")
@click.option("--lines", is_flag=True, help="Print lines on a terminal too.")
@json_option
def watch(run: str, keys: tuple[str, ...], lines: bool, as_json: bool) -> None:
    """Follow a run until it ends: each point as it is logged.

    A table on a terminal, lines in a pipe, one object a line with --json. A server that is restarted meanwhile is waited for. Exit code 1 if the run fails.
    """
    from noria.cli import watch
    from noria.cli.local import connect

    found = _find(_settled(), run)
    heard = watch.follow(lambda: connect(start=False), found.info.run_id)
    how = watch.print_json if as_json else watch.print_table if sys.stdout.isatty() and not lines else watch.print_lines
    try:
        status = how(heard, set(keys))
    except KeyboardInterrupt:
        click.echo(f"noria: the run goes on; watch it again with: noria runs watch {found.info.run_id[:8]}", err=True)
        sys.exit(130)
    click.echo(f"noria: run {found.info.run_id[:8]} '{found.info.run_name}' is {status}", err=True)
    sys.exit(0 if status == "FINISHED" else 1)


@command.command()
@click.argument("old")
@click.argument("new")
@json_option
def diff(old: str, new: str, as_json: bool) -> None:
    """Say what is different between two runs, the likeliest cause first.

    OLD and NEW are runs: code line by line, packages, data row by row, seeds, parameters, variables, machine; and what that did to the metrics, bit for bit. Those of `noria rerun` are compared by it.
    """
    from noria.cli import again, show
    from noria.cli.progress import bar

    server = _settled()
    pair = _find(server, old), _find(server, new)
    with bar("comparing") as progress:
        found = again.compared(server, *pair, progress)
    if as_json:
        show.as_json(again.plain(structs.replace(found, since=[])))
    else:
        again.tell(structs.replace(found, since=[]))


@command.command()
@click.argument("run")
@json_option
def capsule(run: str, as_json: bool) -> None:
    """Show what is kept to do a run again: command, code, packages, data, seeds, machine.

    `noria rerun RUN` does it.
    """
    from noria.cli import again, show
    from noria.projects import capsule_fetch

    server = _settled()
    found = _find(server, run)
    kept = capsule_fetch.capsule(server, found)
    if as_json:
        show.as_json(kept)
    else:
        show.table(("CAPSULE", ""), again.whole(found, kept), "")


@command.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@json_option
def delete(runs: tuple[str, ...], as_json: bool) -> None:
    """Delete runs.

    Nothing is erased: `noria runs restore` brings them back, and `noria runs list --deleted` shows them.
    """
    from noria.wire import runs as wire

    server = _settled()
    found = [_find(server, each) for each in runs]
    for each in found:
        server.call(wire.DELETE, wire.Get(each.info.run_id))
    short = " ".join(each.info.run_id[:8] for each in found)
    _say(server, found, f"deleted; `noria runs restore {short}` undoes it", as_json)


@command.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@json_option
def restore(runs: tuple[str, ...], as_json: bool) -> None:
    """Bring deleted runs back."""
    from noria.wire import runs as wire

    server = _settled()
    found = [_find(server, each) for each in runs]
    for each in found:
        server.call(wire.RESTORE, wire.Get(each.info.run_id))
    _say(server, found, "restored", as_json)


def _say(server: Server, found: list[Run], what: str, as_json: bool) -> None:
    from noria.cli import show
    from noria.wire import runs as wire

    if as_json:
        show.as_json({"runs": [server.call(wire.GET, wire.Get(each.info.run_id)).run.info for each in found]})
    which = f"run {found[0].info.run_id[:8]} '{found[0].info.run_name}' is" if len(found) == 1 else f"{len(found)} runs are"
    click.echo(f"noria: {which} {what}", err=True)


@command.command("import")
@click.argument("source")
@click.option(
    "--format",
    "kind",
    default="",
    metavar="NAME",
    help="mlflow, databricks, database, mlruns, wandb or tensorboard.",
    show_default="guessed",
)
@click.option("--experiment", "-x", metavar="NAME", help="Put all runs into this experiment.", show_default="each into its own")
@json_option
def import_(source: str, kind: str, experiment: str | None, as_json: bool) -> None:
    """Bring runs in from elsewhere.

    SOURCE is the address of an MLflow server, a workspace of Databricks (databricks://PROFILE, or databricks://PROFILE/Users/me/x for an experiment or a folder of them), a database of MLflow (mlflow.db, postgresql://…), a folder mlruns, one of W&B's offline runs, or one of TensorBoard's event files. It may be repeated: what is here already is passed over, and what was cut short is completed.
    """
    from noria import bridges
    from noria.cli.progress import bar

    server = _settled()
    with bar("importing") as progress:
        done = bridges.run_import(server, kind or bridges.guess(source), source, experiment=experiment, progress=progress)
    _report(done, "imported", "were here already", as_json)


@command.command()
@click.argument("target", default="-")
@click.option("--to", "other", default="", metavar="TARGET", help="The same as TARGET.")
@click.option(
    "--format", "kind", default="", metavar="NAME", help="csv, parquet, mlflow or databricks.", show_default="by TARGET's ending"
)
@_experiment_option
@_filter_option
@json_option
def export(target: str, other: str, kind: str, experiments: tuple[str, ...], text: str, as_json: bool) -> None:
    """Take runs out.

    csv and parquet are one row a run; without TARGET csv goes to stdout. mlflow is the address of a server, which gets all that a run has; databricks is databricks://PROFILE, or databricks://PROFILE/Shared/team for another folder than one's own.
    """
    from noria import bridges
    from noria.cli.progress import bar

    target = other or target
    server = _settled()
    names = [each.name for each in _experiments(server, experiments, False)] if experiments else None
    with bar("exporting") as progress:
        done = bridges.run_export(server, kind or _format_of(target), target, experiments=names, filter=text, progress=progress)
    _report(done, "exported", "were there already", as_json)


def _report(done: Summary, new: str, old: str, as_json: bool) -> None:
    """What became of the runs; exit code 1 if something did not come along."""
    from noria.cli import show

    if as_json:
        show.as_json(done)
    counts = ((done.imported, new), (done.completed, "completed"), (done.skipped, old))
    said = ", ".join(f"{count:,} {what}" for count, what in counts if count)
    for line in (*done.notes, *done.failed, f"runs: {said}" if said else "there are no runs"):
        click.echo(f"noria: {line}", err=True)
    sys.exit(1 if done.failed else 0)


def _format_of(target: str) -> str:
    """What a target asks for by itself. Raises Invalid if it does not say."""
    from noria.errors import Invalid

    ending = target.rpartition(".")[2].lower()
    if target == "-" or ending in ("csv", "parquet"):
        return "csv" if target == "-" else ending
    if target.startswith(("http://", "https://")):
        return "mlflow"
    if target.startswith("databricks"):
        return "databricks"
    raise Invalid(f"'{target}' does not say what to write.", "Give --format csv, parquet, mlflow or databricks.")


def _settled() -> Server:
    """A server that knows what scripts of this machine have logged by now."""
    from noria.cli.local import connect, settle

    server = connect()
    settle(server)
    return server


def _find(server: Server, text: str) -> Run:
    from noria.cli import find

    return find.run(server, text)
