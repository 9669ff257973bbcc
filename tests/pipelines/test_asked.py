"""What experts are asked, what becomes of their answers, and that a run waits for people."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.caveats import NOT_COVERED
from engine.config import build
from engine.config.expert import Verdicts
from engine.config.select import Select
from engine.errors import PEOPLE, PeopleWanted, TriptychError
from engine.hub.card import card
from engine.lineage.opening import writing
from engine.lineage.trace import trace
from engine.records import Decision, Item, Judgement, Preference, Triplet, Verdict
from engine.workspace import utc
from generators.phantoms.oracle import is_true
from pipelines import consult, loop
from pipelines.collect import gold_rows
from pipelines.context import Context
from pipelines.judge_training import taught
from pipelines.record import expert_of, held_out, seed_triplets
from reward_model.journal import Journal
from reward_model.patient_sets import REPORT, TRAIN, set_of
from reward_model.threshold import UNCERTIFIED, choices_of
from reward_model.verdicts import Answer, verdict_of
from tests.drawn_workspace import answered, context_of, drawn
from tests.forked import triptych
from tests.lineage_workspace import TASK, commit, make_judgement, make_model

GATE = '{"auc": 0.9, "auc_low": 0.8, "auc_high": 0.95, "n": 9, "on": "verdicts"}'
MEASURED = f'{{"gate": {GATE}}}'
JUDGE = replace(make_model("judge", "judge", None, 0, 1), metrics=MEASURED)
SPLITS = ["train"] * 30 + ["val"] * 3 + ["test"] * 6
IMAGES = [drawn("MR", n, "tumor" if n % 2 else "infarct", split) for n, split in enumerate(SPLITS)]
BY_ID = {image.id: image for image in IMAGES}
VERDICTS = "{first: 16, test: 6, random: 8, informative: 5, preferences: 0.4, test_readers: 2}"


PEOPLE_ASKED = ["expert.kind=people", f"expert.verdicts={VERDICTS}"]
CONFIG = build({}, ["cluster.address=inline", *PEOPLE_ASKED], "the test")


def rows_of(round: int) -> list[Triplet]:
    """Four answers to one question an image, of which three agree."""
    said = ("yes", "yes", "no", "yes") if round else ("no", "no", "yes", "no")
    return [
        answered(image, "Is there a tumor?", answer, sample=n, round=round)
        for image in IMAGES
        for n, answer in enumerate(said)
        if not round or image.split == "train"
    ]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with candidates, and with a round that was judged."""
    root = tmp_path_factory.mktemp("asked") / "w"
    with writing(root, CONFIG.name, CONFIG.recorded()) as workspace:
        commit(workspace, "ingest", 0, [*IMAGES, TASK])
        commit(workspace, "compare", 0, [*rows_of(0), TASK])
        commit(workspace, "reward", 0, [JUDGE])
        rows = rows_of(1)
        commit(workspace, "generate", 1, rows)
        opinions = [make_judgement(row, JUDGE) for row in rows]
        chances = [0.5 + (n % 40) / 80 for n in range(len(rows))]
        opinions = [replace(o, probability=chance) for o, chance in zip(opinions, chances)]
        commit(workspace, "judge", 1, opinions)
    return root


@pytest.fixture
def context(judged: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Context]:
    """A context on a copy, with an expert of the kind that the test asks for."""
    shutil.copytree(judged, tmp_path / "w")
    kind = getattr(request, "param", "people")
    with writing(tmp_path / "w", CONFIG.name, CONFIG.recorded()) as workspace:
        expert = [f"expert.kind={kind}", f"expert.verdicts={VERDICTS}"]
        yield context_of(workspace, *expert)


def run(context: Context, name: str, round: int) -> None:
    """A stage without what comes before it in a whole run."""
    body = (loop.ROUND if round else loop.ONCE)[name].body
    stage = context.workspace.begin(name, round, f"{name}-{round}")
    body(context, stage)
    context.workspace.commit(stage)


