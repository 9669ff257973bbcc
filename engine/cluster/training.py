"""A training on Ray Train's workers."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, TypeVar

from engine.cluster.causes import cause
from engine.cluster.connection import check_room, connected, is_shared
from engine.cluster.work import DEATHS
from engine.errors import TriptychError
from engine.training_job import TrainingJob

Job = TypeVar("Job", bound=TrainingJob)
Result = TypeVar("Result")
WAITS = 60  # for a cluster that has no room yet, or whose workers do not start: a minute each


def train(loop: Callable[[Job], Result | None], job: Job) -> Result:
    """Run a training function on Ray Train's workers; returns what the first worker returned.

    The function writes its weights to `job.out`, on a path that all nodes share; only the first
    worker has to return something. Each worker has the job's threads and loaders as CPUs, and its
    section's GPUs. One worker without a GPU, on a Ray of this process, is Ray Train's local mode in
    a task: the five actors beside a worker cost a laptop more than a small training does, and the
    task's process keeps what it has imported for the next. Raises TriptychError where a worker
    fails, or a Ray of this process can never have so many.
    """
    workers, gpus = job.section.workers, job.section.gpus
    if not connected():  # one process takes the rows of all workers
        accumulate = job.section.accumulate * workers
        result = loop(job.with_section(accumulate=accumulate, workers=1))
        assert result is not None
        return result
    cpus = job.threads + job.section.loaders
    check_room(workers * cpus, workers * gpus)
    import ray.train
    from ray.train.torch import TorchTrainer

    here = workers == 1 and not gpus and not is_shared()
    resources = {"CPU": float(cpus)} | ({"GPU": gpus} if gpus else {})
    trainer = TorchTrainer(
        # Of Ray Train v2; pickled, for its controller need not load a result's class.
        lambda: pickle.dumps(loop(job)),
        scaling_config=ray.train.ScalingConfig(
            num_workers=0 if here else workers, use_gpu=gpus > 0, resources_per_worker=resources
        ),
        run_config=ray.train.RunConfig(
            storage_path=str(job.beside(".ray")),
            name="train",
            # A worker that fails would fail again; a node that is taken away may do better.
            failure_config=ray.train.FailureConfig(  # of Ray Train v2
                max_failures=0,
                controller_failure_limit=WAITS if is_shared() else DEATHS,
                max_preemption_failures=DEATHS,
            ),
        ),
    )
    try:
        done: Any = _in_a_task(trainer.fit, cpus) if here else trainer.fit()
    except Exception as error:
        raise TriptychError(f"training failed: {cause(error)}") from error
    result = pickle.loads(done.return_value)
    assert result is not None
    return result


def _in_a_task(function: Callable[[], Any], cpus: int) -> Any:
    """What a function returns in a Ray task, which is tried once."""
    import ray

    return ray.get(ray.remote(num_cpus=cpus, max_retries=0)(lambda: function()).remote())
