"""Personal data, and the names and numbers of medicine that are none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators.filters import personal
from tests.generators.filters.rows import ROW, row

TELLS = [
    ("Dr. Smith read this image.", "a name with a title"),
    ("What did Dr Patel see?", "a name with a title"),
    ("Mrs. J. Okafor has a mass.", "a name with a title"),
    ("Is this the chest of John Smith?", "a person's name"),
    ("Is this John Smith's chest?", "a person's name"),
    ("SMITH, JOHN M 45Y", "a person's name"),
    ("DOE^JANE", "a person's name"),
    ("Name: Okonkwo, Ngozi", "a person's name"),
    ("Signed by Jane Miller", "a person's name"),
    ("Reported by Laban Swaminathan.", "a person's name"),
    ("Scan of 12-MAR-2019", "a date"),
    ("Acquired 2019-03-12, left lung", "a date"),
    ("03/04/1956", "a date"),
    ("March 2019", "a date"),
    ("20190312", "a date"),
    ("born 12 March", "a date of birth"),
    ("Accession number 12345678", "a record's number"),
    ("Acc: A1234567", "a record's number"),
    ("MRN 4432118", "a record's number"),
    ("Case no. 20417", "a record's number"),
    ("UID 1.2.840.113619.2.55.3.1234", "a record's number"),
    ("The film is labelled 4364139791.", "a record's number"),
    ("call 555-123-4567", "a telephone number"),
    ("(212) 555-0199 x12", "a telephone number"),
    ("+44 20 7946 0958", "a telephone number"),
    ("jane.doe@hospital.org", "an e-mail address"),
    ("12 Baker Street", "an address"),
    ("Boston, MA 02115", "an address"),
    ("SSN 123-45-6789", "a social security number"),
    ("A 93-year-old woman has a cough.", "an age over 89"),
]
TELLS_NOT = """What is the T2 signal at L4/5?
Is the lesion 3 x 2 cm in size?
Hodgkin lymphoma is likely.
A Baker's cyst lies behind the knee.
The Foley catheter is in the bladder.
CT of 12 mm slices shows the Virchow node.
Does the patient have Charcot-Marie-Tooth disease?
Is an Austin Flint murmur explained by this?
The Swan Ganz catheter tip lies in the right pulmonary artery.
Guillain Barre syndrome is less likely.
MR Brain with contrast was done.
MS plaques are seen beside the ventricles.
Mr images of the knee show a Segond fracture.
The nodule measured 12/15/18 mm.
The ratio is 120/80, and 60 bpm.
In May 5 nodules were seen.
Patient: supine. Read by a radiologist.
The SUV is 12.5 and 1200 HU.
Fractures of ribs 4-10 on the left, 2019 criteria.
A Sister Mary Joseph nodule, and an Ann Arbor stage III.
The Hill Sachs lesion is seen with a Bankart lesion.
Matrix 512 x 512, 120 kVp, 200 mAs, TR 4000 TE 100, b 1000 s/mm2.
The ROI is 1234567 pixels; case 1234 slices.
A 45-year-old man has had a cough for 90 days.
Grade II Martin Gruber anastomosis""".split("\n")


@pytest.mark.parametrize(("text", "what"), TELLS)
def test_what_tells_of_a_person_is_out(text: str, what: str) -> None:
    assert personal.personal(text) == what


@pytest.mark.parametrize("text", TELLS_NOT)
def test_eponyms_and_measures_pass(text: str) -> None:
    assert personal.personal(text) is None


def test_every_part_of_a_row_is_read_and_named() -> None:
    told = "Dr. Smith"
    places = {
        "question": row(told),
        "answer": row(answer=told),
        "options": row("Which?", "cyst", "cyst", told),
        "reasoning": replace(ROW, rationale=told),
    }
    for place, one in places.items():
        assert personal.reason(one) == f"{place}: a name with a title"


@given(st.text(max_size=80))
def test_any_text_is_read(text: str) -> None:
    assert personal.personal(text) in {*personal.RULES, None}


@given(st.integers(1, 31), st.integers(1, 12), st.integers(1900, 2029), st.sampled_from("/-."))
def test_any_full_date_is_out(day: int, month: int, year: int, mark: str) -> None:
    for date in (f"{day}{mark}{month}{mark}{year}", f"{year}{mark}{month:02}{mark}{day:02}"):
        assert personal.personal(f"Seen on {date} in the lung")


@given(*[st.decimals(0, 300, places=1, allow_nan=False) for _ in range(3)])
def test_no_size_is_personal(a: object, b: object, c: object) -> None:
    for text in (f"{a} x {b} x {c} mm", f"{a}-{b} cm", f"{a}/{b} of {c}", f"about {a} HU"):
        assert personal.personal(text) is None
