"""Models that look at an image and write text, behind one protocol."""

from engine.vlm.protocol import VLM, Request, Sample, Sampling

__all__ = ["VLM", "Request", "Sample", "Sampling"]
