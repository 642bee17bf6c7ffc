"""What `noria rerun` and `noria runs diff` do: fetch two runs, compare them, and tell it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from msgspec import Struct, structs

from noria import config
from noria.cli import show
from noria.client.http import Server
from noria.errors import Invalid, NotFound
from noria.projects import capsule_again, capsule_code, capsule_fetch, capsule_software, code
from noria.projects.capsule import AGAIN, Capsule
from noria.projects.capsule_code import File
from noria.projects.capsule_diff import Change, Side, differences
from noria.projects.capsule_effect import Effect, effect, told
from noria.projects.capsule_rank import matters, ranked, weight
from noria.projects.environments import active, recorded
from noria.types import JobSpec, Run
from noria.wire import runs

_SHOWN = 12


class Wanted(Struct, frozen=True):
    """How a run is to be done again. here: with the code as it is now."""

    on: str = ""
    seed: str = ""
    sets: dict[str, str] = {}
    env: dict[str, str] = {}
    here: bool = False
    check: bool = True


class Compared(Struct, frozen=True):
    """Two runs side by side. changes: the likeliest cause first. since: what is otherwise here by now, and was not used. notes: what could not be told."""

    old: Run
    new: Run
    effect: Effect
    changes: list[Change]
    since: list[Change] = []
    notes: list[str] = []


def origin(server: Server, run: Run) -> Run:
    """The run that was first, of one that repeats another."""
    while first := capsule_fetch.tags(run).get(AGAIN):
        run = server.call(runs.GET, runs.Get(first)).run
    return run


def spec(server: Server, run: Run, found: Capsule, wanted: Wanted) -> JobSpec:
    """The job that does a run again. Raises a NoriaError with one sentence for what is missing."""
    home = config.load().folder
    if wanted.check:
        capsule_again.must_have_data(found, capsule_fetch.sets(server, run))
    frozen = (
        None if wanted.here else capsule_code.again(found.code, capsule_fetch.frozen(server, found, home / "code"), home / "code")
    )
    now = active(os.environ)
    name = f"{run.info.run_name}-again"
    made = capsule_again.spec(found, name, _experiment(server, run), recorded(os.environ, now), frozen)
    if found.spec is None:
        made = structs.replace(made, environment=now)
    if wanted.here:
        made = structs.replace(made, cwd=_folder(server, run, found))
    elif frozen is not None and capsule_again.outside(found):
        copy = home / "again" / Path(frozen.file).stem
        code.thaw(frozen, copy)
        made = capsule_again.pointed(made, found, str(copy))
    _must_start(made, found)
    made = _placed(made, found, wanted.on)
    seeds = {_seed(found, run): wanted.seed} if wanted.seed else {}
    logged = {each.key: each.value for each in run.data.params}
    made = capsule_again.with_parameters(made, {**wanted.sets, **seeds}, logged)
    return structs.replace(made, env={**made.env, **wanted.env})


def _folder(server: Server, run: Run, found: Capsule) -> str:
    """Where the code is now: where the first of these runs was started."""
    first = origin(server, run)
    cwd = found.cwd if first.info.run_id == run.info.run_id else capsule_fetch.capsule(server, first).cwd
    if not os.path.isdir(cwd):
        raise NotFound(f"{cwd}, in which run {found.run_id[:8]} was started, is gone.", "Leave out --here: its code was kept.")
    return cwd


def _experiment(server: Server, run: Run) -> str:
    from noria.wire import experiments

    return server.call(experiments.GET, experiments.Get(run.info.experiment_id)).experiment.name


def _must_start(made: JobSpec, found: Capsule) -> None:
    program = made.command[0]
    if program.startswith("/") and not os.path.exists(program) and not made.agent:
        raise NotFound(
            f"{program}, which run {found.run_id[:8]} was started with, is gone.", "`--locked` builds its environment anew."
        )


def _placed(made: JobSpec, found: Capsule, on: str) -> JobSpec:
    from noria.jobs import clusters

    if found.spec is not None and not on:
        return made
    where = clusters.chosen(on or None)
    profile = where.profile
    moved = capsule_again.placed(made, where.scheduler, where.name if where.is_named else "", profile.variables,
                                 where.name if where.is_elsewhere else "", "" if where.is_elsewhere else profile.home)  # fmt: skip
    clusters.must_reach(moved)
    return moved


def _seed(found: Capsule, run: Run) -> str:
    """What its command calls the seed."""
    names = [*found.seeds, *(each.key for each in run.data.params if each.key.lower().endswith("seed"))]
    return next((name for name in names if name != "torch"), "seed")


def installed(found: Capsule) -> list[str]:
    """What the Python of a run has otherwise by now; nothing where it cannot be asked."""
    python = found.software.python
    said = capsule_software.ask(python, os.environ, "/") if python and os.path.exists(python) else None
    return (
        capsule_again.apart(
            found.software, structs.replace(found.software, version=said.version, packages=capsule_software.packages(said.path))
        )
        if said
        else []
    )


def locked(made: JobSpec, found: Capsule) -> JobSpec:
    """A job in an environment with the packages that its run had. Raises Invalid if that cannot be built."""
    from noria.projects import built

    soft = found.software
    if not soft.packages:
        raise Invalid(f"Which packages run {found.run_id[:8]} had is not known.", "Leave out --locked.")
    wanted, folders = capsule_again.requirements(soft)
    if others := [name for name in folders if name != "noria"]:  # Jobs bring Noria with them.
        click.echo(f"noria: installed from folders then, and not in the environment: {', '.join(others)}", err=True)
    folder = config.load().folder / "locks" / hashlib.sha256(wanted.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / "requirements.txt").write_text(wanted)
    (folder / "python_env.yaml").write_text(f'python: "{soft.version}"\ndependencies:\n  - -r requirements.txt\n')
    need = built.needed(folder, "python_env.yaml")
    assert need is not None  # The file is there.
    ready = built.build(need, config.load().environments_folder, lambda line: click.echo(f"noria: {line}", err=True))
    command = [ready.python if word == soft.python else word for word in made.command]
    return structs.replace(made, command=command, environment=built.environment(ready))


def compared(server: Server, old: Run, new: Run, progress: Callable[[int, int], None] = lambda done, total: None) -> Compared:
    """Fetch both runs, and say what differs. A run without a capsule is compared by what it logged."""
    home, notes, sides = config.load().folder, [], []
    for at, run in enumerate((old, new)):
        progress(at, 4)
        found = None
        try:
            found = capsule_fetch.capsule(server, run)
            sides.append(capsule_fetch.side(server, run, found, home / "code"))
        except (NotFound, Invalid) as error:
            notes.append(error.message)
            sides.append(
                capsule_fetch.side(
                    server,
                    run,
                    structs.replace(found, code=structs.replace(found.code, digest="")) if found else None,
                    home / "code",
                )
            )
    progress(2, 4)
    curves = [capsule_fetch.curves(server, run) for run in (old, new)]
    progress(3, 4)
    came = effect(
        curves[0], curves[1], capsule_fetch.artifacts(server, old, new), (capsule_fetch.seconds(old), capsule_fetch.seconds(new))
    )
    return Compared(old, new, came, ranked(differences(*sides), came), _since(*sides), notes)


def _since(old: Side, new: Side) -> list[Change]:
    """What the folder that a run was started in has otherwise by now, in files that the run had."""
    if old.capsule is None or not old.files:
        return []
    present = {}
    for name, file in old.files.items():
        path = Path(old.capsule.code.root) / name
        try:
            found = path.read_bytes()
            present[name] = file if found == file.content else File(found, int(path.stat().st_mtime * 1000))
        except OSError:  # Gone or unreadable: nothing of it can be told.
            present[name] = file
    return ranked(differences(old, structs.replace(old, files=present, started=new.started, ended=new.ended)))


def plain(found: Compared) -> dict[str, Any]:
    """As one JSON object: what was used and matters comes first, then what is otherwise here, then noise."""
    used = [
        {**show.plain(each), "weight": round(weight(each, found.effect), 4), "says": sentence(each), "used": True}
        for each in found.changes
    ]
    since = [
        {**show.plain(each), "weight": round(weight(each), 4), "says": sentence(each), "used": False} for each in _unused(found)
    ]
    first = [each for each in found.changes if matters(each)]
    return {
        "old": found.old.info.run_id, "new": found.new.info.run_id, "same": found.effect.same, "metrics": found.effect.metrics,
        "artifacts": found.effect.artifacts, "seconds": found.effect.seconds, "changes": [*used[: len(first)], *since, *used[len(first) :]], "notes": found.notes,
    }  # fmt: skip


def _unused(found: Compared) -> list[Change]:
    """What changed here, and not between the two runs."""
    both = {(each.kind, each.name, each.where) for each in found.changes}
    return [each for each in found.since if matters(each) and (each.kind, each.name, each.where) not in both]


def tell(found: Compared, causes: bool = True) -> None:
    """Print it, for a person."""
    for line in told(found.effect):
        click.echo(line)
    if causes:
        _list(found)
    for note in found.notes:
        click.echo(f"noria: {note}", err=True)


def _list(found: Compared) -> None:
    first = [each for each in found.changes if matters(each)]
    unused = _unused(found)
    click.echo()
    if not first:
        click.echo("nothing that matters was different" if not found.effect.same else "nothing was different that could matter")
    for number, each in enumerate(first[:_SHOWN], 1):
        click.echo(f"{number}. {sentence(each)}")
    if len(first) > _SHOWN:
        click.echo(f"   and {len(first) - _SHOWN} more: --json shows all")
    for each in unused[:_SHOWN]:
        click.echo(f"-  otherwise here by now, and not used: {sentence(each)}")
    rest = len(found.changes) - len(first)
    if rest:
        click.echo(
            f"   and {rest} that change nothing as a rule: {', '.join(dict.fromkeys(each.name or each.kind for each in found.changes if not matters(each)))[:200]}"
        )


def sentence(change: Change) -> str:
    """One difference in words."""
    what = {
        "code": "",
        "data": "data ",
        "package": "package ",
        "seed": "seed ",
        "parameter": "parameter ",
        "variable": "variable ",
    }.get(change.kind, f"{change.kind} ")
    at = f"{what}{change.name}".strip()
    where = f" {change.where}" if change.where else ""
    if "\n" in change.old + change.new or (change.kind == "code" and change.where):
        lines = [*(f"     - {line}" for line in change.old.splitlines()), *(f"     + {line}" for line in change.new.splitlines())]
        return "\n".join([f"{at}{where}:{_why(change)}", *lines])
    return f"{at}{where}: {change.old or 'not there'} -> {change.new or 'not there'}{_why(change)}"


def _why(change: Change) -> str:
    said = {"comment": "a comment", "unreached": "the program does not import it", "output": "a run wrote it", "rebuilt": "the same version, built otherwise",
            "tool": "a tool", "beside": "it lies beside the code"}  # fmt: skip
    return f" ({said[change.why]})" if change.why in said else ""


def submitted(server: Server, made: JobSpec, run: Run) -> Any:
    """The job, whose run says what it repeats."""
    from noria.cli.commands.submit import submit
    from noria.projects.asks import Asked

    job = submit(server, Asked(made)).job
    server.call(runs.SET_TAG, runs.SetTag(AGAIN, run.info.run_id, run_id=job.run_id))
    return job


def whole(run: Run, found: Capsule) -> Sequence[tuple[str, str]]:
    """A capsule as rows of two."""
    kept, soft, hard = found.code, found.software, found.hardware
    frozen = kept.digest[:12] or "nothing frozen"
    rows = [
        ("command", " ".join(found.command)), ("folder", found.cwd), ("code", f"{frozen}{', what differs from its commit' if kept.over else ''}"),
        ("commit", f"{kept.commit[:12]}{', and what was not committed' if kept.dirty else ''}{f' ({kept.branch})' if kept.branch else ''}" if kept.commit else ""),
        ("reached", ", ".join(kept.reached[:8])), ("not frozen", ", ".join(f"{name} ({said[:12]})" for name, said in list(kept.left.items())[:5])),
        ("Python", f"{soft.implementation} {soft.version}, {len(soft.packages)} packages" if soft.python else ""), ("driver", soft.driver),
        ("machine", f"{hard.host}, {hard.cpus} CPUs ({hard.cpu}), {show.size(hard.memory)}{', ' + ', '.join(hard.gpus) if hard.gpus else ''}"),
        ("seeds", ", ".join(f"{name} {value}" for name, value in found.seeds.items())),
        ("variables", ", ".join(f"{name}={value}" for name, value in found.variables.items())),
        *(("data", f"{each.path} ({each.digest[:12] or 'too large to read'}, {show.size(each.size)})") for each in found.data),
        *(("data", f"{each.dataset.name} ({each.dataset.digest[:12]})") for each in run.inputs.dataset_inputs),
        *(("missing", note) for note in found.notes), ("made in", f"{found.seconds:.2f} s"),
    ]  # fmt: skip
    return [(name, value) for name, value in rows if value]
