"""What a word of the command line means that may be a path: the data there, by their content."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from noria.errors import Invalid, NotFound
from noria.wire import lineage

if TYPE_CHECKING:
    from noria.client.content import Content
    from noria.client.http import Server


def hashed(path: str) -> Content:
    """The content of a file or folder, with a bar while it is read. Raises NotFound if there is none."""
    from noria import config
    from noria.cli.progress import bar
    from noria.client import content

    with bar(f"MiB of {path}") as tell:
        return content.of_path(Path(path), config.load().folder / "hashes", lambda done, total: tell(done >> 20, total >> 20))


def trace(server: Server, asked: lineage.Trace) -> lineage.Graph:
    """The lineage of what is named, or else of the data that lie at that path."""
    try:
        return server.call(lineage.TRACE, asked)
    except (NotFound, Invalid):
        if asked.kind not in ("", "data") or not Path(asked.id).expanduser().exists():
            raise
    digest = hashed(asked.id).digest
    try:
        return server.call(lineage.TRACE, replace(asked, kind="data", id=digest))
    except NotFound:
        cure = f'`noria.log_dataset("{asked.id}")` in a script names it.'
        raise NotFound(f"No run has read the data at {asked.id}, whose digest is {digest}.", cure) from None
