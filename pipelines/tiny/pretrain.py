"""Train the embedded tiny VLM from nothing on phantoms, and print what it knows.

    python -m pipelines.tiny.pretrain            # the weights in engine/vlm/tiny/weights

The curriculum is general: describe, point, locate, count, compare, answer with and without
reasoning, ask, and verify a statement. On CT and X-ray it is whole. On MR and ultrasound the model
learns to see: to find, locate and count lesions, but neither what they are called nor how large
they are, so that the demo has something to teach and its judge something to stand on. An image's
questions share its encoding: each conversation turn sees the image and itself only (a block mask),
so one pass trains them all.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from engine.answers.parsing import render_completion, render_question
from engine.prompts import answer_prompt, ask_prompt, judge_prompt
from engine.vlm import tiny
from generators import phantoms
from generators.phantoms import composer, oracle, reporter
from generators.phantoms.bank import FINDINGS, QA
from generators.phantoms.base import Truth

SHARES = {"CT": 0.28, "X-ray": 0.28, "MR": 0.24, "ultrasound": 0.2}
UNNAMED = ("MR", "ultrasound")
SEEING = ("modality", "anatomy", "attribute")  # the question types taught on these
STEPS = 1400
LR, MATRICES_LR = 1.5e-3, 3e-3  # peak rates: AdamW's, and Muon's for the matrices inside
POOL, POOL_SEED, HELD_OUT_SEED = 16000, 10**6, 2 * 10**6
DESCRIBE = "Describe the image."
POINT = "Point to each lesion."
GRID = 8
OTHER = ("verify", "point")  # figures that are not about answers
DRAW_SIZE = 128
IGNORE = -100
Turn = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Seen:
    """A phantom as the processor sees it.

    `pixels` is (64, 64) uint8; `centres` (regions, 2) are row and column of its lesions' centres.
    """

    pixels: np.ndarray
    centres: np.ndarray
    truth: Truth


def draw_pool(seeds: range, shares: dict[str, float]) -> list[Seen]:
    """Phantoms of the modalities in `shares`, a seed each."""
    rng = np.random.default_rng(seeds.start)
    modalities = rng.choice(list(shares), size=len(seeds), p=list(shares.values()))
    difficulties = rng.uniform(0, 0.8, size=len(seeds))
    pool: list[Seen] = []
    started = time.time()
    with multiprocessing.get_context("spawn").Pool() as workers:
        wanted = zip(modalities, seeds, difficulties)
        for seen in workers.imap(_draw, wanted, chunksize=50):
            pool.append(seen)
            if len(pool) % 1000 == 0:
                rate = len(pool) / (time.time() - started)
                print(f"{len(pool):,}/{len(seeds):,} phantoms  {rate:.0f} phantoms/s", flush=True)
    return pool


def _draw(wanted: tuple[str, int, float]) -> Seen:
    """The phantom of (modality, seed, difficulty)."""
    from PIL import Image
    from scipy import ndimage

    modality, seed, difficulty = wanted
    phantom = phantoms.draw(str(modality), seed, DRAW_SIZE, difficulty)
    image = Image.fromarray(phantoms.to_display(phantom))
    small = image.resize((tiny.IMAGE_SIZE, tiny.IMAGE_SIZE), Image.Resampling.BICUBIC)
    regions, number = ndimage.label(phantom.mask, structure=np.ones((3, 3)))
    centres = ndimage.center_of_mass(phantom.mask, regions, range(1, number + 1))
    scale = tiny.IMAGE_SIZE / DRAW_SIZE
    return Seen(np.asarray(small), np.reshape(centres, (-1, 2)) * scale, phantom.truth)


def curriculum(seen: Seen, rng: np.random.Generator) -> list[Turn]:
    """One image's turns: (what the user says, what the model should say)."""
    truth = seen.truth
    turns = [(POINT, _cells(seen.centres))]
    if truth.modality in UNNAMED or rng.random() < 0.5:
        turns.append((DESCRIBE, _describe(truth)))
    for _ in range(3):
        turns.append(_answering(truth, rng, ["direct", "direct", "step", "meta"]))
    for _ in range(2):
        turns.append(_verifying(truth, rng))
    turns.append(_asking(truth, rng))
    return turns


def _cells(centres: np.ndarray) -> str:
    """Row and column of each centre on a grid of `GRID` x `GRID` cells."""
    cells = np.clip(centres * GRID / tiny.IMAGE_SIZE, 0, GRID - 1).astype(int)
    return ", ".join(f"{row} {column}" for row, column in cells) or "none"


