"""What the filters that look beside a row are for, planted: copies, rewordings, benchmarks, bias.

Called by `python -m benchmarks.filters`. The rewordings are makers written after the rules, some of
them with words that the rules do not know; people's own are VQA-RAD's, where a question and its
paraphrases are linked: the rules were looked at on the images of one half (by the hash of the
name), and the figures are of the other. Pictures and rows are drawn with seeds of their own.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import PIL.Image

from engine.answers.spelling import normalise_question
from engine.imaging.duplicates import joined, near_pairs, orientation, signature, stacked
from engine.pixels import pixels_id
from engine.records import Triplet
from engine.sets.published import Asked, Published, read_published
from generators import phantoms
from generators.filters.balance import Balance, guesses, strata
from generators.filters.contamination import Pictures, Questions, jaccard, shingles
from generators.filters.wording import wording
from generators.phantoms import bank

Words = Callable[[random.Random, str], str | None]
Line = tuple[
    str, str, float, int
]  # what, whether it is to be refused, the share refused, of how many
SIMILARITY, WORDS, MARGIN = 0.7, 6, 0.2  # as the configuration has them
FIRST, PICTURES = 50_000, 20  # the first number of drawn pictures, how many of a kind
ROWS, SETS = 400, 100  # rows of a set that is balanced, and sets


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


def _seen(rng: random.Random, text: str) -> str | None:
    """ "Is there X?" asked another way."""
    head, _, what = text.rstrip("?").partition(" there ")
    if head not in ("Is", "Are") or not what or what.startswith("more"):
        return None
    article = what.removeprefix("any ")
    return rng.choice((
        f"Can you see {article} in this image?", f"Does the picture show {article}?",
        f"Do you notice {article} here?", f"Can {article} be seen?",
        f"Does this scan reveal {article}?", f"Is there evidence of {article}?",
    ))  # fmt: skip


def _turned_round(_: random.Random, text: str) -> str | None:
    head, verb, rest = text.rstrip("?").partition(" is ")
    return f"{rest[:1].upper()}{rest[1:]} is {_lowered(head)}?" if verb and rest else None


def _spelt(text: str) -> str | None:
    pairs = {"tumor": "tumour", "hemorrhage": "haemorrhage", "edema": "oedema", "color": "colour"}
    changed = text
    for one, other in pairs.items():
        changed = changed.replace(one, other)
    return changed if changed != text else None


REWORDED: dict[str, Words] = {
    "pointed at": lambda rng, q: rng.choice((
        f"In this image, {_lowered(q)}", f"{q.rstrip('?')} in the picture shown here?",
        f"{q.rstrip('?')} on this scan?", f"Looking at the image, {_lowered(q)}",
    )),
    "asked another way": _seen,
    "what for which": lambda _, q: q.replace("Which", "What") if q.startswith("Which") else None,
    "begun with another part": _turned_round,
    "British spelling": lambda _, q: _spelt(q),
    "as a request": lambda rng, q: rng.choice((
        f"Please answer: {_lowered(q)}", f"{q} Please tell.",
    )),
    "another noun": lambda _, q: q.replace("lesion", "abnormality") if "lesion" in q else None,
}  # fmt: skip
_TELLING = (
    ("left", "right"), ("larger", "smaller"), ("small", "large"), ("one", "two"),
    ("brain", "breast"), ("cyst", "solid mass"), ("tumor", "infarct"), ("upper", "lower"),
    ("finding", "modality"), ("with", "without"), ("anterior", "posterior"), ("normal", "abnormal"),
    ("right", "left"), ("2", "3"), ("chest", "abdomen"), ("axial", "coronal"),
)  # fmt: skip


def told_apart(question: str) -> Iterator[str]:
    """The question with one word that tells exchanged, and with a "not"."""
    words = question.split()
    for one, other in _TELLING:
        changed = [other if word.strip("?,.").lower() == one else word for word in words]
        if changed != words:
            yield " ".join(changed)
    if words[0] in ("Is", "Are", "Does") and len(words) > 2:
        yield " ".join([words[0], words[1], "not", *words[2:]])


def same(one: str, other: str) -> bool:
    return wording(one) == wording(other)


def alike(one: str, other: str) -> bool:
    """What a MinHash estimates: whether the texts are as similar as SIMILARITY."""
    return jaccard(shingles(one), shingles(other)) >= SIMILARITY


def duplicates(rng: random.Random, questions: Sequence[str]) -> list[tuple[str, float, float, int]]:
    """By maker: the share that is found the same by the wording, by similarity, of how many."""
    found = []
    for name, make in REWORDED.items():
        pairs = [(q, new) for q in questions if (new := make(rng, q)) and new != q]
        found.append((name, *_shares(pairs)))
    apart = [(q, new) for q in questions for new in told_apart(q)]
    return [*found, ("one word that tells", *_shares(apart))]


def _shares(pairs: Sequence[tuple[str, str]]) -> tuple[float, float, int]:
    n = max(len(pairs), 1)
    return sum(same(*p) for p in pairs) / n, sum(alike(*p) for p in pairs) / n, len(pairs)


def of_people(folder: Path) -> list[tuple[str, float, float, int]]:
    """VQA-RAD's linked paraphrases, and its different questions about one image: untuned half."""
    [file] = folder.glob("*.json")
    by_image: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in json.loads(file.read_text("utf-8-sig")):
        if int(hashlib.md5(row["image_name"].encode()).hexdigest(), 16) % 2:
            by_image[row["image_name"]].append(row)
    linked: list[tuple[str, str]] = []
    others: list[tuple[str, str]] = []
    for rows in by_image.values():
        for one, other in itertools.combinations(rows, 2):
            pair = one["question"], other["question"]
            if normalise_question(pair[0]) != normalise_question(pair[1]):
                of = linked if one["qid_linked_id"] == other["qid_linked_id"] else others
                of.append(pair)
    return [
        ("VQA-RAD: people's paraphrases", *_shares(linked)),
        ("VQA-RAD: other questions about the image", *_shares(others)),
    ]


