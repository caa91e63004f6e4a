"""Make the environment of a peer for `benchmarks/calculator.py --peers`, outside of the repository.

    python benchmarks/peer_environment.py chgnet sevennet
    python benchmarks/peer_environment.py --environments /path/to/folder --list

Each peer gets a virtual environment of its own with the version of PyTorch that `constraints.txt` names, so that a
difference in speed is one of the packages. pip's own variables decide where PyTorch comes from, as always.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"


@dataclass(frozen=True)
class Peer:
    """What to install, and how its calculator is made.

    Attributes:
        distributions: what pip installs.
        statements: Python that ends in ``calculator = ...``.
        weights: where the weights come from.
    """

    distributions: tuple[str, ...]
    statements: str
    weights: str


PEERS = {
    "chgnet": Peer(
        ("chgnet",),
        "from chgnet.model.dynamics import CHGNetCalculator; calculator = CHGNetCalculator(use_device='cpu')",
        "in the package",
    ),
    "sevennet": Peer(
        ("sevenn",),
        "from sevenn.calculator import SevenNetCalculator; calculator = SevenNetCalculator('7net-0', device='cpu')",
        "in the package",
    ),
    "mace": Peer(
        ("mace-torch",),
        "from mace.calculators import mace_mp; "
        "calculator = mace_mp(model='small', device='cpu', default_dtype='float32')",
        "downloaded at the first use",
    ),
    "matgl": Peer(
        ("matgl",),
        "import matgl; from matgl.ext.ase import PESCalculator; "
        "calculator = PESCalculator(matgl.load_model('TensorNet-MatPES-PBE-v2025.1-PES'), stress_unit='eV/A3')",
        "downloaded at the first use",
    ),
}


def environments_folder() -> Path:
    """Where environments lie if nobody says otherwise: the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "gnn-forcefield" / "peers"


def interpreter(name: str, environments: Path) -> Path:
    """Python of a peer's environment, which need not exist yet."""
    return environments / name / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def install(name: str, environments: Path) -> None:
    """Make the environment and install the peer into it.

    Raises:
        subprocess.CalledProcessError: it does not install; pip says why.
    """
    subprocess.run([sys.executable, "-m", "venv", str(environments / name)], check=True)
    pip = [str(interpreter(name, environments)), "-m", "pip", "install", "--prefer-binary"]
    subprocess.run([*pip, "--constraint", str(CONSTRAINTS), *PEERS[name].distributions], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", help=f"which: {', '.join(PEERS)}")
    parser.add_argument("--environments", type=Path, default=environments_folder(), metavar="FOLDER")
    parser.add_argument("--list", action="store_true", help="say what is installed")
    options = parser.parse_args()
    unknown = sorted(set(options.peers) - set(PEERS))
    if unknown:
        parser.error(f"unknown peers {unknown}; choose from {', '.join(PEERS)}")
    for name in options.peers:
        install(name, options.environments)
    for name in PEERS if options.list else options.peers:
        path = interpreter(name, options.environments)
        print(f"{name}: {path if path.exists() else 'not installed'}; weights {PEERS[name].weights}")


if __name__ == "__main__":
    main()
