"""The neighbourhood of a row, drawn as SVG: what it came from to the left, what came of it right.

Columns follow the loop, so arrows run one way: images, prompts and tasks; models that write; rows;
what was judged, decided and preferred; models and exports that took them in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape
from typing import Any

from engine.lineage.ledger import Ledger
from engine.lineage.trace import pairs_of, resolve

SHOWN = 6  # rows of a kind beside one row; the rest are counted
COLUMNS = {
    "image": 0,
    "prompt": 0,
    "task": 0,
    "writer": 1,
    "triplet": 2,
    "judgement": 3,
    "decision": 3,
    "preference": 3,
    "withdrawal": 3,
    "model": 4,
    "dataset": 4,
    "descendant": 5,
}
# Okabe and Ito's palette, which colour-blind readers tell apart.
COLOURS = {
    "image": "#56b4e9",
    "prompt": "#b0b0b0",
    "task": "#b0b0b0",
    "writer": "#cc79a7",
    "triplet": "#e69f00",
    "judgement": "#009e73",
    "decision": "#009e73",
    "preference": "#0072b2",
    "withdrawal": "#d55e00",
    "model": "#cc79a7",
    "dataset": "#f0e442",
    "descendant": "#cc79a7",
}
WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 180, 44, 70, 16, 24


@dataclass(frozen=True, slots=True)
class Node:
    """A box: a row, or how many more there are."""

    id: str
    kind: str
    title: str
    detail: str = ""


@dataclass
class Graph:
    """Boxes by id and labelled arrows (from, to, word)."""

    centre: str
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, node: Node, edge: tuple[str, str, str] | None = None) -> None:
        """Add a box (the first of an id stays) and an arrow."""
        self.nodes.setdefault(node.id, node)
        if edge and edge not in self.edges:
            self.edges.append(edge)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        nodes = [{"id": n.id, "kind": n.kind, "title": n.title, "detail": n.detail}
                 for n in self.nodes.values()]  # fmt: skip
        edges = [{"from": a, "to": b, "label": word} for a, b, word in self.edges]
        return {"centre": self.centre, "nodes": nodes, "edges": edges}


def neighbourhood(ledger: Ledger, row: str) -> Graph:
    """A triplet, image, model, preference, verdict, dataset or tombstone with what is beside it.

    Raises TriptychError for an unknown id.
    """
    with ledger.reading():
        table, row_id = resolve(ledger, row)
        graph = Graph(row_id)
        if table == "triplets":
            _triplet(ledger, graph, row_id, whole=True)
        elif table == "images":
            _image(ledger, graph, row_id)
            rows = ledger.sql(
                "SELECT DISTINCT id FROM triplets WHERE image_id = ? ORDER BY id", [row_id]
            )
            _several(ledger, graph, row_id, [r["id"] for r in rows])
        elif table == "models":
            _models(ledger, graph, row_id)
        elif table == "preferences":
            _pair(ledger, graph, row_id)
        elif table == "verdicts":
            _verdict(ledger, graph, row_id)
        elif table == "datasets":
            _dataset_rows(ledger, graph, row_id)
        else:
            _tombstone(ledger, graph, row_id)
        return graph


def _first(ledger: Ledger, table: str, row_id: str) -> dict[str, Any] | None:
    rows = ledger.sql(f"SELECT * FROM {table} WHERE id = ? ORDER BY sequence LIMIT 1", [row_id])
    return rows[0] if rows else None


def _image(ledger: Ledger, graph: Graph, image_id: str) -> None:
    row = _first(ledger, "images", image_id) or {}
    detail = f"{row.get('modality', 'withdrawn')} {row.get('split', '')}"
    graph.add(Node(image_id, "image", f"image {image_id[:8]}", detail))


def _several(ledger: Ledger, graph: Graph, source: str, triplets: list[str]) -> None:
    for triplet in triplets[:SHOWN]:
        _triplet(ledger, graph, triplet, whole=False)
    if len(triplets) > SHOWN:
        more = Node(f"{source}+", "triplet", f"{len(triplets) - SHOWN} more triplets")
        graph.add(more, (source, more.id, ""))


def _triplet(ledger: Ledger, graph: Graph, row_id: str, whole: bool) -> None:
    """A triplet with its image and decision, and where `whole` everything beside it."""
    found = ledger.find("triplets", "id", [row_id])
    if not found:
        graph.add(Node(row_id, "triplet", f"triplet {row_id[:8]}", "withdrawn"))
        return
    row = found[0]
    graph.add(Node(row_id, "triplet", f"triplet {row_id[:8]}", f"“{row['question']}”"))
    _image(ledger, graph, row["image_id"])
    graph.edges.append((row["image_id"], row_id, "shown"))
    for decision in ledger.find("decisions", "triplet_id", [row_id])[-1:]:
        kept = "kept" if decision["keep"] else "rejected"
        detail = decision["reason"] if decision["reason"] != kept else f"{decision['score']:.3f}"
        node = Node(decision["id"], "decision", f"{kept}, round {decision['round']}", detail)
        graph.add(node, (row_id, node.id, ""))
    _used(ledger, graph, row_id, descend=whole)
    if not whole:
        return
    writer = _first(ledger, "models", row["generator_id"])
    name = f"{writer['role']} {writer['id'][:8]}" if writer else row["generator_id"]
    graph.add(
        Node(row["generator_id"], "writer", name, f"seed {row['seed']}"),
        (row["generator_id"], row_id, "wrote"),
    )
    for column, kind in (("prompt_hash", "prompt"), ("task_id", "task")):
        about = _first(ledger, f"{kind}s", row[column])
        if about:
            detail = about["text"] if kind == "prompt" else about["question_type"]
            graph.add(
                Node(row[column], kind, f"{kind} {row[column][:8]}", detail),
                (row[column], row_id, "asked"),
            )
    for source in row["derived_from"]:
        if ledger.find("triplets", "id", [source]):
            graph.add(Node(source, "triplet", f"triplet {source[:8]}", "its source"))
        else:
            _image(ledger, graph, source)
        graph.edges.append((source, row_id, "derived"))
    for judged in ledger.find("judgements", "triplet_id", [row_id])[-SHOWN:]:
        detail = f"{judged['overall']:.2f}, p {judged['probability']:.2f}"
        node = Node(judged["id"], "judgement", f"judge {judged['judge_id'][:8]}", detail)
        graph.add(node, (row_id, node.id, "judged"))
    for member in ledger.find("membership", "triplet_id", [row_id])[-SHOWN:]:
        name = member["dataset_id"]
        node = Node(name, "dataset", f"dataset {name[:8]}", member["split"])
        graph.add(node, (row_id, name, "exported"))
    for pair in pairs_of(ledger, row_id)[:SHOWN]:
        _pair(ledger, graph, pair)
    query = "SELECT DISTINCT id FROM verdicts WHERE triplet_id = ? ORDER BY id LIMIT ?"
    for verdict in ledger.sql(query, [row_id, SHOWN]):
        _verdict(ledger, graph, verdict["id"])


def _pair(ledger: Ledger, graph: Graph, row_id: str) -> None:
    row = _first(ledger, "preferences", row_id) or {}
    title = f"{row.get('criterion')} by {row.get('expert')}"
    graph.add(Node(row_id, "preference", title, "held out" if row.get("holdout") else ""))
    for column, word in (("chosen_id", "better"), ("rejected_id", "worse")):
        _triplet(ledger, graph, row[column], whole=False)
        graph.edges.append((row[column], row_id, word))
    _used(ledger, graph, row_id, descend=False)


def _verdict(ledger: Ledger, graph: Graph, row_id: str) -> None:
    row = _first(ledger, "verdicts", row_id) or {}
    title, detail = f"{row.get('verdict')} by {row.get('expert')}", str(row.get("stream"))
    if row.get("triplet_id") not in graph.nodes:
        _triplet(ledger, graph, row["triplet_id"], whole=False)
    node = Node(row_id, "preference", title, detail)
    graph.add(node, (row["triplet_id"], row_id, "said of it"))
    _used(ledger, graph, row_id, descend=False)


def _used(ledger: Ledger, graph: Graph, row_id: str, descend: bool) -> None:
    """The checkpoints that saw a row, and where asked what descends from these."""
    uses = ledger.find("consumption", "row_id", [row_id])
    for use in uses[:SHOWN]:
        row = _first(ledger, "models", use["model_id"]) or {}
        name = use["model_id"]
        detail = f"{use['stage']}, round {row.get('round')}"
        graph.add(
            Node(name, "model", f"{row.get('role')} {name[:8]}", detail), (row_id, name, "saw")
        )
    for use in uses[:SHOWN] if descend else []:
        _children(ledger, graph, use["model_id"])
    if len(uses) > SHOWN:
        more = Node(f"{row_id}+models", "model", f"{len(uses) - SHOWN} more checkpoints")
        graph.add(more, (row_id, more.id, ""))


def _children(ledger: Ledger, graph: Graph, name: str) -> None:
    children = ledger.sql(
        "SELECT DISTINCT id, role, round FROM models WHERE parent_id = ? AND id <> ? ORDER BY id "
        "LIMIT ?",
        [name, name, SHOWN],
    )
    for child in children:
        node = Node(
            child["id"], "descendant", f"{child['role']} {child['id'][:8]}",
            f"round {child['round']}",
        )  # fmt: skip
        graph.add(node, (name, child["id"], "parent"))


def _models(ledger: Ledger, graph: Graph, row_id: str) -> None:
    row = _first(ledger, "models", row_id) or {}
    title = f"{row.get('role')} {row_id[:8]}"
    graph.add(Node(row_id, "model", title, f"{row.get('stage')}, round {row.get('round')}"))
    parent = row.get("parent_id")
    if parent and parent != row_id:
        above = _first(ledger, "models", parent) or {"role": "model"}
        graph.add(
            Node(parent, "writer", f"{above['role']} {parent[:8]}"), (parent, row_id, "parent")
        )
    _children(ledger, graph, row_id)
    counted = (
        ("consumption", "model_id", "row_table", "saw"),
        ("makers", "maker", "row_table", "wrote"),
    )
    for table, column, by, word in counted:
        number = "sum(rows)" if table == "makers" else "count(*)"
        rows = ledger.sql(
            f"SELECT {by} AS kind, {number} AS n FROM {table} WHERE {column} = ? GROUP BY ALL "
            "ORDER BY ALL",
            [row_id],
        )
        for found in rows:
            kind = found["kind"].removesuffix("s")
            where = kind if kind in COLUMNS and word == "saw" else "descendant"
            node = Node(f"{row_id}{word}{kind}", where, f"{found['n']} {found['kind']}", word)
            arrow = (node.id, row_id, word) if word == "saw" else (row_id, node.id, word)
            graph.add(node, arrow)


def _dataset_rows(ledger: Ledger, graph: Graph, row_id: str) -> None:
    row = _first(ledger, "datasets", row_id) or {}
    graph.add(Node(row_id, "dataset", f"dataset {row_id[:8]}", f"{row.get('rows')} rows"))
    members = ledger.sql(
        "SELECT triplet_id FROM membership WHERE dataset_id = ? ORDER BY triplet_id", [row_id]
    )
    for member in members[:SHOWN]:
        _triplet(ledger, graph, member["triplet_id"], whole=False)
        graph.edges.append((member["triplet_id"], row_id, "exported"))
    if len(members) > SHOWN:
        more = Node(f"{row_id}+", "triplet", f"{len(members) - SHOWN} more triplets")
        graph.add(more, (more.id, row_id, "exported"))


def _tombstone(ledger: Ledger, graph: Graph, row_id: str) -> None:
    rows = ledger.sql(
        "SELECT t.row_table, w.id, w.at FROM tombstones t JOIN withdrawals w "
        "ON w.id = t.withdrawal_id WHERE t.row_id = ? LIMIT 1",
        [row_id],
    )
    kind = rows[0]["row_table"].removesuffix("s")
    kind = kind if kind in COLUMNS else "triplet"
    graph.add(Node(row_id, kind, f"{kind} {row_id[:8]}", "withdrawn"))
    node = Node(rows[0]["id"], "withdrawal", "withdrawal", rows[0]["at"])
    graph.add(node, (row_id, node.id, "gone"))
    _used(ledger, graph, row_id, descend=True)


def _places(graph: Graph) -> dict[str, tuple[float, float]]:
    """The upper left corner of each box: its kind's column, rows near their neighbours."""
    columns: dict[int, list[str]] = {}
    for node in graph.nodes.values():
        columns.setdefault(COLUMNS[node.kind], []).append(node.id)
    order = {name: i for names in columns.values() for i, name in enumerate(names)}
    for _ in range(4):  # the barycentre heuristic of Sugiyama, Tagawa and Toda 1981
        for names in columns.values():
            names.sort(key=lambda n: (_mean(order[o] for o in _beside(graph, n)), order[n]))
            order |= {name: i for i, name in enumerate(names)}
    tallest = max(map(len, columns.values()))
    places: dict[str, tuple[float, float]] = {}
    for x, (_, names) in enumerate(sorted(columns.items())):
        top = MARGIN + (tallest - len(names)) * (HEIGHT + GAP_Y) / 2
        for y, name in enumerate(names):
            places[name] = (MARGIN + x * (WIDTH + GAP_X), top + y * (HEIGHT + GAP_Y))
    return places


