"""A question answered with its image and without seeing it: what it teaches of seeing.

Without is: no image, a mid-grey one of the same size, and an image of the same modality of another
patient. The margin is the share of replies that give the answer with the image, less the best of
the shares without. What cannot be read gives no answer, and counts among the replies.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO

from engine.answers.matching import compared, is_valid
from engine.answers.reading import read_completion
from engine.prompts import answer_prompt
from engine.records import Triplet, Verification, canonical, content_id
from engine.vlm.protocol import VLM, Request, Sample, Sampling
from generators.verification.votes import identified

IMAGE, NONE, BLANK, OTHER = "image", "none", "blank", "other"
STYLE = "direct"  # the answer alone: what is compared is what is seen, not how it is reasoned
MID_GREY = 128


@dataclass(frozen=True, slots=True)
class Answering:
    """Who answers (a model's id), in whose words, with what in the image's place, how often."""

    model_id: str
    words: str
    without: tuple[str, ...]
    sampling: Sampling


def answered(
    vlm: VLM,
    found: Sequence[Verification],
    rows: Mapping[str, Triplet],
    pngs: Mapping[str, bytes],
    others: Mapping[str, str],
    how: Answering,
) -> list[Verification]:
    """The same with what the model answers. `rows` are triplets by id, `pngs` by image id.

    `others` are by image another patient's of the modality; where there is none it is not asked.
    """
    asked: list[tuple[int, str, Request]] = []
    for place, one in enumerate(found):
        row = rows[one.triplet_id]
        text = answer_prompt(how.words, row.question, row.options, STYLE)
        for shown, png in _shown(pngs, one.image_id, others.get(one.image_id), how.without):
            seed = int(content_id(one.question_id, shown)[:7], 16)
            asked.append((place, shown, Request(png, text, seed)))
    replies = vlm.generate([request for *_, request in asked], how.sampling)
    said: list[dict[str, dict[str, object]]] = [{} for _ in found]
    for (place, shown, _), samples in zip(asked, replies):
        said[place][shown] = _read(samples, rows[found[place].triplet_id].options)
    return [
        _told(one, replied, others.get(one.image_id, ""), how.model_id)
        for one, replied in zip(found, said)
    ]


def _shown(
    pngs: Mapping[str, bytes], image_id: str, other: str | None, without: Sequence[str]
) -> Iterator[tuple[str, bytes | None]]:
    """What is shown, by name: the image, and what stands in its place."""
    yield IMAGE, pngs[image_id]
    if NONE in without:
        yield NONE, None
    if BLANK in without:
        yield BLANK, grey(pngs[image_id])
    if OTHER in without and other:
        yield OTHER, pngs[other]


def grey(png: bytes) -> bytes:
    """A mid-grey picture of the same size."""
    import PIL.Image

    with PIL.Image.open(BytesIO(png)) as image:
        return _grey(image.size)


@cache
def _grey(size: tuple[int, int]) -> bytes:
    import PIL.Image

    out = BytesIO()
    PIL.Image.new("L", size, MID_GREY).save(out, "PNG")
    return out.getvalue()


def _read(samples: Sequence[Sample], options: tuple[str, ...]) -> dict[str, object]:
    """How often each answer was given, and how many replies gave none."""
    given: Counter[str] = Counter()
    for sample in samples:
        read = read_completion(sample.text, options)
        if not (sample.problem or read.problem) and is_valid(read.answer, options):
            given[compared(read.answer, options)] += 1
    return {"answers": dict(given), "unreadable": len(samples) - given.total()}


def _told(
    one: Verification, said: dict[str, dict[str, object]], other: str, model_id: str
) -> Verification:
    told = replace(
        one,
        other_id=other if OTHER in said else "",
        blind_id=model_id,
        blind=canonical(said),
    )
    return identified(replace(told, margin=margin_of(shares_of(told, told.answer))))


def shares_of(found: Verification, answer: str) -> dict[str, float]:
    """By what was shown the share of replies, 0 to 1, that give an answer as it is compared."""
    said = json.loads(found.blind) if found.blind else {}
    return {
        shown: told["answers"].get(answer, 0) / (sum(told["answers"].values()) + told["unreadable"])
        for shown, told in said.items()
    }


def without(shares: Mapping[str, float]) -> float | None:
    """The best share without seeing the image; None where nothing was asked without."""
    return max((share for shown, share in shares.items() if shown != IMAGE), default=None)


def margin_of(shares: Mapping[str, float]) -> float | None:
    """The share with the image less the best one without, -1 to 1; None where not asked."""
    best = without(shares)
    return None if best is None else shares[IMAGE] - best


def answered_blind(shares: Mapping[str, float], more_than: float = 0.0) -> bool:
    """Whether the answer is given without the image, and the margin is no more than `more_than`.

    A tie is answered blind. An answer that nobody gives without the image is not, even where it is
    not given with it either: then the question is hard, and no guess.
    """
    best, margin = without(shares), margin_of(shares)
    return best is not None and margin is not None and best > 0 and not margin > more_than
