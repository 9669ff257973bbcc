"""A model opened on the backend that the configuration names."""

from __future__ import annotations

from engine.config import MAX_PIXELS
from engine.vlm.protocol import VLM


def open_vlm(
    model: str,
    backend: str = "transformers",
    url: str | None = None,
    max_model_len: int = 512,
    threads: int | None = None,
    gpus: float = 0,
    max_pixels: int = MAX_PIXELS,
) -> VLM:
    """Load `model` (a folder or Hub id) on a backend; vLLM spreads it over `gpus` GPUs.

    Raises TriptychError where the model cannot be found, the backend is not installed, or a
    picture of `max_pixels` does not fit `max_model_len` tokens.
    """
    if backend == "endpoint":
        from engine.vlm.endpoint import EndpointVLM

        return EndpointVLM(model, url, max_pixels)
    if backend == "vllm":
        from engine.vlm.vllm import VllmVLM

        return VllmVLM(model, max_model_len, gpus, max_pixels)
    from engine.vlm.transformers import TransformersVLM

    return TransformersVLM(model, threads, max_model_len, max_pixels)
