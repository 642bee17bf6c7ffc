"""The commands of `noria models` that judge versions and move them between stages."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from noria.cli.show import json_option

if TYPE_CHECKING:
    from noria.automation.evaluations import Answered, How
    from noria.automation.gate import Gate
    from noria.automation.promote import Decision
    from noria.types import Change, ModelVersion

F = TypeVar("F", bound=Callable[..., Any])

_FILE = click.Path(exists=True, dir_okay=False)
_REFUSED = 3
_TO = click.option("--to", "stage", default="Production", show_default=True, help="Stage: Staging, Production or Archived.")
_STAGE = click.option("--stage", default="Production", show_default=True, help="Stage: Production or Staging.")
_REASON = click.option("--reason", default="", help="Why, for the log of the registry.")


def placed(function: F) -> F:
    """Where and how evaluations run, as `noria submit` takes it."""
    options = [
        click.option("--on", help="Where it is evaluated: slurm, pbs, sge, local, or a cluster of noria.toml.  [default: as for noria submit]"),
        click.option("--gpus", metavar="[TYPE:]N", help="GPUs for each evaluation."),
        click.option("--cpus", type=click.IntRange(1), help="CPUs for each evaluation.  [default: 1]"),
        click.option("--mem", help="Memory for each evaluation, such as 8G."),
        click.option("--time", help="Time limit of each evaluation, such as 30m."),
        click.option("--queue", help="Queue, or partition."),
        click.option("--account", help="Account, or project, that pays."),
        click.option("--task", type=click.Choice(["classification", "regression"]), help="What the model does.  [default: by what y holds]"),
        click.option("--allow-pickle", is_flag=True, help="Load models that may run code of their makers'."),
    ]  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


def _how(on: str | None, task: Any, allow_pickle: bool, **flags: Any) -> How:
    """`noria submit` reads the same words the same way."""
    from msgspec.structs import replace

    from noria.automation.evaluations import How
    from noria.jobs import clusters
    from noria.projects.asks import asked

    spec = asked([sys.executable], on, {name: value for name, value in flags.items() if value is not None}, "").spec
    clusters.must_reach(spec)
    return How(lambda command: replace(spec, command=command), _tell, task, allow_pickle=allow_pickle)


def _tell(sentence: str) -> None:
    click.echo(f"noria: {sentence}", err=True)


def _version(server: Any, name: str, version: str) -> ModelVersion:
    from noria.wire import registry

    found: ModelVersion = server.call(registry.GET_VERSION, registry.VersionKey(name, version)).model_version
    return found


@click.command()
@click.argument("name")
@click.argument("versions", nargs=-1, required=True, metavar="VERSION...")
@click.option("--held-out", required=True, type=_FILE, help="An .npz with arrays x and y, or a table with a column y.")
@click.option("--seed", default=0, show_default=True, help="For models that draw when they answer.")
@click.option("--anew", is_flag=True, help="Also where the evaluation of these files on these examples is known.")
@placed
@json_option
def evaluate(name: str, versions: tuple[str, ...], held_out: str, seed: int, anew: bool, as_json: bool, **where: Any) -> None:
    """Measure versions on held-out examples, each in a job of its own, all side by side.

    \b
    noria models evaluate digits 4 5 6 --held-out held_out.npz
    noria models evaluate digits 7 --held-out held_out.npz --on slurm --gpus 1

    Accuracy, loss and recall of each class, or errors of a regression; latency, throughput and size; and for each example what came of it.
    Other arrays of the .npz, and columns that begin with slice_, are labels of slices. `noria models history` has it with its digests.
    """
    from msgspec.structs import replace

    from noria.automation.evaluations import evaluate
    from noria.cli import show
    from noria.cli.local import connect

    server = connect()
    known = [_version(server, name, version) for version in dict.fromkeys(versions)]
    found = evaluate(server, known, Path(held_out), replace(_how(**where), seed=seed), anew=anew)
    if as_json:
        show.as_json({"evaluations": [each.evaluation for each in found]})
        return
    _measured(found)


def _measured(found: list[Answered]) -> None:
    from noria.cli import show

    names = [name for name in found[0].evaluation.metrics if not name.startswith("recall.")]
    rows = [
        (each.of.rpartition("/")[2], *(show.figure(each.metrics.get(name)) for name in names), f"{each.p50_ms:.3g} ms", f"{each.p99_ms:.3g} ms",
         f"{each.examples_per_second:.4g}", show.size(each.size_bytes), each.run_id[:8])
        for each in (answered.evaluation for answered in found)
    ]  # fmt: skip
    show.table(("VERSION", *(name.upper() for name in names), "P50", "P99", "EXAMPLES/S", "SIZE", "RUN"), rows, "")


@click.command()
@click.argument("name")
@click.argument("version")
@_TO
@click.option("--gate", type=_FILE, help="A gate.toml: the conditions that the version has to meet.")
@click.option("--held-out", type=_FILE, help="An .npz with arrays x and y, or a table with y: the gate compares on it.")
@_REASON
@placed
@json_option
def promote(
    name: str, version: str, stage: str, gate: str | None, held_out: str | None, reason: str, as_json: bool, **where: Any
) -> None:  # fmt: skip
    """Promote a version through a gate; those that stood in the stage are archived.

    \b
    noria models promote digits 7 --held-out held_out.npz    not worse than the champion
    noria models promote digits 7 --gate gate.toml           all that gate.toml asks for
    noria models promote digits 7                            the model's own gate, if it has one

    What is not evaluated yet is, the candidate and the version that stands there on the same examples. All conditions are told, not just the
    first that fails. Exit code 3 says that the gate refused; the evidence is in `noria models history`.
    """
    from noria.automation.promote import chosen, promote
    from noria.cli import show
    from noria.cli.local import connect

    server = connect()
    _version(server, name, version)
    decides = chosen(server, name, Path(gate) if gate else None, Path(held_out) if held_out else None)
    decision = promote(server, name, version, stage, gate=decides, how=_how(**where) if decides else _nowhere(), reason=reason)
    if as_json:
        show.as_json(decision)
    _decided(decision)
    sys.exit(0 if decision.passed else _REFUSED)


def _nowhere() -> How:
    from noria.automation.evaluations import How
    from noria.types import JobSpec

    return How(JobSpec)


def _decided(decision: Decision) -> None:
    for each in decision.conditions:
        _tell(f"{'passed' if each.verdict.passed else 'FAILED'}  {each.rule.name}: {each.verdict.sentence}")
    _tell(decision.outcome if decision.conditions else decision.sentence)


@click.command()
@click.argument("name")
@_STAGE
@_REASON
@click.option("--wait", default=15, show_default=True, type=click.IntRange(0), help="Seconds to wait for endpoints to follow.")
@json_option
def rollback(name: str, stage: str, reason: str, wait: int, as_json: bool) -> None:
    """Put the version back that stood in a stage before; endpoints that serve the stage follow.

    `noria serve models:/NAME/Production` asks every few seconds which version that is, and switches without losing a request.
    """
    from noria.cli import show
    from noria.cli.local import connect
    from noria.process import whoami
    from noria.wire import registry
    from noria.wire.stages import stage_of

    server = connect()
    done = server.call(registry.ROLLBACK, registry.Rollback(name, stage_of(stage), whoami(), reason))
    instead = f" instead of {', '.join(done.archived)}" if done.archived else ""
    _tell(f"{name} {done.model_version.version} is in {done.model_version.current_stage} again{instead}.")
    _follow(server, done.model_version, wait)
    if as_json:
        show.as_json(done)


def _follow(server: Any, version: ModelVersion, seconds: int) -> None:
    """Wait for the endpoints that serve this stage, and say of each what it answers with."""
    import time

    from noria.wire import serving

    until = time.monotonic() + seconds
    while True:
        known = server.call(serving.LIST, serving.List()).endpoints
        ours = [each for each in known if each.state == "RUNNING" and _serves(each.model_uri, version)]
        late = [each for each in ours if each.version != version.version]
        if not late or time.monotonic() > until or all(each.problem for each in late):
            break
        time.sleep(0.2)
    for each in ours:
        _tell(f"{each.url} answers with version {each.version}" + (f": {each.problem}" if each.problem else "."))


def _serves(uri: str, version: ModelVersion) -> bool:
    from noria.errors import Invalid
    from noria.wire.stages import stage_of

    name, _, which = uri.removeprefix("models:/").rpartition("/")
    try:
        return name == version.name and stage_of(which) == version.current_stage
    except Invalid:  # A number, or an alias.
        return False


@click.command()
@click.argument("name")
@click.argument("version")
@json_option
def archive(name: str, version: str, as_json: bool) -> None:
    """Archive a version: it stands in no stage any more, and stays where it can be found."""
    from noria.cli import show
    from noria.cli.local import connect
    from noria.wire import registry

    done = connect().call(registry.TRANSITION, registry.Transition(name, version, "Archived")).model_version
    if as_json:
        show.as_json(done)
    _tell(f"{name} {version} is archived. It comes back with: noria models promote {name} {version}")


@click.command()
@click.argument("name")
@click.argument("version")
@_TO
@_REASON
@json_option
def approve(name: str, version: str, stage: str, reason: str, as_json: bool) -> None:
    """Say yes to a version, for gates that ask for somebody who did not make it."""
    from noria.automation.promote import authors
    from noria.cli import show
    from noria.cli.local import connect
    from noria.errors import Forbidden
    from noria.process import whoami
    from noria.wire import registry

    server = connect()
    made = authors(server, _version(server, name, version))
    if whoami() in made:
        raise Forbidden(f"{whoami()} made {name} {version}, and nobody approves their own.", "Ask somebody else.")
    change = server.call(registry.APPROVE, registry.Approve(name, version, stage, whoami(), reason))
    if as_json:
        show.as_json(change)
    _tell(f"{name} {version} is approved for {change.evidence.get('stage', stage)} by {change.user}.")


@click.command()
@click.argument("name")
@click.argument("version", required=False, default="")
@click.option("--action", default="", help="Only these, such as promoted, refused, evaluated or approved.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000), help="At most so many.")
@json_option
def history(name: str, version: str, action: str, limit: int, as_json: bool) -> None:
    """What was done to a model and why, newest first; --json has the evidence."""
    from noria.cli import show
    from noria.cli.local import connect
    from noria.wire import registry

    found = connect().call(registry.HISTORY, registry.History(name, version, action, limit)).changes
    if as_json:
        show.as_json({"changes": found})
        return
    rows = [
        (show.ago(each.time), each.version or "-", each.action, each.user or "-", _moved(each), each.reason) for each in found
    ]
    show.table(("WHEN", "VERSION", "ACTION", "WHO", "CHANGE", "WHY"), rows, f"Nothing was done to {name} yet.")


def _moved(change: Change) -> str:
    if change.before or change.after:
        return f"{change.before or '-'} -> {change.after or '-'}"
    return str(change.evidence.get("stage", "-"))


@click.command()
@click.argument("which", metavar="NAME[/VERSION]")
@click.argument("version", required=False, default="")
@click.option("--held-out", type=_FILE, help="Where the held-out file lies by now.  [default: where it lay]")
@click.option("--tolerance", default=1e-6, show_default=True, help="By how much numbers may differ, as on other hardware.")
@placed
@json_option
def verify(which: str, version: str, held_out: str | None, tolerance: float, as_json: bool, **where: Any) -> None:
    """Make a version's recorded evaluation again and compare: noria models verify digits/7

    Exit code 0 only if model, data, predictions and metrics are what they were; each that is not is told in a sentence, with exit code 3.
    """
    from noria.automation.verify import verify
    from noria.cli import show
    from noria.cli.local import connect

    name, slash, number = which.rpartition("/")
    if bool(slash) == bool(version):
        raise click.UsageError("Write NAME/VERSION, or NAME VERSION.")
    server = connect()
    found = _version(server, name if slash else which, number if slash else version)
    result = verify(server, found, _how(**where), Path(held_out) if held_out else None, tolerance)
    if as_json:
        show.as_json(result)
    for each in result.findings:
        _tell(f"{each.what}: {each.sentence}")
    if result.equal:
        _tell(result.sentence)
    sys.exit(0 if result.equal else _REFUSED)


@click.command()
@click.argument("name")
@click.option("--set", "file", type=_FILE, help="Keep this gate.toml with the model: every promotion has to pass it.")
@click.option("--remove", is_flag=True, help="Let versions pass without a gate again.")
@json_option
def gate(name: str, file: str | None, remove: bool, as_json: bool) -> None:
    """Show, set or remove the gate that a model's versions have to pass.

    \b
    noria models gate digits --set gate.toml
    noria models gate digits > gate.toml
    """
    from noria.automation import gate as gates
    from noria.automation.promote import of_model
    from noria.cli.local import connect
    from noria.wire import registry

    if file and remove:
        raise click.UsageError("Give --set or --remove, not both.")
    server = connect()
    if file:
        text = gates.dumps(gates.load(Path(file)))
        server.call(registry.SET_TAG, registry.SetModelTag(name, gates.TAG, text))
    elif remove:
        server.call(registry.GET, registry.Name(name))
        server.call(registry.DELETE_TAG, registry.ModelTag(name, gates.TAG))
    _gated(name, of_model(server, name), as_json)


def _gated(name: str, found: Gate | None, as_json: bool) -> None:
    from noria.automation import gate as gates
    from noria.cli import show

    if as_json:
        show.as_json({"gate": found})
    elif found is None:
        _tell(f"{name} has no gate. Set one with: noria models gate {name} --set gate.toml")
    else:
        click.echo(gates.dumps(found), nl=False)


COMMANDS = (evaluate, promote, rollback, archive, approve, history, verify, gate)
