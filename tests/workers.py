"""Which tests need the loop, which begin first, and on how many cores a worker computes.

`make test` runs two workers of pytest-xdist; a module stays whole on one of them, so that what a
fixture of the module made is made once, and the longest begin first, so that workers end together.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterable

import pytest

# A test needs the loop where it, or its module, is marked `loop`, and where it uses one of these:
# it runs the loop, reads the whole record that a loop leaves, or looks with RapidOCR's models.
LOOP = {"original", "copy", "full", "exported", "rapidocr"}
# So does a module whose tests take stages of a workspace one by one, hundreds of pictures, or a
# model's files.
LONG = {
    "tests/engine/imaging/test_copies.py",
    "tests/engine/imaging/test_corpus.py",
    "tests/engine/imaging/test_duplicates.py",
    "tests/engine/imaging/test_isolation.py",
    "tests/engine/imaging/test_printed_text.py",
    "tests/engine/lineage/test_model_files.py",
    "tests/engine/lineage/test_story.py",
    "tests/engine/lineage/test_withdraw.py",
    "tests/engine/lineage/test_withdrawn_opinions.py",
    "tests/engine/test_caveats.py",
    "tests/generators/test_compose.py",
    "tests/generators/test_layouts.py",
    "tests/generators/test_phantoms.py",
    "tests/generators/test_safety.py",
    "tests/generators/test_twins.py",
    "tests/pipelines/test_across.py",
    "tests/pipelines/test_adherence.py",
    "tests/pipelines/test_annotate.py",
    "tests/pipelines/test_asked.py",
    "tests/pipelines/test_compose.py",
    "tests/pipelines/test_drawing.py",
    "tests/pipelines/test_evaluate.py",
    "tests/pipelines/test_init.py",
    "tests/pipelines/test_judge_training.py",
    "tests/pipelines/test_learning_rows.py",
    "tests/pipelines/test_rationales.py",
    "tests/pipelines/test_renew.py",
    "tests/pipelines/test_review.py",
    "tests/pipelines/test_safety.py",
    "tests/pipelines/test_spending.py",
    "tests/pipelines/test_table_readers.py",
    "tests/pipelines/test_verdicts_command.py",
    "tests/pipelines/test_verify.py",
    "tests/reward_model/reading_room/test_reading.py",
    "tests/reward_model/test_expert_errors.py",
    "tests/reward_model/test_simulated_expert.py",
    "tests/reward_model/test_twins.py",
}
# The longest first, and what starts a Ray of its own once the first has ended. All others come
# after, in their order.
LONGEST = (
    "tests/pipelines/test_loop.py",
    "tests/pipelines/test_fresh_runs.py",
    "tests/engine/vlm/test_vlm.py",
    "tests/pipelines/test_input.py",
    "tests/pipelines/test_rolled_back.py",
    "tests/reward_model/test_judge_learns.py",
    "tests/reward_model/test_refinement.py",
    "tests/pipelines/training/test_training_sets.py",
    "tests/pipelines/training/test_adapting.py",
    "tests/pipelines/training/test_training.py",
    "tests/pipelines/test_init_runs.py",
    "tests/engine/lineage/test_lineage.py",
    "tests/engine/test_cluster.py",
    "tests/pipelines/test_submit.py",
)
# Workers share the cores: each computes on one, in its own process and in those that it starts.
ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


_imported = 0  # modules, when garbage was last made to be looked for in what came later alone


def is_worker() -> bool:
    """Whether this process is one of several workers."""
    return "PYTEST_XDIST_WORKER" in os.environ


def cap_threads() -> None:
    """Let a worker compute on one core; before torch or NumPy is imported."""
    if is_worker():
        os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    os.environ.setdefault(
        "RAY_worker_niceness", "0"
    )  # else Ray's workers wait for the tests beside


def look_past_imports() -> None:
    """Keep collections of garbage from looking through what imports left, where that has grown.

    Each training collects all garbage three times, which takes a third of a second of a process
    that has imported TRL.
    """
    global _imported
    if len(sys.modules) > _imported + 200:
        gc.collect()
        gc.freeze()
        _imported = len(sys.modules)


def mark(items: Iterable[pytest.Item]) -> None:
    """Mark a test with `loop` where its module or a fixture of it needs the loop."""
    for item in items:
        if module_of(item) in LONG or LOOP & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.loop)


def place(item: pytest.Item) -> int:
    """Where in `LONGEST` a test's module is, or after it."""
    module = module_of(item)
    return LONGEST.index(module) if module in LONGEST else len(LONGEST)


def module_of(item: pytest.Item) -> str:
    """The test file that an item is in, from the repository's root."""
    return item.nodeid.partition("::")[0]
