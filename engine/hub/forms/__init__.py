"""The dataset in the forms of tools that train elsewhere: `dataset-TOOL/` beside `dataset/`.

A form is made of the dataset that was just exported, so it holds what that holds. One that lies
there is written again by every export, a withdrawal's too.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from engine.errors import TriptychError
from engine.hub.forms import easyr1, llama_factory, llava, trl, verl
from engine.hub.forms.exported import Exported
from engine.hub.forms.form import Form, readme
from engine.hub.swap import begun, put

FORMS: dict[str, Form] = {
    "llava": llava.FORM,
    "llama-factory": llama_factory.FORM,
    "verl": verl.FORM,
    "easyr1": easyr1.FORM,
    "trl": trl.FORM,
}


def check_forms(names: Collection[str]) -> None:
    """Raise TriptychError where a name is none of FORMS."""
    for name in names:
        if name not in FORMS:
            raise TriptychError(f"--for {name}: there are {', '.join(FORMS)}")


def lying(dataset: Path) -> list[str]:
    """The forms of a dataset folder that are there, whole."""
    return [name for name in FORMS if (place_of(dataset, name) / "data").is_dir()]


def place_of(dataset: Path, name: str) -> Path:
    """Where a form of a dataset folder is."""
    return dataset.with_name(f"{dataset.name}-{name}")


def write_form(exported: Exported, name: str) -> Path:
    """Write a form's folder, whole or not at all; returns where."""
    form, place = FORMS[name], place_of(exported.folder, name)
    partial = begun(place)
    form.write(exported, partial)
    (partial / "README.md").write_text(readme(form, exported, place.name), encoding="utf-8")
    put(partial, place)
    return place
