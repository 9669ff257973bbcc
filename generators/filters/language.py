"""Language: the row is in English, by the commonest words of its neighbours.

Shares of known words do not tell: of VQA-RAD's questions some have half their words in no general
dictionary, as German ones have. Words that English, Latin or medicine has too are left out of the
lists ("in", "an", "die"; "et", "os"; "peau d'orange", "en face", "café au lait").
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from engine.records import Triplet
from generators.filters.words import words_of

FOREIGN = {
    "German": "der das ist und ein eine einen einem einer nicht auf mit zu welche welcher welches "
    "wie wo sind gibt es den dem diesem dieser diese dieses zeigt wird bei oder kein keine im",
    "French": "est une les dans sur cette ce qui que quel quelle quels quelles il sont avec pas "
    "ou où aux ces sans visible-t-il combien montre elle",
    "Spanish": "el los las una hay es qué que del por esta este se con cuál dónde está muestra sin "
    "imagen cuántos",
    "Italian": "il della nella questa questo è di una che si sono quale quali gli nel dell una "
    "c'è con senza immagine dove",
    "Portuguese": "uma é há não da na no esta este que foi imagem qual quais são mostra onde com "
    "do dos das em",
    "Dutch": "het een van welke op deze dit er te zien zijn niet met wat waar hoeveel aan bij",
    "Swedish": "och är på det som finns vilken vilket en ett bilden inte",
    "Polish": "jest na w czy nie się jaki jaka obrazie gdzie ile widoczny widoczna",
    "Turkish": "bu bir mi var ve hangi görüntüde nedir nerede",
    "Indonesian": "ini yang apa dan gambar pada adalah tidak di menunjukkan",
}
_WORDS = {name: frozenset(words.split()) for name, words in FOREIGN.items()}
# Of those, what stands in English texts too: names, Latin, abbreviations, English itself.
_ENGLISH = frozenset(
    "no do em da di na en es se es zu van den el los las del con due im il si mi ve aux ou la te "
    "op wie w que aan per sin hay ile".split()
)
ENOUGH = 2  # different words


def reason(row: Triplet) -> str | None:
    """Which language the question or the reasoning is in; None where it may be English."""
    for place, text in (("question", row.question), ("reasoning", row.rationale)):
        if found := other_language(text):
            return f"{place}: in {found}, not English"
    return None


@lru_cache(maxsize=64)  # the samples of a question come one after the other
def other_language(text: str) -> str | None:
    """The language of which a text has two common words and English has neither; else None."""
    words = {word.lower() for word in words_of(unicodedata.normalize("NFC", text))}
    counts = {name: _count(words, of) for name, of in _WORDS.items()}
    most = max(counts, key=lambda name: counts[name])
    return most if counts[most] >= ENOUGH else None


def _count(words: set[str], of: frozenset[str]) -> int:
    """How many are of a language; one that English texts have too counts beside one that is not."""
    sure = words & (of - _ENGLISH)
    return len(words & of) if sure else 0
