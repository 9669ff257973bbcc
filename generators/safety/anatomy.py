"""Which body parts an image of another may show: what is asked of the others it cannot tell.

A CT of the abdomen may show the lung bases, a chest radiograph a shoulder and the left flexure of
the colon. What is asked of a part is "another organ" only on images that show nothing of it.
"""

from __future__ import annotations

# What an image of a part may show of others: at its edges, beside it, in front of it.
_NEAR = {
    "head": "brain eye neck spine skin",
    "brain": "head eye neck spine skin",
    "eye": "head brain neck skin",
    "neck": "head brain eye chest heart breast spine extremity skin",
    "chest": "neck heart breast abdomen colon spine extremity skin",
    "heart": "neck chest breast abdomen spine skin",
    "breast": "neck chest heart abdomen spine extremity skin",
    "abdomen": "chest heart breast colon pelvis spine extremity skin",
    "colon": "abdomen pelvis spine skin",
    "pelvis": "abdomen colon spine extremity skin",
    "spine": "head brain eye neck chest heart breast abdomen colon pelvis extremity skin",
    "extremity": "neck chest heart breast abdomen pelvis spine skin",
    "skin": "head eye neck chest breast abdomen pelvis extremity",
}  # "whole body" shows all, and "unknown" may
NEAR = {name: frozenset(others.split()) for name, others in _NEAR.items()}

# Kinds of questions of the bank that only images of one modality answer.
BOUND = {
    "contrast": "CT",
    "sequence": "MR",
    "cup_disc": "fundus",
    "thickness": "OCT",
    "vitreous": "OCT",
}

CALLED = {
    "CT": "a CT image",
    "MR": "an MR image",
    "X-ray": "an X-ray image",
    "ultrasound": "an ultrasound image",
    "fundus": "a fundus photograph",
    "OCT": "an OCT image",
    "dermoscopy": "a dermoscopic image",
    "histology": "a histological image",
}  # "other" is none that could be told from another


def apart(asked: str, image: str) -> bool:
    """Whether an image of a body part shows nothing of the part that is asked about.

    False where either is not known.
    """
    known = asked in NEAR and image in NEAR
    return known and asked != image and asked not in NEAR[image]


def part(name: str) -> str:
    """A body part as a sentence has it."""
    return "limb" if name == "extremity" else name


def shown(modality: str, anatomy: str) -> str:
    """What an image is, in words: "an MR image of the brain"."""
    what = CALLED.get(modality, "an image")
    return f"{what} of the {part(anatomy)}" if anatomy in NEAR else what
