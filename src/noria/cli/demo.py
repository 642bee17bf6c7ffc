"""The whole life of a model: every step is the one that a user would take, and each is checked."""

from __future__ import annotations

import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from msgspec import Struct
from msgspec.structs import replace
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from noria import process
from noria.cli import show
from noria.cli.local import connect
from noria.client.http import Server
from noria.config import Settings
from noria.errors import Invalid, NoriaError, NotFound
from noria.jobs.folder import Folder
from noria.projects.environments import active, recorded
from noria.types import ENDED, Job, JobSpec
from noria.wire import jobs, lineage, registry, runs, serving

EXPERIMENT, MODEL = "digits", "digits"
EPOCHS, TRIAL_EPOCHS, TRIALS = 12, 4, 5
ACCURACY = 0.97
_TICK = 0.15
_TRAINING = ("noria", "train", "digits", "--set", "validate=true")


class Trained(Struct, frozen=True):
    """A run that made a model."""

    run_id: str
    name: str
    score: float


class Served(Struct, frozen=True):
    """What the endpoint did with the held-out images; latencies in milliseconds for one image."""

    url: str
    accuracy: float
    median: float
    p99: float


def run(settings: Settings) -> None:
    """All steps. Raises a NoriaError with one sentence if any falls short."""
    started = time.monotonic()
    _check_packages()
    with _Screen() as screen:
        screen.step("server", "the local server, started if none runs")
        server = connect(settings)
        screen.done(f"{server.url}, state in {settings.folder}")
        held_out = _held_out(settings.folder / "demo")
        job = _train(server, screen)
        best = _best(server, [job.run_id, *_search(server, screen)])
        version = _promote(server, screen, best, held_out)
        served = _serve(server, screen, settings, held_out)
    _report(server, job, best, version, served, time.monotonic() - started)


