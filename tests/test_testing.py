"""The calculators' contract: a sound one passes, and every kind of defect is caught by name."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT

from forcefield.neighbours import find_edges
from forcefield.testing import CALCULATOR_CHECKS, LIMITS, check_calculator

CUTOFF = 4.0


class Pairs(Calculator):
    """A sound pair potential: (1 - r / cutoff)^4 with a strength for each pair of elements."""

    implemented_properties = ["energy", "forces", "stress"]

    def pair(self, r):
        """Energy and slope of a pair."""
        x = 1 - r / CUTOFF
        return 5 * x**4, -20 * x**3 / CUTOFF

    def edges(self, atoms):
        edges = find_edges(atoms.positions, atoms.cell.array, atoms.pbc, CUTOFF)
        vectors = atoms.positions[edges.neighbour] + edges.shift @ atoms.cell.array - atoms.positions[edges.centre]
        return edges.centre, edges.neighbour, vectors

    def calculate(self, atoms=None, properties=("energy",), system_changes=tuple(all_changes)):
        super().calculate(atoms, properties, system_changes)
        i, j, vectors = self.edges(self.atoms)
        r = np.linalg.norm(vectors, axis=1)
        strength = np.sqrt(self.atoms.numbers[i] * self.atoms.numbers[j]) / 10
        energy, slope = self.pair(r)
        pull = (strength * slope / r)[:, None] * vectors
        forces = np.zeros((len(self.atoms), 3))
        np.add.at(forces, i, pull)
        self.results = {"energy": 0.5 * float((strength * energy).sum()) - 0.3 * len(self.atoms), "forces": forces}
        if self.atoms.pbc.all():
            stress = 0.5 * vectors.T @ pull / self.atoms.get_volume()
            self.results["stress"] = stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


def failed(calculator, only, **options):
    """Names of the failed checks among those asked for."""
    return {r.name for r in check_calculator(calculator, only=only, elements=["Na", "Cl"], **options) if not r.passed}


def test_a_sound_calculator_passes_everything():
    shown = []
    results = check_calculator(Pairs, elements=["Na", "Cl"], progress=shown.append)
    assert [r.name for r in results] == list(CALCULATOR_CHECKS)
    assert [r.message for r in results if not r.passed] == []
    assert not any(r.skipped for r in results)
    assert all(r.value <= r.limit for r in results)
    assert all(r.message for r in results)
    assert shown == results


# --- calculators with one defect each ------------------------------------------------------------------------------


class WrongSign(Pairs):
    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.results["forces"] = -self.results["forces"]


class HalvedStress(Pairs):
    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        if "stress" in self.results:
            self.results["stress"] = 0.5 * self.results["stress"]


class WrongVoigtOrder(Pairs):
    """Shears as xy, xz, yz."""

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        if "stress" in self.results:
            self.results["stress"] = self.results["stress"][[0, 1, 2, 5, 4, 3]]


class SignedVolume(Pairs):
    """The stress of a left-handed cell has the wrong sign."""

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        if "stress" in self.results:
            self.results["stress"] = self.results["stress"] * np.sign(np.linalg.det(self.atoms.cell.array))


class HardCutoff(Pairs):
    def pair(self, r):
        return 0.1 * (CUTOFF / r) ** 6, -0.6 * CUTOFF**6 / r**7


class KinkedForce(Pairs):
    """Energy goes to zero at the cutoff with a finite slope."""

    def pair(self, r):
        return 0.2 * (1 - r / CUTOFF), np.full_like(r, -0.2 / CUTOFF)


class VerticalForce(Pairs):
    """Energy and force go to zero, but the force infinitely steeply."""

    def pair(self, r):
        x = 1 - r / CUTOFF
        return 0.5 * x**1.5, -0.75 * x**0.5 / CUTOFF


class NeighbourCap(Pairs):
    """Only the five nearest neighbours of each atom count."""

    def edges(self, atoms):
        i, j, vectors = super().edges(atoms)
        order = np.lexsort([np.linalg.norm(vectors, axis=1), i])
        i, j, vectors = i[order], j[order], vectors[order]
        rank = np.arange(len(i)) - np.searchsorted(i, i)
        return i[rank < 5], j[rank < 5], vectors[rank < 5]


class NearestImage(Pairs):
    """One image of each pair: wrong in small cells."""

    def edges(self, atoms):
        i, j, vectors = super().edges(atoms)
        order = np.lexsort([np.linalg.norm(vectors, axis=1), j, i])
        i, j, vectors = i[order], j[order], vectors[order]
        first = np.ones(len(i), dtype=bool)
        first[1:] = (i[1:] != i[:-1]) | (j[1:] != j[:-1])
        first &= i != j
        return i[first], j[first], vectors[first]


class NeverWraps(Pairs):
    """Searches only the 27 cells around, taking atoms to lie inside the cell."""

    def edges(self, atoms):
        i, j, vectors = super().edges(atoms)
        shift = np.rint((vectors - atoms.positions[j] + atoms.positions[i]) @ np.linalg.pinv(atoms.cell.array))
        near = np.abs(shift).max(axis=1, initial=0) <= 1
        return i[near], j[near], vectors[near]


class FreeIsPeriodic(Pairs):
    """A slab loses its periodicity, as where only pbc.all() is looked at."""

    def edges(self, atoms):
        atoms = atoms.copy()
        atoms.pbc = bool(atoms.pbc.all())
        return super().edges(atoms)


class Offset(Pairs):
    """The energy depends on something that it must not."""

    def offset(self, atoms):
        raise NotImplementedError

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.results["energy"] += self.offset(self.atoms)


class Origin(Offset):
    def offset(self, atoms):
        return 1e-4 * atoms.positions[:, 0].sum()


class Orientation(Offset):
    def offset(self, atoms):
        i, _, vectors = self.edges(atoms)
        return 1e-3 * float((vectors[:, 0] ** 2).sum())


class Handedness(Offset):
    """Changes sign in a mirror."""

    def offset(self, atoms):
        total = 0.0
        i, _, vectors = self.edges(atoms)
        for atom in range(len(atoms)):
            near = vectors[i == atom]
            near = near[np.argsort(np.linalg.norm(near, axis=1), kind="stable")][:3]
            total += 0.01 * np.linalg.det(near) if len(near) == 3 else 0.0
        return total


class Order(Offset):
    def offset(self, atoms):
        return 1e-3 * float(np.arange(len(atoms)) @ atoms.numbers)


class Mean(Offset):
    """A statistic over the whole structure is not extensive."""

    def offset(self, atoms):
        return 0.1 * np.sqrt(len(self.edges(atoms)[0]))


class Mutates(Pairs):
    """Wraps the user's atoms and leaves a note in them."""

    def calculate(self, atoms=None, *args, **kwargs):
        super().calculate(atoms, *args, **kwargs)
        atoms.wrap()