def _compose(truth: Truth, rng: np.random.Generator) -> QA:
    """A question of the curriculum; on unnamed modalities it speaks of lesions."""
    if truth.modality not in UNNAMED:
        return composer.compose_any(truth, rng)[1]
    return _unnamed(composer.compose_any(truth, rng, SEEING)[1], truth)


def _unnamed(qa: QA, truth: Truth) -> QA:
    return replace(qa, question=qa.question.replace(f"the {truth.finding}", "the lesion"))


def _describe(truth: Truth) -> str:
    """The bank's description; on unnamed modalities without name and size."""
    told = reporter.describe(truth)
    if truth.modality in UNNAMED:
        told = told.replace(f"{truth.size} {truth.finding}", "lesion")
    return told


def _rationale(truth: Truth, style: str, rng: np.random.Generator) -> str:
    if truth.modality not in UNNAMED or style == "direct":
        return reporter.rationale(truth, style, rng)
    return _describe(truth) + (" Not sure." if style == "meta" else "")


def _answering(truth: Truth, rng: np.random.Generator, styles: list[str]) -> Turn:
    qa = _compose(truth, rng)
    style = str(rng.choice(styles))
    prompt = answer_prompt("compact", qa.question, qa.options, style)
    return prompt, render_completion(_rationale(truth, style, rng), qa.answer)


def _asking(truth: Truth, rng: np.random.Generator) -> Turn:
    """A question to ask. On unnamed modalities any finding is named, whatever is shown."""
    if truth.modality in UNNAMED and truth.finding != "none":
        truth = replace(truth, finding=str(rng.choice(FINDINGS[truth.modality])))
    task, qa = composer.compose_any(truth, rng)
    if truth.modality in UNNAMED:
        qa = _unnamed(qa, truth)
    return ask_prompt("compact", task), render_question(qa.question, qa.options)


def _verifying(truth: Truth, rng: np.random.Generator) -> Turn:
    """A proposed answer, right or wrong, with the reasoning of the image which it is true of.

    One in four is a true row of another image, so that false premises are seen too.
    """
    source = reporter.corrupt(truth, rng) if rng.random() < 0.25 else truth
    qa = _compose(source, rng)
    answer = qa.answer if rng.random() < 0.5 else composer.wrong_answer(source, qa, rng)
    if source is not truth:
        answer = qa.answer
    right = answer == oracle.answer_of(truth, qa.question)
    shown = ""
    if rng.random() < 0.3:
        told = source if source is not truth else truth if right else reporter.corrupt(truth, rng)
        shown = _describe(told)
    prompt = judge_prompt("compact", qa.question, qa.options, shown, answer)
    return prompt, "yes" if right else "no"


