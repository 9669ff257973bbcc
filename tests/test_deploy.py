"""The files of deploy/: what Kubernetes, KubeRay and `ray up` take, and what they say of ours.

Nothing here runs them. KubeRay's fields and their types are in tests/kuberay_fields.yaml.
"""

from __future__ import annotations

import copy
import re
import shlex
import tomllib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from engine.config import load
from engine.config.training import Optimiser
from engine.lineage.runs import ROOMS
from pipelines.commands.shipping import stays

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
FIELDS = yaml.safe_load((ROOT / "tests" / "kuberay_fields.yaml").read_text())
KUBERAY = sorted((DEPLOY / "kuberay").glob("*.yaml"))
QUANTITY = r"^[+-]?(\d+(\.\d*)?|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?(\d+(\.\d*)?|\.\d+))?$"
RAY = version("ray")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def schema(fields: Any) -> dict[str, Any]:
    """The JSON schema of what stands in the file of fields; unknown ones are refused."""
    if isinstance(fields, list):
        return {"type": "array", "items": schema(fields[0])}
    if isinstance(fields, dict):
        known = {k.rstrip("!"): schema(v) for k, v in fields.items() if k != "*"}
        required = [k.rstrip("!") for k in fields if k.endswith("!")]
        other = schema(fields["*"]) if "*" in fields else False
        return {"type": "object", "properties": known, "required": required} | {
            "additionalProperties": other
        }
    if fields == "quantity":
        return {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": QUANTITY}]}
    if fields in ("string", "integer", "number", "boolean"):
        return {"type": fields}
    return {"enum": fields.split("|")}


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def wrong(manifest: Any) -> list[str]:
    """What KubeRay or Kubernetes would refuse, each with its place."""
    found = Draft202012Validator(schema(FIELDS[manifest["kind"]])).iter_errors(manifest)
    return [f"{error.json_path}: {error.message}" for error in found]


@pytest.mark.parametrize("path", KUBERAY, ids=lambda path: path.name)
def test_a_manifest_has_the_fields_of_its_kind(path: Path) -> None:
    assert wrong(read(f"kuberay/{path.name}")) == []


def _head(manifest: Any) -> Any:
    return manifest["spec"]["headGroupSpec"]["template"]["spec"]


@pytest.mark.parametrize(
    ("spoil", "place"),
    [
        (lambda m: m["spec"].update(rayversion="2.60.0"), "$.spec"),
        (lambda m: m["spec"].pop("headGroupSpec"), "$.spec"),
        (lambda m: m["spec"]["authOptions"].update(mode="on"), "$.spec.authOptions.mode"),
        (lambda m: _head(m).pop("containers"), "$.spec.headGroupSpec.template.spec"),
        (lambda m: _head(m)["volumes"][1]["emptyDir"].update(sizeLimit="12 GB"), "sizeLimit"),
        (lambda m: m["spec"]["workerGroupSpecs"][0].update(replicas="1"), "replicas"),
    ],
)
def test_a_wrong_field_is_found(spoil: Callable[[Any], object], place: str) -> None:
    manifest = copy.deepcopy(read("kuberay/raycluster.yaml"))
    spoil(manifest)
    (problem,) = wrong(manifest)
    assert problem.partition(": ")[0].endswith(place)


def test_a_job_has_the_same_cluster_beside_its_configuration() -> None:
    job, cluster = read("kuberay/rayjob.yaml")["spec"], read("kuberay/raycluster.yaml")["spec"]
    head = job["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert head["volumes"].pop()["name"] == "configuration"
    assert head["containers"][0]["volumeMounts"].pop()["name"] == "configuration"
    assert job["rayClusterSpec"] == cluster


def test_what_a_pod_mounts_is_there() -> None:
    """And the claim that it names is the one of deploy/kuberay/storage.yaml."""
    claim = read("kuberay/storage.yaml")["metadata"]["name"]
    spec = read("kuberay/rayjob.yaml")["spec"]["rayClusterSpec"]
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    for pod in (group["template"]["spec"] for group in groups):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes["shared"]["persistentVolumeClaim"]["claimName"] == claim
        for one in [*pod["containers"], *pod.get("initContainers", [])]:
            assert {mount["name"] for mount in one["volumeMounts"]} <= volumes.keys()


def test_no_secret_is_in_the_environment_of_a_cluster() -> None:
    """The key of patients is a file of the head: what stands in the environment every job reads."""
    for path in (f for f in DEPLOY.rglob("*") if f.is_file()):
        assert "TRIPTYCH_KEY" not in path.read_text(), path


def test_the_run_of_the_job_finds_its_places() -> None:
    job = read("kuberay/rayjob.yaml")["spec"]
    words = shlex.split(job["entrypoint"])
    values = [words[n + 1] for n, word in enumerate(words) if word == "--set"]
    head = job["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    mounted = [Path(mount["mountPath"]) for mount in head["volumeMounts"]]
    named = [Path(words[2]), Path(words[words.index("--workspace") + 1])]
    named += stays(load(ROOT / "configs" / "medgr2-7b.yaml", values)).values()
    assert len(named) == 4
    assert all(any(place.is_relative_to(top) for top in mounted) for place in named)


def test_one_card_learns_from_as_many_rows_a_step() -> None:
    wide, one = (load(ROOT / "configs" / f"medgr2-{name}.yaml", []) for name in ("7b", "7b-lora"))

    def rows(section: Optimiser) -> int:
        return section.batch * section.accumulate * section.workers

    assert rows(one.sft) == rows(wide.sft)
    assert rows(one.reward) == rows(wide.reward)
    assert rows(one.grpo) * one.grpo.steps == rows(wide.grpo) * wide.grpo.steps
    stages = (one.generator, one.evaluate)
    assert [s.backend.gpus * s.actors for s in stages] == [1, 1]
    assert [s.gpus * s.workers for s in (one.reward, one.sft, one.grpo)] == [1, 1, 1]
    assert one.reward.actors == 1


def test_ray_up_takes_its_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(read("ray-up.yaml")))


def test_versions_are_those_of_the_project() -> None:
    pins = {line.partition("[")[0].partition(">")[0]: line for line in PROJECT["dependencies"]}
    minor = ".".join(RAY.split(".")[:2])
    assert f">={minor}," in pins["ray"]
    for name in ("raycluster", "rayjob"):
        spec = read(f"kuberay/{name}.yaml")["spec"]
        assert spec.get("rayClusterSpec", spec)["rayVersion"] == RAY
    container = (DEPLOY / "Containerfile").read_text()
    assert f'"{pins["torch"]}"' in container
    assert f'"ray[data,train,default]=={RAY}"' in container
    assert f'"{PROJECT["optional-dependencies"]["gpu"][0]}"' in container
    assert set(re.findall(r"^COPY (\w+) ", container, re.MULTILINE)) >= set(ROOMS)
