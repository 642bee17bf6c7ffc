"""The public surface, frozen: a change of it is a visible line in a diff. To change it on purpose: delete surface.txt, run again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import noria
from noria.cli.main import COMMANDS
from noria.config import Settings
from noria.plugins import Kind
from noria.server.app import APIS
from noria.wire.endpoint import Endpoint

KEPT = Path(__file__).parent / "surface.txt"


def surface() -> Iterator[str]:
    yield from (f"name noria.{name}" for name in noria.__all__)
    yield from (f"setting {name}" for name in Settings.__struct_fields__)
    for name in COMMANDS.own():
        command: click.Command = COMMANDS.module(name).command
        yield from _command(f"noria {name}", command)
    yield from sorted(f"endpoint {row.method} {row.path}" for row in rows())


def _command(name: str, command: click.Command) -> Iterator[str]:
    words = [
        parameter.opts[0] if parameter.param_type_name == "option" else f"{parameter.name}".upper()
        for parameter in command.params
    ]
    yield " ".join([f"command {name}", *words])
    for child_name, child in sorted(getattr(command, "commands", {}).items()):
        yield from _command(f"{name} {child_name}", child)


def rows() -> list[Endpoint[object, object]]:
    """All rows of all files in wire."""
    modules: Kind[object] = Kind("noria.wire")
    found = [value for name in modules.own() for value in vars(modules.module(name)).values() if isinstance(value, Endpoint)]
    return list({(row.method, row.path): row for row in found}.values())


def test_the_surface_is_what_it_was() -> None:
    now = "\n".join(surface()) + "\n"
    if not KEPT.exists():
        KEPT.write_text(now)
        pytest.fail(f"wrote {KEPT}: look at it, then run again")
    assert KEPT.read_text() == now, f"if this change is meant, delete {KEPT} and run again"


def test_every_row_of_wire_is_answered() -> None:
    answered = set()
    for name in APIS.names():
        api = APIS.module(name)
        answered |= {(route.endpoint.method, route.endpoint.path) for route in getattr(api, "ROUTES", [])}
        answered |= {(method, path) for method, path, _ in getattr(api, "STREAMS", [])}
    served_elsewhere = {("POST", "/invocations")}
    assert {(row.method, row.path) for row in rows()} - served_elsewhere <= answered
