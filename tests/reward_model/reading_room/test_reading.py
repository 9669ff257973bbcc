"""What readers are shown and what they say, over HTTP as a browser would speak it."""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from engine.config.select import Guarantee
from engine.lineage.opening import writing
from engine.records import Item, Triplet
from reward_model.journal import Journal
from reward_model.patient_sets import REPORT, set_of
from reward_model.reading_room.room import MOST, Room
from reward_model.verdicts import REASONS, Answer, current, preferences_of, verdict_of
from tests.drawn_workspace import answered
from tests.lineage_workspace import cli, commit
from tests.reward_model.reading_room.rooms import (
    HOSTILE,
    Reader,
    images_of,
    items_of,
    made,
    opened,
    rows_of,
    ten,
)


def journal(root: Path) -> list[Answer]:
    """What is on disk, read anew."""
    return Journal(root).answers()


def pairs(root: Path, number: int = 8, readers: int = 1) -> list[tuple[Item, Triplet, Triplet]]:
    """A workspace of questions which of two rows is better; the first answers yes."""
    images = images_of(number, each=1)
    rows = [
        (
            answered(i, "Is it large?", "yes", rationale="It is.", writer="a", sample=0, round=1),
            answered(
                i, "Is it large?", "no", rationale="It is not.", writer="b", sample=1, round=1
            ),
        )
        for i in images
    ]
    items = [Item.make(a, b, "informative", 1, n, readers) for n, (a, b) in enumerate(rows)]
    made(root, images, [row for two in rows for row in two], items)
    return [(item, a, b) for item, (a, b) in zip(items, rows)]


# An answer


def test_an_answer_is_on_disk_when_the_page_moves_on(tmp_path: Path) -> None:
    items = ten(tmp_path / "w")
    reader = Reader(*opened(tmp_path / "w"))
    first = reader.item()
    second = reader.says(first, verdict="accept", comment="clear  ")
    (kept,) = journal(tmp_path / "w")
    assert (kept.kind, kept.verdict, kept.reader, kept.comment) == (
        "verdict", "accept", "anna", "clear",
    )  # fmt: skip
    assert (kept.item_id, kept.triplet_id, kept.repeat) == (items[0].id, items[0].triplet_id, False)
    assert kept.seconds is not None
    assert second["key"] not in (first["key"], None)
    assert second["progress"]["answered"] == 1


def test_a_rejection_has_reasons_and_the_right_answer_as_a_row_can_have_it(tmp_path: Path) -> None:
    items = ten(tmp_path / "w")
    room, access = opened(tmp_path / "w")
    reader = Reader(room, access)
    item = reader.says(reader.item(), verdict="reject", reasons=["wrong side"], correction=1)
    item = reader.says(item, verdict="reject", reasons=[*reversed(REASONS)], correction=3)
    assert item["rows"][0]["options"] == []
    reader.says(item, verdict="reject", correction=" infarct  of the left ")
    said = journal(tmp_path / "w")
    assert [a.correction for a in said] == ["no", "neither side", "infarct of the left"]
    assert [a.reasons for a in said] == [("wrong side",), tuple(REASONS), ()]
    rows = room.queue.snapshot.rows
    verdicts = [verdict_of(a, i, rows[i.triplet_id]) for a, i in zip(said, items)]
    assert [v.verdict for v in verdicts] == ["reject"] * 3