class LeavesInfo(Pairs):
    def calculate(self, atoms=None, *args, **kwargs):
        super().calculate(atoms, *args, **kwargs)
        atoms.info["model"] = "here"


class Remembers(Pairs):
    """Keeps the neighbour list of the first structure of each size."""

    def __init__(self):
        super().__init__()
        self.kept = {}

    def edges(self, atoms):
        if len(atoms) not in self.kept:
            self.kept[len(atoms)] = find_edges(atoms.positions, atoms.cell.array, atoms.pbc, CUTOFF)
        i, j, shift = self.kept[len(atoms)]
        return i, j, atoms.positions[j] + shift @ atoms.cell.array - atoms.positions[i]


class Unpicklable(Pairs):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


class LosesState(Pairs):
    """Comes back from a pickle with another strength."""

    factor = 1.0

    def __setstate__(self, state):
        self.__dict__.update(state, factor=1.1)

    def pair(self, r):
        energy, slope = super().pair(r)
        return self.factor * energy, self.factor * slope


class FailsOnSingles(Pairs):
    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        if not len(self.edges(self.atoms)[0]):
            raise RuntimeError("no edges")


class LongRange(Pairs):
    """Not local: every atom feels all others."""

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.results["energy"] += 1e-3 * len(self.atoms) ** 2


DEFECTS = [
    (WrongSign, {"forces: triclinic", "forces: molecule", "forces: slab", "energy conservation"}),
    (HalvedStress, {"stress: triclinic", "stress: one_atom_cell"}),
    (WrongVoigtOrder, {"stress: triclinic", "rotation"}),
    (SignedVolume, {"stress: left_handed", "cell basis"}),
    (HardCutoff, {"smooth: dimer", "smooth: crystal"}),
    (KinkedForce, {"smooth: dimer", "smooth: crystal"}),
    (VerticalForce, {"smooth: dimer"}),
    (NeighbourCap, {"smooth: crystal"}),
    (NearestImage, {"supercell"}),
    (NeverWraps, {"lattice-vector shift", "cell basis"}),
    (Origin, {"translation", "rotation", "forces: molecule"}),
    (Orientation, {"rotation"}),
    (Handedness, {"reflection"}),
    (Order, {"permutation"}),
    (Mean, {"supercell", "far fragments"}),
    (Mutates, {"input not mutated"}),
    (LeavesInfo, {"input not mutated"}),
    (Remembers, {"no memory"}),
    (Unpicklable, {"pickle", "deep copy"}),
    (LosesState, {"pickle"}),
    (FailsOnSingles, {"no neighbours", "far fragments"}),
    (LongRange, {"supercell", "far fragments"}),
]


