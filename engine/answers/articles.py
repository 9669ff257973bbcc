"""Which words of a text are articles: "a mass", never the letter of "hepatitis A" or "A waves".

"the" and "an" always are, before another word. "a" is one where a noun phrase may begin (at the
start, or after a word such as "with") and the next word is one that "a" can stand before: begun
by a consonant, singular, and none that is named by letters. In doubt it is a letter and stays.
"""

from __future__ import annotations

import re
import unicodedata

# Words after which "a" begins a noun phrase. Never a noun: "type a", "group a", "vitamin a".
_LEADS = frozenset(
    "and or not there this that with without of in on at to from by for as like near into "
    "through over under above below behind between within is are was were be has have had "
    "shows show showing suggests represents indicates reveals demonstrates contains than "
    "likely possibly probably only".split()
)
# Words that "a" is no article before: function words, "a few" against "few", what letters name.
_NEVER = frozenset(
    "and or vs to of in on at is are was were the with few little bit lot positive negative "
    "pos neg scan mode wave line band chain cell fib fibre fiber fibrillation flutter strain "
    "allele ring point pattern peak velocity blood strep subunit gene pulley segment mutation "
    "haplogroup antigen antibody agglutinin isoform domain kinase vitamin influenza flu "
    "hepatitis haemophilia hemophilia deficiency crystallin amyloid donor recipient rh rhesus "
    "score index ratio frame site channel delta neuron nucleus coxsackie staph viral "
    "streptococci streptococcal staphylococcal platelet plasma serum factor receptor clade lineage "
    "serogroup subgroup subclass biovar helix botulism personality haemophiliac hemophiliac "
    "alpha beta gamma delta epsilon kappa lambda sigma theta".split()
)
_NUMBERED = frozenset("type grade stage group class category level phase subtype".split())
_NAMED = re.compile(
    r".+type|.*(?:virus|protein|peptide|virion|toxin|coccus|globin|globulin|thalass?a?emia|variant)"
)
_SINGULAR = re.compile(r".*(?:[^s]|ss|[aiou]s|eps)|yes|lens|series|herpes")
_SOUNDS_LIKE_YOU_OR_ONE = re.compile(r"uni|ur[eio]|us[eu]|ut[ei]|eu|one|once")


def without_articles(words: list[str], keep_a: bool = False) -> list[str]:
    """The words without articles; with `keep_a` every "a" stays. The last word is never one."""
    before: list[str] = []
    while words != before:  # without one article another may stand where one can
        before = words
        words = [
            word
            for place, word in enumerate(before)
            if not (place + 1 < len(before) and _is_article(before, place, keep_a))
        ]
    return words


def _is_article(words: list[str], place: int, keep_a: bool) -> bool:
    if words[place] in ("the", "an"):
        return keep_a or words[place + 1] != "a" or _before_a_letter(words, place)
    if words[place] != "a" or keep_a:
        return False
    before = words[max(place - 2, 0) : place]
    if before and before[-1] not in _LEADS:
        return False
    lettered = len(before) == 2 and before[-1] in ("and", "or") and len(before[0]) == 1
    return not lettered and _may_follow(words[place + 1 : place + 4])


def _before_a_letter(words: list[str], place: int) -> bool:
    """Whether the "a" after an article stays a letter without it, as in "the A segment".

    In "the A dissection" it would not: there the article says that it is one.
    """
    around = words[max(place - 2, 0) : place] + words[place + 1 : place + 5]
    at = min(place, 2)
    if at + 1 >= len(around) or (at and around[at - 1] in ("the", "an")):
        return False
    return not _is_article(around, at, keep_a=False)


def _may_follow(after: list[str]) -> bool:
    """Whether "a" can be an article before these words."""
    word = after[0]
    if word in _NUMBERED:  # "a type 2 lesion", not "A type"
        return len(after) > 1 and len(after[1]) <= 3
    if word[0].isdigit():  # "a 5 cm mass"
        return len(after) > 2
    if (
        len(word) < 2
        or word in _NEVER
        or _NAMED.fullmatch(word)
        or not word[0].isalpha()
        or not _SINGULAR.fullmatch(word)
    ):
        return False
    vowel = unicodedata.normalize("NFD", word)[0] in "aeiou"
    return not vowel or bool(_SOUNDS_LIKE_YOU_OR_ONE.match(word))
