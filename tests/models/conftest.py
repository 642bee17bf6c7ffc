from __future__ import annotations

import pytest

from noria.models import digests


@pytest.fixture
def unsealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are saved as others save them, without digests, so that what a test changes in one reaches the flavor that reads it."""
    monkeypatch.setattr(digests, "write", lambda folder: None)
