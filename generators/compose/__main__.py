"""Print what is composed of a drawn phantom, from its truth and its mask.

python -m generators.compose KIND SEED
"""

from __future__ import annotations

import sys

import numpy as np

from generators import phantoms
from generators.compose.balance import Balance
from generators.compose.composer import compose
from generators.compose.facts import of_truth
from generators.compose.forms import STEPS
from generators.compose.measures import measure
from generators.phantoms import oracle


def main(kind: str = "CT-chest", seed: str = "7") -> None:
    """Print eight questions about one phantom, each with its options, its steps and its answer."""
    phantom = phantoms.draw(kind, int(seed), 256, 0.3)
    truth = phantom.truth
    image = oracle.image_of(truth, f"{int(seed):032x}")
    spacing = (phantom.pixel_spacing_mm, phantom.pixel_spacing_mm)
    sizes = measure(phantom.mask, spacing, truth.finding)
    facts = [*of_truth(image), *(sizes.facts(image.id) if sizes else ())]
    width = sizes.width_mm if sizes else None
    rng = np.random.default_rng(int(seed))
    made, why = compose(facts, width, 8, dict.fromkeys(STEPS, 1.0), Balance(), rng)
    for one in made:
        print(f"\n{one.question}\n  ({', '.join(one.options)})")
        print(f"  {one.rationale}\n  {one.answer}, in {one.steps} steps")
        print(f"  {one.program.to_json()}")
    if why:
        print(f"\nno more: {why}")


if __name__ == "__main__":
    main(*sys.argv[1:])
