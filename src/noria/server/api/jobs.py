"""Jobs, for people and for agents."""

from noria.server.live import CHANGED, Hub
from noria.server.route import Route, read, write
from noria.store import jobs
from noria.wire import jobs as wire


def _reported(hub: Hub, _: wire.Report, got: wire.Got) -> None:
    hub.tell(got.job.run_id, lambda: [CHANGED])


ROUTES = [
    Route(wire.SUBMIT, jobs.submit, True, makes_work=True),
    read(wire.LIST, jobs.list_),
    read(wire.GET, jobs.get),
    read(wire.TRIES, jobs.tries),
    Route(wire.CANCEL, jobs.cancel, True, makes_work=True),
    Route(wire.HOLD, jobs.hold, True, makes_work=True),
    Route(wire.RELEASE, jobs.release, True, makes_work=True),
    Route(wire.DRILL, jobs.drill, True, makes_work=True),
    Route(wire.REQUEUE, jobs.requeue, True, makes_work=True),
    write(wire.CLAIM, jobs.claim),
    Route(wire.REPORT, jobs.report, True, _reported),
]
