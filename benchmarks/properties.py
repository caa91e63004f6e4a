"""Lattice constants, elastic constants, bulk moduli and phonon frequencies against DFT and experiment.

    python benchmarks/properties.py --references FOLDER --output docs/properties.md docs/properties.json \
        --plot docs/images/properties.png
    python benchmarks/properties.py --references FOLDER --properties eos experiment --number 100 --processes 4
    python benchmarks/properties.py --references FOLDER --calculator ase.calculators.emt:EMT --properties experiment

Crystals are drawn at random with a seed (`--number` of each property), relaxed with the model from the reference's
cell and computed by the package's workflows in double precision. Every crystal is written to a work file as it is done;
the same command goes on where it was stopped. What the references are and where they come from is said in
`properties_references.py` and in the output. Each process runs on one thread.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import ase
import torch
from properties_references import LABELS, PROPERTIES, Reference, load_references, sample
from properties_report import plot, write_output
from properties_tasks import measure

NUMBERS = {"elastic": 30, "eos": 40, "phonons": 24, "experiment": 40}
Task = tuple[str, Reference]
_calculator: list[Any] = []  # the one of this process


def make_calculator(model: str, calculator: str | None) -> Any:
    """Load a model in double precision, or call another "module:Class" without arguments.

    Raises:
        ValueError: if the text has not this form or the module has no such class.
    """
    if calculator is None:
        from forcefield.calculator import GNNCalculator

        return GNNCalculator(model, device="cpu", dtype="float64")
    module, colon, name = calculator.partition(":")
    if not (module and colon and name):
        raise ValueError(f"--calculator is {calculator!r}, but must be module:Class, such as ase.calculators.emt:EMT.")
    loaded = importlib.import_module(module)
    if not hasattr(loaded, name):
        raise ValueError(f"Module {module} has no {name}; check the text after the colon in {calculator!r}.")
    return getattr(loaded, name)()


class WorkFile:
    """Records of crystals already computed, one JSON line each after a first line that says with what.

    Raises:
        ValueError: if the file belongs to another model or calculator.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        self.records: dict[tuple[str, str], dict[str, Any]] = {}
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        whole = [line for line in lines if line.endswith("\n")]  # a kill may cut the last one short
        if whole and json.loads(whole[0]) != identity:
            raise ValueError(
                f"{path} was made with {whole[0].strip()}, not {json.dumps(identity)}; give another --work."
            )
        for line in whole[1:]:
            record = json.loads(line)
            self.records[record["property"], record["key"]] = record
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(whole or [json.dumps(identity) + "\n"]), encoding="utf-8")

    def add(self, record: dict[str, Any]) -> None:
        """Keep a record."""
        self.records[record["property"], record["key"]] = record
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")


def start_process(model: str, calculator: str | None) -> None:
    """Prepare a process: one thread, its own calculator."""
    torch.set_num_threads(1)
    _calculator[:] = [make_calculator(model, calculator)]


def run_task(task: Task) -> dict[str, Any]:
    """Compute one crystal in a prepared process."""
    return measure(*task, _calculator[0])


def run_tasks(tasks: list[Task], model: str, calculator: str | None, *, processes: int) -> Iterator[dict[str, Any]]:
    """Compute crystals, in this process or in several, and give each record as it is ready."""
    if processes == 1:
        start_process(model, calculator)
        yield from map(run_task, tasks)
        return
    context = multiprocessing.get_context("spawn")
    arguments = (model, calculator)
    with ProcessPoolExecutor(processes, context, initializer=start_process, initargs=arguments) as pool:
        for future in as_completed([pool.submit(run_task, task) for task in tasks]):
            yield future.result()


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line and refuse what cannot be written before anything is computed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=Path, required=True, metavar="FOLDER", help="folder with the references")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--model", default="default", help="name or path of a model (default: the shipped one)")
    choice.add_argument("--calculator", metavar="MODULE:CLASS", help="another ASE calculator, called without arguments")
    parser.add_argument("--properties", nargs="+", choices=PROPERTIES, default=list(PROPERTIES))
    parser.add_argument("--number", type=int, help=f"crystals of each property (default: {NUMBERS})")
    parser.add_argument("--most-atoms", type=int, default=8, help="leave larger cells out (default 8)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default 0)")
    parser.add_argument("--processes", type=int, default=1, help="default 1")
    parser.add_argument("--work", type=Path, default=Path("runs/properties.jsonl"), help="records, to go on from")
    parser.add_argument("--output", nargs="+", type=Path, default=[], metavar="PATH", help="write .md and/or .json")
    parser.add_argument("--plot", type=Path, metavar="PATH", help="write a PNG")
    options = parser.parse_args(arguments)
    if wrong := [str(path) for path in options.output if path.suffix not in (".md", ".json")]:
        parser.error(f"--output {', '.join(wrong)}: the name must end in .md or .json")
    if min(options.processes, options.most_atoms, options.number or 1) < 1:
        parser.error("--processes, --most-atoms and --number must be 1 or more")
    return options


def describe(options: argparse.Namespace, calculator: Any) -> dict[str, Any]:
    """Say what computes: the settings that every record of a work file shares."""
    model = getattr(calculator, "model", None)
    name = options.calculator or f"model {options.model}"
    digest = None if model is None else model.config["sha256"][:16]
    return {"calculator": name, "weights (SHA-256)": digest, "torch": torch.__version__, "ase": ase.__version__}


def draw(options: argparse.Namespace, elements: tuple[int, ...] | None) -> list[Task]:
    """Choose the crystals."""
    tasks: list[Task] = []
    limits: dict[str, Any] = {"seed": options.seed, "most_atoms": options.most_atoms, "elements": elements}
    for kind in options.properties:
        chosen = sample(load_references(kind, options.references), options.number or NUMBERS[kind], **limits)
        print(f"{kind}: {len(chosen)} crystals; {LABELS[kind]}", flush=True)
        tasks += [(kind, reference) for reference in chosen]
    return tasks


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; the exit status is 1 where no crystal could be computed."""
    options = parse_arguments(arguments)
    torch.set_num_threads(1)
    try:
        calculator = make_calculator(options.model, options.calculator)
        work = WorkFile(options.work, describe(options, calculator))
        tasks = draw(options, getattr(calculator, "elements", None))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    missing = [(kind, reference) for kind, reference in tasks if (kind, reference.key) not in work.records]
    print(f"{len(tasks) - len(missing)} crystals are known, {len(missing)} to compute", flush=True)
    begin = time.perf_counter()
    records = run_tasks(missing, options.model, options.calculator, processes=options.processes) if missing else ()
    for number, record in enumerate(records, 1):
        work.add(record)
        said = record.get("error") or record["verdict"]
        passed = time.perf_counter() - begin
        print(f"{number}/{len(missing)} {passed:.0f} s: {record['property']} {record['key']}: {said}", flush=True)
    found = [work.records[kind, reference.key] for kind, reference in tasks]
    drawn = {"seed": options.seed, "atoms at most": options.most_atoms, "threads": 1}
    settings = {**describe(options, calculator), **drawn}
    for path in options.output:
        write_output(path, found, settings)
    if options.plot is not None:
        plot(found, options.plot)
    return int(all("error" in record for record in found))


if __name__ == "__main__":
    sys.exit(main())
