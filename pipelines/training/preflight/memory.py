"""What the tensors of a stage take on a GPU, in parts that have names, from first principles.

What a layer keeps for its backward pass follows Korthikanti et al. (arXiv 2205.05198, section 4.1),
for the layers at hand: RMSNorm computes in float32, attention is a kernel that keeps its inputs and
output, keys and values are repeated for every head where rows are padded, and the MLP is gated. For
a token of width h and an MLP of width m, with e bytes a number:

    two norms        2 x (4h + eh)     the float32 copy, and what is scaled
    attention        5eh               its input, queries, keys, values, its output
    MLP              eh + 4em          its input; gate, its SiLU, up, their product

8h + 8eh + 4em in all. Weights that are frozen need no input of their layer, but an adapter keeps
one of its own: seven inputs in the place of three, and no scaled norm, 8h + 10eh + 4em. A compiled
layer works out float32 copies and SiLU again and has adapters share their input, 8eh + 3em: which
of all that it keeps was told by the difference of two measured batches. With checkpointing a layer
keeps eh, and one layer at a time is computed again. Nothing else is fitted to a measurement;
`docs/preflight.md` has what was measured beside it.

These are tensors alone. CUDA's own context and what the allocator cannot use are `SPARE`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.config.training import Grpo, Optimiser, Sft
from pipelines.training.preflight.shapes import Shape, Text

GIB = 2**30
SPARE = 0.08  # of a GPU, that tensors cannot have: an assumption
MOMENTS = 8  # bytes of a trained weight: two of Adam's, in float32
NF4 = 0.5 + 0.127 / 8  # bytes of a weight, with double quantisation (arXiv 2305.14314, section 3)
READ_AT_ONCE = 64  # rows that a judge reads at once where they fit: `Judge.scores`
VLLM_TOKENS = 16384  # that vLLM's offline engine reads in one step on a card of 70 GiB and more
Parts = dict[str, float]  # bytes by what holds them


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows of a batch: tokens of a row, padding counted, patches of its picture, tokens scored."""

    rows: int
    tokens: float
    patches: float
    scored: float = 0

    @property
    def all_tokens(self) -> float:
        return self.rows * self.tokens

    @property
    def all_patches(self) -> float:
        return self.rows * self.patches

    def of(self, rows: int) -> Batch:
        """As many such rows."""
        return Batch(rows=rows, tokens=self.tokens, patches=self.patches, scored=self.scored)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a process holds at its highest: bytes by part, and how many rows it reads at once."""

    parts: Parts
    rows: int = 0

    @property
    def total(self) -> float:
        return sum(self.parts.values())


def trained_weights(shape: Shape, section: Optimiser) -> int:
    """How many weights learn: the adapters', or all but those of a frozen tower."""
    if section.lora_rank:
        return shape.adapters(section.lora_rank, section.lora_targets == "all")
    vision = shape.vision
    still = vision.weights - vision.projector_weights if section.freeze_vision else 0
    return shape.weights - still


def stored(shape: Shape, section: Optimiser, on_gpu: bool) -> float:
    """Bytes of a weight as it is loaded to be trained: `engine.adapting.weights_dtype`."""
    return shape.bytes if on_gpu and section.bf16 and section.lora_rank else 4


def states(shape: Shape, section: Optimiser, on_gpu: bool) -> Parts:
    """Weights, and what an optimiser has of those that learn."""
    trained, each = trained_weights(shape, section), stored(shape, section, on_gpu)
    weights = shape.weights * each
    if section.lora_bits:
        weights -= shape.quantised * (each - NF4)
    parts: Parts = {"weights": weights}
    if section.lora_rank:
        parts["adapters"] = 4 * trained
    elif section.bf16 and on_gpu:
        parts["weights in bf16"] = 2 * shape.weights  # autocast's, while a batch is computed
    parts["gradients"] = 4 * trained
    parts["Adam's moments"] = MOMENTS * trained
    if section.workers > 1:
        parts["gradients that workers exchange"] = 4 * trained  # DistributedDataParallel's buckets
    return parts


def layer(hidden: int, intermediate: int, e: int, adapted: bool, compiled: bool) -> float:
    """Bytes that a layer keeps of a token, or of a patch, for its backward pass."""
    if compiled:
        return 8 * e * hidden + 3 * e * intermediate
    return 8 * hidden + (10 if adapted else 8) * e * hidden + 4 * e * intermediate


