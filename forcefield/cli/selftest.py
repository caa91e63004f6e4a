"""`forcefield selftest`: put a model, or any ASE calculator, through the physics checks of `forcefield.testing`."""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forcefield.cli.options import AsJson, CalculatorName, Debug, Device, Model, Precision
from forcefield.cli.report import INTERRUPTED, one_line_errors, print_json

if TYPE_CHECKING:
    from forcefield.testing import CheckResult


def selftest(
    model: Model = None,
    device: Device = None,
    dtype: Precision = None,
    calculator: CalculatorName = None,
    limits: Annotated[
        str | None,
        typer.Option(
            "--limits", help="Limits to hold it against: float32 or float64.  [default: as the calculator says]"
        ),
    ] = None,
    elements: Annotated[
        str | None, typer.Option(help="Elements to test with, such as Na,Cl.  [default: found by trying]")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(metavar="CHECK", help="Run this check only; repeatable.")] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Check the physics of a model or of any ASE calculator.

    Symmetries, supercells, far fragments, forces and stress against finite differences, smoothness, conservation of
    energy, copies, and that nothing outside is changed. The status is 0 where all checks passed, 1 where one failed, 2
    for wrong usage.
    """
    with one_line_errors(debug=debug):
        from forcefield.cli.io import find_factory, load_calculator
        from forcefield.testing import check_calculator

        def make() -> Any:
            return load_calculator(calculator, model, device, dtype)

        if calculator is not None:
            find_factory(calculator)
        elif limits is None:
            limits = dtype or "float32"
        results: list[CheckResult] = []

        def show(result: CheckResult) -> None:
            results.append(result)
            if not as_json:
                typer.echo(_line(result))

        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=r"\d+ of \d+ atoms (is|are) outside the training data")
                check_calculator(  # with structures that are odd on purpose
                    make,
                    elements=None if elements is None else [symbol.strip() for symbol in elements.split(",")],
                    precision=limits,
                    only=only,
                    progress=show,
                )
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
    failed = [result.name for result in results if not result.passed]
    if as_json:
        print_json([_plain(result) for result in results])
    else:
        skipped = sum(result.skipped for result in results)
        typer.echo(f"{len(results) - len(failed) - skipped} passed, {len(failed)} failed, {skipped} skipped")
    if failed:
        raise typer.Exit(1)


def _line(result: CheckResult) -> str:
    verdict = "skip" if result.skipped else "pass" if result.passed else "FAIL"
    return f"{verdict}  {result.name:22s}  {' '.join(result.message.split())}"


def _plain(result: CheckResult) -> dict[str, Any]:
    """Give a result for JSON; a number that is not finite becomes None."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in asdict(result).items()
    }
