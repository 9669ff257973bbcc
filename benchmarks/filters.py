"""What the filters let pass, and what each finds; how well types are found.

    python -m benchmarks.filters --vqa-rad FOLDER --triplets WORKSPACE

False rejections are counted on the question bank, on rows that the simulated expert writes about
drawn images of every kind, and on VQA-RAD's questions and answers (FOLDER holds its JSON): all of
these the rules were drawn up on, the expert's rows with other numbers. Corruptions are made of the
bank's and VQA-RAD's questions; the last three kinds were not looked at while the rules of form were
drawn up. Faults (`benchmarks.faults`) are planted in the expert's rows and in VQA-RAD's by makers
written after the rules; each is counted where the filter that it is for finds it, and where any
does. What looks beside a row (near-duplicates, contamination, balance) has faults of its own
(`benchmarks.set_faults`). Of a workspace's generated rows it is said what each filter refuses. Ends
with one line of JSON.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import typer

from benchmarks.faults import FAULTS
from benchmarks.set_faults import tables
from engine.question_types import UNKNOWN, found_type
from engine.records import Image, Triplet, from_arrow
from engine.sets.vqa_rad import load_vqa_rad
from generators import filters, phantoms
from generators.filters import length
from generators.phantoms import bank, oracle
from reward_model.experts.simulated import write_rows

Words = list[str]
PHANTOMS = 40  # of each kind


def image_of(kind: str, number: int) -> Image:
    """A drawn image without its pixels: the expert reads its truth."""
    return oracle.image_of(phantoms.draw(kind, number, 64).truth, f"{number:032x}")


def expert_rows(first: int = 0) -> list[Triplet]:
    """Rows in every style about images of every kind, numbered from `first` on."""
    styles = list(bank.PROMPT_STYLES)
    return [
        row
        for kind in bank.SUBJECTS
        for number in range(first, first + PHANTOMS)
        for row, _ in write_rows(image_of(kind, number), 12, styles, number, True)
    ]


def corruptions(rng: random.Random, pool: list[str]) -> dict[str, Callable[[Words], Words]]:
    """Ways to break a question, by name."""

    def at(words: Words) -> int:
        return rng.randrange(len(words))

    def cut(words: Words) -> Words:
        return words[: rng.randrange(1, len(words))]

    def twice(words: Words) -> Words:
        place = at(words)
        return [*words[: place + 1], *words[place:]]

    def joined(words: Words) -> Words:
        place = rng.randrange(len(words) - 1)
        return [*words[:place], words[place] + words[place + 1], *words[place + 2 :]]

    def changed(words: Words, change: Callable[[str], str]) -> Words:
        place = at(words)
        return [*words[:place], change(words[place]), *words[place + 1 :]]

    def misspelt(words: Words) -> Words:
        letters = list(" ".join(words))
        for _ in range(3):
            letters[rng.randrange(len(letters))] = rng.choice("bcdfghjklmnpqrstvwxyz")
        return "".join(letters).split()

    def spliced(words: Words) -> Words:
        other = rng.choice(pool).split()
        return [*cut(words), *other[at(other) :]]

    def left_out(words: Words) -> Words:
        place = at(words)
        return [*words[:place], *words[place + 1 :]]

    def foreign(words: Words) -> Words:
        return changed(words, lambda _: rng.choice(rng.choice(pool).split()).strip("?."))

    def swapped(words: Words) -> Words:
        place = rng.randrange(len(words) - 1)
        return [*words[:place], words[place + 1], words[place], *words[place + 2 :]]

    def inserted(words: Words) -> Words:
        place = at(words)
        return [*words[:place], rng.choice(("the", "is", "of", "than", "a")), *words[place:]]

    return {
        "words shuffled": lambda w: rng.sample(w, len(w)),
        "a word twice": twice,
        "a number run into a word": lambda w: changed(w, lambda x: x.rstrip("?.") + "3"),
        "a colon and a letter": lambda w: changed(w, lambda x: x + ":k"),
        "cut, with a question mark": lambda w: " ".join([*cut(w), "?"]).replace(" ?", "?").split(),
        "spliced with another": spliced,
        "two words joined": joined,
        "three letters wrong": misspelt,
        "a word left out": left_out,
        "two neighbours swapped": swapped,
        "a function word put in": inserted,
        "a word of another question": foreign,
    }


def found_share(questions: list[str], corrupt: Callable[[Words], Words]) -> tuple[float, int]:
    """(share found in [0, 1], how many) of corrupted questions that are no question of the pool."""
    broken = {" ".join(corrupt(q.split())) for q in questions} - set(questions)
    return sum(refused(q) for q in broken) / len(broken), len(broken)


def refused(question: str) -> bool:
    """Whether a filter refuses a question."""
    return filters.reason(replace(_ROW, question=question)) is not None


BY_NAME = {
    **{check.__module__.rpartition(".")[2]: check for check in filters.FILTERS},
    "length": lambda row: length.reason(row, filters.DEFAULT),
}


def refusals(rows: list[Triplet]) -> dict[str, int]:
    """How many of some rows each filter refuses, whatever the others say."""
    return {name: sum(check(row) is not None for row in rows) for name, check in BY_NAME.items()}


def planted(rng: random.Random, rows: list[Triplet]) -> dict[str, tuple[str, float, float, int]]:
    """By fault: its filter, the shares that it and that any filter finds, of how many rows."""
    table = {}
    for name, (of, make) in FAULTS.items():
        made = [row for row in (make(rng, row) for row in rng.sample(rows, 1500)) if row]
        own = sum(BY_NAME[of](row) is not None for row in made)
        by_any = sum(filters.reason(row) is not None for row in made)
        table[name] = (of, own / len(made), by_any / len(made), len(made))
    return table


def generated(workspace: Path) -> list[Triplet]:
    """The rows that a workspace's generator wrote, where they parsed, without their problems."""
    files = sorted(workspace.glob("events/*-generate-*/triplets*.parquet"))
    read = [row for file in files for row in from_arrow(Triplet, pq.read_table(file))]
    parsed = [row for row in read if row.question and row.answer]
    return [replace(row, problem=None) for row in parsed]


