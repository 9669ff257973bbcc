"""What an exported row was asked to be and what it was found to be: columns and their meanings.

The modality that was asked for is the image's: a plan takes an image that has it.
"""

from __future__ import annotations

ASKED_AND_FOUND = {
    "asked_question_type": "What was to be asked about.",
    "found_question_type": "What the question's words ask about, by rule; or `unknown`.",
    "asked_answer_format": "closed (yes or no), choice (of options) or open, as asked for.",
    "found_answer_format": "The same, as the options and the chosen answer are.",
    "asked_difficulty": "Difficulty asked for; `not stated` where nobody asked for one.",
    "found_difficulty": (
        "Difficulty by the pass rate: easy from 0.75, medium from 0.5, else hard; empty where "
        "fewer than three samples could be read."
    ),
    "pass_rate": "Share of the question's samples that could be read which give the chosen answer.",
    "asked_steps": "Steps of reasoning asked for.",
    "found_steps": "Steps of the program that composed the question; 1 where none did.",
    "asked_anatomy": "Body part asked for; empty where any would do.",
    "asked_style": "How the generator was asked to answer.",
}
