"""What a person means who names an experiment or a run."""

from __future__ import annotations

from noria.client.http import Server
from noria.errors import NoriaError, NotFound
from noria.types import Experiment, Run
from noria.wire import experiments, runs


def experiment(server: Server, text: str) -> Experiment:
    """The experiment of this name, or else of this id; deleted ones are found too. Raises NotFound."""
    try:
        return server.call(experiments.GET_BY_NAME, experiments.GetByName(text)).experiment
    except NotFound:
        pass
    try:
        return server.call(experiments.GET, experiments.Get(text)).experiment
    except NoriaError:  # An id of another form than ours is refused, not missed.
        raise NotFound(
            f"There is no experiment '{text[:80]}'.", "`noria experiments list` shows the experiments there are."
        ) from None


def all_experiments(server: Server, *, deleted: bool = False) -> list[Experiment]:
    """Every experiment, newest first. deleted: those that were deleted as well."""
    view: experiments.ViewType = "ALL" if deleted else "ACTIVE_ONLY"
    found: list[Experiment] = []
    token = ""
    while True:
        page = server.call(experiments.SEARCH, experiments.Search(10_000, token, view_type=view))
        found += page.experiments
        token = page.next_page_token
        if not token:
            return found


def run(server: Server, text: str) -> Run:
    """The run whose id begins so, or that alone has this name."""
    return server.call(runs.RESOLVE, runs.Resolve(text)).run
