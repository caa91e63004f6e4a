"""`forcefield models`: what is installed, with the figures of each model's card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from forcefield.cli.options import AsJson
from forcefield.cli.report import fail, one_line_errors, print_json, print_table

FIGURES = ("energy meV/atom", "forces meV/Å", "stress GPa")
NUMERIC = ("parameters", "elements", "cutoff Å", "trained h", *FIGURES)
COLUMNS = ("model", "network", *NUMERIC, "licence")


def models(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Show everything that is known about this model, or that in a folder."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the installed models with size, elements and errors; the default one is marked with a star."""
    with one_line_errors(debug=False):
        from forcefield.models import list_models, model_folder, read_config

        if name is None:
            installed = list_models()
        else:
            folder = model_folder(name)
            installed = [{**read_config(folder), "name": folder.name}]
    if not installed:
        fail("no model is installed.")
    if as_json:
        print_json(installed)
        return
    print_table(COLUMNS, [_row(model) for model in installed], numeric=NUMERIC)
    for model in installed:
        typer.echo(f"\n{model['name']}: {len(model['elements'])} elements: {' '.join(model['elements'])}")
        for key, value in _flatten(model if name is not None else {}):
            typer.echo(f"  {key}: {value}")
    if name is None:
        typer.echo("\nErrors are mean absolute ones against the labels of unseen materials, from each model's card;")
        typer.echo("`forcefield models NAME` says what the labels are.")


def _row(model: Mapping[str, Any]) -> list[str]:
    from forcefield.units import GPA

    errors = model.get("validation", {}).get("errors", {}).get("all", {})
    training = model.get("training", {})
    minutes = training["minutes"] + training.get("minutes_before", 0) if "minutes" in training else None
    kinds = (("energy_mae", 1000.0, 0), ("forces_mae", 1000.0, 0), ("stress_mae", 1 / GPA, 2))
    figures = [f"{errors[key] * factor:.{digits}f}" if key in errors else "-" for key, factor, digits in kinds]
    return [
        f"{model['name']}{' *' if model.get('default') else ''}",
        str(model["network"]),
        f"{model['parameters']:,}" if "parameters" in model else "-",
        str(len(model["elements"])),
        f"{model['cutoff']:g}",
        "-" if minutes is None else f"{minutes / 60:.1f}",
        *figures,
        str(model.get("licence", "-")),
    ]


def _flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """List the leaves of nested tables with their path, leaving out long lists and tables of elements."""
    for key, item in value.items():
        path = f"{prefix}{key}"
        if isinstance(item, Mapping):
            if not path.endswith("_energies"):
                yield from _flatten(item, f"{path}, ")
        elif isinstance(item, float):
            yield path, f"{item:.6g}"
        elif key != "elements":
            yield path, str(item)
