"""`forcefield confidence`: make a model able to say how far a structure is from its training data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from forcefield.cli.options import AsJson, Debug, Device
from forcefield.cli.report import INTERRUPTED, format_number, one_line_errors, print_json, print_table

NUMERIC = ("share\n%", "expected\neV/Å", "found\neV/Å", "median\neV/Å", "90 % below\neV/Å")


def confidence(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Installed model or model folder.")],
    train: Annotated[Path, typer.Option(help="Store of the frames the model was trained on.")],
    validation: Annotated[Path, typer.Option(help="Store of labelled frames of other materials.")],
    frames: Annotated[int, typer.Option(help="Training frames to draw.")] = 20_000,
    landmarks: Annotated[int, typer.Option(help="Landmarks of each element.")] = 32,
    seed: Annotated[int, typer.Option(help="Of the draw and the landmarks.")] = 0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write into this folder instead.")] = None,
    device: Device = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write confidence.safetensors and confidence.json beside a model's weights.

    Landmarks of the training environments, percentiles of held-out training frames, and the force error expected at a
    distance and a force, calibrated on half of the validation materials. The table is about the other half.
    """
    with one_line_errors(debug=debug):
        try:
            facts, files = _make(model, train, validation, frames, landmarks, seed, output, device)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print_json({"files": [str(path) for path in files], **facts})
        return
    found = facts["quality"]
    rows = [[name, *_cells(entry)] for name, entry in found["by_verdict"].items()]
    rows += [[f"tenth {k}", *_cells(entry)] for k, entry in enumerate(found["by_tenth"], start=1)]
    print_table(["force errors", *NUMERIC], rows, numeric=NUMERIC)
    for name, text in (("spearman", "rank correlation with the error"), ("worst_tenth_caught", "worst tenth caught")):
        values = ", ".join(f"{key.replace('_', ' ')} {format_number(value, 2)}" for key, value in found[name].items())
        typer.echo(f"{text}: {values}")
    typer.echo(f"{facts['train']['atoms']} training environments; wrote {', '.join(map(str, files))}")


def _make(
    model: str,
    train: Path,
    validation: Path,
    frames: int,
    landmarks: int,
    seed: int,
    output: Path | None,
    device: str | None,
) -> tuple[dict[str, Any], list[Path]]:
    from forcefield.calculator import resolve_device
    from forcefield.cli.data_make import work_bar
    from forcefield.cli.io import prepare_folder
    from forcefield.confidence_files import save_domain
    from forcefield.data.store import FrameStore
    from forcefield.models import load_model, model_folder
    from forcefield.train.confidence import fit_domain

    folder = model_folder(model)
    target = output or folder
    prepare_folder(target)
    loaded = load_model(folder, device=resolve_device(device or "auto"))
    stores = FrameStore(train), FrameStore(validation)
    with work_bar("frames", None) as advance:
        domain = fit_domain(loaded.potential, *stores, frames=frames, landmarks=landmarks, seed=seed, progress=advance)
    return dict(domain.facts), save_domain(target, domain, weights=loaded.config["sha256"])


def _cells(entry: dict[str, Any]) -> list[str]:
    values = [entry[name] for name in ("expected", "found", "found_median", "found_90")]
    return [format_number(100.0 * entry["share"], 2), *[format_number(value, 3) for value in values]]
