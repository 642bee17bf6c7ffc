from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.conftest import Running

FULL = """
import os
from noria.agent.agent import Agent
tick, failures = Agent.tick, [f"failure {number}" for number in range(3)]
def failing(self):
    os.dup2(os.open("/dev/full", os.O_WRONLY), 2)
    if failures:
        raise OSError(28, failures.pop())
    return tick(self)
Agent.tick = failing
"""


def test_an_agent_whose_log_takes_nothing_goes_on(tmp_path: Path, noria: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """The disk is full for a while: it has something to say, and nowhere to say it."""
    running = Running(tmp_path / "home", python=FULL)
    try:
        job = noria("submit", "--no-check", "--", "true").stdout.split()[0]
        assert noria("wait", job, check=False).returncode == 0
        assert running.process and running.process.poll() is None
    finally:
        running.stop()


def test_a_server_that_cannot_say_where_it_serves_serves_all_the_same(
    tmp_path: Path, noria: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    running = Running(tmp_path / "home", python="import os\nos.dup2(os.open('/dev/full', os.O_WRONLY), 2)")
    try:
        time.sleep(1)  # It has announced itself by then, or ended.
        assert running.process and running.process.poll() is None
        assert noria("runs", "list", "--json").returncode == 0
    finally:
        running.stop()