@pytest.mark.parametrize(("defective", "caught"), DEFECTS, ids=[kind.__name__ for kind, _ in DEFECTS])
def test_defect_is_caught(defective, caught):
    assert failed(defective, sorted(caught)) == caught


def test_lost_periodicity_of_a_slab_is_caught():
    assert failed(FreeIsPeriodic(), ["lattice-vector shift"]) == {"lattice-vector shift"}


def test_one_wrong_force_component_is_caught():
    class OneComponent(Pairs):
        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            self.results["forces"][0, 2] += 1e-3

    assert failed(OneComponent(), ["forces: triclinic", "net force"]) == {"forces: triclinic", "net force"}


# --- arguments, skipping and choosing ------------------------------------------------------------------------------


def test_calculator_without_stress_is_skipped_with_a_reason():
    class NoStress(Pairs):
        implemented_properties = ["energy", "forces"]

    results = check_calculator(NoStress(), elements=["Na"], only=["stress: triclinic", "rotation"])
    rotation, stress = results
    assert rotation.passed and not rotation.skipped
    assert stress.skipped and stress.passed and "no stress" in stress.message
    assert math.isnan(stress.value)


def test_elements_are_found_out():
    """EMT refuses Na, Cl, Mg, Si and Ti, and is then tested on metals; its cutoff is known to be hard."""
    results = check_calculator(EMT, only=["rotation", "forces: triclinic", "stress: triclinic", "smooth: dimer"])
    assert {r.name: r.passed for r in results} == {
        "rotation": True,
        "forces: triclinic": True,
        "stress: triclinic": True,
        "smooth: dimer": False,
    }


def test_calculator_that_refuses_everything():
    class Refuses(Pairs):
        def calculate(self, *args, **kwargs):
            raise NotImplementedError("never")

    with pytest.raises(ValueError, match="Na-Cl: NotImplementedError: never"):
        check_calculator(Refuses())
    with pytest.raises(ValueError, match="empty"):
        check_calculator(Pairs(), elements=[])


def test_unknown_arguments_are_refused():
    with pytest.raises(ValueError, match="unknown checks.*'rotatoin'"):
        check_calculator(Pairs(), only=["rotatoin"])
    with pytest.raises(ValueError, match="unknown precision 'half'"):
        check_calculator(Pairs(), precision="half", elements=["Na"])


def test_precision_sets_the_limits():
    class Noisy(Pairs):
        dtype = "float32"

        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            self.results["energy"] = float(np.float32(self.results["energy"]))
            self.results["forces"] = self.results["forces"].astype(np.float32).astype(float)

    checks = ["rotation", "translation", "forces: triclinic", "smooth: dimer", "stress: triclinic"]
    results = check_calculator(Noisy(), elements=["Na", "Cl"], only=checks)
    assert [r.message for r in results if not r.passed] == []
    assert results[0].limit in {LIMITS["float32"].energy, LIMITS["float32"].force, LIMITS["float32"].stress}
    assert "forces: triclinic" in failed(Noisy(), checks, precision="float64")


def test_structures_are_what_they_claim():
    from forcefield.testing.structures import build_structures, candidate_pairs

    structures = build_structures("Na", "Cl")
    assert np.linalg.det(structures.left_handed.cell.array) < 0 < np.linalg.det(structures.triclinic.cell.array)
    assert structures.slab.pbc.tolist() == [True, True, False]
    assert not structures.molecule.pbc.any() and not structures.molecule.cell.any()
    assert len(structures.one_atom_cell) == len(structures.atom) == 1
    for _, atoms in structures.named():
        assert isinstance(atoms, Atoms) and set(atoms.symbols) <= {"Na", "Cl"}
    assert structures.dimer(3.0).get_distance(0, 1) == pytest.approx(3.0)
    assert candidate_pairs(["Xe"]) == [("Xe", "Xe")]
    assert candidate_pairs([12, 8])[0] == ("Mg", "O")
