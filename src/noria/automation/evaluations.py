"""Evaluations as jobs: each version is one job of its own, and all of them run side by side.

What was found is kept three times over, so that a change of one shows: as the artifacts of the job's run, as that run's metrics, and as a line
of the registry's audit log with the digest of those artifacts.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from noria import atomic, config, models
from noria.automation import held_out, measure
from noria.automation.measure import EXAMPLES, FAILED, FOLDER, RECORD, Evaluation, Request
from noria.automation.measures import Examples, Task
from noria.client.http import Server
from noria.errors import Invalid, NoriaError, NotFound, Unsupported
from noria.models.fetch import copy
from noria.process import whoami
from noria.types import ENDED, Change, Job, JobSpec, ModelVersion
from noria.wire import jobs, registry, runs

EXPERIMENT = "Evaluations"
EVALUATED = "evaluated"
REQUEST = "request.json"
_TICK = 0.1
_LATE = 30.0
_FILES = 2000
"""A model of more files is known to the log by its digest alone."""
_STALE = 7 * 86_400
_HIDDEN = "rows"
_SLICE = "slice "


class How(Struct, frozen=True):
    """How evaluations are made. spec: the job of a command. tell: called with a sentence when something happens."""

    spec: Callable[[list[str]], JobSpec]
    tell: Callable[[str], None] = lambda _: None
    task: Task | None = None
    seed: int = 0
    allow_pickle: bool = False


class Answered(Struct, frozen=True):
    """An evaluation with what is known about each example, its slices and the digests of the examples themselves."""

    evaluation: Evaluation
    examples: Examples
    slices: Mapping[str, Any]
    rows: Any
    job: Job | None = None


def evaluate(server: Server, versions: Sequence[ModelVersion], path: Path, how: How, *, anew: bool = False) -> list[Answered]:
    """What each version comes to on a held-out file, in the order of the versions; what is not known yet is found out by jobs, all at once.

    anew: evaluate those too whose evaluation is known. Raises NotFound for a file or a model that is gone, Invalid if a model fails on these
    examples; the others are evaluated all the same.
    """
    path = path.absolute()
    digest = held_out.load(path).digest  # Read here, so that a bad file costs no job.
    with _folders(how, len(versions)) as folders:
        known: list[Answered | None] = []
        for version, folder in zip(versions, folders, strict=True):
            copy(server, version.name, version.version, folder / "model")
            known.append(None if anew else stands(server, version, digest, models.digest(folder / "model")))
        missing = [index for index, found in enumerate(known) if found is None]
        made = _run(server, [(versions[index], folders[index]) for index in missing], path, how)
        for index, found in zip(missing, made, strict=True):
            if isinstance(found, Answered):
                known[index] = found
                note(server, versions[index], found)
    failed = [found for found in made if isinstance(found, Invalid)]
    if failed:  # Only now: what the others came to is known, and is not found out again.
        raise failed[0]
    return [found for found in known if found is not None]


@contextmanager
def _folders(how: How, count: int) -> Iterator[list[Path]]:
    """Folders that the nodes see, gone in the end. Those that nobody came to remove go too."""
    place = home(how)
    made = [place / uuid4().hex for _ in range(count)]
    try:
        yield made
    finally:
        for folder in made:
            shutil.rmtree(folder, ignore_errors=True)


def home(how: How) -> Path:
    """The folder of the folders of evaluations, which the nodes see; those in it that nobody came to remove go."""
    spec = how.spec(["true"])
    if spec.agent:
        raise Unsupported(f"{spec.place} gets the code of a job and no data, so no model can be evaluated there.",
                          "Evaluate it here, with --on local, or from a login node.")  # fmt: skip
    found = Path(spec.home or config.load().folder) / "evaluations"
    found.mkdir(parents=True, exist_ok=True, mode=0o700)
    for old in found.iterdir():
        with suppress(FileNotFoundError):  # Others make and remove folders there meanwhile.
            if time.time() - old.lstat().st_mtime > _STALE:
                shutil.rmtree(old, ignore_errors=True)
    return found


def rerun(server: Server, version: ModelVersion, path: Path, how: How, look: Callable[[Path], None]) -> Answered:
    """One evaluation made again, of which nothing is noted. look: shown the model's folder beforehand, as it is on the server now."""
    with _folders(how, 1) as (folder,):
        copy(server, version.name, version.version, folder / "model")
        look(folder / "model")
        (found,) = _run(server, [(version, folder)], path.absolute(), how)
    if isinstance(found, Invalid):
        raise found
    return found


def _run(server: Server, wanted: Sequence[tuple[ModelVersion, Path]], path: Path, how: How) -> list[Answered | Invalid]:
    """What each came to, or why it could not be evaluated. If waiting is given up, so are the jobs."""
    submitted: list[Job] = []
    try:
        for version, folder in wanted:
            submitted.append(submit(server, version, folder, path, how))
            how.tell(f"evaluating {version.name} {version.version} in job {submitted[-1].id[:8]}")
        ended = [_wait(server, job, how) for job in submitted]
        return [result(server, job, version) for job, (version, _) in zip(ended, wanted, strict=True)]
    except BaseException:
        for job in submitted:
            _cancel(server, job)
        raise