_ROW = Triplet(
    id="", image_id="", generator_id="", task_id="", prompt_hash="", seed=0, sample=0, round=0,
    question="", options=(), answer="x", rationale="", raw="", logprob=0.0,
)  # fmt: skip


def main(
    vqa_rad: Annotated[Path | None, typer.Option(help="Folder with VQA-RAD's JSON.")] = None,
    triplets: Annotated[Path | None, typer.Option(help="Workspace with generated rows.")] = None,
    seed: Annotated[int, typer.Option(help="Of the corruptions and faults.")] = 2026,
) -> None:
    """Print the tables."""
    asked = sorted(bank._index())
    published = load_vqa_rad(vqa_rad) if vqa_rad else []
    people = sorted({q.question for q in published})
    rows = expert_rows(first=10_000)
    clinicians = [replace(_ROW, question=q.question, answer=q.answer) for q in published]
    wrong = {
        "question bank": (sum(refused(q) for q in asked), len(asked)),
        "expert rows": (sum(filters.reason(row) is not None for row in rows), len(rows)),
        "VQA-RAD's questions": (sum(refused(q) for q in people), len(people)),
        "VQA-RAD's rows": (
            sum(filters.reason(row) is not None for row in clinicians),
            len(clinicians),
        ),
    }
    print("| refused though right | of |\n| --- | --- |")
    for name, (count, of) in wrong.items():
        print(f"| {name}: {count} | {of:,} |")
    pool = asked + people
    shares = {
        name: found_share([q for q in pool if len(q.split()) > 1], corrupt)
        for name, corrupt in corruptions(random.Random(seed), pool).items()
    }
    print("\n| corruption | found in % | of |\n| --- | --- | --- |")
    for name, (share, of) in shares.items():
        print(f"| {name} | {100 * share:.0f} | {of:,} |")
    clean = {"expert": refusals(rows), "VQA-RAD": refusals(clinicians)}
    faults = planted(random.Random(seed), rows + clinicians)
    print("\n| fault | filter | found by it in % | by any | of |\n| --- | --- | --- | --- | --- |")
    for name, (by, own, by_any, of) in faults.items():
        print(f"| {name} | {by} | {100 * own:.0f} | {100 * by_any:.0f} | {of:,} |")
    made = generated(triplets) if triplets else []
    print(f"\nof {len(made)} generated rows each filter refuses: {refusals(made)}")
    sets = tables(seed, vqa_rad, expert_rows(first=20_000))
    types = [(q.question_type, found_type(q.question)) for q in published]
    told = {
        "agree": sum(a == b for a, b in types) / max(len(types), 1),
        "unknown": sum(b == UNKNOWN for _, b in types) / max(len(types), 1),
    }
    own = sum(
        found_type(q) == bank.TEMPLATES[kind[0]][0] for q in asked if (kind := bank.kind_of(q))
    )
    print(f"\ntypes found as the bank's: {own} of {len(asked)}; of VQA-RAD's: {told}")
    print(json.dumps(
        {"benchmark": "filters", "refused": wrong, "by_filter": clean, "found": shares,
         "planted": faults, "generated": [len(made), refusals(made)], "vqa_rad_types": told,
         "sets": sets}
    ))  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
