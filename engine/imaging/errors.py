"""Why an image was refused. Reasons are a closed list: no text of a file ever gets into one."""

from enum import StrEnum

from engine.errors import TriptychError


class Reason(StrEnum):
    """Every way in which a file can fail to become a safe image."""

    NOT_AN_IMAGE = "not an image"
    UNREADABLE = "unreadable file"
    NO_SUCH_FRAME = "no such frame"
    TOO_LARGE = "too large"
    UNSUPPORTED = "unsupported encoding"
    DECODING_FAILED = "decoding failed"
    CONTRADICTION = "contradictory header"
    NOT_FINITE = "values that are not finite"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out of memory"
    CRASHED = "decoder crashed"
    QUARANTINED = "quarantined"
    NOT_ALIKE = "a cleaned copy would look different"
    DEGENERATE = "degenerate"
    DUPLICATE = "duplicate"


class ImagingError(TriptychError):
    """A file or frame that cannot be used. `detail` is our own wording, never the file's."""

    def __init__(self, reason: Reason | str, detail: str = "") -> None:
        self.reason = Reason(reason)
        self.detail = detail
        super().__init__(f"{self.reason}: {detail}" if detail else str(self.reason))