def submit(server: Server, version: ModelVersion, folder: Path, path: Path, how: How, key: str = "") -> Job:
    """The job that evaluates the model in folder/model. key: see wire.jobs.Submit."""
    of = f"{version.name}/{version.version}"
    request = Request(of, str(folder / "model"), str(path), how.task, how.seed, how.allow_pickle)
    atomic.write(folder / REQUEST, msgspec.json.encode(request))  # With the same key, its job may be reading there.
    spec = how.spec([sys.executable, "-m", measure.__name__, str(folder / REQUEST)])
    name = re.sub(r"[^\w.-]+", "-", f"evaluate-{of}")[:60]
    return server.call(jobs.SUBMIT, jobs.Submit(replace(spec, name=name, experiment=EXPERIMENT), whoami(), key=key)).job


def _wait(server: Server, job: Job, how: How) -> Job:
    late = time.monotonic() + _LATE
    while job.state not in ENDED:
        if job.state in ("QUEUED", "SUBMITTED") and time.monotonic() > late:
            how.tell(f"job {job.id[:8]} still waits; `noria why {job.id[:8]}` says why")
            late = float("inf")
        time.sleep(_TICK)
        job = server.call(jobs.GET, jobs.Key(job.id)).job
    return job


def _cancel(server: Server, job: Job) -> None:
    try:
        if server.call(jobs.GET, jobs.Key(job.id)).job.state not in ENDED:
            server.call(jobs.CANCEL, jobs.Cancel(job.id, "the evaluation was given up"))
    except NoriaError:  # What went wrong before is what is told.
        pass


def result(server: Server, job: Job, version: ModelVersion) -> Answered | Invalid:
    """What a job that has ended found out, or why it did not."""
    if job.state != "COMPLETED":
        tags = {tag.key: tag.value for tag in server.call(runs.GET, runs.Get(job.run_id)).run.data.tags}
        why = tags.get(FAILED) or f"the job ended as {job.state.lower()}{f' ({job.reason})' if job.reason else ''}"
        return Invalid(
            f"{version.name} {version.version} could not be evaluated: {why}", f"`noria logs {job.id[:8]}` shows more."
        )
    return replace(read(server, job.run_id), job=job)


def read(server: Server, run_id: str) -> Answered:
    """An evaluation as its run keeps it. Raises NotFound, or Invalid if its files are not what they were."""
    root = server.call(runs.GET, runs.Get(run_id)).run.info.artifact_uri
    with TemporaryDirectory() as folder:
        try:
            for name in (RECORD, EXAMPLES):
                server.download(root, f"{FOLDER}/{name}", Path(folder) / name)
        except NotFound:
            raise NotFound(
                f"Run {run_id[:8]} has kept no evaluation.", "Evaluate the version again: noria models evaluate."
            ) from None
        try:
            record = msgspec.json.decode((Path(folder) / RECORD).read_bytes(), type=Evaluation)
        except msgspec.DecodeError as error:
            raise Invalid(
                f"The record of evaluation {run_id[:8]} cannot be read ({error}).", "Evaluate the version again."
            ) from None
        arrays, digest = _arrays(Path(folder) / EXAMPLES), held_out.digest(Path(folder) / EXAMPLES)
    if digest != record.examples_sha256:
        raise Invalid(f"The examples of evaluation {run_id[:8]} are not those that it kept.", "Evaluate the version again.")
    rows = arrays.pop(_HIDDEN)
    slices = {name.removeprefix(_SLICE): arrays.pop(name) for name in list(arrays) if name.startswith(_SLICE)}
    return Answered(replace(record, run_id=run_id), arrays, slices, rows)


def _arrays(path: Path) -> dict[str, Any]:
    import numpy as np

    with np.load(path, allow_pickle=False) as found:
        return {name: found[name] for name in found.files}


def note(server: Server, version: ModelVersion, found: Answered) -> None:
    """Write it into the registry's log."""
    evidence = {
        **msgspec.to_builtins(found.evaluation),
        "record_sha256": fingerprint(found.evaluation),
        "job_id": found.job.id if found.job else "",
    }
    line = registry.Note(version.name, version.version, EVALUATED, whoami(), said(found.evaluation), evidence)
    server.call(registry.NOTE, line)


def fingerprint(evaluation: Evaluation) -> str:
    """SHA-256 of what an evaluation found, by which the audit log knows its run's record."""
    return hashlib.sha256(msgspec.json.encode(replace(evaluation, run_id=""), order="sorted")).hexdigest()


def said(evaluation: Evaluation) -> str:
    shown = [f"{name} {float(value):.4g}" for name, value in evaluation.metrics.items() if not name.startswith("recall.")]
    return f"{', '.join(shown)} on {evaluation.examples} examples of {Path(evaluation.held_out).name}"


def noted(server: Server, version: ModelVersion, digest: str = "") -> Iterator[tuple[Change, Evaluation]]:
    """What the audit log has of evaluations of a version, newest first; digest: of this held-out file alone."""
    token = ""
    while True:
        page = server.call(registry.HISTORY, registry.History(version.name, version.version, EVALUATED, 100, token))
        for change in page.changes:
            try:
                found = msgspec.convert(change.evidence, Evaluation)
            except msgspec.ValidationError:  # Another program may note evaluations of its own.
                continue
            if digest in ("", found.held_out_sha256):
                yield change, found
        token = page.next_page_token
        if not token:
            return


def stands(server: Server, version: ModelVersion, digest: str, model: str) -> Answered | None:
    """The newest evaluation of these files on these examples, if all that it kept is there as it was."""
    for change, found in noted(server, version, digest):
        if found.model_sha256 != model:
            continue
        try:
            kept = read(server, found.run_id)
        except (NotFound, Invalid):
            continue
        if fingerprint(kept.evaluation) == change.evidence.get("record_sha256"):
            return kept
    return None
