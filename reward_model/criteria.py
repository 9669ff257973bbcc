"""The three criteria and the words in which a judge is asked about a proposed answer."""

from __future__ import annotations

from engine.answers import render_completion

CRITERIA = ("factuality", "reasoning", "relevance")
PROMPTS = {
    "compact": "{question}{options}\nProposed: {proposed}\nIs it right?",
    "full": (
        "A colleague was asked the following about this medical image.\n"
        "Question: {question}{options}\nProposed reply: {proposed}\n"
        "Consider whether the answer agrees with the image, whether the reasoning is sound and "
        "leads to the answer, and whether question and reply concern this image. "
        "Is the reply right? Answer yes or no."
    ),
}


def judge_prompt(
    name: str, question: str, options: tuple[str, ...], rationale: str, answer: str
) -> str:
    """The user turn that a judge reads; its reply would be `yes` or `no` (arXiv 2408.15240)."""
    return PROMPTS[name].format(
        question=question,
        options="\nOptions: " + " | ".join(options) if options else "",
        proposed=render_completion(rationale, answer),
    )
