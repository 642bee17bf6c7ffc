"""noria predictions"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

import click

from noria.cli.group import Group
from noria.cli.show import json_option

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_INSTEAD = {
    "log": "noria serve models:/NAME/Production --log-predictions",
    "show": "noria predictions tail ENDPOINT",
    "csv": "noria predictions export ENDPOINT --format csv",
}
_TICK = 0.2
_COLUMNS = ("time", "id", "version", "latency_ms", "inputs_digest", "inputs", "outputs")


@click.group(cls=Group, instead=_INSTEAD)
def command() -> None:
    """What endpoints have answered, where noria serve was told --log-predictions.

    An endpoint is named by its id or the beginning of it, or by its address. `noria predictions list` shows those that keep a log.
    """


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the endpoints that keep a log of what they answer."""
    from noria.cli import show
    from noria.cli.local import connect
    from noria.wire import serving

    found = [each for each in connect().call(serving.LIST, serving.List()).endpoints if each.log is not None]
    if as_json:
        show.as_json({"endpoints": found})
        return
    show.table(
        ("ENDPOINT", "MODEL", "STATE", "LOGGED", "LOST", "LAST", "WHERE"),
        [
            (each.endpoint_id, each.model_uri, each.state.lower(), f"{each.log.count:,}", str(each.log.lost), show.ago(each.log.last),
             f"{each.host}:{each.log.folder}")
            for each in found
            if each.log is not None
        ],
        "No endpoint keeps a log yet: noria serve models:/NAME/Production --log-predictions",
    )  # fmt: skip


@command.command()
@click.argument("endpoint")
@click.option("-n", "--lines", "count", default=10, type=click.IntRange(0), show_default=True, help="Answers to show.")
@click.option("-f", "--follow", is_flag=True, help="Go on with those that come; Ctrl-C ends it.")
@json_option
def tail(endpoint: str, count: int, follow: bool, as_json: bool) -> None:
    """Show the last answers of an endpoint.

    With --json one JSON object a line.
    """
    from collections import deque

    from noria.serve import log

    folder = _folder(endpoint)
    for each in deque(log.lines(folder), maxlen=count):
        _show(each, as_json)
    if follow:
        for each in _coming(folder):
            _show(each, as_json)


@command.command()
@click.argument("endpoint")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "json"]),
    default="json",
    show_default=True,
    help="One row or JSON object for each.",
)
@click.option("-o", "--output", type=click.File("w", lazy=True), default="-", help="A file.", show_default="stdout")
def export(endpoint: str, kind: str, output: TextIO) -> None:
    """Write all that an endpoint's log holds, the oldest first.

    As JSON, one object a line; or as CSV, in which inputs and outputs are JSON.
    """
    from noria.serve import log

    found = log.lines(_folder(endpoint))
    if kind == "json":
        for each in found:
            output.write(f"{_json(each)}\n")
    else:
        _write_csv(found, output)


def _write_csv(found: Iterable[dict[str, Any]], output: TextIO) -> None:
    import csv

    rows = csv.writer(output, lineterminator="\n")
    rows.writerow(_COLUMNS)
    for each in found:
        cells = (each.get(name) for name in _COLUMNS)
        rows.writerow(["" if cell is None else cell if isinstance(cell, str | int | float) else _json(cell) for cell in cells])


def _json(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)


def _show(each: dict[str, Any], as_json: bool) -> None:
    from datetime import datetime

    if as_json:
        click.echo(_json(each))
        return
    time = datetime.fromtimestamp(each.get("time", 0) / 1000).isoformat(" ", "milliseconds")
    asked = each.get("inputs") if each.get("inputs") is not None else each.get("inputs_digest", "")[:12]
    version = f"version {each['version']}" if each.get("version") else "-"
    shown = [text if len(text) <= 100 else f"{text[:99]}…" for text in (_json(asked), _json(each.get("outputs")))]
    click.echo(f"{time}  {version}  {each.get('latency_ms', 0):.1f} ms  {shown[0]} -> {shown[1]}")


def _folder(endpoint: str) -> Path:
    """Where an endpoint's log lies. Raises NotFound if it keeps none, or if it lies on another machine."""
    from pathlib import Path

    from noria.cli.local import connect
    from noria.errors import NotFound
    from noria.wire import lineage, serving

    server = connect()
    name = server.call(lineage.TRACE, lineage.Trace(endpoint, "endpoint", depth=0)).nodes[0].id
    found = next(each for each in server.call(serving.LIST, serving.List()).endpoints if each.endpoint_id == name)
    if found.log is None:
        raise NotFound(f"Endpoint {name} keeps no log of its predictions.", "Serve with --log-predictions.")
    folder = Path(found.log.folder)
    if not folder.is_dir() and found.log.count:
        raise NotFound(
            f"The predictions of endpoint {name} lie in {folder} on {found.host}, and not here.", "Ask on that machine."
        )
    return folder


def _coming(folder: Path) -> Iterable[dict[str, Any]]:
    """What is written from now on, over the turns from one file to the next."""
    import time

    from noria.serve import log

    at = {path: path.stat().st_size for path in log.segments(folder)}
    while True:
        for path in log.segments(folder):
            with path.open("rb") as file:
                file.seek(at.get(path, 0))
                for text in file:
                    if not text.endswith(b"\n"):
                        break
                    at[path] = at.get(path, 0) + len(text)
                    if (found := log.parsed(text)) is not None:
                        yield found
        time.sleep(_TICK)
