"""Has the capsule of a job's run made when its first try starts, beside its tasks and not before them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping

from noria import config, process
from noria.errors import NoriaError
from noria.jobs.folder import Folder
from noria.jobs.say import say
from noria.types import Job

_MAKER = "noria.projects.capsule_make"
"""By its name alone: it is of a room above this one."""
_CODE = f"import json, sys; ask = json.loads(sys.argv[1]); sys.path[:] = ask['path']; from {_MAKER} import job; job(ask)"


def begin(folder: Folder, job: Job, env: Mapping[str, str], began: float) -> process.Popen[bytes] | None:
    """env: that of the job's first task. began: when its tasks were started, in seconds since 1970. The process, where somebody must wait for it; nothing that goes wrong is the job's concern."""
    try:
        settings = config.load(env=env)
    except NoriaError as error:
        say(f"no capsule: {error.message}")
        return None
    if not settings.capsules:
        return None
    # What lies in an agent's own folder is shipped whenever it comes; nobody looks into a job's once that is over.
    spools = settings.folder / "spool"
    apart = not spools.is_dir()
    spools = folder.spool if apart else spools
    killed = job.spec.scheduler != "local"  # Schedulers kill what a job leaves behind.
    ask = json.dumps({"job_folder": str(folder.path), "folder": str(spools), "path": sys.path, "began": began})
    cwd = job.spec.cwd if os.path.isdir(job.spec.cwd) else str(folder.path)
    try:
        started = process.start([sys.executable, "-I", "-S", "-c", _CODE, ask], log=folder.logs / "capsule.log", env=env, cwd=cwd)
    except OSError as error:
        say(f"no capsule: {error.strerror}")
        return None
    return started if apart or killed else None
