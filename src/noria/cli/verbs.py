"""What `noria cancel`, `hold`, `release` and `requeue` have in common: several jobs, each answered for itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from noria.client.http import Server
    from noria.types import Job


def each(names: Sequence[str], ask: Callable[[Server, str], list[Job]], say: Callable[[Job], str], as_json: bool) -> None:
    """Ask for each job or array, say of each what became of it, and exit with 1 if one was refused."""
    from noria.cli import show
    from noria.cli.local import connect
    from noria.errors import NoriaError

    server, done, refused = connect(), [], False
    for name in names:
        try:
            found = ask(server, name)
        except NoriaError as error:
            click.echo(f"noria: {error.message}", err=True)
            refused = True
            continue
        done += found
        for sentence, count in _counted([say(job) for job in found]).items():
            who = f"job {show.job_id(found[0].id)}" if len(found) == 1 else f"array {found[0].id[:8]}"
            of = f" ({count} of {len(found)} jobs)" if len(found) > 1 else ""
            click.echo(f"noria: {who} {sentence}{of}", err=True)
    if as_json:
        show.as_json({"jobs": done})
    if refused:
        sys.exit(1)


def _counted(sentences: Sequence[str]) -> dict[str, int]:
    return {sentence: sentences.count(sentence) for sentence in dict.fromkeys(sentences)}
