"""Expert preferences: pairs of triplets of one image, one better than the other by a criterion.

MedGR2's four tiers are kept on every pair: expert 10, perturbed 6, incoherent 0, irrelevant -6.
"""

from __future__ import annotations

from dataclasses import replace

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


def derived(triplet: Triplet, tier: str, **changes: object) -> Triplet:
    """A copy of a triplet, changed, with its own id and the tier as its generator.

    It says what it was made from: the triplet, and what `derived_from` names beside it.
    """
    sources = (triplet.id, *changes.pop("derived_from", ()))  # type: ignore[misc]
    changed = replace(triplet, generator_id=tier, derived_from=sources, **changes)  # type: ignore[arg-type]
    parts = (changed.question, changed.options, changed.answer, changed.rationale)
    return replace(changed, id=content_id("derived", triplet.id, tier, *parts))
