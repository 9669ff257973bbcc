"""Agreement against published worked examples, and what an interval over patients means."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reward_model.agreement import Agreement, agreements, of_alpha, of_kappa
from reward_model.verdicts import ACCEPT, CANNOT_TELL, FIRST, REJECT, SECOND, TIE, Answer


def kappa(*rows: tuple[float, ...]) -> float:
    observed, chance = of_kappa(np.array(rows, dtype=float))
    return float(1 - observed / chance)


def alpha(*readers: str) -> float:
    """Of a line a reader, a character a unit; a dot is missing."""
    words = sorted(set("".join(readers)) - {"."})
    table = np.zeros((len(words), len(words)))
    for unit in zip(*readers):
        said = [words.index(word) for word in unit if word != "."]
        for i, one in enumerate(said):
            for j, two in enumerate(said):
                if i != j:
                    table[one, two] += 1 / (len(said) - 1)
    observed, chance = of_alpha(table)
    return float(1 - observed / chance)


def test_kappa_is_cohens() -> None:
    # Cohen 1960, table 1: 200 cases, three categories.
    assert kappa((88, 14, 18), (10, 40, 10), (2, 6, 12)) == pytest.approx(0.492, abs=5e-4)
    assert kappa((20, 5), (10, 15)) == pytest.approx(0.4)  # po = 0.7, pe = 0.5
    assert kappa((45, 15), (25, 15)) == pytest.approx(0.1304, abs=5e-5)
    assert kappa((25, 35), (5, 35)) == pytest.approx(0.2593, abs=5e-5)
    assert kappa((3, 0), (0, 4)) == 1


def test_alpha_is_krippendorffs() -> None:
    # Krippendorff, Computing Krippendorff's Alpha-Reliability (2011): examples A, B and C.
    assert alpha("0100000010", "1110010000") == pytest.approx(0.095, abs=5e-4)
    assert alpha("aabbdcccedda", "babbbccceddd") == pytest.approx(0.692, abs=5e-4)
    four = ("123321412...", "1233224125.3", ".3332342251.", "12332441251.")
    assert alpha(*four) == pytest.approx(0.743, abs=5e-4)


def said(unit: int, reader: str, word: str, **more: object) -> Answer:
    values = {"id": f"{unit} {reader} {word} {more}", "kind": "verdict", "at": "", "verdict": word}
    return Answer(**values | {"reader": reader, "triplet_id": f"t{unit:02d}"} | more)  # type: ignore[arg-type]


def measured(answers: list[Answer], patients: int = 100) -> Agreement:
    found = agreements(answers, {f"t{n:02d}": f"p{n % patients}" for n in range(100)})
    assert len(found) == 1
    return found[0]


def test_of_two_readers_of_all_units_kappa_and_the_rest_are_one_number() -> None:
    table = ((20, ACCEPT, ACCEPT), (5, ACCEPT, REJECT), (10, REJECT, ACCEPT), (15, REJECT, REJECT))
    words = [(a, b) for number, a, b in table for _ in range(number)]
    answers = [said(n, r, w) for n, pair in enumerate(words) for r, w in zip(("R1", "R2"), pair)]
    found = measured(answers)
    assert found.of == "verdict"
    pair = found.pairs[0]
    assert (pair.one, pair.two, pair.kappa.units, pair.kappa.patients) == ("R1", "R2", 50, 50)
    assert pair.kappa.value == pytest.approx(0.4)
    assert pair.kappa.agreed == pytest.approx(0.7)
    assert pair.kappa.low is not None
    assert pair.kappa.high is not None
    assert 0.05 < pair.kappa.low < 0.25 < 0.55 < pair.kappa.high < 0.7
    assert [r.rest and r.rest.value for r in found.readers] == [pytest.approx(0.4)] * 2
    assert [r.itself for r in found.readers] == [None, None]


def test_an_interval_over_few_patients_is_wider() -> None:
    """Of each patient's ten rows all are agreed on, or half are."""
    pairs = [(n % 2, n % 2 if n // 10 % 3 else n // 2 % 2) for n in range(60)]
    words = [tuple((REJECT, ACCEPT)[said] for said in pair) for pair in pairs]
    answers = [said(n, r, w) for n, pair in enumerate(words) for r, w in zip(("R1", "R2"), pair)]

    def width(patients: int) -> float:
        found = agreements(answers, {f"t{n:02d}": f"p{n * patients // 60}" for n in range(60)})
        low, high = found[0].pairs[0].kappa.low, found[0].pairs[0].kappa.high
        assert low is not None
        assert high is not None
        return high - low

    assert width(6) > 1.3 * width(60)


def test_full_agreement_on_few_patients_proves_little() -> None:
    answers = [said(n, r, ACCEPT if n % 2 else REJECT) for n in range(6) for r in ("R1", "R2")]
    few, many = measured(answers).pairs[0].kappa, measured(answers, 2).pairs[0].kappa
    assert few.value == many.value == few.high == 1
    assert few.low is not None
    assert many.low is not None
    assert many.low < few.low < 0.5
    one = agreements(answers, {f"t{n:02d}": "p" for n in range(6)})[0].pairs[0].kappa
    assert (one.value, one.low, one.high, one.patients) == (1, None, None, 1)


def test_where_all_say_one_word_chance_agrees_too() -> None:
    answers = [said(n, r, ACCEPT) for n in range(6) for r in ("R1", "R2")]
    kappa = measured(answers).pairs[0].kappa
    assert (kappa.value, kappa.low, kappa.agreed) == (None, None, 1)


def test_self_agreement_is_of_repeats_alone() -> None:
    answers = [said(n, "R1", (ACCEPT, REJECT, CANNOT_TELL)[n % 3]) for n in range(12)]
    again = [replace(a, id=f"again {a.id}", repeat=True) for a in answers[:6]]
    again[0] = replace(again[0], verdict=REJECT)
    found = measured([*answers, *again])
    assert found.alpha is None
    assert found.pairs == ()
    itself = found.readers[0].itself
    assert itself is not None
    assert (itself.units, itself.agreed) == (6, pytest.approx(5 / 6))
    # Words of the first answers: 2, 2, 2; of the second: 1, 3, 2.
    assert itself.value == pytest.approx((5 / 6 - 1 / 3) / (2 / 3))


def test_the_rest_counts_where_most_say_one_thing() -> None:
    answers = [
        said(n, r, ACCEPT if n % 2 else REJECT) for n in range(8) for r in ("R1", "R2", "R3")
    ]
    divided = [said(8, "R1", ACCEPT), said(8, "R2", ACCEPT), said(8, "R3", REJECT)]
    found = measured([*answers, *divided])
    rest = {reader.name: reader.rest for reader in found.readers}
    assert {name: r and r.units for name, r in rest.items()} == {"R1": 8, "R2": 8, "R3": 9}
    assert rest["R3"] is not None
    assert rest["R3"].agreed == pytest.approx(8 / 9)
    assert found.alpha is not None
    assert found.alpha.units == 9


def test_a_pair_is_the_same_whichever_row_was_first() -> None:
    def prefers(reader: str, one: str, two: str, **said: str) -> Answer:
        return Answer(id=f"{reader} {one} {two}", kind="preference", reader=reader, at="",
                      triplet_id=one, other_id=two, preferences=said)  # fmt: skip

    answers = [
        prefers("R1", "t00", "t01", factuality=FIRST, reasoning=TIE),
        prefers("R2", "t01", "t00", factuality=SECOND, reasoning=TIE),
        prefers("R1", "t02", "t03", factuality=SECOND),
        prefers("R2", "t02", "t03", factuality=SECOND),
        said(0, "R1", ACCEPT),
    ]
    found = agreements(answers, {f"t{n:02d}": f"p{n}" for n in range(4)})
    assert [(one.of, one.alpha and one.alpha.units) for one in found] == [
        ("factuality", 2),
        ("reasoning", 1),
    ]
    assert found[0].pairs[0].kappa.agreed == 1


def test_what_is_about_rows_that_are_gone_does_not_count() -> None:
    answers = [said(n, r, ACCEPT) for n in range(3) for r in ("R1", "R2")]
    assert agreements(answers, {}) == []
