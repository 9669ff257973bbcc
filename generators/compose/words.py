"""How a fact, a claim and a subject are said in English: articles, numbers and verbs that fit.

A `Noun` is what a finding is called. Of phantoms' findings the bank knows which take no article and
which are plural; of other names their ending tells ("pneumonia").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from generators.compose.program import (
    COUNT,
    DIAMETER,
    PRESENCE,
    SEVERAL,
    SIDE,
    SIZE,
    Fact,
    Value,
)
from generators.phantoms.bank import NO_ARTICLE, PLURAL

LESION = "lesion"
NUMBERS = ("no", "one", "two", "three", "four")
ORDINALS = ("first", "second", "third", "fourth")
# What takes no article though no phantom shows it; "-ia", "-itis" and their like go by the ending.
_MASS = frozenset("edema oedema atelectasis fibrosis calcification fluid air blood cancer".split())
_MASS_ENDINGS = ("ia", "itis", "osis", "emphysema", "edema", "oedema", "megaly", "thickening")


@dataclass(frozen=True, slots=True)
class Noun:
    """A finding's name: `many` is its plural, `mass` whether it takes no article."""

    one: str
    many: str
    mass: bool = False
    plural: bool = False  # it is plural by itself: drusen

    def a(self) -> str:
        """ "a cyst", "an infarct", "hydronephrosis"."""
        if self.mass:
            return self.one
        return f"{'an' if self.one[:1] in tuple('aeiou') else 'a'} {self.one}"

    def there(self, present: bool = True) -> str:
        """ "there is a cyst", "there are no drusen"."""
        verb = "are" if self.plural else "is"
        return f"there {verb} {self.a() if present else f'no {self.one}'}"

    def counted(self, number: int) -> str:
        """ "there is 1 cyst", "there are 2 cysts"; of what is no mass and no plural by itself."""
        return f"there is 1 {self.one}" if number == 1 else f"there are {number} {self.many}"

    def size(self) -> str:
        """Its size, in words that tell nothing of how many there are."""
        uncounted = self.mass or self.plural
        return f"the size of the {self.one}" if uncounted else f"the {self.one} size"


def noun(name: str) -> Noun:
    """What is said of a finding's name."""
    if name in PLURAL:
        return Noun(name, name, mass=True, plural=True)
    last = name.rpartition(" ")[2]
    mass = name in NO_ARTICLE or last in _MASS or last.endswith(_MASS_ENDINGS)
    return Noun(name, _plural(name), mass and not last.endswith(_COUNTED))


_COUNTED = ("metastasis", "stenosis", "hernia", "prosthesis")


def _plural(name: str) -> str:
    if name.endswith("sis"):
        return name[:-2] + "es"
    if name.endswith("y") and name[-2:-1] not in tuple("aeiou"):
        return name[:-1] + "ies"
    if name.endswith(("s", "x", "ch", "sh")):
        return name + "es"
    return name + "s"


def singular(name: str) -> str:
    """The singular of a regular plural, as `_plural` makes it; other names as they are."""
    by_is = name[:-2] + ("" if name.endswith("sses") else "is")
    for one in (name[:-3] + "y", by_is, name[:-2], name[:-1]):
        if len(one) > 2 and _plural(one) == name and not name.endswith(("ss", "us", "sis")):
            return one
    return name


_ACROSS = {  # in different words, since several stand one behind the other
    "": "the {} is {:.1f} mm across",
    "largest": "the largest {} is {:.1f} mm across",
    "second largest": "the second largest measures {1:.1f} mm",
    "third largest": "the width of the third largest is {1:.1f} mm",
    "smallest": "the smallest {} spans {:.1f} mm",
}
Said = Callable[[str, Noun], str]

# Of an attribute: what is claimed or seen ("the border of the lesion is regular"), and its name,
# where it can be asked for. The names are those of `generators.phantoms`.
ATTRIBUTES: dict[str, tuple[Said, str]] = {
    "modality": (lambda v, n: f"the imaging modality is {v}", "the imaging modality"),
    "anatomy": (lambda v, n: f"the body part is the {v}", "the body part"),
    "contrast": (lambda v, n: f"the CT is {v}", ""),
    "sequence": (lambda v, n: f"the MR sequence is {v}", "the MR sequence"),
    "margin": (lambda v, n: f"the margin of the {n.one} is {v}", "the margin of the {}"),
    "eye": (lambda v, n: f"the {v} eye is shown", ""),
    "cup_disc": (lambda v, n: f"the cup-to-disc ratio is {v}", "the cup-to-disc ratio"),
    "quadrant": (lambda v, n: f"the {v} branch is occluded", ""),
    "severity": (lambda v, n: f"the disease is {v}", "the severity of the disease"),
    "thickness": (
        lambda v, n: f"the central retina is {v}",
        "the thickness of the central retina",
    ),
    "vitreous": (lambda v, n: f"the vitreous is {v}", ""),
    "malignancy": (lambda v, n: f"the lesion is {v}", ""),
    "border": (lambda v, n: f"the border of the lesion is {v}", "the border of the lesion"),
    "colours": (
        lambda v, n: f"the lesion has {v} colour{'' if v == '1' else 's'}",
        "the number of colours of the lesion",
    ),
    "structure": (
        lambda v, n: f"the lesion shows {'a ' * v.endswith('network')}{v}",
        "the structure that the lesion shows",
    ),
    "hair": (lambda v, n: f"hair is {'' if v == 'yes' else 'not '}in view", ""),
    "differentiation": (lambda v, n: f"the tumor is {v}", "the differentiation of the tumor"),
    "dysplasia": (lambda v, n: f"the dysplasia is {v}", "the grade of the dysplasia"),
    "extent": (lambda v, n: f"the disease is {v}", ""),
    "cellularity": (lambda v, n: f"the nuclei are {v}", "the density of the nuclei"),
}


def says(fact: Fact, value: Value, called: Noun) -> str:
    """A clause that a fact has a value: "the left side is affected".

    `called` is what its subject is called. Side and size are said in words that do not tell how
    many there are, since that may be what is asked.
    """
    if fact.about == PRESENCE:
        return called.there(bool(value))
    if fact.about == SEVERAL:
        return f"there is {'' if value else 'not '}more than one {called.one}"
    if fact.about == COUNT:
        return called.counted(int(value))
    if fact.about == SIDE:
        return f"the {value} side is affected"
    if fact.about == SIZE:
        return f"{called.size()} is {value}"
    if fact.about == DIAMETER:
        return _ACROSS[fact.which].format(called.one, value)
    return ATTRIBUTES[fact.about][0](str(value), called)


ASKED = {SIZE: " (small, medium or large)"}  # what a question adds to the name, for its scale


def name_of(fact: Fact, called: Noun) -> str:
    """What a fact is called where it is asked for: "the affected side"; "" where it cannot be."""
    if fact.about == COUNT:
        return f"the number of {called.many}"
    if fact.about == SIDE:
        return "the affected side"
    if fact.about == SIZE:
        return called.size()
    if fact.about in ATTRIBUTES:
        return ATTRIBUTES[fact.about][1].format(called.one)
    return ""


def capital(text: str) -> str:
    """With a capital letter in front; "CT" stays."""
    return text[:1].upper() + text[1:]
