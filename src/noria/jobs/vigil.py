"""What a launcher watches besides its own tasks: that the other nodes are still heard, and that steps are still made. No clock of another
machine is trusted: a sign is a value that is not what it was."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

SILENCE = 60.0
"""Seconds without a sign after which a node is lost. A shared file system may show what is there half a minute late."""
PATIENCE = 600.0
"""The same for a node that has given none yet: it may be copying what its tasks need."""
_NOTICE, _ACT = 300.0, 1800.0


class Peers:
    """Who is still heard of those that belong together."""

    def __init__(self, others: Mapping[int, str]) -> None:
        """others: the names of the other nodes, by number."""
        self._names = dict(others)
        self._last: dict[int, tuple[int, float]] = {}

    def silent(self, signs: Mapping[int, int], now: float) -> str:
        """The name of a node that was not heard for too long; "" if there is none. signs: what each has said last. Patience begins when
        they are listened to first: what came before, as copying data, may have taken hours."""
        for node in self._names:
            before, since = self._last.setdefault(node, (-1, now))
            sign = signs.get(node, before)
            if sign != before:
                self._last[node] = sign, now
            elif now - since > (SILENCE if before >= 0 else PATIENCE):
                return self._names[node]
        return ""


class Steps:
    """Signs of progress, and the pauses between them."""

    def __init__(self, now: float) -> None:
        self._sign, self.since = -1, now
        self._pauses: deque[float] = deque(maxlen=500)
        self.longest = 0.0

    def look(self, sign: int, now: float) -> None:
        """sign: any number that is another one after a step."""
        if sign == self._sign:
            return
        if self._sign >= 0:
            self._pauses.append(now - self.since)
            self.longest = max(self.longest, now - self.since)
        self._sign, self.since = sign, now

    @property
    def usual(self) -> float:
        """The pause that is in the middle; 0 if there was none."""
        return sorted(self._pauses)[len(self._pauses) // 2] if self._pauses else 0.0

    def suspicious(self, now: float) -> bool:
        """Whether somebody should look: for so long nothing has come before."""
        return len(self._pauses) >= 3 and now - self.since > max(_NOTICE, 10 * self.usual, 3 * self.longest)

    def stuck(self, now: float, told: float) -> bool:
        """Whether it had better be started again. told: what people have said is too long, 0 if nobody did.

        The first sign may take ten times as long, for that is when programs are read and compiled. Without a word, only what is ten times
        the longest pause, and half an hour, is too long: an evaluation at the end makes no steps either.
        """
        if told:
            return now - self.since > (told if self._pauses else 10 * told)
        return len(self._pauses) >= 3 and now - self.since > max(_ACT, 10 * self.longest)
