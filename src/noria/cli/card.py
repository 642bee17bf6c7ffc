"""What `noria models show NAME VERSION` prints: the card of one version, and where it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from noria.client.http import Server


def print_version(server: Server, name: str, which: str, as_json: bool) -> None:
    """which: a version's number, a stage or an alias with `@` before it. Nothing of the model is run."""
    from noria.cli import show
    from noria.models import digests, guard, mlmodel, schema
    from noria.models.fetch import fetch
    from noria.wire import registry

    fetched = fetch(server, f"models:/{name}{which}" if which.startswith("@") else f"models:/{name}/{which}")
    version = server.call(registry.GET_VERSION, registry.VersionKey(name, fetched.version)).model_version
    files = guard.files(fetched.folder)
    model = mlmodel.read(fetched.folder)
    flavors = [each for each in model.flavors if each != "python_function"] or list(model.flavors)
    facts: dict[str, Any] = {
        "name": name, "version": fetched.version, "stage": version.current_stage, "aliases": version.aliases, "run": version.run_id,
        "flavors": flavors, "made": model.utc_time_created, "size": sum(path.stat().st_size for path in files.values()), "files": len(files),
        "inputs": [schema.shown(each) for each in model.signature.inputs], "outputs": [schema.shown(each) for each in model.signature.outputs],
        "params": [schema.shown(each) for each in model.signature.params], "metadata": model.metadata,
        "digest": digests.digest(fetched.folder), "listed": digests.FILE in files, "folder": str(fetched.folder)}  # fmt: skip
    if as_json:
        show.as_json(facts)
        return
    for key, value in facts.items():
        text = show.size(value) if key == "size" else ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        if value not in ("", [], {}):
            click.echo(f"{key:<10}{''.join(each if each.isprintable() else ' ' for each in text)}")
    if "README.md" in files:
        click.echo(f"noria: its card is {fetched.folder / 'README.md'}", err=True)
