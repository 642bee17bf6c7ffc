"""Stages in the languages that tutorials are written in."""

from __future__ import annotations

import unicodedata

import pytest

from noria.errors import Invalid
from noria.types import STAGES, Stage
from noria.wire.stages import stage_of


@pytest.mark.parametrize(
    ("words", "stage"),
    [
        ("None none NONE Ninguna ninguno Brak", "None"),
        ("Staging staging Preproducción preproduccion PREPRODUCCIÓN Pre-producción Przedprodukcja Testy", "Staging"),
        ("Production production Producción produccion PRODUCCIÓN Produkcja produkcja", "Production"),
        ("Archived archived Archivado archivada Archiwum Zarchiwizowany ZARCHIWIZOWANA", "Archived"),
    ],
)
def test_a_stage_is_known_in_english_spanish_and_polish(words: str, stage: Stage) -> None:
    for word in words.split():
        for form in ("NFC", "NFD"):
            assert stage_of(unicodedata.normalize(form, f" {word} ")) == stage  # type: ignore[arg-type]
    assert stage in STAGES


@pytest.mark.parametrize("word", ["", "Prod", "Żaden z nich", "latest", "1", "Production\0", "Produktion"])
def test_what_is_no_stage_is_refused_in_mlflows_words(word: str) -> None:
    with pytest.raises(Invalid) as caught:
        stage_of(word)
    said = f"Invalid Model Version stage: {word}. Value must be one of None, Staging, Production, Archived."
    assert caught.value.message == said
