"""The nouns, on one page.

They are MLflow's JSON as frozen msgspec Structs. Times are milliseconds since 1970, ids are hexadecimal text.
An UNSET field is absent from the JSON, as MLflow has it.
"""

from __future__ import annotations

import math
import sys
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

RunStatus = Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]
JobState = Literal["QUEUED", "SUBMITTED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"]
Cause = Literal[
    "done", "cancelled", "preempted", "time_limit", "node_failure", "bad_node", "killed", "out_of_memory", "gpu_memory", "communication",
    "hang", "missing_module", "missing_file", "disk_full", "licence", "cannot_start", "user_error", "unknown",
]  # fmt: skip
"""Why a try ended. `killed`: by a signal that nobody admits to; `communication`: a rank lost the others; `node_failure`: the node died or
was not heard any more; `bad_node`: it lives, and is broken; `user_error`: the program's own, which would be the same anywhere."""
SAVED = 75
"""The exit code of a program that was told to stop and saved itself (EX_TEMPFAIL of sysexits.h): started again, it goes on."""
ENDED: frozenset[JobState] = frozenset({"COMPLETED", "FAILED", "CANCELLED"})
Stage = Literal["None", "Staging", "Production", "Archived"]
STAGES: tuple[Stage, ...] = ("None", "Staging", "Production", "Archived")

Int = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""An integer as databases keep it, in 64 bits."""
Name = Annotated[str, Meta(min_length=1)]
"""A text that says something: MLflow reads an empty one as a missing one."""
Number = float | Literal["NaN", "Infinity", "-Infinity"]
"""A double in JSON: what JSON cannot write as a number is one of three names. `float(x)` reads both."""


def number(value: float) -> Number:
    """The JSON form of a double."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def clamped(value: float) -> Number:
    """A double on MLflow's endpoints: its SQL stores know no infinities, and answer the largest doubles instead."""
    return math.copysign(sys.float_info.max, value) if math.isinf(value) else number(value)


