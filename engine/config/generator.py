"""What asks and answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from engine.config.backend import Backend, Inference, Transformers
from engine.config.filters import Filters
from engine.config.knowledge import check_told
from engine.config.quotas import Quotas
from engine.config.section import Section, Share, check_shares
from engine.prompts import has, prompt_set
from engine.prompts.files import name_of, words_from

Words = Annotated[str, BeforeValidator(words_from)]
Style = Literal["direct", "step", "meta", "debate"]


class Refine(Section):
    """By what a round's policy has to be no worse than the generator, to take its place."""

    tasks: int = Field(
        120,
        ge=1,
        description="asked of validation images, of both: so many answers each as `samples` says",
    )


class Generator(Inference):
    """What asks and answers."""

    backend: Backend = Transformers()
    model: str | None = Field(None, description="null: the base, tuned on the expert seed")
    refresh: bool = Field(True, description="the round's policy generates the next round")
    refine: Refine | None = Field(
        None,
        description="it does so only if precision and adherence of held-out rows do not fall; "
        "null: whatever it writes",
    )
    prompts: Words = Field(
        "compact", description="compact, full, or a YAML file; `triptych prompts FILE` makes one"
    )
    styles: dict[Style, Share] = Field(default={"direct": 0.34, "step": 0.33, "meta": 0.33})
    knowledge: list[str] = Field(
        default=[],
        description="what whoever writes rows is told of an image: report, labels, truth (of "
        "phantoms), names of DICOM attributes that are kept; it reaches no question or training",
    )
    tasks: int = Field(600, ge=1, description="questions asked a round")
    quotas: Quotas = Quotas()
    samples: int = Field(8, ge=1, description="answers sampled for each question")
    temperature: float = Field(1.0, gt=0, description="of answers")
    ask_temperature: float = Field(0.6, gt=0, description="of questions")
    max_tokens: int = Field(48, ge=4)
    retries: int | None = Field(
        None,
        ge=0,
        le=1,
        description="of an unreadable reply, told why; null: 1 where the prompts have words for it",
    )
    structured: bool = Field(
        False, description="replies are held to their form while they are written (vllm, endpoint)"
    )
    filters: Filters = Filters()

    @property
    def tries_again(self) -> bool:
        """Whether a reply that cannot be read is asked for once more."""
        return has(self.prompts, "retry") if self.retries is None else self.retries > 0

    @model_validator(mode="after")
    def _a_server_knows_its_model(self) -> Generator:
        if not self.backend.weights_known and not self.model:
            raise ValueError(f"backend {self.backend.kind} needs model, as the server names it")
        check_shares("styles", self.styles)
        return self

    @model_validator(mode="after")
    def _a_policy_may_take_over(self) -> Generator:
        if self.refine and (self.model or not self.refresh):
            raise ValueError(
                "refine decides whether the round's policy generates: set model null and refresh "
                "true, or leave refine out"
            )
        return self

    @model_validator(mode="after")
    def _there_are_words_for_it(self) -> Generator:
        needs = {
            "debate": "styles.debate" if self.styles.get("debate") else "",
            "retry": "retries" if self.retries else "",
            "knowledge": "knowledge" if self.knowledge else "",
        }
        missing = [f"{option} needs the key {part}" for part, option in needs.items() if option
                   and not has(self.prompts, part)]  # fmt: skip
        if self.styles.get("debate") and "debate" not in prompt_set(self.prompts)["answer"]:
            missing.append("styles.debate needs the key answer.debate")
        if missing:
            raise ValueError(
                f"prompts {name_of(self.prompts)} has no words for it: {'; '.join(missing)} "
                "(full has them)"
            )
        return self

    @model_validator(mode="after")
    def _knowledge_stays_here(self) -> Generator:
        check_told("generator.", self.knowledge, self.backend.private)
        return self

    @model_validator(mode="after")
    def _a_form_is_held_by_an_engine(self) -> Generator:
        if self.structured and not self.backend.holds_forms:
            raise ValueError(f"structured needs backend vllm or endpoint, not {self.backend.kind}")
        return self

    @model_validator(mode="after")
    def _cells_find_their_place(self) -> Generator:
        asked = sum(cell.number(self.tasks) for cell in self.quotas.cells)
        if asked > self.tasks:
            raise ValueError(
                f"the cells of quotas ask for {asked} of {self.tasks} tasks: raise tasks to {asked}"
            )
        for cell in self.quotas.cells:
            if cell.style and cell.style not in self.styles:
                raise ValueError(
                    f"quotas has a cell of style {cell.style}, which is none of styles: name it "
                    "there, with share 0 where cells alone ask for it"
                )
        return self
