"""noria top: nodes, what is used of them, and whose jobs are there."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable

from tests.conftest import until


def test_a_running_job_is_shown_on_its_node(noria: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    assert "No jobs of yours." in noria("top", "--on", "local").stdout
    job = json.loads(
        noria("submit", "--json", "--name", "sleeps", "--", sys.executable, "-c", "import time; time.sleep(100)").stdout
    )["id"]
    text = until(
        lambda: (
            (said := noria("top", "--on", "local", COLUMNS="160").stdout)
            and "1 running" in said
            and job[:8] in said.split("JOB ")[0]
            and said
        )
    )
    (line,) = [line for line in text.splitlines() if line.startswith(socket.gethostname())]
    assert "█" in line and job[:8] in line and "sleeps" in text
    noria("cancel", job)