class _Screen:
    """Progress on stderr: one line for each step, with a bar while it works."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description:<8}"),
            BarColumn(24),
            TextColumn("{task.fields[says]}", markup=False),
            TimeElapsedColumn(),
        )
        self.console = Console(stderr=True, highlight=False)
        self._progress = Progress(*columns, console=self.console, transient=True)
        self._task: TaskID | None = None
        self._name = ""

    def __enter__(self) -> _Screen:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def step(self, name: str, says: str) -> None:
        self._name = name
        self._task = self._progress.add_task(name, total=None, says=says)

    def at(self, done: float, total: float, says: str) -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=done, total=total, says=says)

    def note(self, says: str) -> None:
        self.console.print(f"  [dim]{self._name:<8}[/dim] {says}", soft_wrap=True)

    def done(self, says: str) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = None
        self.console.print(f"[green]✓[/green] {self._name:<8} {says}", soft_wrap=True)


def _check_packages() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("torch", "mlxtend", "optuna") if find_spec(name) is None]
    if missing:
        raise NotFound(f"The demo needs {', '.join(missing)}.", "pip install 'noria[demo]', or `make demo` from a clone.")


def _held_out(folder: Path) -> Path:
    """The 1,000 images that no training sees, where a gate can read them."""
    import numpy as np

    from noria.train.datasets import digits

    path = folder / "held_out.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        test = digits().test
        beside = folder / f".{os.getpid()}.npz"
        np.savez(beside, x=test.inputs.numpy(), y=test.targets.numpy())
        os.replace(beside, path)
    return path


def _spec(name: str, tasks: int, restarts: int, *settings: str) -> JobSpec:
    # The threads of two trials must not fight for the cores of one.
    now = active(os.environ)
    return JobSpec([sys.executable, "-m", *_TRAINING, *(part for each in settings for part in ("--set", each))], name, tasks_per_node=tasks, max_restarts=restarts,
                   cwd=os.getcwd(), env=recorded(os.environ, now), environment=now, experiment=EXPERIMENT)  # fmt: skip


def _train(server: Server, screen: _Screen) -> Job:
    """Steps 2 and 3: train on two processes, kill one in the middle, and see that nothing is lost or doubled."""
    tasks = 2 if len(os.sched_getaffinity(0)) > 1 else 1
    screen.step("train", "two processes, data-parallel")
    spec = _spec("cnn", tasks, 2, f"epochs={EPOCHS}", "patience=5")
    job = server.call(jobs.SUBMIT, jobs.Submit(spec, process.whoami())).job
    killed_at = killed_when = 0
    while True:
        job = server.call(jobs.GET, jobs.Key(job.id)).job
        steps = server.call(runs.CURVE, runs.Curve(job.run_id, "loss")).steps
        total = EPOCHS * _steps_per_epoch()
        screen.at(len(steps), total, f"step {len(steps)} of {total}, {tasks} processes")
        if not killed_at and len(steps) > 0.35 * total:
            killed_at, killed_when = _kill_one(screen, job, len(steps))
        if job.state in ENDED:
            break
        time.sleep(_TICK)
    if job.state != "COMPLETED":
        raise _failed(job, "The training job did not finish")
    went_on = _check_record(server, job, killed_when)
    screen.done(f"run {job.run_id[:8]}: killed after step {killed_at}, went on from the checkpoint at step {went_on} in the same run; "
                f"every step recorded once")  # fmt: skip
    return job


def _steps_per_epoch() -> int:
    from noria.train.data import steps_per_epoch
    from noria.train.datasets import digits

    return steps_per_epoch(len(digits().train), 64)


def _kill_one(screen: _Screen, job: Job, step: int) -> tuple[int, int]:
    """SIGKILL to the last rank, as a preemption would; the step and the time in milliseconds."""
    state = Folder(Path(job.folder)).started()
    if state is None:
        raise Invalid("The launcher has not said which processes it started.", f"See {job.folder}.")
    victim = state.tasks[-1]
    now = int(time.time() * 1000)
    os.kill(victim.pid, signal.SIGKILL)
    screen.note(f"killed rank {victim.rank} (process {victim.pid}) in the middle, after step {step}")
    return step, now


def _check_record(server: Server, job: Job, killed_when: int) -> int:
    """The step that the second try began with. Raises Invalid if the record is not each step once, in both tries."""
    points = server.call(runs.CURVE, runs.Curve(job.run_id, "loss"))
    if points.steps != list(range(len(points.steps))):
        raise Invalid(
            f"The record of run {job.run_id[:8]} has steps lost or doubled.", "This is a defect of Noria: please report it."
        )
    if job.tries != 2:
        raise Invalid(f"The job was tried {job.tries} times instead of twice.", f"Its logs are in {job.folder}.")
    later = [step for step, at in zip(points.steps, points.timestamps, strict=True) if at > killed_when + 1000]
    if not later or later[0] == 0:
        raise Invalid("The job did not go on from its checkpoint.", f"Its logs are in {job.folder}.")
    return later[0]


def _failed(job: Job, what: str) -> NoriaError:
    logs = [path for _, path in Folder(Path(job.folder)).rank_logs()] if job.folder else []
    last = [line for path in logs for line in path.read_text(errors="replace").splitlines()[-1:]]
    return NoriaError(
        f"{what} ({job.reason or job.state}): {last[0] if last else 'it printed nothing'}",
        f"`noria logs {job.id[:8]}` shows more.",
    )


def _search(server: Server, screen: _Screen) -> list[str]:
    """Step 4: learning rate and width, in trials that stop early. The runs of those that finished."""
    from noria.search.halving import rungs
    from noria.search.space import Choice, Float
    from noria.tune.tuner import Attempt, Plan, tune

    screen.step("search", "learning rate and width")
    plan = Plan(
        {"lr": Float(1e-3, 2e-2, log=True), "width": Choice((16, 24, 32))}, "val_loss", TRIALS, len(os.sched_getaffinity(0)),
        rungs(1, TRIAL_EPOCHS, 2), eta=2, seed=1)  # fmt: skip

    def spec(number: int, params: dict[str, Any]) -> JobSpec:
        chosen = [f"{name}={value:.4g}" for name, value in params.items()]
        return _spec(f"trial-{number + 1}", 1, 0, f"epochs={TRIAL_EPOCHS}", *chosen)

    def tell(attempts: Sequence[Attempt]) -> None:
        ended, early = sum(each.ended for each in attempts), sum(each.stopped for each in attempts)
        epochs = sum(len(each.curve) if not each.ended else TRIAL_EPOCHS for each in attempts)
        screen.at(epochs, TRIALS * TRIAL_EPOCHS, f"{ended} of {TRIALS} trials, {early} stopped early")

    attempts = tune(server, plan, spec, tell)
    finished = [each for each in attempts if each.job.state == "COMPLETED"]
    broken = [each.job for each in attempts if each.job.state != "COMPLETED" and not each.stopped]
    if not finished or broken:
        raise _failed((broken or [attempts[0].job])[0], "A trial of the search failed")
    best = min(finished, key=lambda each: min(each.curve))
    epochs = sum(len(each.curve) for each in attempts)
    screen.done(f"{TRIALS} trials, {sum(each.stopped for each in attempts)} stopped early ({epochs} of {TRIALS * TRIAL_EPOCHS} epochs run); "
                f"best lr {best.params['lr']:.2g}, width {best.params['width']}, val_loss {min(best.curve):.3f}")  # fmt: skip
    return [each.job.run_id for each in finished]


def _best(server: Server, run_ids: Sequence[str]) -> Trained:
    """The run with the highest validation accuracy at any epoch."""
    found = []
    for run_id in run_ids:
        info = server.call(runs.GET, runs.Get(run_id)).run.info
        scores = server.call(runs.CURVE, runs.Curve(run_id, "val_accuracy")).values
        found.append(Trained(run_id, info.run_name, max(float(score) for score in scores)))
    return max(found, key=lambda each: each.score)


def _promote(server: Server, screen: _Screen, best: Trained, held_out: Path) -> str:
    """Step 5: register the best model and let the gate decide. The version that was registered."""
    from noria.automation.evaluations import How
    from noria.automation.gate import usual
    from noria.automation.promote import promote

    screen.step("registry", "the gate compares on the held-out images")
    try:
        server.call(registry.CREATE, registry.CreateModel(MODEL))
    except NoriaError:
        server.call(registry.GET, registry.Name(MODEL))  # It was there before.
    created = server.call(registry.CREATE_VERSION, registry.CreateVersion(MODEL, f"runs:/{best.run_id}/model", best.run_id))
    version = created.model_version.version
    how = How(lambda command: replace(_spec("evaluate", 1, 0), command=command))
    verdict = promote(server, MODEL, version, "Production", gate=usual(str(held_out)), how=how)
    screen.done(f"best of all is {best.name} (val_accuracy {best.score:.3f}): {MODEL} {version}. {verdict.sentence}")
    return version


@contextmanager
def _endpoint(server: Server, settings: Settings) -> Iterator[str]:
    """A served Production version; its address."""
    log = settings.folder / "demo" / "endpoint.log"
    log.write_bytes(b"")
    env = {
        **os.environ,
        "NORIA_SERVER": server.url,
        "NORIA_TOKEN": server.token,
        "NORIA_HOME": str(settings.folder),
        "OMP_NUM_THREADS": "1",
    }
    child = process.start(process.python("noria.cli.main", "serve", f"models:/{MODEL}/Production"), log=log, env=env)
    try:
        url = _until(lambda: next((line for line in log.read_text().splitlines() if line.startswith("http://")), ""), child, log)
        yield url
    finally:
        process.send(child.pid, signal.SIGTERM)
        child.wait(15)


def _until(ready: Callable[[], str], child: Any, log: Path) -> str:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if found := ready():
            return found
        if child.poll() is not None:
            break
        time.sleep(0.05)
    last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it printed nothing"]
    raise NoriaError(f"The endpoint did not start: {last[0].removeprefix('noria: ')}", f"Its log is {log}.")


def _serve(server: Server, screen: _Screen, settings: Settings, held_out: Path) -> Served:
    """Step 6: ask the Production version about every held-out image, one by one, over HTTP."""
    import numpy as np

    screen.step("serve", f"models:/{MODEL}/Production")
    with np.load(held_out) as arrays:
        x, y = arrays["x"], arrays["y"]
    with _endpoint(server, settings) as url:
        endpoint = Server(url, server.token)
        right, times = 0, []
        for index, (image, label) in enumerate(zip(x, y, strict=True)):
            before = time.perf_counter()
            answer = endpoint.call(serving.PREDICT, serving.Predict([image.tolist()])).predictions
            times.append((time.perf_counter() - before) * 1000)
            right += int(np.argmax(answer[0])) == int(label)
            if index % 50 == 0:
                screen.at(index, len(y), f"{index} of {len(y)} images over HTTP")
    served = Served(url, right / len(y), statistics.median(times), statistics.quantiles(times, n=100)[98])
    if served.accuracy < ACCURACY:
        raise NoriaError(
            f"endpoint accuracy {served.accuracy:.3f} is below {ACCURACY}.", "Please report this with the output above."
        )
    screen.done(f"{len(y)} requests of one image each at {url}")
    return served


def _report(server: Server, job: Job, best: Trained, version: str, served: Served, seconds: float) -> None:
    """Step 7: what a person wants to see at the end."""
    points = server.call(runs.CURVE, runs.Curve(job.run_id, "loss"))
    show.curve(
        [(step, float(value)) for step, value in zip(points.steps, points.values, strict=True)],
        f"loss by step, run {job.run_id[:8]} (cnn)",
    )
    graph = server.call(lineage.TRACE, lineage.Trace(_production_run(server), "run"))
    data, run = _node(graph, "data"), _node(graph, "run")
    standing, at = _node(graph, "version", "Production"), _node(graph, "endpoint", served.url)
    if data is None or run is None or standing is None or at is None:
        raise NoriaError(
            "The lineage has a gap between data, run, version and endpoint.", "This is a defect of Noria: please report it."
        )
    click.echo()
    click.echo(f"endpoint accuracy {served.accuracy:.3f}")
    click.echo(f"latency {served.median:.1f} ms median, {served.p99:.1f} ms p99, one image a request")
    click.echo(f"lineage {data.title} ({data.id[:8]}) -> run {run.id[:8]} -> {standing.id} ({standing.state}) -> {at.title}")
    click.echo(f"page {server.url}/#token={server.token}")
    click.echo(f"took {seconds:.0f} s", err=True)
    click.echo(f"next: noria ps | noria runs list | noria serve models:/{MODEL}/Production | noria server stop", err=True)


def _node(graph: lineage.Graph, kind: lineage.Kind, said: str = "") -> lineage.Node | None:
    """The first node of a kind; with `said`, of that state or title."""
    return next((node for node in graph.nodes if node.kind == kind and said in (node.state, node.title, "")), None)


def _production_run(server: Server) -> str:
    return server.call(registry.LATEST, registry.Latest(MODEL, ["Production"])).model_versions[0].run_id
