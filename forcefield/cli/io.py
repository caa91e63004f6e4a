"""Files in and out of the command line: reading structures, choosing a calculator, naming and writing results."""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase import Atoms

COMPRESSIONS = (".gz", ".bz2", ".xz")
FORMAT_OF_SUFFIX = {".vasp": "vasp", ".extxyz": "extxyz"}  # what ASE does not tell from the name
# Formats in which ASE writes what it has read; a structure that came in another one leaves as extxyz only.
FORMATS_KEPT = ("castep-cell", "cif", "dftb", "extxyz", "gen", "proteindatabank", "turbomole", "vasp", "xsf")
# What ASE's CIF reader notes beside the atoms and a relaxation makes untrue.
STALE_NOTES = ("spacegroup", "spacegroup_kinds", "unit_cell", "occupancy")
# A cell of 1 Å is how the PDB format says that there is none (its description, record CRYST1).
PDB_SUFFIXES, PDB_WITHOUT_CELL = (".pdb", ".ent"), (1.0, 1.0, 1.0, 90.0, 90.0, 90.0)


@dataclass(frozen=True)
class Frame:
    """One structure of a file.

    Attributes:
        atoms: the structure.
        path: the file.
        number: frame number in the file.
        siblings: how many frames were taken from the file.
    """

    atoms: Atoms
    path: Path
    number: int
    siblings: int

    @property
    def label(self) -> str:
        """Name it for people: the file, and the frame where there are several."""
        return str(self.path) if self.siblings == 1 else f"{self.path} #{self.number}"

    @property
    def origin(self) -> dict[str, Any]:
        """Say where it came from, for a record."""
        return {"source": str(self.path), "frame": self.number}

    def identity(self) -> dict[str, Any]:
        """Tell it from others, for `--resume`."""
        from forcefield.cli.folder import structure_hash

        return {"structure": structure_hash(self.atoms)}


def read_frames(path: Path, index: str = ":") -> list[Frame]:
    """Read structures from a file.

    Args:
        path: a file in any format that ASE reads.
        index: frames to take, in ASE's notation.

    Returns:
        The frames, at least one.

    Raises:
        ValueError: in one line, if the file is missing, cannot be read, or holds no such frame or partial occupancies.
    """
    if not path.exists():
        raise ValueError("no such file.")
    if not path.is_file():
        raise ValueError("not a file.")
    selection = parse_index(index)
    structures = _read(path, selection)
    if not structures:
        raise ValueError("no structure in it." if index == ":" else f"no frame {index} in it.")
    for atoms in structures:
        _refuse_partial_occupancy(atoms)
        for key in STALE_NOTES:
            atoms.info.pop(key, None)
            atoms.arrays.pop(key, None)
        if (
            _without_compression(path).suffix.lower() in PDB_SUFFIXES
            and (atoms.cell.cellpar() == PDB_WITHOUT_CELL).all()
        ):
            atoms.cell, atoms.pbc = None, False
    numbers = _frame_numbers(selection, len(structures))
    return [Frame(atoms, path, number, len(numbers)) for atoms, number in zip(structures, numbers, strict=True)]


def parse_index(index: str) -> int | slice:
    """Understand a frame number or slice in ASE's notation.

    Raises:
        ValueError: for anything else.
    """
    from ase.utils import string2index

    try:
        selection = string2index(index)
    except ValueError:
        selection = index
    if isinstance(selection, str):
        raise ValueError(f"--index is {index!r}, but must be a number or a slice such as 0, -1, 2:5 or : for all.")
    return selection


def _read(path: Path, selection: Any) -> list[Atoms]:
    from ase.io import read

    try:
        found = read(
            str(path), index=selection, format=FORMAT_OF_SUFFIX.get(path.suffix.lower()), do_not_split_by_at_sign=True
        )
    except (IndexError, StopIteration):  # no such frame
        return []
    except Exception as error:  # readers raise anything at all when a file is not what its name says
        raise ValueError(f"ASE cannot read it ({describe_error(error)}).") from error
    return found if isinstance(found, list) else [found]


def _refuse_partial_occupancy(atoms: Atoms) -> None:
    for site, species in (atoms.info.get("occupancy") or {}).items():
        if len(species) > 1 or abs(sum(species.values()) - 1.0) > 1.0e-3:
            mixture = ", ".join(f"{symbol} {share:g}" for symbol, share in species.items())
            raise ValueError(f"site {site} is partially occupied ({mixture}); make an ordered structure first.")


def _frame_numbers(selection: Any, count: int) -> list[int]:
    """Number the frames as in the file, or from 0 where a count from the end makes that unknown."""
    if isinstance(selection, slice):
        start, step = selection.start or 0, selection.step or 1
        return [start + k * step for k in range(count)] if start >= 0 and step > 0 else list(range(count))
    return [selection] if selection >= 0 else [0]


