"""Measure a version, and the one that stands in a stage, on the same held-out examples, each in a job of its own.

    {evaluate = "digits", held_out = "/srv/digits/held_out.npz", on = "slurm"}
    {evaluate = "digits", version = "@candidate", against = "", on = "local"}

version: a number, a stage or @alias; left out, it is the one that a step before has made, or that the event is of, or the newest. against: the stage whose
version is measured too, "" for none. held_out: left out, they are those of the model's gate. `task`, `seed` and `allow_pickle` are
those of `noria models evaluate`; on, gpus, cpus, mem, time and their like those of `noria submit`.

Gives model, version, champion ("" if nobody stands there), metrics, champion_metrics and runs. What is known already on the same bytes is not measured again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from noria.automation import steps, unattended
from noria.automation.actions import Act, Acted, Causes
from noria.automation.promote import champion_of, of_model
from noria.automation.steps import Measured, Text
from noria.errors import Invalid
from noria.types import ModelVersion
from noria.wire import registry
from noria.wire.stages import stage_of


class Settings(Measured, frozen=True, kw_only=True):
    evaluate: str
    version: Text = ""
    against: str = "Production"
    held_out: str = ""


SETTINGS = steps.names(Settings, "evaluate")


def check(settings: dict[str, Any]) -> None:
    wanted = steps.check(Settings, settings, "evaluate")
    if wanted.against and steps.is_filled(wanted.against):
        stage_of(wanted.against)
    if wanted.held_out:
        steps.path(wanted.held_out, "held_out", "evaluate")


def causes(settings: dict[str, Any]) -> list[Causes]:
    """The ends of its jobs, whose names begin so."""
    return [Causes("job_ended", {"name": f"evaluate-{settings['evaluate']}-"})]


def act(ask: Act) -> Acted:
    wanted = steps.read(Settings, ask.settings, "evaluate")
    return _finish(ask, wanted) if ask.result else _begin(ask, wanted)


def _begin(ask: Act, wanted: Settings) -> Acted:
    server = ask.client
    version = steps.version(ask, wanted.evaluate, wanted.version)
    champion = champion_of(server, version, stage_of(wanted.against)) if wanted.against else None
    paths = _paths(ask, wanted)
    both = [version, *([champion] if champion else [])]
    begun = unattended.begin(server, both, paths, wanted.how(), ask.key)
    said = {"model": version.name, "version": version.version, "champion": champion.version if champion else "",
            "held_out": [str(path) for path in paths], "begun": unattended.told(begun)}  # fmt: skip
    if not begun:
        return _known(ask, wanted, said)
    shown = ", ".join(f"{each.version} in job {each.job_id[:8]}" for each in begun)
    return Acted("waiting", said, f"evaluating {version.name} {shown}")


def _paths(ask: Act, wanted: Settings) -> list[Path]:
    if wanted.held_out:
        return [steps.path(wanted.held_out, "held_out", "evaluate")]
    gate = of_model(ask.client, wanted.evaluate)
    if gate is None or not gate.held_out:
        raise Invalid(f"On which examples is {wanted.evaluate} to be evaluated? It has no gate that says so.",
                      'Write held_out = "/the/whole/path.npz".')  # fmt: skip
    return [Path(each) for each in gate.held_out.values()]


def _finish(ask: Act, wanted: Settings) -> Acted:
    begun = unattended.of(ask.result)
    waits = unattended.under_way(ask.client, begun)
    if waits:
        return Acted("waiting", ask.result, f"{len(waits)} of {len(begun)} evaluations are under way: job {waits[0][:8]}")
    unattended.finish(ask.client, ask.result["model"], begun)
    return _known(ask, wanted, ask.result)


def _known(ask: Act, wanted: Settings, said: dict[str, Any]) -> Acted:
    model, number, champion = said["model"], said["version"], said["champion"]
    own, runs = _measured(ask, wanted, said, number)
    theirs, others = _measured(ask, wanted, said, champion) if champion else ({}, [])
    result = {"model": model, "version": number, "champion": champion, "metrics": own, "champion_metrics": theirs,
              "runs": [*runs, *others]}  # fmt: skip
    shown = ", ".join(f"{name} {float(value):.4g}" for name, value in own.items() if not name.startswith("recall."))
    than = f"; {wanted.against} is {champion}" if champion else ""
    return Acted("done", result, f"{model} {number}: {shown}{than}")


def _measured(ask: Act, wanted: Settings, said: dict[str, Any], number: str) -> tuple[dict[str, Any], list[str]]:
    """A version's metrics, and the runs of its evaluations. Of several held-out files the later ones' names go before what they share."""
    version: ModelVersion = ask.client.call(registry.GET_VERSION, registry.VersionKey(said["model"], number)).model_version
    metrics: dict[str, Any] = {}
    runs = []
    for path in map(Path, said["held_out"]):
        found = unattended.known(ask.client, version, path, wanted.how()).evaluation
        runs.append(found.run_id)
        metrics |= {name if name not in metrics else f"{path.stem}.{name}": value for name, value in found.metrics.items()}
    return metrics, runs