CHANGED: dict[str, Callable[[PIL.Image.Image], PIL.Image.Image]] = {
    "as it is, JPEG 70": lambda p: _jpeg(p),
    "mirrored": lambda p: p.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT),
    "turned 90°": lambda p: p.transpose(PIL.Image.Transpose.ROTATE_90),
    "turned 180°": lambda p: p.transpose(PIL.Image.Transpose.ROTATE_180),
    "turned 270°": lambda p: p.transpose(PIL.Image.Transpose.ROTATE_270),
    "mirrored and turned": lambda p: p.transpose(PIL.Image.Transpose.TRANSPOSE),
}


def _jpeg(picture: PIL.Image.Image) -> PIL.Image.Image:
    out = io.BytesIO()
    picture.convert("RGB" if picture.mode != "L" else "L").save(out, "JPEG", quality=70)
    return PIL.Image.open(out)


def drawn(first: int) -> list[PIL.Image.Image]:
    return [
        PIL.Image.fromarray(phantoms.to_display(phantoms.draw(kind, first + n, 128)))
        for kind in bank.SUBJECTS
        for n in range(PICTURES)
    ]


def pictures_of(folder: Path | None) -> list[PIL.Image.Image]:
    """Drawn pictures, and a benchmark's."""
    found = drawn(FIRST)
    files = sorted((folder / "images").glob("*.jpg")) if folder else []
    return found + [PIL.Image.open(file).convert("RGB") for file in files]


