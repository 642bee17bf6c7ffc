"""Names of stages, in the languages that tutorials are written in."""

from __future__ import annotations

import unicodedata

from noria.errors import Invalid
from noria.types import STAGES, Stage

_WORDS: dict[Stage, str] = {
    "None": "none ninguno ninguna brak zaden",
    "Staging": "staging preproduccion pruebas ensayo przedprodukcja przedprodukcyjny przedprodukcyjna testy testowy testowa",
    "Production": "production produccion produkcja produkcyjny produkcyjna",
    "Archived": "archived archivado archivada archivados archivadas archivo archiwum archiwalny archiwalna zarchiwizowany zarchiwizowana "
                "zarchiwizowane",
}  # fmt: skip
_STAGES = {word: stage for stage, words in _WORDS.items() for word in words.split()}


def stage_of(text: str) -> Stage:
    """The stage that is meant, in English, Spanish or Polish, in any case, with or without accents. Invalid, in MLflow's words, for
    what is none."""
    found = _STAGES.get(_bare(text))
    if found is None:
        raise Invalid(f"Invalid Model Version stage: {text[:40]}. Value must be one of {', '.join(STAGES)}.")
    return found


def _bare(text: str) -> str:
    """Small letters without marks. The hyphen of "pre-producción" is nobody's concern."""
    letters = unicodedata.normalize("NFKD", text.strip()).casefold()
    return "".join(each for each in letters if not unicodedata.combining(each)).replace("-", "")
