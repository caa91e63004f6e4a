"""The package as a user gets it: built, installed into an empty environment, used there without network or warning."""

from __future__ import annotations

import ast
import email.message
import email.parser
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.xdist_group("packaging")  # one process builds and installs for all tests here

REPOSITORY = Path(__file__).resolve().parents[1]
EXTRAS = ["matplotlib", "phonopy", "pydantic", "pymatgen", "torch_ema"]
MODEL_FILES = {"README.md", "config.json", "weights.safetensors"}
LARGEST_WHEEL = 60e6  # bytes

CALCULATE = f"""
import json
import sys

OPTIONAL = {EXTRAS}


class Absent:
    "Makes optional packages look as if they were not installed."

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in OPTIONAL:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


def offline(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise RuntimeError(f"the network was used: {{event}} {{arguments}}")


sys.meta_path.insert(0, Absent())
sys.addaudithook(offline)

from ase.build import bulk, molecule
import forcefield
from forcefield import GNNCalculator

crystal, water = bulk("Si"), molecule("H2O")
crystal.calc = water.calc = GNNCalculator()
print(json.dumps({{
    "file": forcefield.__file__,
    "crystal": {{
        "energy": float(crystal.get_potential_energy()),
        "forces": crystal.get_forces().tolist(),
        "stress": crystal.get_stress().tolist(),
    }},
    "water": {{"energy": float(water.get_potential_energy()), "forces": water.get_forces().tolist()}},
}}))
"""


