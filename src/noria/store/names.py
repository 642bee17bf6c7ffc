"""Names for runs that were given none: two words and a number, as MLflow has them. Its adjectives tell them from names that people
gave, so ours are some of its."""

from __future__ import annotations

import random

_ADJECTIVES = [
    "adventurous",
    "amazing",
    "amusing",
    "bold",
    "bouncy",
    "bright",
    "calm",
    "capable",
    "charming",
    "colorful",
    "delightful",
    "efficient",
    "fearless",
    "gentle",
    "gifted",
    "intelligent",
    "nimble",
    "peaceful",
    "polite",
    "skillful",
    "smiling",
    "thoughtful",
    "upbeat",
    "wise",
    "youthful",
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
