"""A program in English: its question, and the rationale that its steps are.

The words follow from the program and a number that picks among wordings, so that both can be made
again from what is stored.
"""

from __future__ import annotations

from generators.compose.program import (
    COUNT,
    DIAMETER,
    IF,
    MM,
    PRESENCE,
    SEVERAL,
    TIMES,
    Apply,
    Fact,
    Given,
    Look,
    Node,
    Program,
    Step,
    Value,
    in_words,
)
from generators.compose.words import ASKED, LESION, Noun, capital, name_of, noun, says

WORDINGS = 3  # of a form, about
_ACROSS = "Take a lesion to be as wide as a disc of its area."
_BOTH = (
    "Are {all} of these statements true: {claims}?",
    "Is it true of this image that {joined}?",
    "Do {all} of these statements hold for the image: {claims}?",
)
_EITHER = (
    "Is at least one of these statements true: {claims}?",
    "Is any of these statements true of the image: {claims}?",
    "Does at least one of these statements hold for the image: {claims}?",
)
_HOLD = (
    "How many of these statements are true: {claims}?",
    "How many of these statements hold for the image: {claims}?",
    "Count the true statements: {claims}.",
)
_IF = (
    "If {joined}, give {then}; otherwise give {otherwise}.",
    "What is {then} if {joined}, or else {otherwise}?",
    "If {joined}, what is {then}? Otherwise, what is {otherwise}?",
)


def called(program: Program) -> Noun:
    """What the subject is called: by its name, but "lesion" where that would tell an answer.

    A question of what is there must not name what is there; and what is not counted by its name
    (drusen, consolidation) is counted as lesions.
    """
    facts = program.facts
    names = {f.subject for f in facts if f.about != PRESENCE and f.subject}
    name = names.pop() if len(names) == 1 else LESION
    found = noun(name)
    asked = {f.about for f in facts}
    uncounted = (found.mass or found.plural) and asked & {COUNT, SEVERAL, DIAMETER}
    return noun(LESION) if PRESENCE in asked or uncounted else found


def claim_of(node: Node) -> tuple[Fact, Value] | None:
    """The fact and the value that a node claims it has; None of a node that is no claim.

    "More than one" of a count is the claim that there are several.
    """
    if isinstance(node, Apply) and node.op in ("is", "more"):
        first, second = node.args
        if isinstance(first, Look) and isinstance(second, Given):
            return first.fact, second.value
    return None


def _clause(node: Node, subject: Noun) -> str:
    found = claim_of(node)
    assert found is not None
    assert isinstance(node, Apply)
    fact, value = found
    if node.op == "more":
        return f"there is more than one {subject.one}"
    return _fact_says(fact, value, subject)


def _fact_says(fact: Fact, value: Value, subject: Noun) -> str:
    return says(fact, value, noun(fact.subject) if fact.about == PRESENCE else subject)


def _claims(parts: tuple[Node, ...], subject: Noun) -> str:
    clauses = [_clause(part, subject) for part in parts]
    return "; ".join(f"({n}) {clause}" for n, clause in enumerate(clauses, 1))


def _joined(parts: tuple[Node, ...], subject: Noun, word: str = "and") -> str:
    clauses = [_clause(part, subject) for part in parts]
    if len(clauses) == 1:
        return clauses[0]
    comma = "," if len(clauses) > 2 else ""
    return f"{', '.join(clauses[:-1])}{comma} {word} {clauses[-1]}"


def _parts(node: Node) -> tuple[Node, ...]:
    """The claims that a condition is made of."""
    return node.args if isinstance(node, Apply) and node.op == "all" else (node,)


def question(program: Program, wording: int) -> str:
    """The question, in one of several wordings; raises ValueError of a tree that has no form."""
    tree, subject = program.tree, called(program)
    if not isinstance(tree, Apply):
        raise ValueError("a fact alone is no question of several steps")
    if tree.op in ("all", "any", "hold"):
        forms = {"all": _BOTH, "any": _EITHER, "hold": _HOLD}[tree.op]
        return forms[wording % len(forms)].format(
            all="both" if len(tree.args) == 2 else "all",
            claims=_claims(tree.args, subject),
            joined=_joined(tree.args, subject),
        )
    if tree.op == IF:
        condition, then, otherwise = tree.args
        assert isinstance(then, Look)
        assert isinstance(otherwise, Look)
        return _IF[wording % len(_IF)].format(
            joined=_joined(_parts(condition), subject),
            then=name_of(then.fact, subject) + ASKED.get(then.fact.about, ""),
            otherwise=name_of(otherwise.fact, subject) + ASKED.get(otherwise.fact.about, ""),
        )
    asked = _of_measures(tree, subject, wording)
    return f"The image is {program.width_mm:.0f} mm wide. {_ACROSS} {asked}"


