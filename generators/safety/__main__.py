"""Print what is taught on drawn phantoms, from their truths, and write the pictures with texts.

python -m generators.safety SEED [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from engine.config.safety import Safety
from engine.pixels import pixels_id, to_png
from generators import phantoms
from generators.phantoms import oracle
from generators.phantoms.kinds import KINDS
from generators.safety import elsewhere, instruction, unanswerable
from generators.safety.lessons import Pool, of_truth
from generators.safety.rows import inscribed, row_of

EACH = 6  # phantoms of a kind
SHOWN = 4  # groups of a kind of lessons


def main(seed: str = "7", folder: str = "") -> None:
    """Print some groups of each kind: question, options, reasoning, answer, true or not."""
    rng = np.random.default_rng(int(seed))
    images, pngs, masks = [], {}, {}
    for number in rng.permutation(EACH * len(KINDS)):
        kind = list(KINDS)[number % len(KINDS)]
        phantom = phantoms.draw(kind, int(seed) + int(number), 256, 0.3)
        pixels = phantoms.to_display(phantom)
        image = oracle.image_of(phantom.truth, pixels_id(pixels))
        images.append(image)
        pngs[image.id], masks[image.id] = to_png(pixels), phantom.mask
    pool = Pool(images, [known for image in images for known in of_truth(image, rng)])
    policy = Safety().policy
    for kind in (instruction, elsewhere, unanswerable):
        print(f"\n# {kind.__name__.rpartition('.')[2]}")
        for _, group in zip(range(SHOWN), kind.groups(pool, policy, rng)):
            print()
            for number, lesson in enumerate(group):
                shown = lesson.image
                if lesson.text:
                    png, mask = pngs[shown.id], masks[shown.id]
                    lesson, picture = inscribed(lesson, png, mask, rng)
                    if folder:
                        (Path(folder) / f"{picture.id}.png").write_bytes(picture.png)
                row, _ = row_of(lesson, int(seed), number, 1)
                true = oracle.is_true(lesson.image, row)
                print(f"({shown.modality} {shown.anatomy}, true: {true}) {row.question}")
                print(f"  {' | '.join(row.options)}\n  {row.rationale}\n  -> {row.answer}")


if __name__ == "__main__":
    main(*sys.argv[1:])
