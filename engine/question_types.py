"""What a question is: its type by its words, its answer format by its options and its answer.

The type is what it asks about: one of OmniMedVQA's five, or unknown.

A generator is asked for a type and may ask about something else, so an export says both. The rules
are those of the question bank (a test asks about all of its questions) and general ones for free
text; the first that fits decides. On VQA-RAD they agree with its own types less often, since people
there call a sequence a modality and a place a finding: docs/architecture.md has the figure.
"""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from engine.answers.spelling import normalise

UNKNOWN = "unknown"

_RULES: tuple[tuple[str, str], ...] = (
    (
        "grading",
        r"\bhow (?:large|big|small|severe|thick|dense|well|wide|tall|long|extensive|advanced)\b"
        r"|\b(?:size[ds]?|grade|graded|stage|severity|benign|malignant|larger|smaller|bigger|wider|"
        r"enlarged|enlargement|diameter|differentiated|dilated|dilatation|cardiomegaly|atroph\w+|"
        r"greater than|less than half|normal in size)\b",
    ),
    (
        "attribute",
        r"\bhow many\b|\b(?:count|number of|more than one|multiple|single)\b"
        r"|\b(?:sequence|contrast|enhanced|unenhanced|weighted|t1|t2|flair)\b"
        r"|\b(?:margin|border|shape|colou?rs?|texture|structure|ratio|branch|hair|vitreous|focal|"
        r"diffuse|symmetric\w*|hyper\w*dens\w*|hypo\w*dens\w*|hyper\w*intens\w*|hypo\w*intens\w*|"
        r"intensity|density|bright|dark|opaque|loculated|bilateral)\b"
        r"|\b(?:which|what|on what|on which) (?:side|eye|lobe|quadrant|hemisphere|region|area)\b"
        r"|\bwhere\b|\b(?:located|location|side)\b",
    ),
    (
        "modality",
        r"\bmodality\b|\bhow was (?:this|the) \w+ (?:taken|acquired|obtained|made|formed)\b"
        r"|\b(?:what|which) (?:kind|type|sort) of (?:\w+ )?(?:image|scan|imaging|study|film|exam)\b"
        r"|\bis (?:this|the) (?:image |film |scan )?an? (?:\w+ )?(?:ct|mri|mr|x-?ray|cxr|"
        r"radiograph|ultrasound|pet|mra|cta)\b",
    ),
    (
        "anatomy",
        r"\b(?:body part|anatomy|anatomical|organs?|organ system|part of the body|plane|axial|"
        r"coronal|sagittal|cross[- ]section\w*|lateral film|pa|ap)\b",
    ),
    (
        "disease",
        r"^(?:is|are|was|were) there\b|\b(?:image|film|scan) show\b|\bshow (?:an? |any )?\w+"
        r"|\b(?:evidence|findings?|diagnos\w+|abnormal\w*|disease|patholog\w+|condition|present|"
        r"seen|visible|visuali[sz]ed?|noted|normal|lesions?|mass|masses|fractures?|pneumothora\w+|"
        r"effusions?|hemorrhage|edema|infarct\w*|tumou?r|cancer|process|wrong|healthy)\b",
    ),
)
_PATTERNS = tuple((name, re.compile(pattern, re.I)) for name, pattern in _RULES)


def found_type(question: str) -> str:
    """modality, anatomy, disease, grading or attribute; `unknown` where no rule fits."""
    text = " ".join(question.split())
    return next((name for name, pattern in _PATTERNS if pattern.search(text)), UNKNOWN)


def found_types(questions: pa.Array) -> pa.Array:
    """`found_type` of each of many questions (strings, none empty of value), a column at a time.

    Arrow's expressions know letters and spaces of ASCII alone: other questions go one by one.
    """
    text = pc.replace_substring_regex(questions, r"[\x09-\x0d\x1c-\x20]+", " ")
    text = pc.ascii_trim(text, " ")
    fits = [pc.match_substring_regex(text, pattern, ignore_case=True) for _, pattern in _RULES]
    named = pc.make_struct(*fits, field_names=[name for name, _ in _RULES])
    found = pc.case_when(named, *[pa.scalar(name) for name, _ in _RULES], pa.scalar(UNKNOWN))
    plain = pc.string_is_ascii(questions)
    others = [found_type(q) for q in questions.filter(pc.invert(plain)).to_pylist()]
    return pc.replace_with_mask(found, pc.invert(plain), pa.array(others, pa.string()))


def found_format(options: tuple[str, ...], answer: str) -> str:
    """closed (yes or no), choice (of options of any other kind) or open.

    A question without options is closed where it is answered by yes or no.
    """
    said = set(map(normalise, options or (answer,)))
    if said == YES_NO or (not options and said < YES_NO):
        return "closed"
    return "choice" if options else "open"


YES_NO = {"yes", "no"}
