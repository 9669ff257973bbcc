"""The export's metadata as Croissant 1.1, with RAI 1.0 and PROV-O properties: croissant.json.

    https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html
    https://docs.mlcommons.org/croissant/docs/croissant-rai-spec.html

What it says is counted from the ledger and from the files that it describes, nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from engine import VERSION
from engine.caveats import NOT_COVERED, promised
from engine.hub.card import licence_of
from engine.hub.columns import ASKED_AND_FOUND
from engine.hub.selection import NOT_STATED, PICTURED, SELECTED, counted, of_rounds, told_by_id
from engine.lineage import links
from engine.lineage.files import file_hash, listing_hash
from engine.lineage.ledger import Ledger
from engine.lineage.withdrawals import WITHDRAWN
from engine.workspace import Workspace

Counts = dict[str, dict[Any, int]]
CONFORMS_TO = ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
LICENCES = {  # the Hub's names, for which SPDX has a page
    name.lower(): f"https://spdx.org/licenses/{name}.html"
    for name in ("Apache-2.0", "MIT", "CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0")
}
_SPLIT_KINDS = {
    "train": "cr:TrainingSplit",
    "validation": "cr:ValidationSplit",
    "test": "cr:TestSplit",
}
_TYPES = {"int64": "cr:Int64", "double": "cr:Float64", "bool": "sc:Boolean"}
_COLUMNS = {
    "id": "Hash of what made the row: image, generator, prompt, task, seed and sample.",
    "image": "The safe image, PNG.",
    "question": "The question.",
    "options": "The options to choose from; empty for an open question.",
    "answer": "The answer, in the words of one of the options where there are any.",
    "rationale": "Why, in the generator's or the expert's words.",
    "modality": "Imaging modality.",
    "anatomy": "Body part.",
    **ASKED_AND_FOUND,
    "reward": "The judge's weighted score, a logit; empty where no judge has seen the row.",
    "probability": "Calibrated estimate that an expert accepts the row.",
    "round": "Round of the loop that made the row; 0 for the expert's.",
    "group": "Keyed hash of patient or study; no group is in two splits.",
    "image_id": "Hash of the image's pixels.",
    "generator_id": "Hash of the generator's files, or of its Hub commit or name; or `expert` or "
    "`composed`, `drawn` or `safety`.",
    "judge_id": "Hash of the judge's files, or of its Hub commit.",
    "is_synthetic": "Whether the image was drawn by a program.",
    "source": "Name of a drawn image; empty for images of patients.",
    "origin": "generated, expert, composed, drawn with its image, or safety.",
    "program": "JSON: the facts of a composed question and what computes its answer from them; of "
    "a row that teaches safety what it teaches, and the clause of the policy that it cites.",
    "reason": "Why the row was rejected.",
    "score": "What was compared with the threshold.",
    "threshold": "The threshold.",
    "rules_id": "Hash of the rules of selection.",
}
_MEANS = {"image_id": "prov:wasDerivedFrom", "generator_id": "prov:wasAttributedTo"}
_CR = (
    "arrayShape citeAs column containedIn equivalentProperty extract field fileObject fileProperty "
    "fileSet format includes isArray isLiveDataset jsonPath key md5 parentField path recordSet "
    "references regex repeated replace samplingRate separator source subField transform"
).split()
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "prov": "http://www.w3.org/ns/prov#",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "description": {"@container": "@language"},
    "name": {"@container": "@language"},
} | {term: f"cr:{term}" for term in _CR}


def croissant(
    workspace: Workspace, ledger: Ledger, folder: Path, name: str, url: str | None = None
) -> dict[str, Any]:
    """The metadata of the export in `folder`, ready for json.dump; `selecting` holds the ledger.

    `url` is where the dataset is published; without one it is named by its content's hash.
    """
    files = [*sorted((folder / "data").glob("*.parquet")), folder / "rejects.parquet"]
    hashes = {path.relative_to(folder).as_posix(): file_hash(path) for path in files}
    sets = {_set_name(path): path for path in files}  # any of a split's files has its columns
    content = listing_hash(hashes)
    counts = counted(ledger)
    number = f"{max(counts['round'])}.{len(_made_by(workspace))}.0+{content[:12]}"
    licence = licence_of(workspace)
    total = sum(counts["split"].values())
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": name,
        "description": f"{total} triplets of image, question and answer, made by Triptych.",
        "identifier": f"urn:sha256:{content}",
        "url": url or f"urn:sha256:{content}",
        "version": number,
        "license": LICENCES.get(licence, licence),
        "creator": {"@type": "sc:Organization", "name": f"Triptych run {name}"},
        "inLanguage": "en",
        "keywords": ["medical", "synthetic", "visual question answering"],
        "citeAs": f"@misc{{{name}, title = {{{name}}}, version = {{{number}}}}}",
        "isLiveDataset": False,
        **_dates(workspace),
        **_rai(ledger, counts),
        **_provenance(ledger, workspace, counts),
        "distribution": [
            *(_file_set(name) for name in sets if name in _SPLIT_KINDS),
            *(_file(folder / path, path, digest) for path, digest in hashes.items()),
        ],
        "recordSet": [_splits(sets), *(_records(name, path) for name, path in sets.items())],
    }


def write_croissant(
    workspace: Workspace, ledger: Ledger, folder: Path, name: str, url: str | None = None
) -> None:
    """Write croissant.json into a finished export."""
    said = croissant(workspace, ledger, folder, name, url)
    text = json.dumps(said, indent=1, ensure_ascii=False)
    (folder / "croissant.json").write_text(f"{text}\n", encoding="utf-8")


def _made_by(workspace: Workspace) -> list[dict[str, Any]]:
    """The commits that an export is made of: an export before it changes nothing in it."""
    return [commit for commit in workspace.commits() if commit["stage"] != "export"]


def _dates(workspace: Workspace) -> dict[str, str]:
    """The first and the newest event's time; events older than the hash chain have none."""
    times = [commit["ended"] for commit in _made_by(workspace) if "ended" in commit]
    return {"dateCreated": times[0], "datePublished": times[-1]} if times else {}


