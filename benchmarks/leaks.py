"""What the filter `leak` finds of what a writer should not have said, and what it refuses wrongly.

    python -m benchmarks.leaks

Rows are the simulated expert's, about drawn images of every kind, with a report and labels made of
the truth. Makers plant a leak in reasoning or question. The rules of citing were mended twice by
what they found of `CITED`; `UNSEEN` was written after that, and no rule was changed for it. Beside
them are the rows as they were, and rows whose reasoning says in other words what the report says:
that is what knowledge is for, and has to pass. Ends with one line of JSON.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from benchmarks.filters import image_of
from engine.knowledge import Known, known_of
from engine.records import Triplet, canonical
from generators.filters import leak
from generators.phantoms import bank
from reward_model.experts.simulated import write_rows

PHANTOMS = 20  # of each kind
CITED = (
    "Per the radiologist's report, this is {f}.",
    "The accompanying report describes {f}.",
    "This was documented in the patient's report as {f}.",
    "In the report, {f} is mentioned.",
    "The reference report says {f}.",
    "Given the label, {f} must be right.",
    "The dataset's label is {f}.",
    "The annotations mark {f}.",
    "It agrees with the ground truth, {f}.",
    "As stated in the metadata, it is {f}.",
    "The information provided names {f}.",
    "We are told that {f} is present.",
    "I have been informed of {f}.",
    "The DICOM tags suggest {f}.",
    "The findings section lists {f}.",
    "According to what is known of this image, it is {f}.",
    "That {f} is here can be read in the written report.",
    "The clinician's notes call it {f}.",
    "The caption already names {f}.",
    "Because the annotation is {f}, the answer follows.",
    "The supplied description points to {f}.",
    "From the label column I take {f}.",
    "As the report makes clear, it is {f}.",
    "Both the report and the picture show {f}.",
    "The reported diagnosis is {f}.",
    "The table lists {f} for this image.",
    "My instructions say that it is {f}.",
    "This matches the known diagnosis of {f}.",
)
UNSEEN = (
    "My source names it {f}, so that is the answer.",
    "The file that came with the image has {f}.",
    "Since the scan was read as {f}, that is right.",
    "The dictated report leaves no doubt: {f}.",
    "I rely on the annotations, which have {f}.",
    "Its caption is clear about {f}.",
    "The patient is already diagnosed with {f}.",
    "The provided clinical information is of {f}.",
    "The expert labels for this image are {f}.",
    "The header confirms {f}.",
    "The secret notes give {f}.",
    "No report is needed to see {f}, but it has it.",
)
OTHERWISE = (
    "Looking at the {a}, {f} is the best fit for what is seen.",
    "What stands out in the {a} can be called {f}.",
    "The signs in the {a} together speak for {f}.",
)
Maker = Callable[[Triplet, Known, random.Random], Triplet]


def known_about(image: object, rng: random.Random) -> Known:
    """A report of three sentences and labels, as tables name them."""
    truth = {name: value for _, name, value in known_of(image, ["truth"]).facts}  # type: ignore[arg-type]
    size = rng.randrange(11, 49)
    report = (
        "The examination of today was compared with none before, and its quality is adequate. "
        f"There is {truth['finding']} with a longest diameter of {size} mm in the imaged region. "
        "Nothing else that would need treatment was found by either of the two readers."
    )
    labels = {"Finding_Label": truth["finding"], "lesionCount": "several", "dx_code": "K12_b"}
    facts = tuple(("labels", name, value) for name, value in labels.items())
    return Known(report, facts)


def thought(row: Triplet, text: str) -> Triplet:
    return replace(row, rationale=f"{row.rationale} {text}".strip())


def _finding(known: Known) -> str:
    return next(value for _, name, value in known.facts if name == "Finding_Label")


def cites(row: Triplet, known: Known, rng: random.Random) -> Triplet:
    return thought(row, rng.choice(CITED).format(f=_finding(known)))


def cites_unseen(row: Triplet, known: Known, rng: random.Random) -> Triplet:
    return thought(row, rng.choice(UNSEEN).format(f=_finding(known)))


def quotes(row: Triplet, known: Known, rng: random.Random) -> Triplet:
    words = known.report.split()
    length = rng.randrange(10, 16)
    start = rng.randrange(len(words) - length)
    return thought(row, f"I see that {' '.join(words[start : start + length])}.")


def copies(row: Triplet, known: Known, rng: random.Random) -> Triplet:
    _, name, value = rng.choice(known.facts)
    return thought(row, rng.choice((f"{name} is {value}.", f"So {name}: {value}.")))


def sizes(row: Triplet, known: Known, rng: random.Random) -> Triplet:
    size = known.report.partition(" mm")[0].rpartition(" ")[2]
    return replace(row, question=f"Which name has the {size} mm abnormality?")


MAKERS: dict[str, Maker] = {
    "a source is cited": cites,
    "a source is cited, in words not looked at": cites_unseen,
    "words of the report": quotes,
    "a column's name or value": copies,
    "a size of the report in the question": sizes,
}


def main() -> None:
    """Count."""
    rng, found, refused = random.Random(2026), Counter[str](), Counter[str]()
    missed: Counter[str] = Counter()
    rows = 0
    for kind in bank.SUBJECTS:
        for number in range(1000, 1000 + PHANTOMS):
            image = image_of(kind, number)
            known = known_about(replace(image, labels=canonical({})), rng)
            for row, _ in write_rows(image, 12, list(bank.PROMPT_STYLES), number, True):
                rows += 1
                refused["as it was"] += leak.reason(row, known) is not None
                told = rng.choice(OTHERWISE).format(a=image.anatomy, f=_finding(known))
                refused["said in other words"] += leak.reason(thought(row, told), known) is not None
                for name, make in MAKERS.items():
                    made = make(row, known, rng)
                    hit = leak.reason(made, known) is not None
                    found[name] += hit
                    if name.startswith("a source is cited") and not hit:
                        end = made.rationale.rpartition(". ")[2]
                        missed[end.replace(_finding(known), "{f}")] += 1
    shares = {name: round(count / rows, 3) for name, count in found.items()}
    print(f"{rows} rows")
    for name, share in shares.items():
        print(f"  found, {name}: {share:.1%}")
    for name, count in refused.items():
        print(f"  refused, {name}: {count}")
    for text, count in missed.most_common():
        print(f"  passed: {text} ({count})")
    print(json.dumps({"rows": rows, "found": shares, "refused": dict(refused)}))


if __name__ == "__main__":
    main()
