"""Who judges, and how much is asked of them: each kind of expert with its own fields."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from engine.config.section import Section, named
from engine.config.templates import NamedTemplates


class Verdicts(Section):
    """How many questions experts answer, by why they are asked."""

    first: int = Field(200, ge=0, description="from which the first judge learns")
    informative: int = Field(60, ge=0, description="a round, where the judge is unsure")
    random: int = Field(
        150, ge=0, description="a round, drawn from chosen rows: for certificate and figures"
    )
    test: int = Field(100, ge=0, description="once, on validation and test images")
    readers: int = Field(1, ge=1, description="who answer each question")
    test_readers: int = Field(2, ge=1, description="who have to agree on a test question")
    preferences: float = Field(
        0.2, ge=0, le=1, description="share of what teaches that is asked as which of two is better"
    )
    repeats: float = Field(
        0.05, ge=0, lt=1, description="share that a reader is shown again, for self-agreement"
    )


NOT_ASKED = Verdicts(first=0, informative=0, random=0, test=0)


class Kind(Section):
    """What every kind of expert says of itself."""

    finds_by_name: ClassVar[bool] = False  # images by their file names
    reads_labels: ClassVar[bool] = False  # of the table beside the images

    @property
    def columns(self) -> frozenset[str]:
        """Columns of labels that it asks about by name."""
        return frozenset()

    def names(self, column: str, cell: str) -> bool:
        """Whether all that a cell says is named here, and so known to be harmless."""
        return False


class Writing(Kind):
    """An expert who has rows to imitate, and makes pairs to learn a taste from."""

    images: int = Field(60, ge=1, description="training images with expert rows")
    rows_per_image: int = Field(4, ge=1)
    preference_images: int = Field(100, ge=1, description="further training images for pairs")
    pairs: int = Field(600, ge=1)


class Simulated(Writing):
    """An expert simulated from the truth of phantoms."""

    kind: Literal["simulated"] = "simulated"
    verdicts: Verdicts = NOT_ASKED
    error_rate: float = Field(0.05, ge=0, lt=0.5, description="of opinions that are wrong")
    twins: int = Field(
        0,
        ge=0,
        description="questions to an image and to its twin (source.twins) that answer differently, "
        "each two rows to imitate",
    )


class FromBenchmark(Writing):
    """A benchmark's questions and gold answers."""

    finds_by_name: ClassVar[bool] = True
    verdicts: ClassVar[Verdicts] = NOT_ASKED  # it has gold answers and no opinion of others
    kind: Literal["benchmark"] = "benchmark"
    name: Literal["vqa-rad"] = Field("vqa-rad", description="in whose form the questions are")


class FromTable(Writing):
    """Labels from the table beside the images, put into questions by templates.

    Readers answer what is asked beyond them, where `verdicts` asks for any.
    """

    reads_labels: ClassVar[bool] = True
    kind: Literal["table"] = "table"
    verdicts: Verdicts = NOT_ASKED
    templates: NamedTemplates = Field(
        None,
        description="questions by column, or the YAML file that has them; null: one a column",
    )

    @property
    def columns(self) -> frozenset[str]:
        asked = self.templates or {}
        others = (t.columns for questions in asked.values() for t in questions)
        return frozenset(asked).union(*others)

    def names(self, column: str, cell: str) -> bool:
        return any(t.knows(cell) for t in (self.templates or {}).get(column, ()))


class People(Kind):
    """Readers who answer in the reading room."""

    kind: Literal["people"] = "people"
    verdicts: Verdicts = Verdicts()
    images: ClassVar[int] = 0  # they write no rows before they are asked
    rows_per_image: ClassVar[int] = 0
    pairs: ClassVar[int] = 0

    @property
    def preference_images(self) -> int:
        """Training images on which the first questions are proposed."""
        return self.verdicts.first


class Nobody(Kind):
    """No expert: images can be read and cleaned, the loop cannot run."""

    verdicts: ClassVar[Verdicts] = NOT_ASKED
    kind: Literal["none"] = "none"


Asked = Simulated | FromBenchmark | FromTable | People
Expert = Annotated[
    Simulated | FromBenchmark | FromTable | People | Nobody,
    Field(discriminator="kind"),
    named("simulated"),
]