def _file(path: Path, name: str, digest: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": path.name,
        "contentUrl": name,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": "application/x-parquet",
        "sha256": digest,
    }


def _set_name(path: Path) -> str:
    return path.stem.split("-")[0]


def _file_set(split: str) -> dict[str, Any]:
    """All files of a split; without `containedIn` they lie where croissant.json does."""
    return {
        "@type": "cr:FileSet",
        "@id": f"{split}-files",
        "name": f"{split}-files",
        "includes": f"data/{split}-*.parquet",
        "encodingFormat": "application/x-parquet",
    }


def _splits(sets: Iterable[str]) -> dict[str, Any]:
    names = [name for name in sets if name in _SPLIT_KINDS]
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            {"@type": "cr:Field", "@id": "splits/name", "dataType": "sc:Text"},
            {"@type": "cr:Field", "@id": "splits/url", "dataType": ["sc:URL", "cr:Split"]},
        ],
        "data": [{"splits/name": n, "splits/url": _SPLIT_KINDS[n]} for n in names],
    }


def _records(name: str, path: Path) -> dict[str, Any]:
    """What a split's rows are, or the rejects', from one of its files."""
    is_split = name in _SPLIT_KINDS
    source = (
        {"fileSet": {"@id": f"{name}-files"}} if is_split else {"fileObject": {"@id": path.name}}
    )
    columns = pq.read_schema(path)
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"The {name} split." if is_split else "Ids thrown out, and why.",
        "key": {"@id": f"{name}/id"},
        "field": [_field(name, source, column.name, str(column.type)) for column in columns],
    }


def _field(records: str, files: dict[str, Any], column: str, arrow: str) -> dict[str, Any]:
    source: dict[str, Any] = files | {"extract": {"column": column}}
    field: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"{records}/{column}",
        "name": column,
        "description": _COLUMNS[column],
        "dataType": _TYPES.get(arrow, "sc:Text"),
        "source": source,
    }
    if column == "image":  # {bytes, path}, as `datasets` stores an image
        field["dataType"] = "sc:ImageObject"
        source["transform"] = {"jsonPath": "bytes"}
    if arrow.startswith("list"):
        field |= {"isArray": True, "arrayShape": "-1"}
    if column in _MEANS:
        field["equivalentProperty"] = _MEANS[column]
    return field


def _images(ledger: Ledger) -> list[dict[str, Any]]:
    return ledger.sql(
        "SELECT deidentification, is_synthetic, count(DISTINCT id) AS n FROM images "
        f"WHERE id IN ({PICTURED}) GROUP BY ALL ORDER BY ALL"
    )


def _listed(counts: dict[Any, int]) -> str:
    return ", ".join(f"{key} {n}" for key, n in counts.items())


def _models(counts: Counts, role: str) -> list[str]:
    return [model for model in counts[f"{role}_id"] if model != NOT_STATED]