def copies(pictures: Sequence[PIL.Image.Image]) -> list[tuple[str, float, float, int]]:
    """By change: the share of copies found, and told to be turned or not, and how many there are.

    Last, the share of different pictures that are taken for copies.
    """
    originals = stacked(signature(picture) for picture in pictures)
    n, found = len(pictures), []
    for name, change in CHANGED.items():
        changed = stacked(signature(change(picture)) for picture in pictures)
        roots = joined(
            (f"{a:06d}", f"{b:06d}") for a, b in near_pairs(np.concatenate([originals, changed]))
        )
        hit = [
            k for k in range(n)
            if roots.get(f"{k:06d}", "a") == roots.get(f"{n + k:06d}", "b")
        ]  # fmt: skip
        turns = orientation(originals[hit], changed[hit]) != 0
        right = (turns == (name in list(CHANGED)[1:])).mean() if hit else 0.0
        found.append((name, len(hit) / n, float(right), n))
    tied = joined((str(a), str(b)) for a, b in near_pairs(originals))
    return [*found, ("different pictures", len(tied) / n, 1.0, n)]


def contaminated(rng: random.Random, folder: Path, rows: Sequence[Triplet]) -> list[Line]:
    """Rows made of a benchmark's, and rows that are none, by what is found of them."""
    published = read_published("vqa-rad", folder)
    index = Questions(SIMILARITY, WORDS)
    index.add(published)
    long = sorted({
        q.question for q in published.questions
        if len(normalise_question(q.question).split()) >= WORDS
    })  # fmt: skip
    found = [("benchmark's question as it is", "yes", _matched(index, long), len(long))]
    for name, make in REWORDED.items():
        made = [new for q in long if (new := make(rng, q)) and new != q]
        if made:
            found.append((f"{name}", "yes", _matched(index, made), len(made)))
    half = Questions(SIMILARITY, WORDS)
    half.add(Published("half", [Asked(q, q, "") for q in long[::2]]))
    found.append(
        ("the benchmark's other questions", "no", _matched(half, long[1::2]), len(long) // 2)
    )
    asked = sorted(bank._index())
    found.append(("question bank", "no", _matched(index, asked), len(asked)))
    texts = sorted({row.question for row in rows})
    found.append(("expert rows' questions", "no", _matched(index, texts), len(texts)))
    shown = Pictures()
    shown.add(published)
    files = [PIL.Image.open(file).convert("RGB") for file in published.files]
    for name, change in CHANGED.items():
        found.append((f"picture {name}", "yes", *_shown(shown, [change(f) for f in files])))
    found.append(("drawn pictures", "no", *_shown(shown, drawn(FIRST + 1000))))
    return found


def _matched(index: Questions, texts: Sequence[str]) -> float:
    return sum(index.match(text) is not None for text in texts) / max(len(texts), 1)


def _shown(shown: Pictures, pictures: Sequence[PIL.Image.Image]) -> tuple[float, int]:
    ids = [f"{n:06d}{pixels_id(np.asarray(p))}" for n, p in enumerate(pictures)]
    signed = stacked(signature(picture) for picture in pictures)
    found = shown.matches(ids, np.concatenate([signed, shown.signatures]))
    return len(found) / len(ids), len(ids)


def biased(rng: random.Random) -> list[tuple[str, float, float, float, float]]:
    """By bias: the best guess before and after, the shares refused of the value that is too
    frequent and of the others; means over SETS sets of ROWS rows."""
    found = []
    for name, make in BIASED.items():
        figures = []
        for _ in range(SETS):
            rows = [make(rng) for _ in range(ROWS)]
            figures.append(_balanced(rows))
        found.append((name, *(float(np.mean(column)) for column in zip(*figures))))
    return found


def _balanced(rows: Sequence[tuple[str, tuple[str, ...], str, bool]]) -> tuple[float, ...]:
    """(guess before, after, refused of the frequent value, refused of others), in [0, 1]."""
    balance = Balance(MARGIN)
    at = [strata(question, options, answer) for question, options, answer, _ in rows]
    for n, where in enumerate(at):
        list(balance.add(str(n), 1 - n / ROWS, where))
    out = {int(placed.id) for placed in balance.left()}
    worst = guesses(at)[0]
    left = {g.stratum: g.share for g in guesses(w for n, w in enumerate(at) if n not in out)}
    frequent = [n for n, row in enumerate(rows) if row[3]]
    others = [n for n, row in enumerate(rows) if not row[3]]
    return (
        worst.share, left.get(worst.stratum, 0.0),
        sum(n in out for n in frequent) / max(len(frequent), 1),
        sum(n in out for n in others) / max(len(others), 1),
    )  # fmt: skip


def _yes(share: float) -> Callable[[random.Random], tuple[str, tuple[str, ...], str, bool]]:
    def make(rng: random.Random) -> tuple[str, tuple[str, ...], str, bool]:
        what = rng.choice(("cyst", "tumor", "infarct", "plaque", "fracture"))
        options = rng.choice((("yes", "no"), ("no", "yes")))
        yes = rng.random() < share
        return f"Is there a {what}?", options, "yes" if yes else "no", yes

    return make


def _value(share: float) -> Callable[[random.Random], tuple[str, tuple[str, ...], str, bool]]:
    def make(rng: random.Random) -> tuple[str, tuple[str, ...], str, bool]:
        options = rng.sample(("cyst", "solid mass", "none", "abscess"), 4)
        often = rng.random() < share
        answer = "none" if often else rng.choice(("cyst", "solid mass", "abscess"))
        return "Which finding is shown?", tuple(options), answer, often

    return make


def _place(share: float) -> Callable[[random.Random], tuple[str, tuple[str, ...], str, bool]]:
    def make(rng: random.Random) -> tuple[str, tuple[str, ...], str, bool]:
        words = rng.sample(("liver", "spleen", "kidney", "lung", "heart", "brain"), 4)
        often = rng.random() < share
        place = 1 if often else rng.choice((0, 2, 3))
        return f"Which organ is number {rng.randrange(10**6)}?", tuple(words), words[place], often

    return make


BIASED = {
    "yes to 90 %": _yes(0.9),
    "yes to 75 %": _yes(0.75),
    "yes to half": _yes(0.5),
    "one of four values to 80 %": _value(0.8),
    "one of four values to 25 %": _value(0.25),
    "the second place of four to 80 %": _place(0.8),
    "the second place of four to 25 %": _place(0.25),
}


def tables(seed: int, folder: Path | None, rows: Sequence[Triplet]) -> dict[str, object]:
    """Print all of them; returns what was printed."""
    rng = random.Random(seed)
    questions = sorted({row.question for row in rows})
    told: dict[str, object] = {}
    found = duplicates(rng, questions) + (of_people(folder) if folder else [])
    _print("question", ("the same by wording %", f"by similarity {SIMILARITY} %"), found)
    pictures = copies(pictures_of(folder))
    _print("picture", ("taken for a copy %", "of these told turned or not %"), pictures)
    told |= {"near_duplicates": found, "copies": pictures}
    if folder:
        lines = contaminated(rng, folder, rows)
        print("\n| against VQA-RAD | a benchmark's | refused % | of |\n| --- | --- | ---: | ---: |")
        for what, of, share, n in lines:
            print(f"| {what} | {of} | {100 * share:.1f} | {n:,} |")
        told["contamination"] = lines
    balanced = biased(rng)
    print(
        "\n| answers | best guess % | after | refused % of the frequent | of the others |\n"
        "| --- | ---: | ---: | ---: | ---: |"
    )
    for name, *shares in balanced:
        print(f"| {name} | " + " | ".join(f"{100 * share:.1f}" for share in shares) + " |")
    return told | {"balance": balanced}


def _print(
    what: str, heads: tuple[str, str], lines: Sequence[tuple[str, float, float, int]]
) -> None:
    print(f"\n| {what} | {heads[0]} | {heads[1]} | of |\n| --- | ---: | ---: | ---: |")
    for name, one, other, n in lines:
        print(f"| {name} | {100 * one:.1f} | {100 * other:.1f} | {n:,} |")