def _beside(graph: Graph, name: str) -> list[str]:
    return [b if a == name else a for a, b, _ in graph.edges if name in (a, b)]


def _mean(values: Iterable[int]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0


def _cut(text: str, length: int = 26) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def svg(graph: Graph) -> str:
    """The graph as one self-contained SVG file; equal graphs give equal text."""
    places = _places(graph)
    width = max(x for x, _ in places.values()) + WIDTH + MARGIN
    height = max(y for _, y in places.values()) + HEIGHT + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" font-family="sans-serif" font-size="11">',
        f"<title>Lineage of {escape(graph.centre)}</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="#666"/></marker></defs>',
        f'<rect width="{width:g}" height="{height:g}" fill="white"/>',
    ]
    parts += [_arrow(places[a], places[b], word) for a, b, word in graph.edges if a != b]
    parts += [
        _box(node, *places[node.id], node.id == graph.centre) for node in graph.nodes.values()
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _arrow(start: tuple[float, float], end: tuple[float, float], word: str) -> str:
    """A curve from the right of one box to the left of another; within a column, around it."""
    x1, y1, x2, y2 = start[0] + WIDTH, start[1] + HEIGHT / 2, end[0], end[1] + HEIGHT / 2
    if x2 <= x1 - WIDTH:  # the same column
        x2, bend = end[0] + WIDTH, GAP_X / 2
        curve = f"M{x1:g} {y1:g}C{x1 + bend:g} {y1:g} {x2 + bend:g} {y2:g} {x2:g} {y2:g}"
    else:
        middle = (x1 + x2) / 2
        curve = f"M{x1:g} {y1:g}C{middle:g} {y1:g} {middle:g} {y2:g} {x2:g} {y2:g}"
    line = f'<path d="{curve}" fill="none" stroke="#666" marker-end="url(#tip)"/>'
    if not word:
        return line
    at = (x1 + x2) / 2, (y1 + y2) / 2 - 3
    return line + (
        f'<text x="{at[0]:g}" y="{at[1]:g}" text-anchor="middle" font-size="9" fill="#444" '
        f'stroke="white" stroke-width="3" paint-order="stroke">{escape(word)}</text>'
    )


def _box(node: Node, x: float, y: float, is_centre: bool) -> str:
    edge = 'stroke="black" stroke-width="2.5"' if is_centre else 'stroke="#444"'
    return (
        f"<g><title>{escape(node.id)}: {escape(node.detail)}</title>"
        f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="white" {edge}/>'
        f'<rect x="{x:g}" y="{y:g}" width="6" height="{HEIGHT}" rx="2" '
        f'fill="{COLOURS[node.kind]}"/>'
        f'<text x="{x + 14:g}" y="{y + 18:g}" font-weight="bold">{escape(_cut(node.title))}</text>'
        f'<text x="{x + 14:g}" y="{y + 34:g}" fill="#444">{escape(_cut(node.detail))}</text></g>'
    )