def run(*command: object, directory: Path, home: Path | None = None) -> str:
    """Output of a command that sees none of this process's Python settings; fails with all it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    if home is not None:
        environment |= {"HOME": str(home), "USERPROFILE": str(home)}
    result = subprocess.run(
        [str(part) for part in command], cwd=directory, env=environment, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, f"{command} ended with {result.returncode}:\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the source distribution and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("distributions")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, REPOSITORY, directory=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    (path,) = distributions.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.parser.Parser().parsestr(archive.read(name).decode())


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scripts folder of a new environment: our wheel, and through a path file the dependencies installed here."""
    root = tmp_path_factory.mktemp("environment")
    venv.create(root, with_pip=True)
    scripts = root / ("Scripts" if os.name == "nt" else "bin")
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    run(scripts / "python", *install, wheel, directory=root)
    purelib = run(scripts / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", directory=root)
    here = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (Path(purelib.strip()) / "dependencies.pth").write_text("\n".join(sorted(here)) + "\n")
    return scripts


def names_in_wheel(wheel: Path) -> list[PurePosixPath]:
    with zipfile.ZipFile(wheel) as archive:
        return [PurePosixPath(name) for name in archive.namelist()]


def imported_packages(path: Path) -> set[str]:
    """Top-level names of everything that a source file imports, at its top or inside a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(str(node.module).partition(".")[0])
    return names


def is_requirement_of_extra(requirement: Requirement) -> bool:
    return requirement.marker is not None and "extra" in str(requirement.marker)


def test_wheel_holds_the_package_and_its_models_and_nothing_else(wheel: Path) -> None:
    names = names_in_wheel(wheel)
    folders = {re.sub(r"-[\d.]+\.dist-info$", ".dist-info", name.parts[0]) for name in names}
    assert folders == {"forcefield", "gnn_forcefield.dist-info"}
    code = [name for name in names if name.parts[0] == "forcefield" and name.parts[1] != "_models"]
    strays = [str(name) for name in code if name.suffix not in {".py", ".json"} and name.name != "py.typed"]
    assert strays == []
    assert PurePosixPath("forcefield/py.typed") in names


def test_wheel_has_every_module_of_the_source_tree(wheel: Path) -> None:
    source = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "forcefield").rglob("*.py")}
    packed = {str(name) for name in names_in_wheel(wheel) if name.suffix == ".py"}
    assert packed == source


def test_wheel_has_every_model_complete(wheel: Path) -> None:
    packed: dict[str, set[str]] = {}
    for name in names_in_wheel(wheel):
        if name.parts[:2] == ("forcefield", "_models"):
            packed.setdefault(name.parts[2], set()).add("/".join(name.parts[3:]))
    source = {path.parent.name for path in (REPOSITORY / "models").glob("*/config.json")}
    assert set(packed) == source != set()
    in_tree = {name: {path.name for path in (REPOSITORY / "models" / name).iterdir()} for name in source}
    assert packed == in_tree
    assert all(files >= MODEL_FILES for files in packed.values())


def test_wheel_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size < LARGEST_WHEEL


def test_wheel_built_from_the_tree_equals_the_one_built_from_the_source_distribution(
    wheel: Path, tmp_path: Path
) -> None:
    build = ["-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, REPOSITORY]
    run(sys.executable, *build, directory=tmp_path)
    (direct,) = tmp_path.glob("*.whl")
    assert names_in_wheel(direct) == names_in_wheel(wheel)


def test_source_distribution_has_what_its_own_tests_need(distributions: Path) -> None:
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "LICENSE", "README.md", "Makefile", "constraints.txt", "tests/test_packaging.py"} <= names
    assert not [name for name in names if re.search(r"__pycache__|\.venv|\.git/|\.ckpt$|\.pt$", name)]


def test_metadata_name_the_package_its_licence_and_python(metadata: email.message.Message) -> None:
    assert metadata["Name"] == "gnn-forcefield"
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata["Requires-Python"] == ">=3.10"


def test_no_dependency_has_an_upper_bound(metadata: email.message.Message) -> None:
    for line in metadata.get_all("Requires-Dist", []):
        requirement = Requirement(line)
        operators = {specifier.operator for specifier in requirement.specifier}
        assert operators <= {">="}, f"{requirement} must give a lower bound only"


def test_required_dependencies_are_few(metadata: email.message.Message) -> None:
    requirements = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    required = {requirement.name for requirement in requirements if not is_requirement_of_extra(requirement)}
    numerics = {"e3nn", "numpy", "safetensors", "scipy", "torch"}
    assert required == numerics | {"ase", "matscipy", "rich", "spglib", "typer"}


def test_everything_imported_is_declared(metadata: email.message.Message) -> None:
    requirements = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    declared = {canonicalize_name(item.name) for item in requirements if 'extra == "dev"' not in str(item.marker)}
    files = (REPOSITORY / "forcefield").rglob("*.py")
    imported = set().union(*(imported_packages(path) for path in files)) - sys.stdlib_module_names - {"forcefield"}
    distributions = importlib.metadata.packages_distributions()
    undeclared = {
        name for name in imported if declared.isdisjoint(map(canonicalize_name, distributions.get(name, [name])))
    }
    assert undeclared == set(), "add these to the dependencies or to an extra in pyproject.toml"


def test_calculator_works_in_an_empty_environment(environment: Path, tmp_path: Path) -> None:
    work, home = tmp_path / "work", tmp_path / "home"
    work.mkdir()
    home.mkdir()
    output = run(environment / "python", "-W", "error", "-c", CALCULATE, directory=work, home=home)
    results = json.loads(output)
    assert Path(results["file"]).is_relative_to(environment.parent)
    crystal, water = results["crystal"], results["water"]
    assert -20.0 < crystal["energy"] < -5.0  # PBE total energy of Si: -5.4 eV/atom
    assert crystal["forces"] == [[pytest.approx(0.0, abs=1e-3)] * 3] * 2  # zero by symmetry
    assert crystal["stress"][3:] == [pytest.approx(0.0, abs=1e-4)] * 3
    assert -20.0 < water["energy"] < -5.0  # PBE total energy of H2O: -14.2 eV
    assert [sum(column) for column in zip(*water["forces"], strict=True)] == [pytest.approx(0.0, abs=1e-3)] * 3
    assert list(work.iterdir()) == []
    assert list(home.iterdir()) == []


def test_command_is_installed(environment: Path, tmp_path: Path) -> None:
    help_text = run(environment / "forcefield", "--help", directory=tmp_path)
    assert "predict" in help_text and "relax" in help_text
