"""Names for runs that were given none: two words and a number, as MLflow has them."""

from __future__ import annotations

import random

_ADJECTIVES = [
    "amber",
    "brisk",
    "calm",
    "clever",
    "deep",
    "eager",
    "fast",
    "gentle",
    "keen",
    "lively",
    "loyal",
    "lucid",
    "mellow",
    "nimble",
    "patient",
    "proud",
    "quiet",
    "rapid",
    "steady",
    "sunny",
    "swift",
    "tidy",
    "vivid",
    "warm",
    "wise",
]
_NOUNS = [
    "brook",
    "canal",
    "cedar",
    "channel",
    "cistern",
    "creek",
    "dam",
    "delta",
    "ferry",
    "fountain",
    "harbor",
    "heron",
    "lagoon",
    "lock",
    "mill",
    "oasis",
    "otter",
    "pond",
    "reed",
    "river",
    "spring",
    "stream",
    "tide",
    "well",
    "willow",
]


def make() -> str:
    return f"{random.choice(_ADJECTIVES)}-{random.choice(_NOUNS)}-{random.randint(0, 999)}"
