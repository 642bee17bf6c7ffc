"""A group of commands that, asked for one that it has not, says what to type instead."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import click


class Group(click.Group):
    """click's group. `instead`: words of `mlflow` and of other tools that are no commands here, and what to write for them."""

    def __init__(self, *args: Any, instead: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.instead = instead or {}

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            raise click.UsageError(f"There is no command '{name}'. {self._cure(ctx, name)}", ctx)
        return super().resolve_command(ctx, args)

    def _cure(self, ctx: click.Context, name: str) -> str:
        if name in self.instead:
            return f"Write: {self.instead[name]}"
        close = get_close_matches(name.lower(), self.list_commands(ctx), 1)
        return f"Did you mean '{ctx.command_path} {close[0]}'?" if close else f"`{ctx.command_path} --help` lists them all."
