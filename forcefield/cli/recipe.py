"""`forcefield run`: several commands one after the other on many structures, as a recipe says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from forcefield.cli.folder import RESULT, read_json
from forcefield.cli.options import Debug
from forcefield.cli.recipe_steps import RELAXED, STEPS, step_app
from forcefield.cli.report import INTERRUPTED, USAGE_ERROR, fail, one_line_errors, print_summary, print_table
from forcefield.cli.structures import rehearsal
from forcefield.suggest import nearest

SHARED = ("model", "device", "dtype", "calculator", "workers", "index", "debug")
"""Entries of a recipe that every step gets as options."""


def run(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="What to do with which structures.")],
    output_dir: Annotated[
        Path | None, typer.Option(help="Folder for the results.  [default: as the recipe says, else as it is named]")
    ] = None,
    debug: Debug = False,
) -> None:
    """Do several computations one after the other on many structures, and skip what is done.

    A recipe has the entries structures (files or patterns such as data/*.cif, from the recipe's folder), steps (each a
    command, or a command with its options: relax, phonons, elastic, eos, qha, gruneisen, conductivity, md, surfaces,
    defects, energetics, adsorption), and where wanted output_dir, workers, index, model, device, dtype and calculator.
    Steps after relax take its structures; those that did not converge are left out. All options are checked before the
    first structure. The status is 0 where every step of every structure is without objection, 1 where not, 2 for wrong
    usage and 130 after Ctrl-C; the same command then goes on.
    """
    with one_line_errors(debug=debug):
        plan = read_recipe(recipe, output_dir)
        rehearse(plan)
    files: Sequence[Path] = plan.files
    verdicts: list[Mapping[str, Any]] = []
    for number, step in enumerate(plan.steps, start=1):
        folder = plan.folder(number)
        typer.echo(f"step {number} of {len(plan.steps)}: {step.name}, {len(files)} files", err=True)
        status = step.invoke(files, folder)
        if status in (INTERRUPTED, USAGE_ERROR):
            raise typer.Exit(status)
        verdicts += _outcomes(folder, failed=status != 0)
        if step.name == "relax":
            files = sorted(path for path in folder.glob(f"*/{RELAXED}/*.extxyz") if _ok(path.parents[1]))
            if not files:
                break
    failures = _show(plan, verdicts)
    if failures or not all(verdict["ok"] for verdict in verdicts) or len(plan.steps) > number:
        raise typer.Exit(1)


@dataclass(frozen=True)
class Step:
    """One command of a recipe.

    Attributes:
        name: of the command.
        arguments: its options as on a command line.
    """

    name: str
    arguments: tuple[str, ...]

    def invoke(self, files: Sequence[Path], folder: Path) -> int:
        """Run the command and give its exit status; what is wrong with its options is printed."""
        words = [self.name, *map(str, files), *self.arguments, "--output-dir", str(folder), "--resume"]
        try:
            step_app()(words, prog_name="step")
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0


@dataclass(frozen=True)
class Recipe:
    """A recipe, read and checked.

    Attributes:
        files: the structures.
        steps: what to do with them.
        root: folder of the results.
    """

    files: tuple[Path, ...]
    steps: tuple[Step, ...]
    root: Path

    def folder(self, number: int) -> Path:
        """Folder of a step, counted from 1."""
        return self.root / f"{number}_{self.steps[number - 1].name}"


def read_recipe(path: Path, output_dir: Path | None = None) -> Recipe:
    """Read a recipe.

    Args:
        path: a YAML file.
        output_dir: folder of the results, instead of what the recipe says.

    Raises:
        ValueError: where the file cannot be read, an entry is unknown, missing or of the wrong kind, or a pattern
            matches no file.
    """
    from forcefield.workflows.outcome import require_package

    yaml = require_package("yaml")

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read as YAML ({' '.join(str(error).split())}).") from error
    known = ("structures", "steps", "output_dir", *SHARED)
    if not isinstance(content, dict) or not content.get("structures") or not content.get("steps"):
        raise ValueError(f"{path} needs the entries structures and steps.")
    for entry in content:
        if entry not in known:
            raise ValueError(f"{path}: unknown entry {entry!r}{nearest(str(entry), known)}.")
    shared = {name: content[name] for name in SHARED if name in content}
    steps = tuple(_read_step(step, shared) for step in _as_list(content["steps"]))
    patterns = [str(pattern) for pattern in _as_list(content["structures"])]
    root = output_dir or path.parent / str(content.get("output_dir") or path.stem)
    return Recipe(tuple(_matching(path.parent, patterns)), steps, root)


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def _matching(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """Files of patterns, in their order, each once."""
    import glob

    files: dict[Path, None] = {}
    for pattern in patterns:
        found = sorted(glob.glob(str(folder / pattern), recursive=True))
        if not found:
            raise ValueError(f"structures: {pattern} matches no file in {folder}.")
        files.update(dict.fromkeys(Path(name) for name in found))
    return list(files)


def _read_step(content: Any, shared: Mapping[str, Any]) -> Step:
    """Understand `phonons` or `phonons: {supercell_length: 12}`."""

    named = {content: {}} if isinstance(content, str) else content
    if not isinstance(named, dict) or len(named) != 1:
        raise ValueError(f"a step is a command or a command with its options, but one is {content!r}.")
    ((name, options),) = named.items()
    if name not in STEPS:
        raise ValueError(f"there is no step {name!r}{nearest(str(name), STEPS)}.")
    if not isinstance(options or {}, dict):
        raise ValueError(f"step {name}: options must be a mapping such as {{fmax: 0.01}}, but are {options!r}.")
    words = [word for option, value in {**shared, **(options or {})}.items() for word in _words(str(option), value)]
    return Step(name, tuple(words))


def _words(option: str, value: Any) -> list[str]:
    """An option as on a command line."""
    flag = option.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if value is None:
        return []
    if isinstance(value, list):
        return (
            [f"--{flag}", *map(str, value)]
            if flag == "supercell"
            else [w for v in value for w in (f"--{flag}", str(v))]
        )
    return [f"--{flag}", str(value)]


def rehearse(recipe: Recipe) -> None:
    """Check the options of every step, so that a wrong one shows before the first hour of work.

    Raises:
        typer.Exit: with the status of wrong usage, the reason printed.
    """
    with rehearsal():
        for number, step in enumerate(recipe.steps, start=1):
            if step.invoke(recipe.files, recipe.folder(number)):
                fail(f"step {step.name} of the recipe cannot be done as it stands.")


def _ok(folder: Path) -> bool:
    record = read_json(folder / RESULT)
    return record is not None and bool(record["ok"])


def _outcomes(folder: Path, *, failed: bool) -> list[Mapping[str, Any]]:
    """Records of a step, from its folder."""
    found = [(path, read_json(path)) for path in sorted(folder.glob(f"*/{RESULT}"))]
    outcomes: list[Mapping[str, Any]] = [
        {**record, "name": path.parent.name, "step": folder.name} for path, record in found if record is not None
    ]
    if failed and all(outcome["ok"] for outcome in outcomes):  # a structure left no record
        outcomes.append({"name": "(others)", "step": folder.name, "ok": False, "verdict": "failed, see above"})
    return outcomes


def _show(recipe: Recipe, outcomes: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table with a row for every structure and a column for every step, here and as a page with all figures.

    Returns:
        Why there is no page, if it could not be written.
    """
    from forcefield.cli.html_report import Section, report_failures

    steps = [recipe.folder(number + 1).name for number in range(len(recipe.steps))]
    verdicts = {(outcome["name"], outcome["step"]): outcome["verdict"] for outcome in outcomes}
    names = list(dict.fromkeys(outcome["name"] for outcome in outcomes))
    columns = ("structure", *steps)
    rows = [[name, *(verdicts.get((name, step), "-") for step in steps)] for name in names]
    sections = [
        Section(f"{outcome['name']}: {outcome['step']}", outcome, recipe.root / outcome["step"] / name)
        for name in names
        for outcome in outcomes
        if outcome["name"] == name
    ]
    calculators = {str((outcome.get("identity") or {}).get("calculator")) for outcome in outcomes} - {"None"}
    calculator = ", ".join(sorted(calculators))
    failures = report_failures(recipe.root, "forcefield run", (columns, rows), sections, calculator)
    print_table(columns, rows)
    good = sum(bool(outcome["ok"]) for outcome in outcomes)
    print_summary(f"{good} of {len(outcomes)} without objection; results are in {recipe.root}", failures)
    return failures
