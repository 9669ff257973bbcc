"""What whoever uses a judge or a selection has to be told: one line each, the same everywhere.

The run's output, the report, a dataset's card and a model's card say it in these words.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from engine.statistics import CHANCE


def at_chance(judge: dict[str, Any]) -> bool:
    """Whether a judge was not shown to know more than a coin.

    `judge` are its metrics (`reward_model.measure`). On the patients of the set `gate` the lower
    bound of its AUC is at or below 0.5, or not known. That set decides, since it is for decisions
    about judges: what is reported is to decide nothing, and what calibrates has seen the judge.
    """
    low = judge.get("gate", {}).get("auc_low")
    return low is None or not low > CHANCE


def auc_in_words(judge: dict[str, Any]) -> str:
    """The AUC by which `at_chance` decides, with its interval."""
    gate = judge.get("gate", {})
    if gate.get("auc") is None or gate.get("auc_low") is None:
        return "its AUC on frozen patients is not known"
    low, high = gate["auc_low"], gate["auc_high"]
    told = f"{gate['n']} frozen {gate['on']}"
    return f"AUC {gate['auc']:.3f} [{low:.3f}, {high:.3f}] on {told}"


def of_judge(judge: dict[str, Any]) -> list[str]:
    """Of a judge's metrics."""
    if not at_chance(judge):
        return []
    return [
        f"the judge is at chance ({auc_in_words(judge)}): what it scores is not selected by it, "
        "but by agreement of samples"
    ]


def of_selection(metrics: dict[str, Any]) -> list[str]:
    """Of the metrics of a round's selection (`pipelines.select.selection_metrics`)."""
    lines = []
    if metrics.get("by") == "agreement":
        lines.append(
            f"the judge was at chance ({metrics.get('judge')}), and rows were selected by "
            "agreement of samples and the generator's log-probability, without it"
        )
    if metrics.get("kept") == 0:
        why = metrics.get("why_none")
        lines.append(f"no row was kept; most often: {why}" if why else "nothing was generated")
    return lines


def of_readers(heard: Iterable[tuple[int, dict[str, Any]]]) -> list[str]:
    """How far readers agree, of the rounds and metrics of stage collect: a line a kind of opinion.

    Each round's are of all answers until then, so that the last that has any are told. Empty where
    no two readers answered the same question.
    """
    measured = [(r, metrics["agreement"]) for r, metrics in heard if metrics.get("agreement")]
    if not measured:
        return []
    last, found = max(measured, key=lambda one: one[0])
    return [f"{_alpha(one)}, up to round {last}" for one in found]


def _alpha(one: dict[str, Any]) -> str:
    alpha, low, high = (one[name] for name in ("alpha", "low", "high"))
    between = "" if low is None else f" [{low:.2f}, {high:.2f}]"
    told = "is not defined, since all said the same" if alpha is None else f"{alpha:.2f}{between}"
    return (
        f"{one['of']}: Krippendorff's alpha {told}; {one['equal']:.0%} of pairs of answers are "
        f"equal, of {one['readers']} readers on {one['asked']} questions about "
        f"{one['patients']} patients"
    )


NOT_COVERED = (
    "A promise is of the answers as the readers judge them, of what the generator wrote in that "
    "round about these images. It is not of other rounds, other images, rows of experts, composed "
    "rows or rows that teach safety, and of an answer that is kept with several reasonings it is "
    "of one, the chosen row's."
)


def promised(metrics: dict[str, Any]) -> list[str]:
    """What a round's selection promises of the rows it kept, or that it promises nothing.

    Empty where no promise was asked for.
    """
    return [certificate["words"] for certificate in metrics.get("certificates", [])]
