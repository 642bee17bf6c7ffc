"""What a launcher or an agent says goes to a log, which may lie on a full disk: then nobody hears it, and the work goes on."""

from __future__ import annotations

import os


def say(sentence: str) -> None:
    """One line, by itself: what a stream holds back because it cannot write it would fail again later."""
    try:
        os.write(2, f"noria: {sentence}\n".encode())
    except OSError:
        pass
