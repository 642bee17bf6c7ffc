"""An agent on a login node that lives as long as the connection that brought it: `python -m noria.agent.login`.

It is told on its standard input whom it works for, so that no token is seen in a list of processes, and ends when that closes. Jobs go on
without it, and the next one catches up.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import msgspec
from msgspec import Struct

from noria.agent.agent import Agent


class Order(Struct, frozen=True):
    """Where the server is, as seen from here, and whose jobs of which cluster to run. home: below which job folders are made."""

    url: str
    token: str
    home: str
    user: str
    cluster: str


def main() -> int:
    said = sys.stdin.buffer.readline()
    if not said:
        return 1
    order = msgspec.json.decode(said, type=Order)
    home = Path(order.home).expanduser().absolute()
    threading.Thread(target=_until_closed, daemon=True).start()
    agent = Agent(order.url, order.token, home, order.user, order.cluster)
    print(f"noria: agent of {order.user} for cluster {order.cluster}, with its jobs in {home}", flush=True)
    agent.run()
    return 0


def _until_closed() -> None:
    while sys.stdin.buffer.read(1):
        pass
    os._exit(0)  # At any point: an agent keeps nothing that it could lose.


if __name__ == "__main__":
    sys.exit(main())
