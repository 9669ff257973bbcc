"""Expert preferences: pairs of triplets of one image, one better than the other by a criterion.

MedGR2's four tiers are kept on every pair: expert 10, perturbed 6, incoherent 0, irrelevant -6.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from engine.records import Preference, Triplet, content_id

TIERS = {"expert": 10.0, "perturbed": 6.0, "incoherent": 0.0, "irrelevant": -6.0}


def preference(
    chosen: Triplet, rejected: Triplet, criterion: str, tier: str, expert: str, holdout: bool
) -> Preference:
    """`chosen` is better than `rejected`, which is of a tier below expert."""
    parts = (chosen.id, rejected.id, criterion, expert)
    return Preference(
        id=content_id("preference", *parts),
        image_id=chosen.image_id,
        chosen_id=chosen.id,
        rejected_id=rejected.id,
        criterion=criterion,
        tier_chosen=TIERS["expert"],
        tier_rejected=TIERS[tier],
        expert=expert,
        round=chosen.round,
        holdout=holdout,
    )


def in_holdout(image_id: str, share: float) -> bool:
    """Whether an image's pairs are in the frozen holdout: decided by its id, for ever."""
    return int(content_id("holdout", image_id)[:8], 16) / 16**8 < share


def derived(triplet: Triplet, tier: str, **changes: object) -> Triplet:
    """A copy of a triplet, changed, with its own id and the tier as its generator.

    It says what it was made from: the triplet, and what `derived_from` names beside it.
    """
    sources = (triplet.id, *changes.pop("derived_from", ()))  # type: ignore[misc]
    changed = replace(triplet, generator_id=tier, derived_from=sources, **changes)  # type: ignore[arg-type]
    parts = (changed.question, changed.options, changed.answer, changed.rationale)
    return replace(changed, id=content_id("derived", triplet.id, tier, *parts))


def incoherent(triplet: Triplet, rng: np.random.Generator) -> Triplet:
    """The triplet with its reasoning's words in another order."""
    words = triplet.rationale.split()
    shuffled = [words[place] for place in rng.permutation(len(words))]
    rationale = " ".join(shuffled if shuffled != words else reversed(words))
    return derived(triplet, "incoherent", rationale=rationale)


def irrelevant(triplet: Triplet, other: Triplet) -> Triplet:
    """Another image's question and answer, put to this image."""
    return derived(
        triplet,
        "irrelevant",
        question=other.question,
        options=other.options,
        answer=other.answer,
        rationale=other.rationale,
        # The image: an expert's row may be written for this alone, and be in no table.
        derived_from=(other.image_id,),
    )
