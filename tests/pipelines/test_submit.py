"""What travels to a cluster with a run, and what submitting again does; on a Ray that stands."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine import cluster
from engine.config import build
from engine.errors import PEOPLE, TriptychError
from engine.lineage.runs import code_id, packages
from pipelines.commands import shipping
from pipelines.commands.shipping import CONFIG, pack, stays
from tests import forked
from tests.commands import KEY
from tests.conftest import ROOT, sets
from tests.ray_head import ray_head

pytestmark = pytest.mark.loop

# What a job sees, and a worker of it.
LOOKS = """
import json, os, ray
from pathlib import Path
import engine
from engine.config import load
from engine.lineage.runs import code_id, packages

ray.init(runtime_env={"worker_process_setup_hook": "engine.private.close_files"})
@ray.remote
def worker():
    import engine.private
    return engine.private.__file__
told = {"here": os.getcwd(), "engine": engine.__file__, "worker": ray.get(worker.remote())}
told |= {"code": code_id(), "packages": packages(), "key": "TRIPTYCH_KEY" in os.environ}
told["config"] = load(Path("run.yaml")).model_dump(mode="json")
print("told", json.dumps(told))
"""


@pytest.fixture(scope="module")
def dashboard() -> Iterator[str]:
    """Of a Ray without a token, for which this process may have imported Ray too early."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        with ray_head() as (_, address):
            yield address


def job(folder: Path, command: str, place: str, what: str = "0") -> cluster.Job:
    """A job that starts in an empty folder."""
    folder.mkdir(exist_ok=True)
    (folder / "empty").touch()
    return cluster.Job(command, folder, place, what)


def test_a_job_has_our_code_and_the_whole_configuration(
    dashboard: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The record says of such a run what it says of one from the checkout; the key stays here."""
    words = tmp_path / "words.yaml"
    made = forked.triptych("prompts", words)
    assert made.returncode == 0, made.stderr
    config = build({}, [f"generator.prompts={words}", "generator.temperature=1e-05"], "x")
    monkeypatch.setenv("TRIPTYCH_KEY", KEY)
    packed = tmp_path / "packed"
    packed.mkdir()
    pack(config, packed)
    words.unlink()
    (packed / "looks.py").write_text(LOOKS)
    assert cluster.submit(dashboard, cluster.Job("python3 looks.py", packed, "looks", "0")) == 0
    (line,) = [s for s in capsys.readouterr().out.splitlines() if s.startswith("told ")]
    told = json.loads(line.removeprefix("told "))
    assert told["here"] != str(packed)
    assert told["engine"] == f"{told['here']}/engine/__init__.py"
    assert told["worker"].endswith("/engine/private.py")
    assert not told["worker"].startswith(str(ROOT))
    assert (told["code"], told["packages"]) == (code_id(), packages())
    assert told["config"] == config.model_dump(mode="json")
    assert not told["key"]


def test_a_job_at_work_is_followed_and_one_that_ended_is_tried_again(
    dashboard: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As when whoever submitted it has gone, and when the driver has died. Its status is the run's,
    which says that people are wanted."""
    begun, let_go = tmp_path / "begun", tmp_path / "let_go"
    waits = f"echo at it; touch {begun}; until [ -e {let_go} ]; do sleep 0.1; done; exit {PEOPLE}"
    same = job(tmp_path / "job", waits, "place")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(cluster.submit, dashboard, same)
        while not begun.exists():
            assert not first.done(), first.result()
            time.sleep(0.1)
        with pytest.raises(TriptychError, match=r"job place\.0 works in that workspace by another"):
            cluster.submit(dashboard, job(tmp_path / "job", waits, "place", "1"))
        second = pool.submit(cluster.submit, dashboard, same)
        while "job place.0 is at work already" not in capsys.readouterr().out:
            assert not second.done(), second.result()
            time.sleep(0.1)
        let_go.touch()
        assert (first.result(60), second.result(60)) == (PEOPLE, PEOPLE)
    assert cluster.submit(dashboard, same) == PEOPLE
    assert f"job place.0.2: {waits}" in capsys.readouterr().out.splitlines()


def test_the_command_is_one_job_however_often_it_is_given(dashboard: str, tmp_path: Path) -> None:
    """Of a run that ends at once, since the cluster has no such folder."""
    wrong = sets("source.path=/nowhere", "source.public=true", "name=none")
    words = ["submit", "configs/demo.yaml", "--address", dashboard, "-w", tmp_path / "w", *wrong]
    names = []
    for _ in range(2):
        done = forked.triptych(*words)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "source.path /nowhere is not a folder" in done.stdout
        assert "INFO" not in done.stderr
        assert f"on all nodes: workspace {tmp_path}/w, source.path /nowhere\n" in done.stdout
        (line,) = [s for s in done.stdout.splitlines() if s.startswith("job none.")]
        assert "python3 -m pipelines.cli run run.yaml --workspace" in line
        names.append(line.partition(":")[0])
    assert names[1] == f"{names[0]}.2"


def test_nothing_but_packages_travels(tmp_path: Path) -> None:
    pack(build({}, [], "x"), tmp_path)
    there = {path.name for path in tmp_path.iterdir()}
    rooms = {"engine", "generators", "reward_model", "pipelines"}
    assert rooms < there
    assert [name for name in there - rooms if not name.endswith(".dist-info")] == [CONFIG]
    assert not list(tmp_path.rglob("__pycache__"))


def test_more_than_ray_takes_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "MOST", 2**20)
    with pytest.raises(TriptychError, match=r"hold 7 MiB, and Ray takes less .*model\.safetensors"):
        pack(build({}, [], "x"), tmp_path)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["source.path=studies", "source.public=true"], "source.path studies does not travel"),
        (["source.path=/studies", "source.key_file=key"], "source.key_file key does not travel"),
        (["source.path=/studies"], "no job gets TRIPTYCH_KEY: set source.key_file"),
        (["model=./base"], r"model ./base does not travel: .* --set model=/shared/base"),
        (["select.contamination.benchmarks={rad: rad.json}"], "benchmarks.rad rad.json does not"),
    ],
)
def test_what_every_node_must_have_is_named_by_an_absolute_path(
    values: list[str], said: str
) -> None:
    with pytest.raises(TriptychError, match=said):
        stays(build({}, values, "x"))


def test_a_model_of_the_hub_or_of_a_server_is_no_place() -> None:
    server = "generator.backend={kind: endpoint, url: 'http://h/v1'}"
    values = ["model=Qwen/Qwen2.5-VL-7B-Instruct", server, "generator.model=/models/qwen"]
    assert stays(build({}, [*values, "reward.model=/shared/judge"], "x")) == {
        "reward.model": Path("/shared/judge")
    }