class Packer:
    """Packs the turns of one image into one sequence with a block mask."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        side = tiny.IMAGE_SIZE // 16
        self.side = side
        self.prefix = tokenizer(
            "<|im_start|>user\n<|vision_start|>" + "<|image_pad|>" * side**2 + "<|vision_end|>"
        )["input_ids"]
        self.before = self.prefix.index(tokenizer.convert_tokens_to_ids("<|image_pad|>"))

    def positions(self) -> np.ndarray:
        """(3, prefix) M-RoPE positions of the shared prefix, as Qwen2.5-VL counts them."""
        b, side = self.before, self.side
        head = np.tile(np.arange(b), (3, 1))
        grid = np.stack(
            [
                np.zeros(side**2, int),
                np.repeat(np.arange(side), side),
                np.tile(np.arange(side), side),
            ]
        )
        tail = np.arange(len(self.prefix) - b - side**2) + b + side
        return np.concatenate([head, grid + b, np.tile(tail, (3, 1))], axis=1)

    def batch(self, items: list[list[Turn]]) -> dict[str, Any]:
        """input_ids, labels (B, L), position_ids (3, B, L) and a boolean mask (B, 1, L, L)."""
        import torch

        packed = [self._sequence(turns) for turns in items]
        length = max(len(ids) for ids, *_ in packed)
        pad = self.tokenizer.pad_token_id
        ids = np.full((len(packed), length), pad)
        labels = np.full((len(packed), length), IGNORE)
        positions = np.zeros((3, len(packed), length), int)
        segments = np.full((len(packed), length), -1)
        for i, (row, target, place, segment) in enumerate(packed):
            n = len(row)
            ids[i, :n], labels[i, :n], segments[i, :n] = row, target, segment
            positions[:, i, :n] = place
        same = (segments[:, :, None] == segments[:, None, :]) | (segments[:, None, :] == 0)
        mask = same & np.tri(length, dtype=bool)
        return {
            "input_ids": torch.from_numpy(ids),
            "labels": torch.from_numpy(labels),
            "position_ids": torch.from_numpy(positions),
            "attention_mask": torch.from_numpy(mask[:, None]),
        }

    def _sequence(self, turns: list[Turn]) -> tuple[list[int], list[int], np.ndarray, list[int]]:
        ids = list(self.prefix)
        labels = [IGNORE] * len(ids)
        places, segments = [self.positions()], [0] * len(ids)
        start = int(places[0].max()) + 1
        for number, (user, assistant) in enumerate(turns, 1):
            prompt = self.tokenizer(f"{user}<|im_end|>\n<|im_start|>assistant\n")["input_ids"]
            reply = self.tokenizer(f"{assistant}<|im_end|>")["input_ids"]
            n = len(prompt) + len(reply)
            ids += prompt + reply
            labels += [IGNORE] * len(prompt) + reply
            segments += [number] * n
            places.append(np.tile(np.arange(n) + start, (3, 1)))
        return ids, labels, np.concatenate(places, axis=1), segments


def patchify(pixels: np.ndarray) -> Any:
    """(N, 64, 64) uint8 to Qwen2VLImageProcessor's (N * 64, 384) patches, normalised to [-1, 1].

    Patches come in merge order (2 x 2 blocks); each holds channel, time, row, column.
    """
    import torch

    n, side = len(pixels), tiny.IMAGE_SIZE // 16
    x = torch.from_numpy(pixels.astype(np.float32)) / 127.5 - 1
    x = x.view(n, side, 2, 8, side, 2, 8).permute(0, 1, 4, 2, 5, 3, 6)
    x = x.reshape(n * side * side * 4, 1, 1, 64)
    return x.expand(-1, 3, 2, 64).reshape(-1, 384).contiguous()


def augment(seen: Seen, rng: np.random.Generator) -> Seen:
    """Shift by up to two pixels and jitter brightness and contrast; sides and sizes stay true."""
    dy, dx = rng.integers(-2, 3, size=2)
    side = tiny.IMAGE_SIZE
    padded = np.pad(seen.pixels, 2, mode="edge")[2 + dy :, 2 + dx :][:side, :side]
    gain, offset = rng.uniform(0.9, 1.1), rng.uniform(-10, 10)
    pixels = np.clip(padded * gain + offset, 0, 255).astype(np.uint8)
    return replace(seen, pixels=pixels, centres=seen.centres - (dy, dx))


def optimizers(model: Any, steps: int) -> list[tuple[Any, Any]]:
    """(optimizer, schedule): Muon for matrices inside, AdamW for the rest; warm-up, linear decay.

    The model has no positions but rotary ones, and Muon finds where things are in fewer steps.
    """
    import torch

    from pipelines.tiny.muon import Muon

    weights = dict(model.named_parameters())
    inside = {n: w for n, w in weights.items() if w.ndim == 2 and "embed_tokens" not in n}
    rest = [w for n, w in weights.items() if n not in inside]
    found = [
        Muon(inside.values(), lr=MATRICES_LR),
        torch.optim.AdamW(rest, lr=LR, betas=(0.9, 0.98), weight_decay=0.02),
    ]

    def factor(step: int) -> float:
        return min((step + 1) / (0.05 * steps), (steps - step) / (0.95 * steps))

    return [(o, torch.optim.lr_scheduler.LambdaLR(o, factor)) for o in found]


def train(model: Any, packer: Packer, pool: list[Seen], steps: int, batch: int, seed: int) -> None:
    """Train for `steps` of `batch` images. Every draw comes from `seed`."""
    import torch

    rng = np.random.default_rng(seed)
    both = optimizers(model, steps)
    side = tiny.IMAGE_SIZE // 8
    grid = torch.tensor([[1, side, side]] * batch)
    started = time.time()
    model.train()
    for step in range(steps):
        seen = [augment(pool[i], rng) for i in rng.choice(len(pool), size=batch)]
        inputs = packer.batch([curriculum(s, rng) for s in seen])
        images = patchify(np.stack([s.pixels for s in seen]))
        labels = inputs.pop("labels")
        hidden = model.model(pixel_values=images, image_grid_thw=grid, **inputs)[0]
        wanted = labels[:, 1:] != IGNORE
        logits = model.lm_head(hidden[:, :-1][wanted])
        loss = torch.nn.functional.cross_entropy(logits, labels[:, 1:][wanted])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in both:
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        if step % 25 == 0 or step == steps - 1:
            rate = (time.time() - started) / (step + 1)
            left = (steps - step - 1) * rate / 60
            print(
                f"step {step:5d}/{steps}  loss {loss.item():.4f}  {rate:.2f} s/step  "
                f"{left:.0f} min left",
                flush=True,
            )
    model.eval()


def accuracy(model: Any, packer: Packer, seeds: range, modality: str) -> dict[str, float]:
    """Held-out share of answers whose every token is the greedy one, by question kind.

    For a direct answer this equals greedy decoding's exact match. `verify` is balanced accuracy;
    `point` counts where every lesion's cell is right.
    """
    import torch

    pool = draw_pool(seeds, {modality: 1.0})
    rng = np.random.default_rng(seeds.start)
    side = tiny.IMAGE_SIZE // 8
    hits: dict[str, list[bool]] = {}
    for low in range(0, len(pool), 50):
        part = pool[low : low + 50]
        turns, kinds = [], []
        for seen in part:
            pairs = [composer.compose_any(seen.truth, rng)[1] for _ in range(3)]
            kinds.append([p.kind for p in pairs] + ["verify", "point"])
            asked = [
                (
                    answer_prompt("compact", p.question, p.options, "direct"),
                    render_completion("", p.answer),
                )
                for p in pairs
            ]
            point = (POINT, _cells(seen.centres))
            turns.append([*asked, _verifying(seen.truth, rng), point])
        inputs = packer.batch(turns)
        labels = inputs.pop("labels")
        with torch.no_grad():
            hidden = model.model(
                pixel_values=patchify(np.stack([s.pixels for s in part])),
                image_grid_thw=torch.tensor([[1, side, side]] * len(turns)),
                **inputs,
            )[0]
            guess = model.lm_head(hidden[:, :-1]).argmax(-1)
        for row, (target, got) in enumerate(zip(labels[:, 1:], guess)):
            right = (target == got).tolist()
            starts = [
                i
                for i in range(len(target))
                if target[i] != IGNORE and (i == 0 or target[i - 1] == IGNORE)
            ]
            for kind, i in zip(kinds[row], starts):
                ok = True
                while i < len(target) and target[i] != IGNORE:
                    ok &= right[i]
                    i += 1
                hits.setdefault(kind, []).append(ok)
    figures = {kind: float(np.mean(ok)) for kind, ok in sorted(hits.items())}
    answered = [ok for kind, oks in hits.items() if kind not in OTHER for ok in oks]
    return figures | {"all": float(np.mean(answered)), "n": float(len(answered))}


def corpus(pool: list[Seen], seed: int = 0) -> list[str]:
    """The text that the tokenizer is trained on: curriculum turns."""
    rng = np.random.default_rng(seed)
    return [part for seen in pool for turn in curriculum(seen, rng) for part in turn]


def main(
    out: Annotated[Path, typer.Option(help="Where the model is written.")] = tiny.FOLDER,
    batch: Annotated[int, typer.Option(help="Images a step.")] = 32,
    seed: Annotated[int, typer.Option(help="Seed of everything.")] = 0,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = STEPS,
) -> None:
    """Train, save in half precision, and print held-out figures as JSON."""
    import torch

    from engine.vlm.attention import batch_vision_attention

    print(f"drawing {POOL:,} phantoms", flush=True)
    pool = draw_pool(range(POOL_SEED, POOL_SEED + POOL), SHARES)
    tokenizer = tiny.build_tokenizer(corpus(pool[:4000], seed))
    model = batch_vision_attention(tiny.build_model(tokenizer, seed))
    print(f"{sum(p.numel() for p in model.parameters()):,} weights, {len(tokenizer)} tokens")
    train(model, Packer(tokenizer), pool, steps, batch, seed)
    model.to(torch.float16).save_pretrained(out)
    tiny.build_processor(tokenizer).save_pretrained(out)
    print(json.dumps(held_out_figures(out)), flush=True)


def load_trained(folder: Path) -> tuple[Any, Packer]:
    """The model and its packer from a folder."""
    from engine.vlm.transformers import load_model, load_processor

    return load_model(str(folder)), Packer(load_processor(str(folder)).tokenizer)


def held_out_figures(folder: Path, number: int = 400) -> dict[str, dict[str, float]]:
    """`accuracy` by modality, of a model in a folder on phantoms that it was not trained on."""
    model, packer = load_trained(folder)
    seeds = range(HELD_OUT_SEED, HELD_OUT_SEED + number)
    return {modality: accuracy(model, packer, seeds, modality) for modality in SHARES}


if __name__ == "__main__":
    typer.run(main)