@pytest.mark.parametrize(
    ("place", "said", "line"),
    [
        (0, {"verdict": "yes"}, "Accept, reject or cannot tell?"),
        (0, {"verdict": ["accept"]}, "Accept, reject or cannot tell?"),
        (0, {"verdict": "accept", "reasons": ["wrong side"]}, "Only what is rejected"),
        (0, {"verdict": "cannot tell", "correction": 1}, "Only what is rejected"),
        (0, {"verdict": "reject", "reasons": ["ugly"]}, "no such reason: ugly"),
        (0, {"verdict": "reject", "reasons": "wrong side"}, "a list of words"),
        (0, {"verdict": "reject", "correction": "no"}, "one of the options"),
        (0, {"verdict": "reject", "correction": 2}, "one of the options"),
        (0, {"verdict": "reject", "correction": True}, "one of the options"),
        (0, {"verdict": "reject", "correction": 0}, "which is rejected"),
        (0, {"verdict": "accept", "comment": 5}, "comment is text"),
        (0, {"verdict": "accept", "comment": "x" * 2001}, "longer than 2000"),
        (2, {"verdict": "reject", "correction": 1}, "right answer is text"),
        (2, {"verdict": "reject", "correction": "tumor"}, "which is rejected"),
        (2, {"verdict": "reject", "correction": "NaN"}, "as converters write"),
        (2, {"verdict": "reject", "correction": "..."}, "No row can be made of it"),
        (2, {"verdict": "reject", "correction": "x" * 501}, "longer than 500"),
    ],
)
def test_what_makes_no_sense_is_told_in_a_line_and_not_kept(
    tmp_path: Path, place: int, said: dict[str, Any], line: str
) -> None:
    ten(tmp_path / "w", number=3)
    reader = Reader(*opened(tmp_path / "w"))
    item = reader.item()
    for _ in range(place):
        item = reader.says(item)
    told = reader.says(item, 400, **said)["error"]
    assert line in told
    assert "\n" not in told
    assert len(journal(tmp_path / "w")) == place
    assert reader.item()["key"] == item["key"]


@pytest.mark.parametrize("body", [None, [], "text", {}, {"key": 5}, {"key": ""}])
def test_a_body_that_is_no_answer_is_told(tmp_path: Path, body: Any) -> None:
    ten(tmp_path / "w", number=1)
    reader = Reader(*opened(tmp_path / "w"))
    for path in ("/answer", "/undo"):
        assert reader.post(path, body).status_code == 400
    unknown = reader.post("/answer", {"key": "0" * 32, "verdict": "accept"})
    assert unknown.status_code == 409
    assert unknown.json()["next"]["kind"] == "verdict"
    assert journal(tmp_path / "w") == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (0.5, 0.5),
        (-1, None),
        ("3", None),
        (True, None),
        (None, None),
        (1e9, 2.0),
        (10**400, 2.0),
        (math.nan, None),
        (math.inf, None),
    ],
)
def test_seconds_are_believed_within_what_the_server_saw(
    tmp_path: Path, given: Any, kept: float | None
) -> None:
    ten(tmp_path / "w", number=1)
    room, access = opened(tmp_path / "w")
    room.queue._clock = lambda: 100.0
    reader = Reader(room, access)
    reader.says(reader.item(), verdict="accept", seconds=given)
    assert journal(tmp_path / "w")[0].seconds == kept


# The same answer again


def test_an_answer_that_is_sent_again_counts_once_also_after_a_restart(tmp_path: Path) -> None:
    ten(tmp_path / "w")
    reader = Reader(*opened(tmp_path / "w"))
    item = reader.item()
    one = reader.says(item)
    again = reader.says(item)
    assert again["key"] == one["key"]
    later = Reader(*opened(tmp_path / "w"))  # as after kill -9
    assert later.says(item)["key"] == one["key"]
    assert len(journal(tmp_path / "w")) == 1


def test_another_answer_to_the_same_question_is_a_conflict_and_changes_nothing(
    tmp_path: Path,
) -> None:
    ten(tmp_path / "w")
    reader = Reader(*opened(tmp_path / "w"))
    item = reader.item()
    reader.says(item)
    reply = reader.says(item, 409, verdict="reject")
    assert "another window" in reply["error"]
    assert reply["next"]["kind"] == "verdict"
    assert [a.verdict for a in journal(tmp_path / "w")] == ["accept"]


