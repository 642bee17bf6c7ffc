"""What a notebook asks: functions of `mlflow` under their own names, answered by the server that the command line finds.

Unlike what logs (`noria.client.fluent`), these need a server at once.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import Struct

from noria.cli import find
from noria.cli.local import connect, settle
from noria.client.http import Server
from noria.errors import Invalid, NotFound, Unsupported
from noria.models.register import register
from noria.types import ModelVersion, RunInfo, RunInputs, RunOutputs
from noria.types import Run as Found
from noria.wire import experiments, runs

if TYPE_CHECKING:
    from pandas import DataFrame

_PAGE = 5000
_VIEWS: dict[object, experiments.ViewType] = {1: "ACTIVE_ONLY", 2: "DELETED_ONLY", 3: "ALL"}


class Values(Struct, frozen=True):
    """The last value of each metric; parameters and tags."""

    metrics: dict[str, float]
    params: dict[str, str]
    tags: dict[str, str]


class Run(Struct, frozen=True):
    """A run as scripts written for mlflow read it: `run.info.run_id`, `run.data.metrics["loss"]`."""

    info: RunInfo
    data: Values
    inputs: RunInputs
    outputs: RunOutputs


def get_run(run_id: str) -> Run:
    """The run of this id, the beginning of one, or a name that it alone has. Raises NotFound."""
    with _settled() as server:
        return _run(find.run(server, run_id))


@contextmanager
def _settled() -> Iterator[Server]:
    """A server that knows what this script has logged by now."""
    with closing(connect()) as server:
        settle(server)
        yield server


def _run(found: Found) -> Run:
    data = found.data
    values = Values(
        {metric.key: float(metric.value) for metric in data.metrics},
        {param.key: param.value for param in data.params},
        {tag.key: tag.value for tag in data.tags},
    )
    return Run(found.info, values, found.inputs, found.outputs)


def search_runs(
    experiment_ids: Sequence[str] | None = None,
    filter_string: str = "",
    run_view_type: int | str = 1,
    max_results: int = 100_000,
    order_by: Sequence[str] | None = None,
    output_format: Literal["pandas", "list"] = "pandas",
    search_all_experiments: bool = False,
    experiment_names: Sequence[str] | None = None,
) -> Any:
    """The runs that match, as a DataFrame with MLflow's columns or as a list of `Run`.

    Columns: run_id, experiment_id, status, artifact_uri, start_time, end_time, and metrics.KEY, params.KEY, tags.KEY. Without
    ids and names it is the experiment that set_experiment named, or Default. run_view_type: 1 or "ACTIVE_ONLY", 2 or
    "DELETED_ONLY", 3 or "ALL". Raises Invalid for a filter that cannot be read.
    """
    if experiment_ids and experiment_names:
        raise Invalid("Both experiment_ids and experiment_names were given.", "Only one of them can be used.")
    if output_format not in ("pandas", "list"):
        raise Invalid(f"There is no output_format '{output_format}'.", "Use 'pandas' or 'list'.")
    with _settled() as server:
        ids = list(experiment_ids or ()) or _ids(server, experiment_names or (), search_all_experiments)
        search = runs.Search(ids, filter_string, _view(run_view_type), order_by=list(order_by or ()))
        found = [_run(run) for run in _pages(server, search, max_results)]
    return _frame(found) if output_format == "pandas" else found


def _view(asked: int | str) -> experiments.ViewType:
    for number, name in _VIEWS.items():
        if asked in (number, name):
            return name
    raise Invalid(f"There is no run_view_type {asked!r}.", "Use 1 (active), 2 (deleted) or 3 (all).")


def _ids(server: Server, names: Sequence[str], everywhere: bool) -> list[str]:
    if everywhere and not names:
        return [each.experiment_id for each in find.all_experiments(server)]
    ids = []
    for name in names or [os.environ.get("MLFLOW_EXPERIMENT_NAME", "Default")]:
        try:
            ids.append(server.call(experiments.GET_BY_NAME, experiments.GetByName(name)).experiment.experiment_id)
        except NotFound:  # Several may be asked for, and the others are found; mlflow warns too.
            warnings.warn(f"There is no experiment '{name}'; `noria experiments list` shows those there are.", stacklevel=4)
    return ids


def _pages(server: Server, search: runs.Search, most: int) -> Iterator[Found]:
    token = ""
    while most > 0:
        page = server.call(runs.SEARCH, msgspec.structs.replace(search, max_results=min(most, _PAGE), page_token=token))
        yield from page.runs
        most, token = most - len(page.runs), page.next_page_token
        if not token:
            return


def _frame(found: Sequence[Run]) -> DataFrame:
    try:
        import pandas
    except ImportError:
        raise Unsupported(
            "noria.search_runs makes a pandas DataFrame, and pandas is not installed.",
            "pip install pandas, or ask for output_format='list'.",
        ) from None
    infos = [run.info for run in found]
    columns: dict[str, Any] = {
        name: [getattr(info, name) for info in infos] for name in ("run_id", "experiment_id", "status", "artifact_uri")
    }
    columns["start_time"] = pandas.to_datetime([info.start_time for info in infos], unit="ms", utc=True)
    ends = [info.end_time if isinstance(info.end_time, int) else None for info in infos]
    columns["end_time"] = pandas.to_datetime(ends, unit="ms", utc=True)
    columns |= _columns("metrics", [run.data.metrics for run in found], math.nan)
    columns |= _columns("params", [run.data.params for run in found], None)
    columns |= _columns("tags", [run.data.tags for run in found], None)
    return pandas.DataFrame(columns)


def _columns(kind: str, each: Sequence[Mapping[str, Any]], missing: Any) -> dict[str, list[Any]]:
    """One column for each key that any run has, in the order in which they appear."""
    keys = dict.fromkeys(key for values in each for key in values)
    return {f"{kind}.{key}": [values.get(key, missing) for values in each] for key in keys}


def set_experiment(experiment_name: str) -> None:
    """The experiment of the runs that this process, and what it starts, begins from now on. It is made with the first of them."""
    if not experiment_name:
        raise Invalid("An experiment needs a name.", 'Write noria.set_experiment("NAME").')
    if os.environ.get("NORIA_RUN_ID"):
        warnings.warn(
            "A job's run lies in the experiment that it was submitted to; `noria submit --experiment NAME` says which.",
            stacklevel=3,
        )
    os.environ["MLFLOW_EXPERIMENT_NAME"] = experiment_name


def register_model(model_uri: str, name: str, *, tags: Mapping[str, object] | None = None) -> ModelVersion:
    """Make a version of the registered model `name`, which is made if there is none, of a model that a run has kept.

    model_uri: `runs:/RUN/path`, a RUN alone for its only model, or `models:/m-…`. Raises NotFound if there is no model.
    """
    with _settled() as server:
        return register(server, model_uri, name, tags)
