"""The embedded VLM and the protocol: one meaning on every backend."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.answers.parsing import parse_completion, parse_question
from engine.config.backend import Transformers
from engine.errors import TriptychError
from engine.imaging.ingest import to_png
from engine.prompts import answer_prompt, ask_prompt, judge_prompt
from engine.vlm import tiny
from engine.vlm.attention import NAME
from engine.vlm.backends import open_vlm
from engine.vlm.inputs import encode
from engine.vlm.journal import Spent, journaled, spent_in
from engine.vlm.protocol import Request, Sampling
from engine.vlm.transformers import TransformersVLM
from generators import phantoms
from pipelines.tiny.muon import Muon, orthogonalise
from pipelines.tiny.pretrain import IGNORE, Packer, Seen, _cells, _draw, augment, patchify
from reward_model.model import load_reward_model

pytestmark = pytest.mark.loop

MODEL = str(tiny.FOLDER)
TURNS = [
    (answer_prompt("compact", "Is there a cyst?", ("yes", "no"), "direct"), "<answer>no</answer>"),
    ("Describe the image.", "CT head: none."),
]


@pytest.fixture(scope="module")
def vlm() -> TransformersVLM:
    return TransformersVLM(MODEL, threads=2)


def png(seed: int, modality: str = "CT") -> bytes:
    return to_png(phantoms.to_display(phantoms.draw(modality, seed, 128)))


def requests(number: int = 4) -> list[Request]:
    return [Request(png(seed), TURNS[0][0]) for seed in range(number)]


def test_the_repository_holds_a_qwen2_5_vl_of_two_million_weights(vlm: TransformersVLM) -> None:
    assert vlm.model.config.model_type == "qwen2_5_vl"
    assert 1.5e6 < sum(p.numel() for p in vlm.model.parameters()) < 2.5e6
    assert sum(f.stat().st_size for f in tiny.FOLDER.glob("*.safetensors")) <= 8 * 2**20


def test_it_answers_and_asks_in_the_parsable_form(vlm: TransformersVLM) -> None:
    answers = vlm.generate(requests(), Sampling(1, 0.0, 20))
    assert all(parse_completion(a[0].text).problem is None for a in answers)
    fields = {"modality": "CT", "question_type": "disease", "difficulty": "hard"}
    ask = ask_prompt("compact", fields | {"answer_format": "choice"})
    asked = vlm.generate([Request(png(s), ask) for s in range(4)], Sampling(1, 0.0, 48))
    assert all(parse_question(a[0].text).problem is None for a in asked)


def test_the_same_seed_gives_the_same_samples(vlm: TransformersVLM) -> None:
    sampling = Sampling(3, 1.0, 12, seed=5)
    assert vlm.generate(requests(), sampling) == vlm.generate(requests(), sampling)


def test_a_batch_answers_as_its_rows_do_alone(vlm: TransformersVLM) -> None:
    batch = [*requests(3), Request(png(9), "Describe the image.")]
    together = vlm.generate(batch, Sampling(1, 0.0, 24))
    alone = [vlm.generate([r], Sampling(1, 0.0, 24))[0] for r in batch]
    for one, other in zip(together, alone):
        assert one[0].text == other[0].text
        assert one[0].logprob == pytest.approx(other[0].logprob, abs=1e-4)


def test_log_probabilities_are_those_of_a_forward_pass(vlm: TransformersVLM) -> None:
    request = requests(1)[0]
    sample = vlm.generate([request], Sampling(1, 0.0, 12))[0][0]
    inputs = encode(vlm.processor, [request])
    prompt = inputs["input_ids"].shape[1]
    reply = vlm.processor.tokenizer(sample.text + "<|im_end|>", return_tensors="pt")["input_ids"]
    inputs["input_ids"] = torch.cat([inputs["input_ids"], reply], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    inputs["mm_token_type_ids"] = torch.cat(
        [inputs["mm_token_type_ids"], torch.zeros_like(reply)], 1
    )
    with torch.no_grad():
        logits = vlm.model(**inputs).logits[0, prompt - 1 : -1].log_softmax(-1)
    expected = logits.gather(1, reply[0][:, None]).mean()
    assert sample.tokens == reply.shape[1]
    assert sample.logprob == pytest.approx(float(expected), abs=1e-4)


def test_tokens_of_prompts_and_replies_are_counted_without_padding(
    vlm: TransformersVLM, tmp_path: Path
) -> None:
    asked = [*requests(2), Request(png(9), "Describe the image.")]
    found = journaled(vlm, tmp_path / "a.jsonl").generate(asked, Sampling(2, 1.0, 12))
    prompts = [encode(vlm.processor, [request])["input_ids"].shape[1] for request in asked]
    assert len(set(prompts)) > 1
    written = sum(sample.tokens for samples in found for sample in samples)
    assert spent_in(tmp_path) == Spent(sum(prompts), written)


def test_vision_tokens_are_never_written(vlm: TransformersVLM) -> None:
    with torch.no_grad():
        before = vlm.model.lm_head.weight[vlm.banned[0]].clone()
        vlm.model.lm_head.weight[vlm.banned[0]] *= 50  # it would win everywhere
    try:
        inputs = encode(vlm.processor, requests(2))
        out = vlm.model.generate(**inputs, max_new_tokens=8, suppress_tokens=vlm.banned)
        assert not np.isin(out[:, inputs["input_ids"].shape[1] :].numpy(), vlm.banned).any()
    finally:
        with torch.no_grad():
            vlm.model.lm_head.weight[vlm.banned[0]] = before


def test_batched_vision_attention_equals_the_loop(vlm: TransformersVLM) -> None:
    inputs = encode(vlm.processor, requests(5))
    visual = vlm.model.model.visual
    grid = inputs["image_grid_thw"]

    def features(implementation: str) -> torch.Tensor:
        visual.config._attn_implementation = implementation
        with torch.no_grad():
            return torch.cat(list(visual(inputs["pixel_values"], grid_thw=grid).pooler_output))

    try:
        assert torch.allclose(features(NAME), features("sdpa"), atol=1e-5)
    finally:
        visual.config._attn_implementation = NAME


def test_packed_turns_train_as_they_would_apart(vlm: TransformersVLM) -> None:
    """The block mask and shared prefix give the logits of ordinary single-turn chats."""
    packer = Packer(vlm.processor.tokenizer)
    request = Request(png(3), TURNS[0][0])
    pixels = encode(vlm.processor, [request])
    batch = packer.batch([TURNS])
    labels = batch.pop("labels")[0]
    with torch.no_grad():
        packed = vlm.model.model(
            pixel_values=pixels["pixel_values"], image_grid_thw=pixels["image_grid_thw"], **batch
        )[0]
    end = 0
    for user, assistant in TURNS:
        inputs = encode(vlm.processor, [Request(request.png, user)])
        reply = vlm.processor.tokenizer(assistant + "<|im_end|>", return_tensors="pt")["input_ids"]
        whole = torch.cat([inputs["input_ids"], reply], 1)
        kinds = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(reply)], 1)
        with torch.no_grad():
            alone = vlm.model.model(
                input_ids=whole,
                attention_mask=torch.ones_like(whole),
                mm_token_type_ids=kinds,
                pixel_values=inputs["pixel_values"],
                image_grid_thw=inputs["image_grid_thw"],
            )[0]
        start = end + int((labels[end:] != IGNORE).nonzero()[0])
        end = start + reply.shape[1]
        assert torch.allclose(packed[0, start:end], alone[0, -reply.shape[1] :], atol=1e-3)


def test_pretraining_patches_equal_the_processors(vlm: TransformersVLM) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64), dtype=np.uint8)
    inputs = encode(vlm.processor, [Request(to_png(p), "x") for p in pixels])
    assert torch.allclose(patchify(pixels), inputs["pixel_values"], atol=1e-5)


def test_pointing_follows_the_lesion_when_the_image_is_shifted() -> None:
    seen = next(s for s in (_draw(("CT", seed, 0.0)) for seed in range(20)) if len(s.centres) == 1)
    (row, column), marked = seen.centres[0].astype(int), np.zeros((64, 64), np.uint8)
    marked[row, column] = 255
    for seed in range(20):
        shifted = augment(Seen(marked, seen.centres, seen.truth), np.random.default_rng(seed))
        brightest = np.unravel_index(shifted.pixels.argmax(), (64, 64))
        assert brightest == tuple(shifted.centres[0].astype(int))
    assert _cells(np.array([[0.0, 63.9], [31.9, 32.0]])) == "0 7, 3 4"
    assert _cells(np.empty((0, 2))) == "none"


@pytest.mark.parametrize("shape", [(40, 40), (20, 60), (60, 20)])
def test_orthogonalised_matrices_keep_their_directions_at_one_length(
    shape: tuple[int, int],
) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    turned = u.T @ orthogonalise(matrix) @ vt.T
    assert torch.allclose(turned, torch.diag(turned.diag()), atol=1e-4)
    assert turned.diag().min() > 0.4
    assert turned.diag().max() < 1.3


def test_muon_finds_the_least_squares_solution() -> None:
    torch.manual_seed(0)
    x, wanted = torch.randn(200, 8), torch.randn(8, 6)
    weight = torch.nn.Parameter(torch.zeros(8, 6))
    optimizer = Muon([weight], lr=0.3, weight_decay=0.0)
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 0.3 * (1 - step / 200)
        optimizer.zero_grad()
        ((x @ weight - x @ wanted) ** 2).mean().backward()
        optimizer.step()
    assert torch.allclose(weight, wanted, atol=0.02)


def test_an_untrained_judge_is_the_yes_no_verifier(vlm: TransformersVLM) -> None:
    """With readout `token` every criterion starts as the log-odds of yes (arXiv 2408.15240)."""
    text = judge_prompt("compact", "Is there a cyst?", ("yes", "no"), "", "no")
    judge, processor = load_reward_model(MODEL, "token")
    inputs = encode(processor, [Request(png(1), text)])
    tokenizer = processor.tokenizer
    yes, no = (tokenizer(word)["input_ids"][0] for word in ("yes", "no"))
    with torch.no_grad():
        scores = judge.eval()(**inputs)[0]
        logits = vlm.model(**inputs).logits[0, -1]
    assert scores.tolist() == pytest.approx([float(logits[yes] - logits[no])] * 3, abs=1e-3)


def test_a_missing_model_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(TriptychError, match="cannot load model") as refused:
        open_vlm(Transformers(), str(tmp_path / "no-such-folder"))
    assert "\n" not in str(refused.value)


LONG_BATCH = """
import math
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from engine.answers.forms import of_answer, of_question
from engine.imaging.ingest import to_png
from engine.config.backend import Vllm
from engine.vlm.backends import open_vlm
from engine.vlm.protocol import Request, Sampling
vlm = open_vlm(Vllm(max_model_len=512), sys.argv[1], 2)
png = to_png(np.full((128, 128), 90, np.uint8))
batch = [Request(png, f"Describe the image. {'Look closely. ' * (n % 40)}") for n in range(150)]
drawn = [vlm.generate(batch, Sampling(2, 0.8, 4, seed=3)) for _ in range(2)]
once, again = ([sample.text for samples in rows for sample in samples] for rows in drawn)
assert once == again, "the same seed and batch, other texts"
assert len(set(once)) > 5
print("drawn alike")
odd = Request(png, "Look closely. " * 400), Request(png, "What does <|image_pad|> show?")
samples = vlm.generate([batch[0], odd[0], odd[1], batch[1]], Sampling(2, 0.8, 4, seed=3))
assert [len(s) for s in samples] == [2, 1, 2, 2], samples
assert "maximum" in samples[1][0].problem or "longer" in samples[1][0].problem, samples[1]
assert not any(s.problem for k in (0, 2, 3) for s in samples[k])
print("one row ends no batch")
form, ask = of_answer(("left", "right"), False), "Describe the image."
held = [Request(png, ask, n, form) for n in range(48)]
held.append(Request(png, ask, 48, of_question("closed")))
samples = vlm.generate([*held, batch[0]], Sampling(2, 2.0, 40, seed=5))
said = {(s.text, round(s.logprob * s.tokens, 4)) for some in samples[:48] for s in some}
assert {text for text, _ in said} <= {"<answer>left</answer>", "<answer>right</answer>"}, said
assert all(s.text.startswith("<question>") for s in samples[48]), samples[48]
assert not any(s.text.startswith("<") for s in samples[49]), samples[49]
print("held to their form", said, samples[48:])
# Of what the form leaves: the two texts, each cut into tokens so or so, share the probability.
total = sum(math.exp(logprob) for _, logprob in said)
assert 0.5 < total < 1.001, said
print("of the constrained distribution")
(blind,), (seeing,) = vlm.generate([Request(None, batch[0].text), batch[0]], Sampling(1, 0.0, 4))
assert not (blind.problem or seeing.problem) and blind.logprob != seeing.logprob
print("one may be without an image")
some, others = batch[:20], batch[100:140]
ask = lambda part: vlm.generate(part, Sampling(2, 0.8, 8, seed=4))
apart = [ask(part) for part in (some, others)]
with ThreadPoolExecutor(2) as pool:
    beside = list(pool.map(ask, (some, others)))
pairs = [(a, b) for x, y in zip(apart, beside) for m, n in zip(x, y) for a, b in zip(m, n)]
assert len(pairs) == 120 and sum(a.text == b.text for a, b in pairs) >= 114, pairs
print("threads beside one another")
"""


def test_vllm_draws_alike_and_refuses_single_rows() -> None:
    """A batch that does not fit one step is read in parts, at which CPU generators break off."""
    pytest.importorskip("vllm", reason="vLLM is not installed: pip install -e '.[cpu]'")
    done = subprocess.run(
        [sys.executable, "-c", LONG_BATCH, MODEL], capture_output=True, text=True, timeout=600
    )
    assert "drawn alike" in done.stdout, done.stderr[-2000:]
    assert "one row ends no batch" in done.stdout, done.stderr[-2000:]
    assert "held to their form" in done.stdout, done.stderr[-2000:]
    assert "of the constrained distribution" in done.stdout, done.stdout + done.stderr[-2000:]
    assert "one may be without an image" in done.stdout, done.stderr[-2000:]
    assert "threads beside one another" in done.stdout, done.stderr[-2000:]