def _rai(ledger: Ledger, counts: Counts) -> dict[str, Any]:
    images = _images(ledger)
    real = sum(row["n"] for row in images if not row["is_synthetic"])
    drawn = sum(row["n"] for row in images if row["is_synthetic"])
    profiles = ", ".join(sorted({row["deidentification"] for row in images}))
    withdrawn = ledger.sql(f"SELECT count(*) AS n FROM ({WITHDRAWN})")[0]["n"]
    judged = ledger.sql(
        "SELECT count(DISTINCT j.id) AS n FROM judgements j "
        f"WHERE triplet_id IN (SELECT id FROM ({SELECTED}))"
    )[0]["n"]
    promises = [f"Round {r}: {line}." for r, m in of_rounds(ledger) for line in promised(m)]
    told = told_by_id(ledger)
    tools = [
        f"{role} {model}" + (f" ({told[model]})" if model in told else "")
        for role in ("generator", "judge")
        for model in _models(counts, role)
        if model != "expert"
    ]
    return {
        "rai:dataCollection": (
            f"{drawn} images drawn by a program, {real} of patients; rows: "
            f"{_listed(counts['origin'])}. A vision-language model proposed the generated rows, a "
            "reward model scored them, and rules kept or rejected them."
        ),
        "rai:dataCollectionType": [
            "Software Collection",
            *(["Secondary Data analysis"] if real else []),
        ],
        "rai:dataPreprocessingProtocol": [f"De-identification: {profiles}."],
        "rai:dataAnnotationProtocol": [
            "Experts wrote the seed rows and preferred between candidates; a judge trained on "
            "those preferences scored generated rows for factuality, reasoning and relevance."
        ],
        "rai:annotationsPerItem": f"{judged / sum(counts['split'].values()):.2f} judgements a row",
        "rai:machineAnnotationTools": tools,
        "rai:dataBiases": [
            f"Rows by modality: {_listed(counts['modality'])}.",
            f"Rows by question type: {_listed(counts['asked_question_type'])}.",
            "Selection keeps what generator and judge are sure of, so hard questions are rarer "
            "than in what was asked.",
        ],
        "rai:dataLimitations": [
            "Generated answers were accepted by a model; a person did not check each of them.",
            *promises,
            *([NOT_COVERED] if promises else []),
            *(["Drawn images validate the engine, not medicine."] if drawn else []),
        ],
        "rai:dataUseCases": [
            "Research on synthetic data for medical visual question answering: training, "
            "validation and test by the splits given. Not for diagnosis."
        ],
        "rai:dataSocialImpact": (
            "Meant to let research proceed with less data of patients. A model trained on it can "
            "be confidently wrong and has no place in care without clinical evaluation."
        ),
        "rai:personalSensitiveInformation": [
            f"{real} images are of patients, de-identified by {profiles}; patient or study is a "
            "keyed hash, and names of source files are left out."
            if real
            else "None: every image was drawn by a program."
        ],
        "rai:hasSyntheticData": drawn > 0 or "generated" in counts["origin"],
        "rai:dataReleaseMaintenancePlan": (
            f"Withdrawn images are left out of every export ({withdrawn} so far); a new version "
            "replaces the one before."
        ),
    }


def _provenance(ledger: Ledger, workspace: Workspace, counts: Counts) -> dict[str, Any]:
    kinds = {True: "drawn by a program", False: "of patients"}
    images = [
        f"{row['n']} images {kinds[row['is_synthetic']]}, {row['deidentification']}"
        for row in _images(ledger)
    ]
    agents = sorted({*_models(counts, "generator"), *_models(counts, "judge")})
    # An export commits what left. Were it told here, the same export made again would differ.
    record = [link for link in links.links(workspace.events) if link.commit["stage"] != "export"]
    return {
        "prov:wasDerivedFrom": [
            *({"@type": "prov:Entity", "prov:label": label} for label in images),
            _named("prov:Entity", f"urn:sha256:{record[-1].hash}", "the record's head"),
        ],
        "prov:wasGeneratedBy": [_activity(link.commit) for link in record],
        "prov:wasAttributedTo": [
            *(_named(_agent(model), f"urn:triptych:model:{model}", model) for model in agents),
            _named("prov:SoftwareAgent", f"urn:triptych:software:{VERSION}", f"Triptych {VERSION}"),
        ],
    }


def _named(kind: str, identifier: str, label: str) -> dict[str, str]:
    return {"@id": identifier, "@type": kind, "prov:label": label}


def _agent(model: str) -> str:
    return "prov:Agent" if model == "expert" else "prov:SoftwareAgent"


def _activity(commit: dict[str, Any]) -> dict[str, Any]:
    label = f"{commit['stage']}, round {commit['round']}"
    activity = _named("prov:Activity", f"urn:triptych:stage:{commit['fingerprint']}", label)
    times = {"prov:startedAtTime": commit.get("started"), "prov:endedAtTime": commit.get("ended")}
    return activity | {k: v for k, v in times.items() if v}
