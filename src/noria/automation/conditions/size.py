"""The candidate is small enough."""

from __future__ import annotations

from noria.automation.conditions import Evidence, Verdict
from noria.errors import Invalid


def judge(evidence: Evidence, *, most_bytes: int = 100_000_000) -> Verdict:
    """Passes if all files of the model's folder have at most so many bytes. Raises Invalid if nobody has measured it."""
    size = evidence.cost.get("size_bytes")
    if size is None:
        raise Invalid("The size of the candidate was not measured.", "Give a held-out file, with --held-out or in the gate.")
    passed = size <= most_bytes
    said = "within" if passed else "more than"
    return Verdict(
        passed,
        f"The candidate's folder has {size:,.0f} bytes, {said} the {most_bytes:,} allowed.",
        {"size_bytes": size, "most_bytes": most_bytes},
    )