# What batches are made of refuses unknown names, so that a body in other spellings is seen by the fast decoder (see wire.endpoint).
class Tag(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    key: Name
    value: str = ""


class Param(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    key: Name
    value: str = ""


class Metric(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """One point. `model_id` and the data set are those that it is about; `run_id` stands where the points of several runs do."""

    key: Name
    value: Number
    timestamp: Int
    step: Int = 0
    dataset_name: str | UnsetType = UNSET
    dataset_digest: str | UnsetType = UNSET
    model_id: str | UnsetType = UNSET
    run_id: str | UnsetType = UNSET


class Experiment(Struct, frozen=True, omit_defaults=True):
    experiment_id: str
    name: str
    artifact_location: str
    lifecycle_stage: str
    creation_time: int
    last_update_time: int
    tags: list[Tag] = []


class RunInfo(Struct, frozen=True):
    run_id: str
    run_uuid: str
    run_name: str
    experiment_id: str
    user_id: str
    status: RunStatus
    start_time: int
    artifact_uri: str
    lifecycle_stage: str
    end_time: int | UnsetType = UNSET


class RunData(Struct, frozen=True, omit_defaults=True):
    metrics: list[Metric] = []
    params: list[Param] = []
    tags: list[Tag] = []


class Dataset(Struct, frozen=True, omit_defaults=True):
    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    schema: str = ""
    profile: str = ""


class DatasetInput(Struct, frozen=True, omit_defaults=True):
    dataset: Dataset
    tags: list[Tag] = []


class ModelInput(Struct, frozen=True):
    model_id: str


class ModelOutput(Struct, frozen=True):
    model_id: str
    step: int = 0


class RunInputs(Struct, frozen=True, omit_defaults=True):
    dataset_inputs: list[DatasetInput] = []
    model_inputs: list[ModelInput] = []


class RunOutputs(Struct, frozen=True, omit_defaults=True):
    model_outputs: list[ModelOutput] = []


class Run(Struct, frozen=True):
    info: RunInfo
    data: RunData = field(default_factory=RunData)
    inputs: RunInputs = field(default_factory=RunInputs)
    outputs: RunOutputs = field(default_factory=RunOutputs)


class File(Struct, frozen=True):
    """One entry of an artifact listing; `file_size` in bytes, absent for a folder."""

    path: str
    is_dir: bool
    file_size: int | UnsetType = UNSET


class ModelVersion(Struct, frozen=True):
    name: str
    version: str
    creation_timestamp: int
    last_updated_timestamp: int
    current_stage: Stage
    source: str
    status: str
    run_id: str = ""
    description: str = ""
    user_id: str = ""
    run_link: str = ""
    tags: list[Tag] = []
    aliases: list[str] = []


class Alias(Struct, frozen=True):
    alias: str
    version: str


class RegisteredModel(Struct, frozen=True, omit_defaults=True):
    name: str
    creation_timestamp: int
    last_updated_timestamp: int
    description: str = ""
    latest_versions: list[ModelVersion] = []
    tags: list[Tag] = []
    aliases: list[Alias] = []


class PredictionLog(Struct, frozen=True):
    """What an endpoint has written down of its answers, in files of `folder` on its host: how many requests, when the first and the last
    were answered (0 if none was), how many could not be kept, which share is kept at all, and how many each version answered."""

    folder: str
    count: int = 0
    first: int = 0
    last: int = 0
    lost: int = 0
    sample: float = 1.0
    versions: dict[str, int] = {}


class Change(Struct, frozen=True, omit_defaults=True):
    """One line of the registry's log: who did what to a model, or to one version of it. Lines are written with what they tell of, and
    stay when that is deleted.

    action: "created", "renamed", "deleted", "description", "tag", "alias", "stage", "archived" (another version took its stage),
    "promoted", "refused", "approved", "rolled_back", or whatever a note says that it is. before, after: of a stage, an alias, a tag or a
    text, what it was and what it is; "" is none. evidence: why, as data; of a tag its key, and of an alias its name.
    """

    id: int
    time: int
    action: str
    name: str
    version: str = ""
    user: str = ""
    before: str = ""
    after: str = ""
    reason: str = ""
    evidence: dict[str, Any] = {}


class Endpoint(Struct, frozen=True):
    """A served model: which version answers where. `run_id` and `version` are empty for a model from a path. `problem` says why it is not
    the version that its URI means by now. log: None if it keeps none."""

    endpoint_id: str
    model_uri: str
    url: str
    state: Literal["RUNNING", "STOPPED"]
    started: int
    model_name: str = ""
    version: str = ""
    run_id: str = ""
    host: str = ""
    pid: int = 0
    problem: str = ""
    log: PredictionLog | None = None


class Code(Struct, frozen=True):
    """A job's code as it was at submission. file: the packed code. inside: the folder below its root in which the command was given.
    links: names below its root, and where they lead. commit: of git, "" outside of a repository; dirty: whether files differ from it.
    objects: where that repository keeps them, and remote: where it was cloned from, so that the copy knows its commit too."""

    file: str
    inside: str
    links: dict[str, str]
    commit: str = ""
    dirty: bool = False
    objects: str = ""
    remote: str = ""


class Environment(Struct, frozen=True):
    """What was active where a job was submitted, and is again where its tasks run. virtualenv and conda: the folder of each.
    modules: as `module load` takes them, in that order. image: the file that the tasks run in, by Apptainer. packed: the file that `folder` was packed into, which
    nodes unpack."""

    virtualenv: str = ""
    conda: str = ""
    modules: list[str] = []
    image: str = ""
    packed: str = ""

    @property
    def folder(self) -> str:
        """Of the environment that programs are found in first: a virtual one is made on top of conda's."""
        return self.virtualenv or self.conda


class JobSpec(Struct, frozen=True):
    """What a job is told. Memory in bytes per node, time in seconds, GPUs per node, CPUs per task; 0 is the site's default.

    From `gpu_type` to `reservation` these are the site's own names. `nice` above 0 waves others past, `priority` is the scheduler's
    own scale. `begin` is in milliseconds since 1970, `after` are the ids of jobs that must succeed first, and of the members of
    an array `at_once` may be handed to the scheduler at a time. `raw` are words for the submit command, and `exclude` nodes that it must not run on.
    `script` is the text of a job script that has directives of its own, which is run once on the first node; `as_is`: its directives
    stand in `raw`, so that nothing else is asked for. `site` is what this site calls things (see Dialect.learn). `code`: run in a
    copy of this, instead of in `cwd`. `stage` are files and folders to copy to each node's own disk, by the name that tasks know them by.
    `max_restarts` is how often it is started again after a failure that says nothing; `retry` is "never" if it is not to be started again
    whatever ended it. `total` is the time that all its tries may take together, `warn` how long before its limit it is told to save, and
    `hang` how long it may go without a step; 0 leaves these to Noria.
    `cluster` is the profile by whose name it was asked for, `variables` what that says to the scheduler's commands, and `agent` the
    name of the one agent that may take it; "" is any that reaches the scheduler. `home` is where its folder is made, if not in the
    agent's home. `check_nodes`: find out first whether its nodes are sound.
    """

    command: list[str]
    name: str = ""
    scheduler: str = "local"
    nodes: int = 1
    tasks_per_node: int = 1
    gpus: int = 0
    cpus: int = 1
    mem: int = 0
    time: int = 0
    max_restarts: int = 0
    cwd: str = ""
    env: dict[str, str] = {}
    experiment: str = "Default"
    gpu_type: str = ""
    queue: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    reservation: str = ""
    exclusive: bool = False
    exclude: list[str] = []
    nice: int = 0
    priority: int = 0
    begin: int = 0
    after: list[str] = []
    at_once: int = 0
    raw: list[str] = []
    script: str = ""
    as_is: bool = False
    site: dict[str, str] = {}
    code: Code | None = None
    environment: Environment = Environment()
    stage: dict[str, str] = {}
    cluster: str = ""
    variables: dict[str, str] = {}
    agent: str = ""
    home: str = ""
    retry: Literal["auto", "never"] = "auto"
    total: int = 0
    warn: int = 0
    hang: int = 0
    check_nodes: bool = False

    @property
    def place(self) -> str:
        """Where it runs, as people call it."""
        return self.cluster or self.scheduler

    @property
    def world_size(self) -> int:
        """The tasks that Noria starts."""
        return 1 if self.script else self.nodes * self.tasks_per_node


class Job(Struct, frozen=True):
    """One submission, from the shell to a recorded exit code. `exit_code` is 128 + n after signal n.

    The members of an array are jobs whose ids are `<array>_<number>`. `hold` says why a job may not start: "user", its owner
    holds it; "after", others must succeed first; "array", enough members of its array are under way. Empty if it may.
    """

    id: str
    run_id: str
    spec: JobSpec
    state: JobState
    user: str
    created: int
    folder: str = ""
    scheduler_id: str = ""
    started: int | None = None
    ended: int | None = None
    exit_code: int | None = None
    tries: int = 0
    reason: str = ""
    hold: str = ""


class Try(Struct, frozen=True):
    """One try of a job, once it is over. Their numbers grow, over in-place restarts and new submissions alike; some may be missing.

    Times in milliseconds since 1970; `started` is None if no task was. nodes: where it ran, in the order of ranks. rank, host: the first
    task that failed and its node, None and "" if none did or nobody knows. saved: whether it left a checkpoint behind.
    """

    number: int
    cause: Cause
    ended: int
    started: int | None = None
    code: int = 0
    nodes: list[str] = []
    rank: int | None = None
    host: str = ""
    reason: str = ""
    saved: bool = False
