"""noria runs"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from noria.cli.show import json_option

if TYPE_CHECKING:
    from noria.types import Run


@click.group()
def command() -> None:
    """What was measured."""


@command.command("list")
@click.option("--filter", "text", default="", help="Such as: metrics.loss < 0.3 and params.lr = '0.1'")
@click.option("--order-by", multiple=True, help="Such as: 'metrics.loss ASC'; repeat for ties.", show_default="newest first")
@click.option("--limit", default=100, type=click.IntRange(1, 50_000), show_default=True, help="Runs at most.")
@json_option
def list_(text: str, order_by: tuple[str, ...], limit: int, as_json: bool) -> None:
    """List runs of all experiments."""
    from noria.cli import show
    from noria.cli.local import connect, settle
    from noria.wire import experiments, runs

    server = connect()
    settle(server)
    names = {each.experiment_id: each.name for each in server.call(experiments.SEARCH, experiments.Search(50_000)).experiments}
    found = server.call(runs.SEARCH, runs.Search(list(names), text, max_results=limit, order_by=list(order_by))).runs
    if as_json:
        show.as_json({"runs": found})
        return
    show.table(
        ("RUN", "NAME", "EXPERIMENT", "STATUS", "STARTED", "METRICS"),
        [
            (
                run.info.run_id[:8],
                run.info.run_name,
                names[run.info.experiment_id],
                run.info.status,
                show.ago(run.info.start_time),
                _metrics(run),
            )
            for run in found
        ],
        "No runs yet: log one with `import noria; noria.log(loss=0.3)`, or try noria demo.",
    )


def _metrics(run: Run) -> str:
    return " ".join(f"{metric.key}={float(metric.value):.4g}" for metric in run.data.metrics[:4])


@command.command()
@click.argument("run")
@click.option("--history", multiple=True, metavar="KEY", help="Also all points of this metric; repeat.")
@json_option
def show(run: str, history: tuple[str, ...], as_json: bool) -> None:
    """Show one run, by its id, the beginning of it, or its name."""
    from noria.cli import show
    from noria.cli.local import connect, settle
    from noria.wire import runs

    server = connect()
    settle(server)
    found = server.call(runs.RESOLVE, runs.Resolve(run)).run
    points = {key: server.call(runs.CURVE, runs.Curve(found.info.run_id, key)) for key in history}
    if as_json:
        rows = {
            key: [{"step": s, "value": v, "timestamp": t} for s, v, t in zip(p.steps, p.values, p.timestamps, strict=True)]
            for key, p in points.items()
        }
        show.as_json({"info": found.info, "data": found.data, "inputs": found.inputs, "history": rows})
        return
    _print(found)
    for key, p in points.items():
        show.table(
            ("STEP", key.upper()),
            [(str(step), f"{float(value):.6g}") for step, value in zip(p.steps, p.values, strict=True)],
            f"No points of {key}.",
        )


def _print(run: Run) -> None:
    from noria.cli import show

    info = run.info
    took = f", took {show.span(info.end_time - info.start_time)}" if isinstance(info.end_time, int) else ""
    click.echo(f"{info.run_name}  {info.run_id}\n{info.status}, started {show.ago(info.start_time)}{took}")
    for title, rows in (
        ("METRIC", [(metric.key, f"{float(metric.value):.6g}", str(metric.step)) for metric in run.data.metrics]),
        ("PARAM", [(param.key, param.value[:80], "") for param in run.data.params]),
        ("TAG", [(tag.key, tag.value[:80], "") for tag in run.data.tags]),
    ):
        if rows:
            click.echo()
            show.table((title, "VALUE", "STEP" if title == "METRIC" else ""), rows, "")
