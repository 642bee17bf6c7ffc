"""What runs beside a server, in its process: an agent for this machine's jobs, and an engine for its rules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from noria.agent.agent import Agent
from noria.automation.engine import Engine
from noria.client.http import Server

_LOOK_SECONDS = 5.0
"""So often the engine asks although nobody woke it: servers on other machines may have one database with this one."""


class Both:
    """As one, to whom the server speaks."""

    def __init__(self, agent: Agent, engine: Engine) -> None:
        self._agent, self._engine = agent, engine

    def flush(self, timeout: float) -> bool:
        return self._agent.flush(timeout)

    def wake(self) -> None:
        self._agent.wake()
        self._engine.wake()


@contextmanager
def beside(url: str, token: str, folder: Path) -> Iterator[Both]:
    engine = Engine(lambda: Server(url, token), patience=_LOOK_SECONDS)
    with Agent(url, token, folder) as agent, engine:
        yield Both(agent, engine)
