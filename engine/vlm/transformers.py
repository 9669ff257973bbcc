"""The protocol on transformers' own `generate`: the embedded default."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.config import MAX_PIXELS
from engine.errors import TriptychError
from engine.vlm.attention import batch_vision_attention, steady_kernels
from engine.vlm.inputs import check_room, sift
from engine.vlm.journal import Journaled
from engine.vlm.memory import Parts
from engine.vlm.protocol import Request, Sample, Sampling
from engine.vlm.streams import inverse_transform, uniforms
from engine.vlm.weights import located

# Names of modules that stay as stored beside weights of 4 bits, as transformers matches them.
NOT_IN_FOUR_BITS = [r".*\b(visual|vision_\w+|image_tower|multi_modal_projector)\b", "lm_head"]


def load_processor(model: str) -> Any:
    """The processor, padding on the left as batched generation needs."""
    from transformers import AutoProcessor

    name, revision = located(model)
    processor = AutoProcessor.from_pretrained(name, revision=revision)
    processor.tokenizer.padding_side = "left"
    return processor


def load_model(model: str, dtype: str = "auto", bits: int | None = None) -> Any:
    """The model for training or generation; half-precision weights become float32 on a CPU.

    With 4 `bits` the language model's weights are NF4 (QLoRA, arXiv 2305.14314). Raises
    TriptychError where the model cannot be found, or where 4 bits cannot be computed with.
    """
    import torch
    from transformers import AutoModelForImageTextToText
    from transformers.utils import logging

    logging.disable_progress_bar()
    on_gpu = torch.cuda.is_available()
    kind = dtype if on_gpu else "float32"
    steady_kernels()
    name, revision = located(model)
    more = _in_four_bits() if bits else {}
    try:
        loaded = AutoModelForImageTextToText.from_pretrained(
            name, revision=revision, dtype=kind, **more
        )
    except (OSError, ValueError) as error:
        line = str(error).strip().splitlines()[0]
        raise TriptychError(f"cannot load model {model}: {line}") from None
    return batch_vision_attention(loaded)


def _in_four_bits() -> dict[str, Any]:
    """What a loader is given for weights in NF4; the vision tower and the output matrix are not.

    Raises TriptychError without CUDA or bitsandbytes.
    """
    import torch
    from transformers.utils import is_bitsandbytes_available

    if not torch.cuda.is_available():
        raise TriptychError("lora_bits 4 needs a CUDA GPU: set lora_bits to null")
    if not is_bitsandbytes_available():
        raise TriptychError(
            "lora_bits 4 needs bitsandbytes 0.46.1 or newer: pip install 'triptych[qlora]', or set "
            "lora_bits to null"
        )
    from transformers import BitsAndBytesConfig

    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
            llm_int8_skip_modules=NOT_IN_FOUR_BITS,
        ),
        "device_map": {"": torch.cuda.current_device()},
    }


def vision_token_ids(config: Any) -> list[int]:
    """Tokens a model must never write: an image pad in a completion breaks M-RoPE's indexing."""
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    return [i for name in names if (i := getattr(config, name, None)) is not None]


class TransformersVLM(Journaled):
    """A model in this process."""

    def __init__(
        self,
        model: str,
        threads: int | None = None,
        max_model_len: int = 512,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        import torch

        if threads:
            torch.set_num_threads(threads)
        self.model = load_model(model).eval()
        self.model.to("cuda" if torch.cuda.is_available() else "cpu")
        self.processor = load_processor(model)
        self.max_model_len, self.max_pixels = max_model_len, max_pixels
        check_room(self.processor, max_pixels, max_model_len)
        self.banned = vision_token_ids(self.model.config)
        self.parts = Parts("generator")

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Sample]]:
        """In as large parts as memory holds: what is sampled does not depend on the part."""
        streams = zip(requests, uniforms(requests, sampling))
        return self.parts.map(lambda part: self._replies(part, sampling), list(streams))

    def _replies(self, part: Sequence[Any], sampling: Sampling) -> list[list[Sample]]:
        requests = [request for request, _ in part]
        inputs, problems = sift(self.processor, requests, self.max_pixels, self.max_model_len)
        numbers = [stream for (_, stream), problem in zip(part, problems) if problem is None]
        answered = iter(self._answer(inputs, numbers, sampling) if inputs is not None else [])
        return [[Sample("", None, 0, p)] if p else next(answered) for p in problems]

    def _answer(
        self, inputs: Any, numbers: list[np.ndarray], sampling: Sampling
    ) -> list[list[Sample]]:
        """`sampling.n` samples for each row of encoded inputs; `numbers` are their streams."""
        import torch

        inputs = inputs.to(self.model.device)
        drawn = torch.from_numpy(np.concatenate(numbers)).to(self.model.device)
        length = inputs["input_ids"].shape[1]
        greedy = sampling.temperature == 0
        pick = [] if greedy else [inverse_transform(drawn, sampling.temperature, length)]
        with torch.no_grad():
            out = self.model.generate(
                **inputs,
                logits_processor=pick,
                do_sample=not greedy,
                temperature=None if greedy else 1.0,
                top_p=None if greedy else 1.0,
                top_k=None if greedy else 0,
                num_return_sequences=sampling.n,
                max_new_tokens=sampling.max_tokens,
                suppress_tokens=self.banned,
                output_logits=True,
                return_dict_in_generate=True,
                pad_token_id=self.processor.tokenizer.pad_token_id,
            )
        samples = self._samples(out, length)
        read = int(inputs["attention_mask"].sum())
        self.spent(read, sum(sample.tokens for sample in samples))
        return [samples[i : i + sampling.n] for i in range(0, len(samples), sampling.n)]

    def _samples(self, out: Any, prompt_length: int) -> list[Sample]:
        import torch

        tokenizer = self.processor.tokenizer
        written = out.sequences[:, prompt_length:]
        picked = [
            logits.float().log_softmax(-1).gather(1, written[:, i : i + 1])
            for i, logits in enumerate(out.logits)
        ]
        logprobs = torch.cat(picked, dim=1)
        # A row ends with its first end token; what generate padded after it does not count.
        ended = (written == tokenizer.eos_token_id).cumsum(1)
        mask = (ended - (written == tokenizer.eos_token_id).int()) == 0
        counts = mask.sum(1)
        means = (logprobs * mask).sum(1) / counts
        texts = tokenizer.batch_decode(written, skip_special_tokens=True)
        return [
            Sample(text.strip(), float(mean), int(count))
            for text, mean, count in zip(texts, means, counts)
        ]
