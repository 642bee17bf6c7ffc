"""noria env"""

from __future__ import annotations

import sys
from shlex import quote
from typing import TYPE_CHECKING

import click

from noria.cli.group import Group
from noria.cli.show import json_option

if TYPE_CHECKING:
    from pathlib import Path

    from noria.projects.caches import Kept


@click.group(
    cls=Group,
    invoke_without_command=True,
    instead={
        "create": "noria env build",
        "activate": 'source "$(noria env build)/bin/activate"',
        "delete": "noria env remove ENVIRONMENT",
        "rm": "noria env remove ENVIRONMENT",
        "ls": "noria env list",
        "gc": "noria env prune",
        "clean": "noria env prune",
    },
)
@json_option
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Print the exports that mlflow scripts need; build, list and remove environments.

    Without a command, use it as: eval "$(noria env)"

    \b
    noria env build                   the environment of the project in this folder, or the one that is kept
    noria env build conda.yaml        of one file
    noria env list
    noria env prune --unused 30d
    """
    if context.invoked_subcommand is None:
        _exports(as_json)


def _exports(as_json: bool) -> None:
    from noria.cli import show
    from noria.cli.local import connect

    server = connect()
    variables = {
        "MLFLOW_TRACKING_URI": server.url,
        "MLFLOW_TRACKING_TOKEN": server.token,
        "NORIA_SERVER": server.url,
        "NORIA_TOKEN": server.token,
    }
    if as_json:
        show.as_json(variables)
        return
    for name, value in variables.items():
        click.echo(f"export {name}={quote(value)}")
    if sys.stdout.isatty():
        click.echo('noria: to set these, run: eval "$(noria env)"', err=True)


@command.command()
@click.argument("what", metavar="[FOLDER|FILE]", default=".")
@click.option("--again", is_flag=True, help="Build it anew, for newer versions of what is not pinned.")
@json_option
def build(what: str, again: bool, as_json: bool) -> None:
    """Build the environment that a file describes, unless it is kept already, and print its folder.

    Of a folder it is what its MLproject names, or python_env.yaml, conda.yaml, uv.lock, requirements.txt or pyproject.toml. The same
    content is built once, for all users of the folder that the setting `environments` names; nodes need no network.

    \b
    noria env build
    noria env build ./project
    noria env build requirements.txt
    source "$(noria env build)/bin/activate"
    """
    from pathlib import Path

    from noria import config
    from noria.cli import show
    from noria.cli.progress import spinner
    from noria.errors import Invalid
    from noria.projects import built

    path = Path(what)
    if not path.exists():
        raise Invalid(f"There is no {what}.", "Give a project's folder, or a file such as requirements.txt.")
    need = built.needed(path) if path.is_dir() else built.needed(path.absolute().parent, path.name)
    if need is None:
        raise Invalid(f"Nothing in {path.absolute()} describes an environment.",
                      "Write a requirements.txt, python_env.yaml or conda.yaml there.")  # fmt: skip
    with spinner("building") as watch:
        made = built.build(need, config.load().environments_folder, _tell, again=again, watch=watch)
    if as_json:
        show.as_json(made)
        return
    click.echo(made.folder)
    if made.cached and made.note:
        _tell(made.note)
    click.echo(f"noria: {'it is there' if made.cached else f'built in {made.seconds:.1f} s'}", err=True)


def _tell(line: str) -> None:
    click.echo(f"noria: {line}", err=True)


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the environments that are kept, the one that was used last first."""
    from noria.cli import show
    from noria.projects import caches

    found = caches.kept(_place())
    if as_json:
        show.as_json({"environments": [_plain(each) for each in found]})
        return
    show.table(
        ("ENVIRONMENT", "KIND", "PYTHON", "PACKAGES", "SIZE", "USED", "MADE", "BY", "FROM"),
        [_row(each) for each in found],
        "No environments: noria env build",
    )


@command.command()
@click.argument("names", metavar="ENVIRONMENT...", nargs=-1, required=True)
@json_option
def remove(names: tuple[str, ...], as_json: bool) -> None:
    """Remove environments, by the beginning of their names or by their folders. Jobs that still use one will fail.

    \b
    noria env remove 7b6304
    """
    from pathlib import Path

    from noria.projects import caches

    place = _place()
    found = [caches.named(place, name) for name in names]
    _gone([(Path(each.path), each.record.digest) for each in found], found, place, as_json, dry_run=False)


@command.command()
@click.option("--unused", default="30d", show_default=True, metavar="TIME", help="What nobody has asked for in so long.")
@click.option("--dry-run", "-n", is_flag=True, help="Only say what would go.")
@json_option
def prune(unused: str, dry_run: bool, as_json: bool) -> None:
    """Remove environments that nobody has used for long, and what killed builds left.

    \b
    noria env prune --unused 14d --dry-run
    """
    import time
    from pathlib import Path

    from noria import units
    from noria.projects import caches

    place, before = _place(), (time.time() - units.seconds(unused)) * 1000
    found = [each for each in caches.kept(place) if each.used <= before]
    left = [path for path in caches.left(place) if not (path / caches.MADE).exists() or path.stat().st_mtime * 1000 <= before]
    paths = [*((Path(each.path), each.record.digest) for each in found), *((path, "") for path in left)]
    old = [] if dry_run else list(caches.forgotten(place, before / 1000))
    _gone(paths, found, place, as_json, dry_run)
    for path in old:
        caches.remove(place, path)


def _gone(paths: list[tuple[Path, str]], found: list[Kept], place: Path, as_json: bool, dry_run: bool) -> None:
    """Remove them, and say so."""
    from noria.cli import show
    from noria.errors import Unavailable
    from noria.projects import caches

    failed = [] if dry_run else [said for path, digest in paths if (said := caches.remove(place, path, digest))]
    if as_json:
        show.as_json(
            {"removed": [str(path) for path, _ in paths if dry_run or not path.exists()], "dry_run": dry_run, "failed": failed}
        )
    else:
        for path, _ in paths:
            if dry_run or not path.exists():
                click.echo(path)
        size = show.size(sum(each.record.bytes for each in found))
        verb = "would be removed" if dry_run else "removed"
        _tell(f"{len(paths) - len(failed)} {verb}, {size}" if paths else "nothing to remove")
    if failed:
        raise Unavailable("; ".join(failed), "Ask who built them.")


def _place() -> Path:
    from noria import config
    from noria.projects import caches

    return caches.own(config.load().environments_folder)


def _plain(each: Kept) -> dict[str, object]:
    from noria.cli import show

    return {**show.plain(each.record), "folder": each.path, "used": each.used}


def _row(each: Kept) -> tuple[str, ...]:
    from noria.cli import show

    record = each.record
    return (record.digest[:8], record.kind, record.version or "-", str(record.packages), show.size(record.bytes), show.ago(each.used),
            show.ago(record.made), record.user, record.file)  # fmt: skip