def backward(intermediate: int, e: int, adapted: bool) -> float:
    """Bytes of a token while a layer's MLP is gone through backward, beside what was kept.

    Gradients of the product, of gate and up; and an adapter's input in float32.
    """
    return 3 * e * intermediate + (4 * intermediate if adapted else 0)


def forward(hidden: int, intermediate: int, e: int) -> float:
    """Bytes of a token at the highest point of a layer without gradient: gate's SiLU, up, product.

    Beside them what goes on, and what was normed.
    """
    return 3 * e * intermediate + 2 * e * hidden


def activations(
    shape: Shape, section: Optimiser, batch: Batch, on_gpu: bool, logits: bool = True
) -> Parts:
    """What a batch keeps until its backward pass, at the highest."""
    text, vision = shape.text, shape.vision
    e = 2 if section.bf16 and on_gpu else 4
    again = on_gpu if section.checkpointing is None else section.checkpointing
    adapted = section.lora_rank > 0
    tower = section.lora_targets == "all" if adapted else not section.freeze_vision
    how = (e, adapted, isinstance(section, Sft) and section.compile, again)
    kept = _kept(text.hidden, text.intermediate, text.layers, *how)
    seen = _kept(vision.hidden, vision.intermediate, vision.depth, *how)
    parts: Parts = {"activations of text": batch.all_tokens * kept}
    parts["activations of images"] = batch.all_patches * (
        seen if tower else forward(vision.hidden, vision.intermediate, e)
    )
    parts["images"] = batch.all_patches * 4 * vision.patch_values
    if logits:  # as they come out, scaled or in float32, their softmax, their gradient
        parts["logits"] = batch.rows * batch.scored * text.vocabulary * 4 * e
    return parts


def _kept(
    hidden: int, intermediate: int, layers: int, e: int, adapted: bool, compiled: bool, again: bool
) -> float:
    """Bytes of a token in all layers, and of the one that is gone through backward."""
    one = layer(hidden, intermediate, e, adapted, compiled)
    working = backward(intermediate, e, adapted)
    return layers * e * hidden + one + working if again else layers * one + working


def cache(text: Text, tokens: float, e: int = 2) -> float:
    """Bytes of keys and values of so many tokens."""
    return 2 * e * text.kv * text.layers * tokens


def reading(shape: Shape, batch: Batch, e: int) -> float:
    """Bytes of a forward pass without gradient over a batch, with its cache of keys and values."""
    text, vision = shape.text, shape.vision
    said = batch.all_tokens * forward(text.hidden, text.intermediate, e)
    said += cache(text, batch.all_tokens, e)
    seen = batch.all_patches * forward(vision.hidden, vision.intermediate, e)
    return max(said, seen) + batch.all_patches * 4 * vision.patch_values


def training(shape: Shape, section: Optimiser, batch: Batch, on_gpu: bool, logits: bool) -> Held:
    """A worker of SFT, or of a judge's training (which has no logits).

    Where a step is one batch, gradients come as activations and autocast's copies go: it is the
    more of the two.
    """
    own, kept = states(shape, section, on_gpu), activations(shape, section, batch, on_gpu, logits)
    if section.accumulate > 1 or "weights in bf16" not in own:
        return Held(parts=own | kept, rows=batch.rows)
    before = {name: size for name, size in (own | kept).items() if name != "gradients"}
    after = {name: size for name, size in own.items() if name != "weights in bf16"}
    highest = max(before, after, key=lambda parts: sum(parts.values()))
    return Held(parts=highest, rows=batch.rows)


def judging(shape: Shape, batch: Batch, on_gpu: bool, room: float | None) -> Held:
    """A judge, with as many of the batch's rows at once as fit into `room` bytes."""
    e = shape.bytes if on_gpu else 4
    weights = shape.weights * e
    rows = at_once(lambda n: weights + reading(shape, batch.of(n), e), batch.rows, room)
    return Held(
        parts={"weights": weights, "rows that are read": reading(shape, batch.of(rows), e)},
        rows=rows,
    )