def asked(context: Context, round: int) -> list[Item]:
    return list(context.rows(Item, "consult", round))


def answer(item: Item, reader: str, said: str = "accept", **more: object) -> Answer:
    """What a reader says of an item; of a preference that the first is better."""
    values: dict[str, object] = {"verdict": said}
    if item.kind == "preference":
        values = {"preferences": {"factuality": "first", "reasoning": "cannot tell"}}
    return Answer(
        id=f"{item.id}-{reader}",
        kind=item.kind,
        reader=reader,
        at=utc(0),
        item_id=item.id,
        triplet_id=item.triplet_id,
        other_id=item.other_id,
        **(values | more),  # type: ignore[arg-type]
    )


def test_before_the_first_judge_some_teach_some_measure_and_some_are_the_test(
    context: Context,
) -> None:
    run(context, "consult", 0)
    items = asked(context, 0)
    assert Counter(i.stream for i in items)["test"] == 6
    assert len(items) == 22
    rows = {t.id: t for t in context.rows(Triplet)}
    for item in items:
        image = BY_ID[item.image_id]
        assert (item.stream == "test") == (image.split != "train")
        assert item.readers == (2 if item.stream == "test" else 1)
        if item.stream == "informative":
            assert set_of(image.group) == TRAIN
        elif item.stream == "random":
            assert set_of(image.group) != TRAIN
            assert item.kind == "verdict"
        assert rows[item.triplet_id].answer == "no"  # what most samples said
        if item.kind == "preference":
            assert rows[item.other_id].answer == "yes"
    taught = [i for i in items if i.stream == "informative"]
    assert sum(i.kind == "preference" for i in taught) == int(0.4 * len(taught) + 0.5)
    assert [i.place for i in items] == list(range(22))
    streams = [i.stream for i in items]
    assert streams != sorted(streams)


def test_of_a_round_some_are_drawn_one_a_patient_and_the_least_sure_are_of_patients_who_teach(
    context: Context,
) -> None:
    run(context, "consult", 1)
    items = asked(context, 1)
    assert Counter(i.stream for i in items) == {"random": 8, "informative": 5}
    drawn_at_random = [i for i in items if i.stream == "random"]
    assert len({BY_ID[i.image_id].group for i in drawn_at_random}) == 8
    judgements = {j.triplet_id: j for j in context.rows(Judgement)}
    chance = {name: j.probability for name, j in judgements.items()}
    unsure = [i for i in items if i.stream == "informative"]
    assert {set_of(BY_ID[i.image_id].group) for i in unsure} == {TRAIN}
    taken = {i.image_id for i in items}
    chosen = {
        choice.triplet.image_id: choice.triplet.id
        for choice in choices_of(rows_of(1), judgements, Select(), True, True).values()
        if set_of(BY_ID[choice.triplet.image_id].group) == TRAIN
    }
    assert {i.triplet_id for i in unsure} <= set(chosen.values())
    most = max(abs(chance[i.triplet_id] - 0.5) for i in unsure)
    others = [chance[chosen[i.id]] for i in IMAGES if i.id in chosen and i.id not in taken]
    assert others
    assert all(abs(c - 0.5) >= most for c in others)


