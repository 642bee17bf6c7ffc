"""How the process keeps its memory."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of mallopt(3)."""


def keep() -> None:
    """Keep up to 16 MiB of freed memory for the next block of a body, rather than give it back and get it zeroed anew each time.

    That halves the processor time of receiving a large file. Other C libraries than glibc have no such switch, and need none.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, 16 << 20)
        mallopt(_MMAP_THRESHOLD, 4 << 20)
