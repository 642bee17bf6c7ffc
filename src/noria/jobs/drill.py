"""Troubles on order, so that people can try before they trust: `noria drill JOB KIND` writes the kind into the job's folder."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Literal, get_args

from noria import process
from noria.jobs.say import say

if TYPE_CHECKING:
    from noria.jobs.launch import Launcher

Kind = Literal["preempt", "timeout", "node-failure", "hang", "oom"]
KINDS: tuple[str, ...] = get_args(Kind)


def obey(launcher: Launcher) -> None:
    """Do what somebody has ordered for this try, once, if this node is one that it concerns."""
    try:
        kind, _, attempt = (launcher.folder.path / "drill").read_text().partition(" ")
    except FileNotFoundError:
        return
    last = launcher.placement.node_rank == launcher.job.spec.nodes - 1
    if kind in _KINDS and attempt == str(launcher.attempt) and not launcher.drilled and (last or kind in _EVERYWHERE):
        launcher.drilled = kind
        say(f"drill: {kind}")
        _KINDS[kind](launcher)


def _preempt(launcher: Launcher) -> None:
    """The scheduler's word to stop, as far as a task can tell."""
    launcher.asked_to_stop = signal.SIGTERM


def _timeout(launcher: Launcher) -> None:
    launcher.limit_now()


def _node_failure(launcher: Launcher) -> None:
    """Nothing of ours on this node lives on to say a word."""
    for child in launcher.processes():
        process.send_group(child.pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def _hang(launcher: Launcher) -> None:
    """The last task stands still; the watch is told to be quick."""
    for child in launcher.processes()[-1:]:
        process.send_group(child.pid, signal.SIGSTOP)


def _oom(launcher: Launcher) -> None:
    """As the kernel does it: no word, only a count."""
    launcher.oom -= 1
    for child in launcher.processes()[:1]:
        process.send_group(child.pid, signal.SIGKILL)


_KINDS = {"preempt": _preempt, "timeout": _timeout, "node-failure": _node_failure, "hang": _hang, "oom": _oom}
_EVERYWHERE = ("preempt", "timeout")
"""What a scheduler does to all nodes of a job; the rest befalls the last one."""