def test_every_chosen_row_is_as_likely_to_be_drawn(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = context.workspace.begin("consult", 1, "weighed")
    weighing = consult.weigh(context, stage)
    monkeypatch.setattr(consult, "weigh", lambda *_: weighing)
    seen: Counter[str] = Counter()
    for seed in range(60):
        drawing = context_of(context.workspace, f"seed={seed}", "expert.kind=people")
        items = consult.items_of_round(drawing, stage, Verdicts(random=8, informative=0))
        seen.update(item.image_id for item in items)
    train = [image.id for image in IMAGES if image.split == "train"]
    expected = 60 * 8 / len(train)
    chi = sum((seen[i] - expected) ** 2 / expected for i in train)
    assert chi < 60  # 29 degrees of freedom: p of 0.0006


def test_a_run_waits_until_as_many_have_answered_as_were_to(context: Context) -> None:
    run(context, "consult", 0)
    items = asked(context, 0)
    with pytest.raises(PeopleWanted, match=r"28 answers are wanted of 28 about 22 rows.*annotate"):
        run(context, "collect", 0)
    journal = Journal(context.workspace.root)
    journal.append(answer(item, "r1") for item in items)
    with pytest.raises(PeopleWanted, match=r"6 answers are wanted of 28"):
        run(context, "collect", 0)
    journal.append(answer(item, "r2") for item in items if item.stream == "test")
    run(context, "collect", 0)
    verdicts = context.rows(Verdict)
    assert len(verdicts) == sum(i.readers for i in items if i.kind == "verdict")
    heard = context.workspace.commits()[-1]["metrics"]["agreement"]
    assert [(one["of"], one["readers"], one["equal"]) for one in heard] == [("verdict", 2, 1.0)]
    assert heard[0]["asked"] == 6
    told = {(p.item_id, p.criterion, p.outcome) for p in context.rows(Preference)}
    asked_which = {i.id for i in items if i.kind == "preference"}
    assert told == {
        (i, *said)
        for i in asked_which
        for said in (("factuality", "better"), ("reasoning", "cannot tell"))
    }


def test_an_answer_is_taken_into_the_record_once(context: Context) -> None:
    run(context, "consult", 0)
    run(context, "consult", 1)
    journal = Journal(context.workspace.root)
    journal.append(answer(i, r) for i in asked(context, 0) for r in ("r1", "r2"))
    run(context, "collect", 0)
    before = len(context.rows(Verdict))
    late = next(i for i in asked(context, 0) if i.stream == "random")
    journal.append([answer(late, "r3", "reject")])
    journal.append(answer(i, "r1") for i in asked(context, 1))
    run(context, "collect", 1)
    found = context.rows(Verdict)
    assert len({v.id for v in found}) == len(found)
    fresh = found[before:]
    assert {v.expert for v in fresh if v.round == 0} == {"r3"}
    assert len([v for v in fresh if v.round == 1]) == len(
        [i for i in asked(context, 1) if i.kind == "verdict"]
    )


def test_corrections_become_rows_that_teach_and_agreed_test_questions_evaluate(
    context: Context,
) -> None:
    run(context, "consult", 0)
    items = asked(context, 0)
    test = [i for i in items if i.stream == "test"]
    alone, apart, *agreed = test
    journal = Journal(context.workspace.root)
    for item in items:
        right = {"said": "reject", "correction": "yes"}
        if item in (alone, apart):
            continue
        for reader in ("r1", "r2")[: item.readers]:
            journal.append([answer(item, reader, **right)])
    journal.append([answer(alone, "r1"), answer(alone, "r2", "cannot tell")])
    journal.append([answer(apart, "r1"), answer(apart, "r2", "reject", correction="yes")])
    run(context, "collect", 0)
    taught = seed_triplets(context)
    verdicts = [i for i in items if i.kind == "verdict" and i.stream != "test"]
    assert {t.derived_from[0] for t in taught} == {i.triplet_id for i in verdicts}
    assert {(t.answer, t.generator_id, t.rationale) for t in taught} == {("yes", "expert", "")}
    held = [row for split in ("val", "test") for row, _ in held_out(context, split, 100)]
    assert {t.derived_from[0] for t in held} == {i.triplet_id for i in agreed}
    assert not expert_of(context).rows(BY_ID[alone.image_id], 9)


def test_a_row_drawn_at_random_and_accepted_stays_a_generated_one() -> None:
    row = rows_of(1)[0]
    for stream, becomes in (("random", 0), ("informative", 1)):
        item = Item.make(row, None, stream, 1, 0, 1)
        verdict = verdict_of(answer(item, "r1"), item, row)
        assert len(gold_rows([verdict], {item.id: item}, {row.id: row})) == becomes


@pytest.mark.parametrize("stream", ["random", "informative"])
def test_an_answer_whose_reasoning_alone_is_wrong_is_kept_without_it(stream: str) -> None:
    row = replace(rows_of(1)[0], rationale="It is on the left.")
    item = Item.make(row, None, stream, 1, 0, 1)
    both = ("reasoning wrong", "wrong side")
    for reasons, becomes in ((both[:1], [("", row.answer)]), (both, []), ((), [])):
        said = verdict_of(answer(item, "r1", "reject", reasons=reasons), item, row)
        found = gold_rows([said], {item.id: item}, {row.id: row})
        assert [(t.rationale, t.answer) for t in found] == becomes


@pytest.mark.parametrize(
    ("said", "becomes"),
    [
        ([("accept", ""), ("reject", "no")], []),  # which of the two is right?
        ([("accept", ""), ("reject", "")], []),
        ([("reject", "no"), ("reject", "no")], ["no"]),
        ([("reject", "no"), ("cannot tell", "")], ["no"]),
        ([("accept", ""), ("accept", "")], ["yes"]),
        ([("cannot tell", "")], []),
    ],
)
def test_readers_who_do_not_agree_make_no_row(
    said: list[tuple[str, str]], becomes: list[str]
) -> None:
    row = rows_of(1)[0]
    item = Item.make(row, None, "informative", 1, 0, 2)
    verdicts = [
        verdict_of(answer(item, f"r{n}", word, correction=right), item, row)
        for n, (word, right) in enumerate(said)
    ]
    found = gold_rows(verdicts, {item.id: item}, {row.id: row})
    assert [t.answer for t in found] == becomes


def test_a_later_reader_who_disagrees_makes_no_second_row(context: Context) -> None:
    run(context, "consult", 0)
    run(context, "consult", 1)
    journal = Journal(context.workspace.root)
    journal.append(answer(i, r) for i in asked(context, 0) for r in ("r1", "r2"))
    run(context, "collect", 0)
    taught_before = seed_triplets(context)
    item = next(i for i in asked(context, 0) if (i.stream, i.kind) == ("informative", "verdict"))
    late = [answer(item, "r3", "reject", correction="yes"), answer(item, "r4")]
    journal.append([*late, *(answer(i, "r1", "cannot tell") for i in asked(context, 1))])
    run(context, "collect", 1)
    assert seed_triplets(context) == taught_before


def test_a_correction_that_is_none_of_the_options_makes_no_row() -> None:
    row = rows_of(1)[0]
    item = Item.make(row, None, "informative", 1, 0, 1)
    said = verdict_of(answer(item, "r1", "reject", correction="perhaps"), item, row)
    assert gold_rows([said], {item.id: item}, {row.id: row}) == []


@pytest.mark.parametrize("context", ["simulated"], indirect=True)
def test_a_simulated_expert_answers_by_the_truth_but_for_its_errors(context: Context) -> None:
    for round in (0, 1):
        run(context, "consult", round)
        run(context, "collect", round)
    rows = {t.id: t for t in context.rows(Triplet)}
    said = [
        (v.verdict == "accept", is_true(BY_ID[v.image_id], rows[v.triplet_id]))
        for v in context.rows(Verdict)
    ]
    agree = sum(a == b for a, b in said)
    assert agree >= len(said) - 6  # 5 % of 41 are wrong, about
    assert {a for a, _ in said} == {True, False}


def test_what_a_withdrawn_image_was_asked_about_is_passed_over(context: Context) -> None:
    """The journal may still name rows that are gone from the record."""
    run(context, "consult", 0)
    items = asked(context, 0)
    journal = Journal(context.workspace.root)
    journal.append(answer(i, r) for i in items for r in ("r1", "r2"))
    journal.append([replace(answer(items[0], "r4"), item_id="", triplet_id="gone")])
    run(context, "collect", 0)
    assert "r4" not in {v.expert for v in context.rows(Verdict)}


def test_the_command_ends_with_a_status_of_its_own(judged: Path, tmp_path: Path) -> None:
    shutil.copytree(judged, tmp_path / "w")
    with writing(tmp_path / "w", CONFIG.name, CONFIG.recorded()) as workspace:
        run(Context(workspace, CONFIG), "consult", 0)
        workspace.remember(CONFIG.kept())
    done = triptych("collect", "-w", tmp_path / "w")
    assert done.returncode == PEOPLE, done.stderr
    assert "28 answers are wanted" in done.stderr


def certified(context: Context, precision: float, said: str = "accept") -> list[dict[str, Any]]:
    """The certificates of a round in which readers say the same of all rows drawn at random.

    The rows all answer alike, so that a bound on constant guesses would leave few of them.
    """
    section = {"guarantee": {"precision": precision, "confidence": 0.9}}
    asked_for = ["expert.verdicts={random: 30, informative: 0}", f"select={section}"]
    asked_for += ["select.balance=null"]
    promising = context_of(context.workspace, "expert.kind=people", *asked_for)
    run(promising, "consult", 1)
    journal = Journal(context.workspace.root)
    journal.append(answer(item, "r1", said) for item in asked(promising, 1))
    run(promising, "collect", 1)
    run(promising, "select", 1)
    metrics = context.workspace.commits()[-1]["metrics"]
    assert metrics["kept"] == sum(d.keep for d in context.rows(Decision))
    return list(metrics["certificates"])


def test_what_readers_accept_is_kept_with_a_promise(context: Context) -> None:
    (certificate,) = certified(context, 0.8)
    train = [i for i in IMAGES if i.split == "train"]
    looked_at = [i for i in train if set_of(i.group) != REPORT]
    assert certificate["verdicts"] == len(looked_at)
    assert certificate["granted"]
    assert certificate["rejected"] == 0
    assert "at most 20 % wrong, 90 % confidence" in certificate["words"]
    kept = [d for d in context.rows(Decision) if d.keep]
    assert kept
    assert {d.threshold for d in kept} == {round(certificate["threshold"], 6)}
    text = card(context.workspace, "asked")
    assert certificate["words"] in text
    assert NOT_COVERED in text
    traced = trace(context.workspace.ledger(), kept[0].triplet_id)
    assert traced["decisions"][-1]["promised"] == [certificate["words"]]


@pytest.mark.parametrize(("precision", "said"), [(0.95, "accept"), (0.8, "reject")])
def test_without_a_promise_nothing_is_kept_and_it_is_said_how_many_are_missing(
    context: Context, precision: float, said: str
) -> None:
    (certificate,) = certified(context, precision, said)
    assert not certificate["granted"]
    assert f"at least {certificate['missing']} further" in certificate["words"]
    reasons = {d.reason for d in context.rows(Decision)}
    assert UNCERTIFIED in reasons
    assert not any(d.keep for d in context.rows(Decision))
    if said == "accept":
        assert certificate["missing"] == 45 - certificate["verdicts"]


def test_who_gives_no_verdicts_can_promise_nothing() -> None:
    asked_for = ["select.guarantee={precision: 0.9}"]
    for expert in ("simulated", "benchmark"):
        with pytest.raises(TriptychError, match=r"select.guarantee.*expert.verdicts.random"):
            build({"source": {"public": True}}, [*asked_for, f"expert={expert}"], "a test")
    assert build({}, [*asked_for, "expert=people"], "a test").select.guarantee


def test_rows_drawn_at_random_measure_a_judge_and_teach_none(context: Context) -> None:
    for round in (0, 1):
        run(context, "consult", round)
        journal = Journal(context.workspace.root)
        journal.append(answer(i, r) for i in asked(context, round) for r in ("r1", "r2"))
        run(context, "collect", round)
    told = taught(context)
    at_random = {v.id for v in context.rows(Verdict) if v.stream == "random"}
    learned = {source for example in told.learned for source in example.sources}
    measured = {source for example in told.frozen for source in example.sources}
    assert learned
    assert not learned & at_random
    assert measured & at_random
    assert told.left_out["drawn at random to certify"] > 0
