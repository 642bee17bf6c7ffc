"""What is pushed to those who watch a run: server-sent events (WHATWG HTML, 9.2), each with one `Event` as its data."""

from __future__ import annotations

from msgspec import Struct

from noria.types import Metric
from noria.wire.endpoint import OWN

WATCH = f"{OWN}/live"
"""A GET with `run_id`. It is a stream, and so no row."""
PING_SECONDS = 15
"""A comment comes at least so often: a silence of twice as long is the end of the stream."""


class Event(Struct, frozen=True, omit_defaults=True):
    """log: new points; rewind: points at `step` and after it no longer hold; run: the run's fields changed; again: read it all anew."""

    type: str
    metrics: list[Metric] = []
    step: int | None = None
