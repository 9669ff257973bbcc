"""English, and what is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.config.filters import Filters
from generators import filters
from generators.filters import language
from tests.generators.filters.rows import ROW, row

OTHER = [
    ("Was ist in diesem Bild zu sehen?", "German"),
    ("Auf welcher Seite liegt die Läsion?", "German"),
    ("Quelle est la lésion visible sur cette image ?", "French"),
    ("¿Hay una fractura en la costilla izquierda?", "Spanish"),
    ("Há uma massa no pulmão esquerdo?", "Portuguese"),
    ("Quale anomalia si vede in questa immagine?", "Italian"),
    ("Welke afwijking is te zien op deze afbeelding?", "Dutch"),
    ("Vilken sida ligger lesionen på?", "Swedish"),
    ("Czy na obrazie widoczny jest guz?", "Polish"),
    ("Bu görüntüde kitle var mi?", "Turkish"),
    ("Gambar ini menunjukkan organ apa?", "Indonesian"),
]
ENGLISH = [
    "Is there an en plaque meningioma?",
    "Are café au lait spots or a peau d'orange described?",
    "Was an aneurysm, e.g. of the pars, seen in 2 of 3?",
    "Ménière disease and Sjögren syndrome were in question.",
    "Is the os acromiale, et cetera, fused?",
    "Does de Quervain or van Buchem disease explain it?",
    "El Salvador and La Paz are no findings.",
    "Is a coup de sabre present as well as a lit candle sign?",
    "Tis, Ta, N1 and a die punch fracture.",
]


@pytest.mark.parametrize(("text", "name"), OTHER)
def test_a_row_in_another_language_is_out(text: str, name: str) -> None:
    assert language.reason(row(text)) == f"question: in {name}, not English"
    said = language.reason(replace(ROW, rationale=text))
    assert said == f"reasoning: in {name}, not English"


@pytest.mark.parametrize("text", ENGLISH)
def test_english_with_its_latin_and_french_passes(text: str) -> None:
    assert language.other_language(text) is None


def test_where_no_language_is_configured_no_rule_of_english_is_applied() -> None:
    german = row("Ist der Tumor links?", "links", "links", "rechts")
    assert filters.reason(german)
    assert filters.reason(german, Filters(language=None)) is None
    twice = row("Ist der Tumor links?", "links", "links", "Links")
    assert filters.reason(twice, Filters(language=None)) == "options: two say the same"
