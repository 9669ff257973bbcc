"""What a model is shown: a picture within the pixel budget, and words without a model's own marks.

The one place for all backends, all trainings and the judge, so that they see the same. A vision
transformer's tokens grow with the pixels: Qwen2.5-VL takes one for 28 x 28, a radiograph of
3000 x 2500 is 9,523 of them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from engine.config import MAX_PIXELS
from engine.errors import TriptychError
from engine.vlm.protocol import Request

MAX_ASPECT = 100  # Qwen2-VL's processor refuses 200 and more
REFUSALS = (ValueError, IndexError, KeyError, StopIteration, OSError)  # of what is shown
# Where no tokenizer tells its marks: special tokens of chats, and what stands for media.
CHAT_MARK = re.compile(r"<(?=\|[^|<>\s]{1,40}\|>|(?:image|video|audio)>)")


def picture(png: bytes, max_pixels: int = MAX_PIXELS) -> Any:
    """PNG bytes as an RGB PIL image of at most `max_pixels` pixels, its proportions kept.

    A strip of more than 100 to 1 stands on a black ground of that proportion.
    """
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGB")
    own, whole = _fitted(image.size, max_pixels)
    if image.size != own:
        image = image.resize(own, Image.Resampling.BICUBIC)
    if own == whole:
        return image
    black = Image.new("RGB", whole)
    black.paste(image, ((black.width - image.width) // 2, (black.height - image.height) // 2))
    return black


def shown_size(size: tuple[int, int], max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(width, height) in pixels of what `picture` makes of a picture of a size."""
    return _fitted(size, max_pixels)[1]


def _fitted(size: tuple[int, int], max_pixels: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(size of a picture, size of the ground that it stands on), as they are shown."""
    least = -(-max(size) // MAX_ASPECT)  # of the shorter side
    ground = (max(size[0], least), max(size[1], least))
    scale = min((max_pixels / (ground[0] * ground[1])) ** 0.5, 1.0)

    def scaled(width: int, height: int) -> tuple[int, int]:
        return max(int(width * scale), 1), max(int(height * scale), 1)

    return scaled(*size), scaled(*ground)


def within_budget(png: bytes, max_pixels: int = MAX_PIXELS) -> bytes:
    """The PNG as it is where it fits `picture`'s limits, else that picture as a PNG."""
    from PIL import Image

    shown = picture(png, max_pixels)
    if shown.size == Image.open(io.BytesIO(png)).size:
        return png
    out = io.BytesIO()
    shown.save(out, "PNG")
    return out.getvalue()


def marks_as_words(text: str, tokenizer: Any = None) -> str:
    """Text in which a tokenizer's special tokens are ordinary words: `<|image_pad|>` is spaced.

    A question that quotes the image's placeholder would otherwise be read as a second image.
    Without a tokenizer, marks of the usual form are spaced.
    """
    if tokenizer is None:
        return CHAT_MARK.sub("< ", text)
    marks = {t.content for t in tokenizer.added_tokens_decoder.values() if t.special}
    marks |= set(tokenizer.all_special_tokens)
    if not any(mark in text for mark in marks):
        return text
    longest_first = sorted(marks, key=len, reverse=True)
    pattern = re.compile("|".join(re.escape(mark) for mark in longest_first))
    return pattern.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)


def chat_text(processor: Any, request: Request) -> str:
    """A request in the model's chat template, up to where its reply begins."""
    told = replace(request, text=marks_as_words(request.text, processor.tokenizer))
    return str(processor.apply_chat_template(told.messages(), add_generation_prompt=True))


def encode(processor: Any, requests: Sequence[Request], max_pixels: int = MAX_PIXELS) -> Any:
    """Padded model inputs of a batch of requests, ready for the model to reply.

    Raises one of `REFUSALS` where the processor refuses an input; `sift` finds which.
    """
    texts = [chat_text(processor, request) for request in requests]
    images = [picture(r.png, max_pixels) for r in requests if r.png is not None]
    return processor(text=texts, images=images or None, padding=True, return_tensors="pt")


def sift(
    processor: Any, requests: Sequence[Request], max_pixels: int, max_model_len: int | None = None
) -> tuple[Any, list[str | None]]:
    """(inputs of the requests that can be read, each request's problem or None).

    A request is a problem where the processor refuses it, or its tokens fill `max_model_len`.
    Inputs are None where none can be read.
    """
    inputs, problems = _encoded(processor, list(requests), max_pixels)
    if inputs is None or max_model_len is None:
        return inputs, problems
    good = [place for place, problem in enumerate(problems) if problem is None]
    lengths = inputs["attention_mask"].sum(1).tolist()
    long = {place: n for place, n in zip(good, lengths) if n >= max_model_len}
    if not long:
        return inputs, problems
    told = [
        f"a prompt of {long[place]} tokens, and max_model_len is {max_model_len}"
        if place in long
        else problem
        for place, problem in enumerate(problems)
    ]
    rest = [request for request, problem in zip(requests, told) if problem is None]
    return (encode(processor, rest, max_pixels) if rest else None), told


def _encoded(
    processor: Any, requests: list[Request], max_pixels: int
) -> tuple[Any, list[str | None]]:
    try:
        return encode(processor, requests, max_pixels), [None] * len(requests)
    except REFUSALS:
        problems = [_refusal(processor, request, max_pixels) for request in requests]
    rest = [request for request, problem in zip(requests, problems) if problem is None]
    return (encode(processor, rest, max_pixels) if rest else None), problems


def _refusal(processor: Any, request: Request, max_pixels: int) -> str | None:
    try:
        encode(processor, [request], max_pixels)
    except REFUSALS as error:
        return f"the model's processor refuses it: {one_line(error)}"
    return None


def one_line(error: BaseException) -> str:
    """The first line of an error, or its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def check_room(processor: Any, max_pixels: int, max_model_len: int) -> None:
    """Raise TriptychError where a picture of the whole budget leaves a prompt no room."""
    from PIL import Image

    side = int(max_pixels**0.5)
    out = io.BytesIO()
    Image.new("RGB", (side, side)).save(out, "PNG")
    tokens = encode(processor, [Request(out.getvalue(), "")], max_pixels)["input_ids"].shape[1]
    if tokens >= max_model_len:
        raise TriptychError(
            f"a picture of max_pixels {max_pixels:,} takes {tokens} tokens and max_model_len is "
            f"{max_model_len}: lower max_pixels, or raise max_model_len"
        )
