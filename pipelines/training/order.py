"""The order of SFT's turns: rows of like length together, and the easier ones first.

transformers' own grouping (`train_sampling_strategy`) draws from a stream that a resumed training
does not find again, and asks for each row's tokens. Here an epoch's order is that of the seed and
the epoch's number, and lengths are worked out from words and the size of a picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from datasets import Dataset

WINDOW = 50  # steps whose rows are sorted by length together, as transformers has it
NOISE = 0.25  # standard deviation added to a curriculum's levels: easy to medium is 0.5


class Order:
    """A sampler of `count` rows: their places, in an order of its own each epoch.

    `step` is the rows of a step, so that a run goes on with other batches of the same product. With
    `lengths` neighbours are of like length: in windows of up to WINDOW steps rows are sorted and
    cut into steps, which are shuffled. With `levels` the first epoch has the lower ones first, a
    stable sort of levels with noise. A `callback` tells it the epoch.
    """

    def __init__(
        self,
        count: int,
        step: int,
        seed: int,
        lengths: Sequence[int] | None = None,
        levels: Sequence[float] | None = None,
    ) -> None:
        self.count, self.step, self.seed = count, step, seed
        self.lengths = None if lengths is None else np.asarray(lengths)
        self.levels = None if levels is None else np.asarray(levels)
        self.epoch = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        if self.levels is not None and self.epoch == 0:
            noisy = self.levels + rng.normal(0, NOISE, self.count)
            order = np.argsort(noisy, kind="stable")
        else:
            order = rng.permutation(self.count)
        return iter(self._grouped(order, rng).tolist())

    def _grouped(self, order: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.lengths is None:
            return order
        step = self.step
        wide = min(max(self.count // (4 * step), 1), WINDOW) * step
        found: list[np.ndarray] = []
        for low in range(0, self.count, wide):
            window = order[low : low + wide]
            window = window[np.argsort(self.lengths[window], kind="stable")]
            parts = [window[n : n + step] for n in range(0, len(window), step)]
            whole = len(window) // step
            found += [parts[n] for n in [*rng.permutation(whole), *range(whole, len(parts))]]
        return np.concatenate(found)

    def callback(self) -> Any:
        """A trainer's callback that tells the order which epoch begins."""
        from transformers import TrainerCallback

        order = self

        class Epoch(TrainerCallback):
            def on_epoch_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
                order.epoch = int((state.epoch or 0) + 1e-6)

        return Epoch()


def ordered(trainer_class: Any, order: Order | None) -> Any:
    """A Trainer class whose training set is read in an order, if there is one."""

    class Ordered(trainer_class):
        def __init__(self, *given: Any, **more: Any) -> None:
            super().__init__(*given, **more)
            if order is not None:
                self.add_callback(order.callback())

        def _get_train_sampler(self, *given: Any) -> Any:
            return super()._get_train_sampler(*given) if order is None else order

    return Ordered


def lengths_of(rows: Dataset, processor: Any, max_pixels: int) -> list[int]:
    """Tokens of each row: those of its words and its picture, without the chat template's.

    Rows have prompt, completion, and the picture's width and height.
    """
    from engine.vlm.inputs import shown_size

    found: list[int] = []
    for batch in rows.iter(1000):
        texts = [f"{p} {c}" for p, c in zip(batch["prompt"], batch["completion"])]
        words = processor.tokenizer(texts, add_special_tokens=False)["input_ids"]
        sides = [shown_size(size, max_pixels) for size in zip(batch["width"], batch["height"])]
        known: dict[tuple[int, int], int] = {}
        for size in set(sides):
            told = processor._get_num_multimodal_tokens(image_sizes=[size[::-1]])
            known[size] = told["num_image_tokens"][0]
        found += [len(ids) + known[size] for ids, size in zip(words, sides)]
    return found
