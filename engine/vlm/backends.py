"""A model opened on the backend that the configuration names."""

from __future__ import annotations

from engine.config import MAX_PIXELS
from engine.config.backend import Backend, Endpoint, Transformers, Vllm
from engine.vlm.protocol import VLM


def open_vlm(
    backend: Backend, model: str, threads: int | None = None, max_pixels: int = MAX_PIXELS
) -> VLM:
    """Load `model` (a folder, a Hub id, or a server's name for it) on a backend.

    transformers computes on `threads` CPU threads; vLLM spreads the model over the backend's GPUs.
    Raises TriptychError where the model cannot be found, the backend is not installed, or a picture
    of `max_pixels` does not fit the backend's `max_model_len` tokens.
    """
    match backend:
        case Endpoint():
            from engine.vlm.endpoint import EndpointVLM

            return EndpointVLM(model, backend, max_pixels)
        case Vllm():
            from engine.vlm.vllm import VllmVLM

            return VllmVLM(model, backend.max_model_len, backend.gpus, max_pixels)
        case Transformers():
            from engine.vlm.transformers import TransformersVLM

            return TransformersVLM(model, threads, backend.max_model_len, max_pixels)