def _of_measures(tree: Apply, subject: Noun, wording: int) -> str:
    first, second = tree.args[0], tree.args[1]
    if tree.op == "difference" and isinstance(second, Given):
        earlier = f"{second.value:.1f} mm"
        return (
            f"At an earlier examination the {subject.one} was {earlier} across. By how many mm has "
            "it grown?",
            f"The {subject.one} was {earlier} across before. By how many mm is it wider now?",
        )[wording % 2]
    if tree.op in ("difference", "ratio"):
        assert isinstance(first, Look)
        assert isinstance(second, Look)
        a, b = first.fact.which, second.fact.which
        if tree.op == "ratio":
            return f"How many times as wide as the {b} {subject.one} is the {a} one?"
        return (
            f"By how many mm is the {a} {subject.one} wider than the {b} one?",
            f"What is the difference in width between the {a} and the {b} {subject.one}, in mm?",
        )[wording % 2]
    if tree.op == "sum":
        return (
            f"How many mm do the widths of all {subject.many} add up to?",
            f"What is the sum of the widths of all {subject.many}, in mm?",
        )[wording % 2]
    if tree.op == "more" and isinstance(second, Given):
        return (
            f"Do the widths of all {subject.many} add up to more than {second.value:.1f} mm?",
            f"Is the sum of the widths of all {subject.many} more than {second.value:.1f} mm?",
        )[wording % 2]
    raise ValueError(f"{tree.op} has no form")


def rationale(program: Program) -> str:
    """The steps in sentences: what was looked at and what it is, then what follows from it.

    A claim's sentence says whether it holds, and what is seen; so each can be checked by itself.
    """
    tree, subject = program.tree, called(program)
    _, steps = program.run()
    counted = isinstance(tree, Apply) and tree.op in ("all", "any", "hold")
    condition = _parts(tree.args[0]) if isinstance(tree, Apply) and tree.op == IF else ()
    said: list[str] = []
    claims = 0
    for step in steps:
        claims += step.claim is not None
        if step.fact is not None:
            seen = _fact_says(step.fact, step.fact.value, subject)
            if step.claim is None:
                lead = f"so {name_of(step.fact, subject)} is asked for: " if condition else ""
                said.append(lead + seen)
            elif counted:
                said.append(f"statement {claims} is {'true' if step.value else 'false'}: {seen}")
            else:
                part = f"part {claims} of the condition" if len(condition) > 1 else "the condition"
                said.append(f"{part} {'holds' if step.value else 'does not hold'}: {seen}")
        else:
            said.append(_follows(step, len(condition) > 1))
    return " ".join(f"{capital(sentence)}." for sentence in said)


def _follows(step: Step, of_condition: bool) -> str:
    """What an operation came to."""
    if of_condition:
        return f"so the condition {'holds' if step.value else 'does not hold'}"
    number = len(step.args)
    if step.op == "all":
        every = "both statements are" if number == 2 else f"all {number} statements are"
        return f"so {every} true" if step.value else "so not every statement is true"
    if step.op == "any":
        return f"so {'at least one' if step.value else 'none'} of the statements is true"
    if step.op == "hold":
        return (
            f"so {step.value} of the {number} statements {'is' if step.value == 1 else 'are'} true"
        )
    if step.op == "more":
        return f"that is {'' if step.value else 'not '}more than {in_words(step.args[1], MM)}"
    terms = [f"{value:.1f}" for value in step.args]
    if step.op == "sum":
        return f"{', '.join(terms[:-1])} and {terms[-1]} mm add up to {step.value:.1f} mm"
    sign, unit = {"difference": (" - ", MM), "ratio": (" / ", TIMES)}[step.op]
    return f"the {step.op} is {sign.join(terms)} = {step.value:.1f} {unit}"


def steps_of(program: Program) -> int:
    """How many steps its answer takes."""
    return len(program.run()[1])