def test_answers_that_cannot_be_written_are_not_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ten(tmp_path / "w")
    reader = Reader(*opened(tmp_path / "w"))
    item = reader.item()

    def full(handle: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        assert "No space left" in reader.says(item, 507)["error"]
    assert journal(tmp_path / "w") == []
    assert reader.item()["key"] == item["key"]
    reader.says(item)
    assert len(journal(tmp_path / "w")) == 1


# Undo


def test_undo_shows_the_item_again_and_its_next_answer_counts(tmp_path: Path) -> None:
    items = ten(tmp_path / "w")
    reader = Reader(*opened(tmp_path / "w"))
    assert reader.item()["undo"] is None
    second = reader.says(reader.item())
    again = reader.undoes(second)
    assert again["rows"][0] == {**again["rows"][0], "question": "Is there a lesion?"}
    assert again["undo"] is None
    assert again["progress"]["answered"] == 0
    assert reader.undoes(second)["key"] == again["key"]  # sent again: not another one undone
    reader.says(again, verdict="reject", reasons=["bad question"])
    (counts,) = current(journal(tmp_path / "w"))
    assert (counts.item_id, counts.verdict) == (items[0].id, "reject")
    assert [a.kind for a in journal(tmp_path / "w")] == ["verdict", "undo", "verdict"]


def test_several_answers_are_undone_one_after_the_other(tmp_path: Path) -> None:
    ten(tmp_path / "w")
    reader = Reader(*opened(tmp_path / "w"))
    item = reader.item()
    for _ in range(3):
        item = reader.says(item)
    for left in (2, 1, 0):
        item = reader.undoes(item)
        assert item["progress"]["answered"] == left
    assert item["undo"] is None
    assert current(journal(tmp_path / "w")) == []


def test_what_a_stage_has_read_is_not_undone(tmp_path: Path) -> None:
    items = ten(tmp_path / "w")
    room, access = opened(tmp_path / "w")
    reader = Reader(room, access)
    item = reader.says(reader.item())
    (said,) = journal(tmp_path / "w")
    row = room.queue.snapshot.rows[said.triplet_id]
    with writing(tmp_path / "w", "read", room._record.workspace.config) as place:
        commit(place, "collect", 1, [verdict_of(said, items[0], row)])
    asyncio.run(room.look())
    assert reader.item()["undo"] is None
    assert "part of the record" in reader.undoes(item, 409)["error"]
    assert len(journal(tmp_path / "w")) == 1


def test_nobody_undoes_another_readers_answer(tmp_path: Path) -> None:
    ten(tmp_path / "w")
    room, access = opened(tmp_path / "w", "anna", "ben")
    anna, ben = Reader(room, access, "anna"), Reader(room, access, "ben")
    item = anna.says(anna.item())
    ben.undoes(item, 409)
    assert len(current(journal(tmp_path / "w"))) == 1


# Preferences


def test_sides_are_random_and_what_is_said_of_them_is_said_of_the_rows(tmp_path: Path) -> None:
    asked = pairs(tmp_path / "w", number=24)
    room, access = opened(tmp_path / "w")
    reader = Reader(room, access)
    item, sides = reader.item(), Counter[str]()
    while item["kind"] != "none":
        assert item["criteria"] == ["factuality", "reasoning"]
        sides[item["rows"][0]["answer"]] += 1
        yes = "left" if item["rows"][0]["answer"] == "yes" else "right"
        said = {"factuality": yes, "reasoning": "both bad"}
        item = reader.says(item, preferences=said)
    assert min(sides["yes"], sides["no"]) >= 4
    for answer, (question, first, second) in zip(journal(tmp_path / "w"), asked):
        assert answer.preferences == {"factuality": "first", "reasoning": "both bad"}
        rows = {first.id: first, second.id: second}
        image = room.queue.snapshot.images[question.image_id]
        made_of = preferences_of(answer, question, rows, image)
        assert [p.outcome for p in made_of] == ["better", "both bad"]
        assert made_of[0].chosen_id == first.id


def test_sides_differ_from_reader_to_reader_and_stay_for_one(tmp_path: Path) -> None:
    pairs(tmp_path / "w", number=24, readers=2)
    shown: dict[str, list[str]] = {"anna": [], "ben": []}
    for _ in range(2):  # as after a restart
        room, access = opened(tmp_path / "w", "anna", "ben")
        for name, seen in shown.items():
            reader = Reader(room, access, name)
            item = reader.item()
            seen.append(item["rows"][0]["answer"])
            for _ in range(11):
                item = reader.says(item)
                seen.append(item["rows"][0]["answer"])
    assert shown["anna"] != shown["ben"]
    for seen in shown.values():
        assert seen[11] == seen[12]  # what was open when the server went


@pytest.mark.parametrize(
    "preferences",
    [None, {}, {"factuality": "left"}, dict.fromkeys(("factuality", "reasoning", "relevance"), 1),
     dict.fromkeys(("factuality", "reasoning", "relevance"), "first"), ["left"]],
)  # fmt: skip
def test_a_comparison_is_whole_or_refused(tmp_path: Path, preferences: Any) -> None:
    pairs(tmp_path / "w", number=1)
    reader = Reader(*opened(tmp_path / "w"))
    reader.says(reader.item(), 400, preferences=preferences)
    assert journal(tmp_path / "w") == []


@pytest.mark.parametrize(
    ("second", "reasoning", "criteria"),
    [
        ("Is it large?", "", ["factuality"]),
        ("Is it small?", "", ["factuality", "relevance"]),
        ("Is it large?", "It is.", ["factuality", "reasoning"]),
        ("Is it small?", "It is.", ["factuality", "reasoning", "relevance"]),
    ],
)
def test_rows_are_compared_by_what_tells_them_apart(
    tmp_path: Path, second: str, reasoning: str, criteria: list[str]
) -> None:
    (image,) = images_of(1, each=1)
    asked = [("Is it large?", "yes", ""), (second, "no", reasoning)]
    rows = [answered(image, q, a, rationale=r, sample=n) for n, (q, a, r) in enumerate(asked)]
    made(tmp_path / "w", [image], rows, [Item.make(*rows, "informative", 1, 0, 1)])
    reader = Reader(*opened(tmp_path / "w"))
    assert reader.item()["criteria"] == criteria
    reader.says(reader.item())


# Who sees what


PLACE = 70007000  # of the first item


def test_nothing_served_tells_model_score_stream_or_another_readers_opinion(tmp_path: Path) -> None:
    names = ("reader-anna", "reader-ben")  # too long to stand in a key by chance
    images = images_of(6)
    rows = [row for image in images for row in rows_of(image, 2, "model-that-wrote")]
    streams = ("random", "informative", "test")
    items = [
        Item.make(row, rows[n ^ 1] if n % 5 == 4 else None, streams[n % 3], 3, PLACE + n, 2)
        for n, row in enumerate(rows)
        if rows[n ^ 1].image_id == row.image_id
    ]
    made(tmp_path / "w", images, rows, items)
    room, access = opened(tmp_path / "w", *names, repeats=0.4)
    readers = [Reader(room, access, name) for name in names]
    for n, reader in enumerate(readers):
        reader.get("/")
        item = reader.item()
        while item["kind"] != "none":
            reader.get(f"/picture/{item['image']['id']}")
            for other in item["others"]:
                reader.get(f"/thumbnail/{other['id']}")
            if item["kind"] == "verdict":
                said = {"verdict": "reject", "reasons": ["leaks the answer"]}
                item = reader.says(item, **said, comment=f"opinion-of-{n}")
            else:
                said = {"preferences": dict.fromkeys(item["criteria"], "both bad")}
                item = reader.says(item, **said, comment=f"opinion-of-{n}")
    answers = journal(tmp_path / "w")
    assert len(answers) > 2 * len(items)
    hidden = {"model-that-wrote", "0.61803", "0.70711", "-0.5", "opinion-of-", "repeat"}
    hidden |= {str(PLACE + n) for n in range(len(rows))}
    hidden |= {"probability", "logprob", "judge-", "generator", "informative", "stream", "place"}
    hidden |= {row.id for row in rows} | {item.id for item in items} | {a.id for a in answers}
    hidden |= {row.prompt_hash or "-" * 40 for row in rows} | {row.task_id for row in rows}
    hidden |= {image.patient for image in images} | {image.group for image in images}
    hidden |= {image.source for image in images}
    for reader, other in zip(readers, reversed(names)):
        told = "\n".join(reader.seen[2:])  # after the cookie and the page's own words
        assert [word for word in hidden if word in told] == []
        assert other not in told
    assert "random" not in "\n".join(readers[0].seen)


def test_repeats_come_later_are_marked_and_look_like_any_other(tmp_path: Path) -> None:
    ten(tmp_path / "w", number=90)
    room, access = opened(tmp_path / "w", repeats=0.2)
    reader = Reader(room, access)
    item, left, shapes = reader.item(), [], set()
    while item["kind"] != "none":
        shapes.add(json.dumps([sorted(item), sorted(item["rows"][0]), sorted(item["image"])]))
        left.append(item["progress"]["left"])
        item = reader.says(item)
    answers = journal(tmp_path / "w")
    again = [n for n, a in enumerate(answers) if a.repeat]
    assert 8 <= len(again) <= 30
    assert len(shapes) == 1
    assert [a - b for a, b in pairwise(left)] == [1] * (len(left) - 1)
    firsts = {a.item_id: n for n, a in enumerate(answers) if not a.repeat}
    gaps = [n - firsts[answers[n].item_id] for n in again]
    assert min(gaps) >= 5
    assert min(again) < 60  # not only when nothing else is left
    assert len({a.id for a in answers}) == len(answers)
    assert len(current(answers)) == len(answers)


def test_readers_at_once_have_different_questions_until_each_has_its_readers(
    tmp_path: Path,
) -> None:
    ten(tmp_path / "w", number=4)
    room, access = opened(tmp_path / "w", "anna", "ben", "chris", "dora", "eve")
    readers = [Reader(room, access, name) for name in access.readers.tokens]
    shown = [reader.item() for reader in readers]
    assert len({item["image"]["id"] for item in shown[:4]}) == 4
    assert shown[4]["kind"] == "none"
    assert "Other readers" in shown[4]["message"]
    for reader, item in zip(readers[:4], shown):
        assert reader.says(item)["kind"] == "none"
    assert readers[4].item()["message"] == "Nothing is waiting for you."
    assert room.queue.wanted() == 0


def test_an_item_is_answered_by_as_many_different_readers_as_it_wants(tmp_path: Path) -> None:
    items = ten(tmp_path / "w", number=3, readers=2)
    room, access = opened(tmp_path / "w", "anna", "ben", "chris")
    for name in ("anna", "ben", "chris"):
        reader = Reader(room, access, name)
        item = reader.item()
        while item["kind"] != "none":
            item = reader.says(item)
        if name == "anna":
            assert "still wanted, of other readers: 3." in item["advice"]
    assert "`triptych run CONFIG`" in item["advice"]
    said = Counter(a.item_id for a in journal(tmp_path / "w"))
    assert said == {item.id: 2 for item in items}


def test_what_a_reader_left_open_goes_to_another_after_a_while(tmp_path: Path) -> None:
    ten(tmp_path / "w", number=1)
    room, access = opened(tmp_path / "w", "anna", "ben")
    at = [0.0]
    room.queue._clock = lambda: at[0]
    anna, ben = Reader(room, access, "anna"), Reader(room, access, "ben")
    item = anna.item()
    assert ben.item()["kind"] == "none"
    at[0] = 700.0
    assert ben.item()["image"] == item["image"]
    anna.says(item)  # she was only slow
    ben.says(ben.item(), 409) if ben.item()["kind"] != "none" else None
    assert [a.reader for a in journal(tmp_path / "w")] == ["anna"]


def test_two_servers_of_one_workspace_see_each_others_answers(tmp_path: Path) -> None:
    ten(tmp_path / "w", number=4)
    one, access = opened(tmp_path / "w", "anna", "ben")
    two = Room(tmp_path / "w", access.readers.secret)
    two.open()
    anna, ben = Reader(one, access, "anna"), Reader(two, access, "ben")
    anna.says(anna.says(anna.item()))
    asyncio.run(two.look())
    ben.says(ben.says(ben.item()))
    asyncio.run(one.look())
    assert one.queue.wanted() == two.queue.wanted() == 0
    assert len(journal(tmp_path / "w")) == 4


# Texts


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_model_wrote_leaves_as_json_without_marks_that_turn(
    tmp_path: Path, text: str
) -> None:
    (image,) = images_of(1, each=1)
    plain = answered(image, "Is it?", "yes", sample=len(text))
    row = replace(plain, question=text, answer=text, options=(text, "no"), rationale=text)
    made(tmp_path / "w", [image], [row], items_of([row]))
    reader = Reader(*opened(tmp_path / "w"))
    reply = reader.get("/item")
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-content-type-options"] == "nosniff"
    said = reply.json()["rows"][0]
    for shown in (said["question"], said["answer"], said["rationale"], said["options"][0]):
        assert not set(shown) & set("\u202e\u2066\x1b\x00\x07")
        assert shown.startswith(text[:4].replace("\x1b", "\\x1b")[:4])
    assert text[:8] not in reader.get("/").text
    reader.says(reply.json(), verdict="reject", correction=1)


def test_a_text_of_100_kb_is_cut_and_says_so(tmp_path: Path) -> None:
    (image,) = images_of(1, each=1)
    row = answered(image, "Is it?", "yes", rationale="word " * 20_000)
    made(tmp_path / "w", [image], [row], items_of([row]))
    reader = Reader(*opened(tmp_path / "w"))
    said = reader.item()["rows"][0]["rationale"]
    assert len(said) < MOST + 60
    assert said.endswith("(80,000 more characters)")


# The record goes on beside it


def test_items_of_a_new_round_appear(tmp_path: Path) -> None:
    ten(tmp_path / "w", number=1)
    room, access = opened(tmp_path / "w")
    reader = Reader(room, access)
    assert reader.says(reader.item())["message"] == "Nothing is waiting for you."
    assert "`triptych run CONFIG`" in reader.item()["advice"]
    images = [replace(i, id=i.id) for i in images_of(12, each=1)[10:]]
    rows = [rows_of(image, 1)[0] for image in images]
    with writing(tmp_path / "w", "read", room._record.workspace.config) as place:
        commit(place, "ingest", 1, images)
        commit(place, "generate", 2, rows)
        commit(place, "consult", 2, items_of(rows, round=2))
    asyncio.run(room.look())
    item = reader.item()
    assert item["kind"] == "verdict"
    assert reader.get(f"/picture/{item['image']['id']}").status_code == 200


def test_a_withdrawn_patients_images_are_shown_no_more(tmp_path: Path) -> None:
    root = tmp_path / "w"
    images = images_of(3)
    rows = [rows_of(image, 1)[0] for image in images]
    made(root, images, rows, items_of(rows))
    room, access = opened(root)
    reader = Reader(room, access)
    shown = reader.item()
    assert shown["image"]["id"] == images[0].id
    assert [other["id"] for other in shown["others"]] == [images[1].id]
    cli("withdraw", "patient-0", "-w", root, "--by", "clinic")
    asyncio.run(room.look())
    seen = set()
    reader.says(shown, 409)
    item = reader.item()
    while item["kind"] != "none":
        seen |= {item["image"]["id"]} | {other["id"] for other in item["others"]}
        item = reader.says(item)
    assert seen == {image.id for image in images[2:]}
    for image in images[:2]:
        assert reader.get(f"/picture/{image.id}").status_code == 404


def test_a_reader_who_is_withdrawn_is_asked_again_from_the_start(tmp_path: Path) -> None:
    root = tmp_path / "w"
    items = ten(root, number=4)
    room, access = opened(root, "anna", "ben")
    anna, ben = Reader(room, access, "anna"), Reader(room, access, "ben")
    ben.says(ben.item())
    anna.says(anna.says(anna.item()))
    cli("withdraw", "--reader", "anna", "-w", root, "--by", "anna")
    asyncio.run(room.look())
    assert room.queue.wanted() == 3
    item = anna.item()
    assert item["progress"]["answered"] == 0
    assert item["undo"] is None
    while item["kind"] != "none":
        item = anna.says(item)
    counts = current(journal(root))
    assert sorted(a.item_id for a in counts) == sorted(i.id for i in items)
    assert [a.reader for a in counts].count("anna") == 3


# Progress


def test_progress_says_what_is_missing_for_the_certificate(tmp_path: Path) -> None:
    images = images_of(60, each=1)
    rows = [rows_of(image, 1)[0] for image in images]
    made(tmp_path / "w", images, rows, [*items_of(rows[:50]), *items_of(rows[50:], "test")])
    room, access = opened(tmp_path / "w", guarantee=Guarantee(precision=0.97, confidence=0.9))
    reader = Reader(room, access)
    counting = sum(set_of(image.group) != REPORT for image in images[:50])
    item = reader.item()
    assert item["progress"]["purposes"] == [
        {"purpose": "measure how good the chosen rows are", "given": 0, "wanted": 50},
        {"purpose": "make the test set", "given": 0, "wanted": 10},
    ]
    assert "lacks at least 76 accepted rows" in item["progress"]["certificate"]
    assert item["progress"]["certificate"].endswith(f"that count: {counting}.")
    before = item["progress"]["certificate"]
    for n in range(1, 10):  # no single answer tells what it was for
        item = reader.says(item)
        assert item["progress"]["certificate"] == before, n
    while item["kind"] != "none":
        item = reader.says(item)
    assert f"lacks at least {76 - counting} " in item["progress"]["certificate"]
    assert item["progress"]["purposes"][0]["given"] == 50
