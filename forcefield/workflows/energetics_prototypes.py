"""Crystals and molecules of the elements to measure energies from: prototypes with experimental lattice parameters.

The lattice parameters only start a relaxation. Sources: the tables of `ase.data.reference_states`; J. Donohue, The
Structures of the Elements (Wiley, 1974) for the rest. Where two phases are close in energy (carbon, tin, cerium) both
are listed and the lower one counts.
"""

from __future__ import annotations

from ase import Atoms
from ase.build import bulk, molecule
from ase.data import atomic_numbers, reference_states
from ase.spacegroup import crystal

MOLECULES = ("H2", "N2", "O2", "F2", "Cl2")

# Elements whose stable phase ase.build.bulk makes from its own table.
# fmt: off
FROM_ASE = (
    "Li", "Be", "Ne", "Na", "Mg", "Al", "Si", "Ar", "K", "Ca", "Sc", "Ti", "V", "Cr", "Fe", "Co", "Ni", "Cu", "Zn",
    "Ge", "As", "Kr", "Rb", "Sr", "Y", "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Xe",
    "Cs", "Ba", "Ce", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu", "Hf", "Ta", "W", "Re", "Os", "Ir", "Pt",
    "Au", "Hg", "Tl", "Pb", "Bi", "Po", "Ac", "Th",
)
# fmt: on

# Elements of which diamond is one of two phases: a (Å).
DIAMONDS = {"C": 3.567, "Sn": 6.489}

# Double-hexagonal close packing, stacking ABAC: a, c (Å).
DOUBLE_HEXAGONAL = {
    "La": (3.774, 12.171),
    "Ce": (3.681, 11.857),
    "Pr": (3.672, 11.833),
    "Nd": (3.658, 11.797),
    "Pm": (3.65, 11.65),
}

Sites = tuple[tuple[float, float, float], ...]

# Others: label, space group, (a, b, c, alpha, beta, gamma) in Å and degrees, fractional coordinates of distinct atoms.
PROTOTYPES: dict[str, tuple[tuple[str, int, tuple[float, ...], Sites], ...]] = {
    "B": (
        ("alpha-B12", 166, (4.908, 4.908, 12.567, 90, 90, 120), ((0.1189, -0.1189, 0.8912), (0.1968, -0.1968, 0.0243))),
    ),
    "C": (("graphite", 194, (2.461, 2.461, 6.709, 90, 90, 120), ((0, 0, 0.25), (1 / 3, 2 / 3, 0.25))),),
    "P": (("black", 64, (3.3136, 10.478, 4.3763, 90, 90, 90), ((0, 0.10168, 0.08056),)),),
    "S": (
        (
            "alpha-S8",
            70,
            (10.4646, 12.8660, 24.4860, 90, 90, 90),
            (
                (0.8554, 0.9526, 0.9516),
                (0.7844, 0.0301, 0.0763),
                (0.7069, 0.9795, 0.0040),
                (0.7862, 0.9073, 0.1290),
            ),
        ),
    ),
    "Mn": (
        (
            "alpha-Mn",
            217,
            (8.911, 8.911, 8.911, 90, 90, 90),
            ((0, 0, 0), (0.317, 0.317, 0.317), (0.356, 0.356, 0.034), (0.089, 0.089, 0.282)),
        ),
    ),
    "Ga": (("alpha-Ga", 64, (4.5167, 7.6448, 4.5107, 90, 90, 90), ((0, 0.1549, 0.0810),)),),
    "Se": (("trigonal", 152, (4.3662, 4.3662, 4.9536, 90, 90, 120), ((0.2254, 0, 1 / 3),)),),
    "Br": (("molecular crystal", 64, (6.737, 4.548, 8.761, 90, 90, 90), ((0, 0.1350, 0.1100),)),),
    "Te": (("trigonal", 152, (4.4572, 4.4572, 5.9290, 90, 90, 120), ((0.2633, 0, 1 / 3),)),),
    "I": (("molecular crystal", 64, (7.265, 4.786, 9.791, 90, 90, 90), ((0, 0.1543, 0.1174),)),),
    "Sm": (("alpha-Sm", 166, (3.629, 3.629, 26.207, 90, 90, 120), ((0, 0, 0), (0, 0, 2 / 9))),),
    "Pa": (("alpha-Pa", 139, (3.925, 3.925, 3.238, 90, 90, 90), ((0, 0, 0),)),),
    "U": (("alpha-U", 63, (2.854, 5.869, 4.955, 90, 90, 90), ((0, 0.1025, 0.25),)),),
    "Np": (("alpha-Np", 62, (6.663, 4.723, 4.887, 90, 90, 90), ((0.036, 0.25, 0.208), (0.319, 0.25, 0.842))),),
    "Pu": (
        (
            "alpha-Pu",
            11,
            (6.183, 4.822, 10.963, 90, 101.79, 90),
            (
                (0.345, 0.25, 0.162),
                (0.767, 0.25, 0.168),
                (0.128, 0.25, 0.340),
                (0.657, 0.25, 0.457),
                (0.025, 0.25, 0.618),
                (0.473, 0.25, 0.653),
                (0.328, 0.25, 0.926),
                (0.868, 0.25, 0.894),
            ),
        ),
    ),
}


def reference_structures(symbol: str) -> dict[str, Atoms]:
    """Build the candidate ground states of an element at experimental lattice parameters.

    Args:
        symbol: chemical symbol.

    Returns:
        Atoms by a label such as "bcc" or "O2 molecule"; the one of lowest energy is the reference.

    Raises:
        ValueError: for an element without an entry.
    """
    found: dict[str, Atoms] = {}
    if f"{symbol}2" in MOLECULES:
        found[f"{symbol}2 molecule"] = _diatomic(symbol)
    if symbol == "He":
        found["hcp"] = bulk("He", "hcp", a=3.57, c=5.83)
    if symbol in FROM_ASE:
        found[_ase_label(symbol)] = bulk(symbol)
    if symbol in DIAMONDS:
        found["diamond"] = bulk(symbol, "diamond", a=DIAMONDS[symbol])
    if symbol in DOUBLE_HEXAGONAL:
        found["double hcp"] = _double_hexagonal(symbol, *DOUBLE_HEXAGONAL[symbol])
    for label, spacegroup, cellpar, sites in PROTOTYPES.get(symbol, ()):
        found[label] = _prototype(symbol, spacegroup, cellpar, sites)
    if not found:
        raise ValueError(
            f"There is no reference structure for {symbol}. Give its energy per atom (eV), computed with the same "
            f"calculator, as references={{'{symbol}': energy}}."
        )
    return found


def _ase_label(symbol: str) -> str:
    state = reference_states[atomic_numbers[symbol]]
    assert state is not None
    return str(state["symmetry"])


def _diatomic(symbol: str) -> Atoms:
    pair = molecule(f"{symbol}2")
    return Atoms(pair.numbers, positions=pair.positions)


def _double_hexagonal(symbol: str, a: float, c: float) -> Atoms:
    sites = [(0, 0, 0), (0, 0, 0.5), (1 / 3, 2 / 3, 0.25), (2 / 3, 1 / 3, 0.75)]
    return Atoms([symbol] * 4, scaled_positions=sites, cell=(a, a, c, 90, 90, 120), pbc=True)


def _prototype(symbol: str, spacegroup: int, cellpar: tuple[float, ...], sites: Sites) -> Atoms:
    second = 2 if spacegroup in (70, 141) else 1  # origin at the inversion centre
    atoms = crystal(
        [symbol] * len(sites), sites, spacegroup=spacegroup, setting=second, cellpar=list(cellpar), primitive_cell=True
    )
    return Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