def writing(
    shape: Shape, batch: Batch, samples: int, tokens: int, on_gpu: bool, room: float | None
) -> Held:
    """transformers' `generate`: `samples` of up to `tokens` tokens for each row of a batch.

    Each sample has a pass and a cache of its own, and all logits are kept, in float32.
    """
    e = shape.bytes if on_gpu else 4
    weights = shape.weights * e
    rows = at_once(
        lambda n: weights + sum(_written(shape, batch.of(n), samples, tokens, e).values()),
        batch.rows,
        room,
    )
    parts = {"weights": weights} | _written(shape, batch.of(rows), samples, tokens, e)
    return Held(parts=parts, rows=rows)


def _written(shape: Shape, batch: Batch, samples: int, tokens: int, e: int) -> Parts:
    """At the first token, where prompts are read, or at the last, where all logits are there."""
    every = batch.of(batch.rows * samples)
    first: Parts = {
        "prompts that are read": reading(shape, every, e) - cache(shape.text, every.all_tokens, e),
        "keys and values": cache(shape.text, every.all_tokens, e),
    }
    last: Parts = {
        "keys and values": cache(shape.text, every.all_tokens + every.rows * tokens, e),
        "logits": every.rows * tokens * shape.text.vocabulary * 4.0,
    }
    return max(first, last, key=lambda parts: sum(parts.values()))


def at_once(held: Callable[[int], float], most: int, room: float | None) -> int:
    """How many rows fit, halved from `most` as `engine.vlm.memory` does; 1 where none does."""
    rows = most
    while room is not None and rows > 1 and held(rows) > room:
        rows //= 2
    return rows


def engine(shape: Shape, gpus: float, share: float, longest: int, card: float | None) -> Held:
    """A vLLM engine: it takes a share of each of its GPUs, and has for its cache what is left."""
    gpus = max(int(gpus), 1)
    step = VLLM_TOKENS * forward(shape.text.hidden, shape.text.intermediate, shape.bytes) / gpus
    parts: Parts = {"weights": shape.weights * shape.bytes / gpus, "a step's tokens": step}
    one = cache(shape.text, longest, shape.bytes) / min(gpus, shape.text.kv_heads)
    left = one if card is None else card * share - sum(parts.values())
    rows = 0 if card is None else max(int(left / one), 0)
    return Held(parts=parts | {"keys and values": max(left, one)}, rows=rows)


def rollout(
    policy: Shape,
    judge: Shape | None,
    section: Grpo,
    asked: Batch,
    judged: Batch,
    on_gpu: bool,
    room: float | None,
) -> Held:
    """A worker of GRPO at its highest: while it writes completions, judges them, or learns.

    `asked` is a question with its picture, `judged` a reply as the judge reads it. The reference of
    the KL penalty is the policy with its adapters off, or, where all weights learn, another model.
    """
    e = policy.bytes if on_gpu else 4
    own = states(policy, section, on_gpu)
    fixed: Parts = {}
    if section.kl and not section.lora_rank:
        fixed["reference model"] = own["weights"]
    if judge:
        fixed["judge"] = judge.weights * (judge.bytes if on_gpu else 4)
    learned = Batch(
        rows=section.batch,
        tokens=asked.tokens + section.max_tokens,
        patches=asked.patches,
        scored=section.max_tokens,
    )
    learning = own | fixed | activations(policy, section, learned, on_gpu)
    between = {name: own[name] for name in own if not name.startswith(("gradients", "weights in"))}
    drawn = asked.of(section.batch * section.accumulate)  # the completions of a step
    prompts = reading(policy, drawn, e) - cache(policy.text, drawn.all_tokens, e)
    all_tokens = drawn.all_tokens + drawn.rows * section.max_tokens
    drawing = between | fixed | {
        "prompts that are read": prompts,
        "keys and values": cache(policy.text, all_tokens, e),
    }  # fmt: skip
    found, rows = [learning, drawing], drawn.rows
    if judge:
        of_judge, base = judge, sum((between | fixed).values())
        rows = at_once(
            lambda n: base + reading(of_judge, judged.of(n), e), min(READ_AT_ONCE, drawn.rows), room
        )
        found.append(between | fixed | {"rows that are judged": reading(judge, judged.of(rows), e)})
    return Held(parts=max(found, key=lambda parts: sum(parts.values())), rows=rows)
