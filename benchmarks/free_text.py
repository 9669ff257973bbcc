"""What the cleaning of free text finds of names and ages, and what it costs in other words.

    python -m benchmarks.free_text [--data ../shared/data] [--reports FILE]

Names: of the census's lists that `engine.imaging.lexicon` reads, and of `held_out_names.txt`: 2,000
surnames and given names of 60 countries, drawn at random (seed 11) from those of Faker 40.63 (MIT)
that are on neither list. Nothing was tuned on the second kind. Each is put into every sentence; it
is found where the text that is kept does not have it. Ages are 90 to 115. Words that must stay: of
the phantoms' reports, of VQA-RAD's questions (words.txt was made with these) and of FILE, reports
without names, a blank line between two.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from engine.imaging.lexicon import names, vocabulary
from engine.imaging.reports import MASK, clean_text, harmless, harmless_label
from engine.sets.vqa_rad import load_vqa_rad
from generators.phantoms import KINDS, draw
from generators.phantoms.reporter import describe

HELD_OUT = Path(__file__).with_name("held_out_names.txt")
REST = " The lungs are clear and the heart is normal in size."
SENTENCES = {
    "starts a sentence": (
        "{0} was seen with chest pain.",
        "{0} denies trauma.",
        "{0}, with fever.",
    ),
    "after a colon": ("Patient: {0}.", "Radiologist: {0}.", "Findings: {0} has a nodule."),
    "within a sentence": ("Findings were told to {0} today.", "The chest of {0} is normal."),
    "possessive, title": ("The report is {0}'s own.", "Discussed with Dr. {0} on the ward."),
    "in capitals": ("{1} was seen with chest pain.", "Read by {1}.", "Patient: {1}."),
    "small, who is told": ("Film read by {2}.", "Patient: {2}.", "Approved by {2}."),
    "small, anywhere": ("the film of {2} is normal.", "it was told to {2} today."),
}
AGES = (
    "A {0} year old man with cough.", "Age: {0}.", "Patient is {0} years old.", "Aged {0}, frail.",
    "A {0}-year-old woman.", "{0} y.o. female.", "{0}F with fever.", "She is {0}.", "{0} yo male.",
)  # fmt: skip
Keeps = Callable[[str], str]


def kept(text: str) -> str:
    """What of a text enters."""
    return clean_text(text).text or ""


def recall(found: Iterable[str], sentences: Iterable[str]) -> float:
    """The share of (name, sentence) of which the kept text does not have the name."""
    hidden = []
    for name in found:
        for text in sentences:
            said = kept(text.format(name, name.upper(), name.lower()) + REST)
            hidden.append(not re.search(rf"\b{name}\b", said, re.IGNORECASE))
    return sum(hidden) / len(hidden)


def name_row(name: str, found: list[str]) -> dict[str, object]:
    """Recall of names by where they stand, and of labels that are or have one."""
    row: dict[str, object] = {"names": name, "n": len(found)}
    row |= {place: round(recall(found, texts), 4) for place, texts in SENTENCES.items()}
    for title, form in (("label", "{}"), ("label, patient:", "Patient: {}")):
        refused = [not harmless_label(form.format(word)) for word in found]
        row[title] = round(sum(refused) / len(refused), 4)
    return row


def lost(texts: list[str]) -> dict[str, object]:
    """How many words of harmless texts are masked, and how many texts stay without a change."""
    words = sum(len(re.findall(r"[^\W\d_]{2,}", text)) for text in texts)
    cleaned = [clean_text(text) for text in texts]
    left = sum(len(re.findall(r"[^\W\d_]{2,}", (c.text or "").replace(MASK, ""))) for c in cleaned)
    return {"n": len(texts), "words": words, "words kept": round(left / words, 4),
            "refused": sum(c.text is None for c in cleaned),
            "unchanged": sum(map(harmless, texts))}  # fmt: skip


def table(rows: list[dict[str, object]]) -> None:
    """Print rows as a Markdown table, shares in per cent."""
    print("| " + " | ".join(rows[0]) + " |\n|" + " --- |" * len(rows[0]))
    for row in rows:
        shown = [f"{v:.1%}" if isinstance(v, float) else str(v) for v in row.values()]
        print("| " + " | ".join(shown) + " |")
    print()


def main() -> None:
    """Print tables of names, ages and words that must stay, and their line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--reports", type=Path, help="harmless reports, a blank line between two")
    options = parser.parse_args()
    listed = sorted(names()[0])
    also_words = sorted(names()[0] & vocabulary())
    unlisted = HELD_OUT.read_text("utf-8").split()
    rng = random.Random(0)
    people = [
        name_row("listed, drawn", [n.capitalize() for n in rng.sample(listed, 2000)]),
        name_row("listed, all that are words too", [n.capitalize() for n in also_words]),
        name_row("held out", unlisted),
    ]
    table(people)
    ages = {"ages 90 to 115": round(recall([str(age) for age in range(90, 116)], AGES), 4)}
    table([ages])
    texts = {"phantoms' reports": [describe(draw(k, s, 96).truth) for k in KINDS for s in range(9)]}
    if (options.data / "vqa_rad").is_dir():
        questions = load_vqa_rad(options.data / "vqa_rad")
        texts["VQA-RAD's questions"] = [q.question for q in questions]
        texts["VQA-RAD's answers"] = [q.answer for q in questions]
    if options.reports:
        texts[options.reports.name] = re.split(
            r"\n\s*\n", options.reports.read_text("utf-8").strip()
        )
    stay = [{"texts": name} | lost(found) for name, found in texts.items()]
    table(stay)
    print(json.dumps({"benchmark": "free_text", "names": people, "ages": ages, "stay": stay}))


if __name__ == "__main__":
    main()