def describe_error(error: BaseException) -> str:
    """Put an exception into one line: its message, with its type where the message may not speak for itself."""
    message = " ".join(str(error).split())
    if isinstance(error, (ValueError, ImportError)) and message:
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def load_calculator(calculator: str | None, model: str | None, device: str | None, dtype: str | None) -> Any:
    """Make the ASE calculator that a command asked for.

    Args:
        calculator: "module:Class" (or a function), called without arguments; None for a model of this package.
        model: name or folder of a model; None for the default one.
        device: device of the model; None for its default.
        dtype: precision of the model; None for its default.

    Raises:
        ValueError: if both a calculator and a model option came, or the calculator cannot be loaded.
    """
    options = {"model": model, "device": device, "dtype": dtype}
    given = {name: value for name, value in options.items() if value is not None}
    if calculator is None:
        return _load_model(given)
    if given:
        names = ", ".join(f"--{name}" for name in given)
        raise ValueError(f"--calculator came together with {names}, which is for the models of this package. Use one.")
    factory = find_factory(calculator)
    try:
        return factory()
    except Exception as error:  # any calculator may be named here
        reason = describe_error(error)
        raise ValueError(f"--calculator {calculator} cannot be made without arguments ({reason}).") from error


def _load_model(options: dict[str, Any]) -> Any:
    from forcefield.calculator import GNNCalculator

    try:
        return GNNCalculator(**options)
    except (RuntimeError, AssertionError) as error:  # how torch says that a device is not there
        device = options.get("device", "auto")
        raise ValueError(f"--device {device} cannot be used ({describe_error(error)}).") from error


def find_factory(name: str) -> Any:
    """Import "module:Class", looking in the current folder too.

    Raises:
        ValueError: if the name is malformed or nothing is found under it.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise ValueError(f"--calculator is {name!r}, but must be module:Class, such as ase.calculators.emt:EMT.")
    with _current_folder_importable():
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            raise ValueError(f"--calculator {name}: the module {module_name} cannot be imported ({error}).") from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise ValueError(f"--calculator {name}: the module {module_name} has no class or function {attribute}.")
    return factory


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def prepare_folder(folder: Path) -> None:
    """Make an output folder and see that files can be written there.

    Raises:
        ValueError: in one line, if they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"Cannot write to the output folder {folder} ({error.strerror or error}).") from error


def stem_of(path: Path) -> str:
    """Give the file name without its format and compression suffixes: NaCl for data/NaCl.cif.gz."""
    return _without_compression(path).stem


def _without_compression(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path


class OutputNames:
    """Names for the results of each frame, from the input's name and different for every frame.

    Files of the same stem are told apart by their folder (run1_POSCAR, run2_POSCAR), else by their suffix.

    Args:
        paths: all input files.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._used: set[str] = set()
        self._names: dict[Path, str] = {}
        groups: dict[str, list[Path]] = {}
        for path in dict.fromkeys(paths):
            groups.setdefault(stem_of(path), []).append(path)
        for group in groups.values():
            self._names.update(zip(group, _distinct_names(group), strict=True))

    def name(self, path: Path, number: int | None = None) -> str:
        """Give a name that was not given before.

        Args:
            path: one of the input files.
            number: frame number, for a file of several frames.
        """
        name = self._names[path] if number is None else f"{self._names[path]}_{number:04d}"
        unique, attempt = name, 1
        while unique in self._used:
            attempt += 1
            unique = f"{name}-{attempt}"
        self._used.add(unique)
        return unique


def _distinct_names(paths: Sequence[Path]) -> list[str]:
    """Name files of the same stem by as little as tells them apart; the last resort need not."""
    stems = [stem_of(path) for path in paths]
    folders = [path.resolve().parent.name for path in paths]
    suffixes = [path.suffix.lstrip(".") for path in paths]
    by_folder = [f"{folder}_{stem}" for folder, stem in zip(folders, stems, strict=True)]
    by_suffix = [f"{stem}_{suffix}" for stem, suffix in zip(stems, suffixes, strict=True)]
    by_both = [f"{name}_{suffix}" for name, suffix in zip(by_folder, suffixes, strict=True)]
    for names in (stems, by_folder, by_suffix):
        if len(set(names)) == len(names):
            return names
    return by_both


def write_structure(atoms: Atoms, folder: Path, name: str, source: Path) -> list[Path]:
    """Write a structure in the format it came in, where ASE writes that, and as extxyz with energy, forces and stress.

    Args:
        atoms: the structure.
        folder: where to.
        name: file name without suffix.
        source: the input file, for format and suffix.

    Returns:
        The files written.

    Raises:
        OSError: if a file cannot be written.
    """
    from ase.io import write
    from ase.io.formats import filetype

    exact = folder / f"{name}.extxyz"
    plain_source = _without_compression(source)
    kind = FORMAT_OF_SUFFIX.get(plain_source.suffix.lower()) or filetype(str(source))
    if kind == "extxyz":
        exact = folder / f"{name}{plain_source.suffix}"
    write(exact, atoms, format="extxyz")
    if kind == "extxyz" or kind not in FORMATS_KEPT:
        return [exact]
    same = folder / f"{name}{plain_source.suffix}"
    write(same, atoms, format=kind)
    return [same, exact]


def write_json(path: Path, content: Any) -> None:
    """Write JSON that people can read, whole or not at all; numbers that are not finite are refused.

    Raises:
        OSError: if the file cannot be written.
        ValueError: for a number that JSON does not know.
    """
    from forcefield.workflows.outcome import write_whole

    write_whole(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
