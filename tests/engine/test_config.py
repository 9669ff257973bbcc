"""The configuration: files that load, and errors of one line that name file and key."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from engine.config import Config, build, deciding, load
from engine.config.backend import Endpoint, Transformers, Vllm
from engine.config.expert import Simulated
from engine.config.training import RewardWeights
from engine.errors import TriptychError
from tests.forked import triptych

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs").glob("*.yaml"))


def refusal(*overrides: str, values: dict[str, Any] | None = None) -> str:
    """The one line with which values are refused."""
    with pytest.raises(TriptychError) as refused:
        build(values or {}, list(overrides), "run.yaml")
    assert "\n" not in str(refused.value)
    return str(refused.value)


def keys(model: type[BaseModel], values: dict[str, Any], path: str = "") -> set[str]:
    """Dotted keys of a file that are not fields of the model."""
    unknown = {path + key for key in values if key not in model.model_fields}
    for name, field in model.model_fields.items():
        section = field.annotation
        if name in values and isinstance(section, type) and issubclass(section, BaseModel):
            unknown |= keys(section, values[name], f"{path}{name}.")
    return unknown


# Files


def test_there_are_five_configurations() -> None:
    assert [f.stem for f in FILES] == [
        "demo", "medgr2-3b", "medgr2-7b-lora", "medgr2-7b", "vqa-rad",
    ]  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda f: f.stem)
def test_a_configuration_in_the_repository_loads(path: Path) -> None:
    assert load(path).name == path.stem


@pytest.mark.parametrize("path", FILES, ids=lambda f: f.stem)
def test_a_configuration_file_sets_values_of_the_one_model(path: Path) -> None:
    assert keys(Config, yaml.safe_load(path.read_text())) == set()


def test_the_laptop_and_the_cluster_are_the_same_keys_with_other_values() -> None:
    shapes = [
        {
            (k, *sorted(v)) if isinstance(v, dict) else (k,)
            for k, v in load(f).model_dump(exclude={"expert"}).items()  # of another kind
        }
        for f in FILES
    ]
    assert all(shape == shapes[0] for shape in shapes)


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert load(tmp_path / "empty.yaml") == Config()


def test_what_is_recorded_reads_as_the_same_configuration() -> None:
    config = load(FILES[0])
    assert build(config.recorded(), ["cluster.threads=2"], "x").recorded() == config.recorded()


def test_where_it_runs_is_not_part_of_what_made_the_rows() -> None:
    one, two = build({}, ["cluster.threads=1"], "x"), build({}, ["cluster.threads=9"], "x")
    assert one.recorded() == two.recorded()


# Refusals


def test_an_unknown_key_is_named_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("sft: {learning_rate: 1}\n")
    with pytest.raises(TriptychError) as refused:
        load(path)
    assert str(refused.value) == f"{path}: unknown key sft.learning_rate"


def test_two_problems_are_told_at_once() -> None:
    message = refusal(values={"rounds": 0, "sped": 1})
    assert message.startswith("run.yaml: rounds: ")
    assert message.endswith("; unknown key sped")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1", "line 1: no YAML"),
        ("a: b: c", "line 1: no YAML"),
        ("\tx", "line 1: no YAML"),
        ("- 1", "must hold `key: value` lines"),
        ("just words", "must hold `key: value` lines"),
        ("rounds: many", "rounds: "),
        ("sft: 3", "sft: "),
        ("sft:", "sft: "),
        ("1: 2", "1"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_in_one_line(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(TriptychError) as refused:
        load(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_configuration_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "marked.yaml"
    path.write_bytes(b"\xef\xbb\xbfrounds: 7\n")
    assert load(path).rounds == 7


def test_a_folder_and_text_in_another_encoding_are_no_configurations(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: Zürich\n".encode("latin-1"))
    with pytest.raises(TriptychError, match=r"configuration .*latin\.yaml: no YAML"):
        load(path)
    with pytest.raises(TriptychError, match=r"configuration .* cannot be read: Is a directory"):
        load(tmp_path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(TriptychError, match=str(path)):
            load(path)


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("rounds=0", "rounds"),
        ("select.keep=0", "select.keep"),
        ("select.keep=1.1", "select.keep"),
        ("expert.error_rate=0.5", "expert.error_rate"),
        ("grpo.group=1", "grpo.group"),
        ("reward.readout=mean", "reward.readout"),
        ("reward.criteria.beauty=1", "reward.criteria"),
        ("generator.styles.poem=1", "generator.styles"),
        ("source.frames=every:0", "source.frames"),
        ("grpo.reward.judge=5", "grpo"),
        ("grpo.reward.process=0.7", "grpo"),
        ("grpo.reward.length=0.7", "grpo.reward: correct must exceed"),
        ("grpo.reward=best", "grpo.reward: Input tag 'best'"),
        ("grpo.reward={kind: paper, format: 0.1}", "unknown key grpo.reward.format of kind paper"),
        ("grpo.loss=ppo", "grpo.loss"),
        ("grpo.loss=gspo", "grpo: loss gspo averages ratios"),
        ("grpo.clip_high=0.28", "grpo: clip_low and clip_high clip ratios"),
        ("grpo={loss: dr_grpo, scale: group}", "grpo: loss dr_grpo divides by no deviation"),
        ("grpo={iterations: 2, save_steps: 3}", "grpo: save_steps"),
        ("select.reasoning=1", "select.reasoning"),
        ("sft.lr=fast", "sft.lr"),
        ("name=a/b", "name"),
        ("generator.backend=endpoint", "generator"),
        ("generator.backend.gpus=-1", "generator.backend.gpus: "),
        ("evaluate.backend=endpoint", "evaluate.backend: Input tag 'endpoint'"),
        ("expert.kind=phantoms", "expert: Input tag 'phantoms'"),
        ("expert.kind=vqa-rad", "expert: Input tag 'vqa-rad'"),
        ("expert=3", "expert: "),
        ("nam=x", "unknown key nam"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_key(override: str, key: str) -> None:
    assert refusal(override).startswith(f"run.yaml: {key}")


@pytest.mark.parametrize("number", [".nan", ".inf", "-.inf"])
@pytest.mark.parametrize("key", ["sft.lr", "grpo.reward.correct", "select.logprob", "grpo.kl"])
def test_a_number_that_is_none_is_refused(key: str, number: str) -> None:
    assert key.split(".")[0] in refusal(f"{key}={number}")


@pytest.mark.parametrize(
    "key", ["generator.styles.direct", "source.split.train", "source.phantoms.MR"]
)
def test_a_negative_share_is_refused(key: str) -> None:
    assert key.rpartition(".")[0] in refusal(f"{key}=-1")


# Sections of several kinds


@pytest.mark.parametrize(
    ("section", "key", "kind"),
    [
        ("expert", "error_rate=0.1", "benchmark"),
        ("expert", "name=vqa-rad", "simulated"),
        ("expert", "images=3", "none"),
        ("expert", "pairs=5", "none"),
        ("generator.backend", "url=http://h/v1", "transformers"),
        ("generator.backend", "url=http://h/v1", "vllm"),
        ("generator.backend", "gpus=1", "endpoint"),
        ("generator.backend", "max_model_len=512", "endpoint"),
        ("generator.backend", "actors=2", "vllm"),
        ("evaluate.backend", "url=http://h/v1", "vllm"),
    ],
)
def test_a_key_of_another_kind_is_refused_by_its_name(section: str, key: str, kind: str) -> None:
    more = [f"{section}.url=http://h/v1"] if kind == "endpoint" else []
    name = key.partition("=")[0]
    assert refusal("source.public=true", f"{section}={kind}", *more, f"{section}.{key}") == (
        f"run.yaml: unknown key {section}.{name} of kind {kind}"
    )


@pytest.mark.parametrize("section", ["generator", "evaluate"])
@pytest.mark.parametrize("key", ["url", "gpus", "max_model_len"])
def test_how_a_model_is_run_stands_under_its_backend(section: str, key: str) -> None:
    assert refusal(f"{section}.{key}=1") == f"run.yaml: unknown key {section}.{key}"


def test_a_server_needs_its_address_and_the_name_of_its_model() -> None:
    said = refusal("generator.backend=endpoint")
    assert said == "run.yaml: generator.backend.url: Field required"
    said = refusal("generator.backend={kind: endpoint, url: http://h/v1}")
    assert said == "run.yaml: generator: backend endpoint needs model, as the server names it"


def test_a_kind_of_two_lines_is_refused_in_one() -> None:
    assert "'a b'" in refusal('expert="a\\nb"')


@pytest.mark.parametrize("values", [{}, {"generator": {"backend": "vllm"}}])
def test_a_plain_name_stands_for_the_kind_and_takes_values(values: dict[str, Any]) -> None:
    overrides = ["generator.backend=vllm"] if not values else []
    config = build(values, [*overrides, "generator.backend.gpus=2", "expert=none"], "x")
    assert config.generator.backend == Vllm(gpus=2)
    assert config.expert.model_dump() == {"kind": "none"}
    again = build(config.recorded(), ["generator.backend=transformers"], "x")
    assert again.generator.backend == Transformers()


def test_a_server_is_named_in_one_setting_or_in_two() -> None:
    address = "http://127.0.0.1:9/v1"
    for settings in (
        ["generator.backend=endpoint", f"generator.backend.url={address}"],
        [f"generator.backend={{kind: endpoint, url: '{address}'}}"],
    ):
        config = build({}, [*settings, "generator.model=m"], "x")
        assert config.generator.backend == Endpoint(url=address)


def test_without_a_kind_a_section_is_of_the_default() -> None:
    config = build({}, ["expert.error_rate=0.2", "evaluate.backend.gpus=1"], "x")
    assert config.expert == Simulated(error_rate=0.2)
    assert config.evaluate.backend == Transformers(gpus=1)


def test_where_a_backend_runs_does_not_decide_the_rows() -> None:
    begun = ["generator.backend=vllm", "evaluate.backend=vllm"]
    moved = [*begun, "generator.backend.gpus=4", "evaluate.backend.gpus=2", "generator.actors=3"]
    moved += ["sft.checkpointing=true", "sft.compile=true"]  # compute the same
    decides = [deciding(build({}, more, "x").recorded()) for more in (begun, moved)]
    assert decides[0] == decides[1]
    server = ["generator.model=m", "generator.backend=endpoint"]
    there, elsewhere = (
        deciding(build({}, [*server, *(f"generator.backend.{v}" for v in values)], "x").recorded())
        for values in (
            ["url=http://a/v1"],
            ["url=http://b/v1", "concurrency=3", "prices={prompt: 1, completion: 2}"],
        )
    )
    assert there == elsewhere
    for other in ("generator.backend.max_model_len=600", "generator.backend=transformers"):
        assert deciding(build({}, [*begun, other], "x").recorded()) != decides[0]


# --set


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("seed=7", 7),
        (" seed = 7 ", 7),
        ("seed=-3", -3),
        ("seed=0x10", 16),
    ],
)
def test_an_override_is_read_as_yaml(override: str, value: int) -> None:
    assert build({}, [override], "x").seed == value


def test_an_override_reaches_a_section_a_mapping_and_null() -> None:
    overrides = [
        "source.path=null",
        "source.phantoms={CT: 4}",
        "grpo.reward.judge=0.1",
        "sft.bf16=true",
    ]
    values = {"source": {"path": "x"}, "grpo": {"reward": {"judge": 0.2, "correct": 1.0}}}
    config = build(values, overrides, "x")
    assert (config.grpo.reward.judge, config.grpo.reward.correct) == (0.1, 1.0)
    assert config.source.path is None
    assert config.source.phantoms == {"CT": 4}
    assert config.sft.bf16 is True


def test_the_papers_reward_is_chosen_by_name_and_may_let_a_wrong_answer_win() -> None:
    named = build({}, ["grpo.reward=paper"], "x").grpo.reward
    assert named.weights == {"correct": 0.2, "judge": 0.8}
    assert build({}, ["grpo.reward=paper", "grpo.reward.judge=0.7"], "x").grpo.reward.judge == 0.7
    assert build({}, [], "x").grpo.reward == RewardWeights()


def test_the_last_override_wins_and_an_equals_sign_may_be_in_the_value() -> None:
    config = build({}, ["source.path=a", "source.path=/data/x=1"], "x")
    assert config.source.path == "/data/x=1"


@pytest.mark.parametrize(
    "override", ["rounds", "", "rounds.x=1", "seed=[", "seed={", "seed: 1", "=3", "a.b.c=1", ".=1"]
)
def test_an_override_that_says_nothing_is_refused_in_one_line(override: str) -> None:
    assert refusal(override, values={"rounds": 2})


def test_an_override_under_a_value_names_what_is_not_a_section() -> None:
    assert "model is not a section" in refusal("model.path=x", values={"model": "tiny"})


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_override_raises_anything_but_our_error(key: str, value: str) -> None:
    try:
        build({}, [f"{key}={value}"], "x")
    except TriptychError as error:
        assert "\n" not in str(error)  # noqa: PT017


# The command


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    """The only line of an error of ours."""
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == 1
    return result.stderr


def test_run_without_its_file_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    result = triptych("run", str(tmp_path / "none.yaml"))
    assert one_line(result) == f"triptych: no configuration file {tmp_path / 'none.yaml'}\n"


def test_run_with_an_unknown_key_is_one_line_and_makes_no_workspace(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("sft: {learning_rate: 1}\n")
    result = triptych("run", str(path), "--workspace", str(tmp_path / "w"))
    assert one_line(result) == f"triptych: {path}: unknown key sft.learning_rate\n"
    assert not (tmp_path / "w").exists()


def test_run_with_a_bad_override_is_one_line(tmp_path: Path) -> None:
    result = triptych("run", "configs/demo.yaml", "--set", "rounds", "-w", str(tmp_path / "w"))
    assert "--set rounds" in one_line(result)


@pytest.mark.parametrize("command", ["status", "export", "report", "generate"])
def test_a_command_without_its_workspace_is_one_line(command: str, tmp_path: Path) -> None:
    result = triptych(command, "--workspace", str(tmp_path / "none"))
    assert f"no workspace at {tmp_path / 'none'}" in one_line(result)


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["run", "configs/demo.yaml"],
        ["ingest", "configs/demo.yaml"],
        ["submit", "configs/demo.yaml", "--address", "http://127.0.0.1:9"],
    ],
    ids=lambda words: words[0],
)
def test_a_workspace_is_a_folder_and_no_address(words: list[str]) -> None:
    told = one_line(triptych(*words, "--workspace", "s3://bucket/run"))
    assert "s3:/bucket/run is an address, and a workspace is a folder" in told
    assert not Path(ROOT, "s3:").exists()


def test_images_in_a_bucket_are_refused_in_a_line() -> None:
    with pytest.raises(TriptychError, match=r"x: source: path s3://bucket is an address: mount"):
        build({}, ["source.path=s3://bucket"], "x")


NO_TORCH = """
import sys
sys.modules["torch"] = None  # importing it now fails
from pipelines.cli import main
main()
"""


@pytest.mark.parametrize("command", ["run", "ingest", "submit"])
def test_a_mistake_in_the_configuration_is_told_before_torch_is_loaded(command: str) -> None:
    words = [command, "none.yaml"] + (["--address", "x"] if command == "submit" else [])
    result = subprocess.run(
        [sys.executable, "-c", NO_TORCH, *words], capture_output=True, text=True, cwd=ROOT
    )
    assert one_line(result) == "triptych: no configuration file none.yaml\n"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("source.include=[dark]", "source.include"),
        ("source.paths=secret", "source.paths"),
        ("source.table=/labels.csv", "inside the folder"),
        ("source.labels=[report]", "is no label"),
        ("expert.kind=benchmark", "source.paths=keep"),
    ],
)
def test_settings_of_the_source_are_checked(setting: str, said: str) -> None:
    with pytest.raises(TriptychError, match=re.escape(said)):
        build({"source": {"path": "x"}}, [setting], "run.yaml")


@pytest.mark.parametrize(
    "shares",
    [
        "reward.criteria={factuality: 0}",
        "generator.styles={direct: 0, step: 0}",
        "source.split={train: 0}",
    ],
)
def test_shares_that_are_all_0_have_no_mean(shares: str) -> None:
    assert "one of the shares must be above 0" in refusal(shares)
