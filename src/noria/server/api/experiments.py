"""Experiments."""

from noria.server.route import Route, read, write
from noria.store import experiments, jobs
from noria.store.store import Connection
from noria.wire import experiments as wire


def _follow(conn: Connection, job_id: str, result: wire.Created | wire.Got) -> None:
    """A script that sets its experiment takes its job's run there; MLflow's client would refuse to go on with it otherwise."""
    jobs.follow(conn, job_id, result.experiment_id if isinstance(result, wire.Created) else result.experiment.experiment_id)


ROUTES = [
    Route(wire.CREATE, experiments.create, True, by_job=_follow),
    read(wire.GET, experiments.get),
    Route(wire.GET_BY_NAME, experiments.get_by_name, False, by_job=_follow),
    read(wire.SEARCH, experiments.search),
    read(wire.LIST, experiments.search),
    write(wire.UPDATE, experiments.rename),
    write(wire.DELETE, experiments.remove),
    write(wire.RESTORE, experiments.restore),
    write(wire.SET_TAG, experiments.set_tag),
    write(wire.DELETE_TAG, experiments.delete_tag),
    read(wire.SEARCH_DATASETS, experiments.search_datasets),
]
