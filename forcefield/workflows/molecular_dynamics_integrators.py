"""Equations of motion: thermostats, barostat and the step that all ensembles share.

A step is thermostat (half), kick (half), drift, kick (half), thermostat (half). What a thermostat gives to the momenta
is summed up as heat, so that every ensemble has a conserved quantity: total energy less heat (plus, at constant
pressure, p·V and the cell's kinetic energy). Time is in ASE's unit, Å·sqrt(amu/eV).

All state is in `state()`, and nothing here draws from a random generator that is not given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.special import exprel

Array = NDArray[np.float64]
Projection = Callable[[Array], Array]

_YOSHIDA = 1.0 / (2.0 - 2.0 ** (1.0 / 3.0))
SUZUKI_YOSHIDA = (_YOSHIDA, 1.0 - 2.0 * _YOSHIDA, _YOSHIDA)  # H. Yoshida, Phys. Lett. A 150, 262 (1990)
CHAIN_LENGTH = 3


class Thermostat(Protocol):
    """Exchanges heat with momenta."""

    def apply(self, momenta: Array, masses: Array, free: int, kt: float, time: float, project: Projection) -> Array:
        """Give the momenta after a time.

        Args:
            momenta: of any shape.
            masses: that broadcast to them.
            free: number of independent momenta.
            kt: temperature times Boltzmann's constant (eV).
            time: length of the step.
            project: removes what must stay zero from random momenta.
        """
        ...

    def state(self) -> dict[str, Array]:
        """Give what must be kept besides the random generator."""
        ...

    def load(self, state: dict[str, Array]) -> None:
        """Take the state up again."""
        ...


class NoThermostat:
    """Constant energy."""

    def apply(self, momenta: Array, masses: Array, free: int, kt: float, time: float, project: Projection) -> Array:
        """Give the momenta back."""
        return momenta

    def state(self) -> dict[str, Array]:
        """Nothing."""
        return {}

    def load(self, state: dict[str, Array]) -> None:
        """Nothing."""


class Langevin(NoThermostat):
    """Friction and noise on every momentum; twice around a Verlet step this is Bussi and Parrinello's integrator.

    References:
        G. Bussi, M. Parrinello, Phys. Rev. E 75, 056707 (2007), https://doi.org/10.1103/PhysRevE.75.056707, eq. 8-10.
    """

    def __init__(self, time_constant: float, random: np.random.Generator) -> None:
        self.time_constant, self.random = time_constant, random

    def apply(self, momenta: Array, masses: Array, free: int, kt: float, time: float, project: Projection) -> Array:
        """Damp the momenta and kick them at random."""
        kept = math.exp(-time / self.time_constant)
        noise = np.sqrt(masses * kt * (1.0 - kept**2)) * self.random.standard_normal(momenta.shape)
        return kept * momenta + project(noise)


class Bussi(NoThermostat):
    """Rescales all momenta at random so that the kinetic energy is distributed as at the temperature.

    References:
        G. Bussi, D. Donadio, M. Parrinello, J. Chem. Phys. 126, 014101 (2007), https://doi.org/10.1063/1.2408420,
        eq. A7.
    """

    def __init__(self, time_constant: float, random: np.random.Generator) -> None:
        self.time_constant, self.random = time_constant, random

    def apply(self, momenta: Array, masses: Array, free: int, kt: float, time: float, project: Projection) -> Array:
        """Scale the momenta; momenta that are all zero stay so."""
        normal = self.random.standard_normal()
        others = 2.0 * self.random.standard_gamma(0.5 * (free - 1)) if free > 1 else 0.0
        twice_kinetic = float(np.sum(momenta**2 / masses))
        if twice_kinetic == 0.0:
            return momenta
        kept = math.exp(-time / self.time_constant)
        share = (1.0 - kept) * kt / twice_kinetic
        square = kept + share * (others + normal**2) + 2.0 * normal * math.sqrt(kept * share)
        return momenta * math.sqrt(square)


class NoseHooverChain(NoThermostat):
    """Friction that follows its own equation of motion, a chain of three, deterministic.

    References:
        G. J. Martyna, M. L. Klein, M. Tuckerman, J. Chem. Phys. 97, 2635 (1992), https://doi.org/10.1063/1.463940;
        integrated as in G. J. Martyna et al., Mol. Phys. 87, 1117 (1996), https://doi.org/10.1080/00268979600100761.
    """

    def __init__(self, time_constant: float) -> None:
        self.time_constant = time_constant
        self.chain = np.zeros(CHAIN_LENGTH)  # momenta of the thermostats

    def apply(self, momenta: Array, masses: Array, free: int, kt: float, time: float, project: Projection) -> Array:
        """Scale the momenta and move the chain."""
        inertia = np.full(CHAIN_LENGTH, kt * self.time_constant**2)
        inertia[0] *= free
        twice_kinetic, scale = float(np.sum(momenta**2 / masses)), 1.0
        for weight in SUZUKI_YOSHIDA:
            length = weight * time
            for link in reversed(range(CHAIN_LENGTH)):
                self._push(link, twice_kinetic * scale**2, inertia, free, kt, length)
            scale *= math.exp(-length * self.chain[0] / inertia[0])
            for link in range(CHAIN_LENGTH):
                self._push(link, twice_kinetic * scale**2, inertia, free, kt, length)
        return momenta * scale

    def _push(self, link: int, twice_kinetic: float, inertia: Array, free: int, kt: float, length: float) -> None:
        last = link == CHAIN_LENGTH - 1
        damping = 1.0 if last else math.exp(-0.25 * length * self.chain[link + 1] / inertia[link + 1])
        force = twice_kinetic - free * kt if link == 0 else self.chain[link - 1] ** 2 / inertia[link - 1] - kt
        self.chain[link] = (self.chain[link] * damping + 0.5 * length * force) * damping

    def state(self) -> dict[str, Array]:
        """Give the momenta of the chain."""
        return {"chain": self.chain.copy()}

    def load(self, state: dict[str, Array]) -> None:
        """Take the momenta of the chain up again."""
        self.chain = np.array(state["chain"], dtype=float)


def make_thermostat(name: str, time_constant: float, random: np.random.Generator) -> Thermostat:
    """Make a thermostat by name.

    Args:
        name: "none", "langevin", "bussi" or "nose-hoover".
        time_constant: relaxation time (ASE's unit of time).
        random: what it draws from.
    """
    if name == "none":
        return NoThermostat()
    if name == "nose-hoover":
        return NoseHooverChain(time_constant)
    return Langevin(time_constant, random) if name == "langevin" else Bussi(time_constant, random)


class Integrator:
    """Moves atoms by one time step at constant energy, or at a temperature.

    Args:
        atoms: with calculator and momenta; changed in place.
        timestep: (ASE's unit of time).
        thermostat: what the momenta exchange heat with.
        free: number of independent momenta.
        resting: keep the centre of mass at rest under random kicks.
    """

    def __init__(self, atoms: Atoms, *, timestep: float, thermostat: Thermostat, free: int, resting: bool) -> None:
        self.atoms, self.timestep, self.thermostat, self.free, self.resting = atoms, timestep, thermostat, free, resting
        self.masses = atoms.get_masses()[:, None]  # (atoms, 1)
        self.heat = 0.0  # given to the momenta so far (eV)

    def step(self, kt: float, pressure: float = 0.0) -> None:
        """Go on by one time step.

        Args:
            kt: temperature times Boltzmann's constant (eV).
            pressure: external pressure (eV/Å³), where the cell moves.
        """
        self._exchange_heat(kt)
        self._verlet()
        self._exchange_heat(kt)

    def _exchange_heat(self, kt: float) -> None:
        before = self.atoms.get_kinetic_energy()
        momenta = self.thermostat.apply(
            self.atoms.get_momenta(), self.masses, self.free, kt, 0.5 * self.timestep, self._at_rest
        )
        self.atoms.set_momenta(momenta)
        self.heat += self.atoms.get_kinetic_energy() - before

    def _at_rest(self, momenta: Array) -> Array:
        """Remove the drift of the centre of mass."""
        if not self.resting:
            return momenta
        return momenta - self.masses * (momenta.sum(axis=0) / self.masses.sum())

    def _verlet(self) -> None:
        """Kick, drift, kick; constraints act on positions and momenta as ASE's do."""
        atoms, time = self.atoms, self.timestep
        before = atoms.get_positions()
        momenta = atoms.get_momenta() + 0.5 * time * atoms.get_forces(md=True)
        atoms.set_positions(before + time * momenta / self.masses)
        if atoms.constraints:
            momenta = (atoms.get_positions() - before) * self.masses / time
        atoms.set_momenta(momenta, apply_constraint=False)
        atoms.set_momenta(momenta + 0.5 * time * atoms.get_forces(md=True))

    def conserved(self, pressure: float = 0.0) -> float:
        """Give the quantity that the exact equations of motion conserve (eV)."""
        return (
            float(self.atoms.get_potential_energy(force_consistent=False) + self.atoms.get_kinetic_energy()) - self.heat
        )

    def state(self) -> dict[str, Array]:
        """Give everything that the next step depends on, besides the random generator."""
        atoms = self.atoms
        own = {"positions": atoms.get_positions(), "momenta": atoms.get_momenta(), "cell": atoms.cell.array.copy()}
        bath = {f"thermostat_{name}": value for name, value in self.thermostat.state().items()}
        return {**own, **bath, "heat": np.array(self.heat)}

    def load(self, state: dict[str, Array]) -> None:
        """Take everything up again, to the last bit."""
        self.atoms.set_cell(state["cell"], scale_atoms=False)
        self.atoms.set_positions(state["positions"], apply_constraint=False)
        self.atoms.set_momenta(state["momenta"], apply_constraint=False)
        self.heat = float(state["heat"])
        self.thermostat.load(_prefixed(state, "thermostat_"))


class CellIntegrator(Integrator):
    """Moves atoms and cell at a temperature and a pressure, after Martyna, Tobias and Klein.

    The cell has a momentum, a symmetric (3, 3) matrix or a multiple of the unit matrix, so that it does not rotate; it
    has its own thermostat.

    Args:
        cell_thermostat: what the cell exchanges heat with.
        cell_time: time constant of the cell, whose inertia is (atoms + 1)·kT·time² (ASE's unit of time).
        isotropic: keep the shape.
        kt: temperature times Boltzmann's constant that the cell's inertia is made for (eV).

    References:
        G. J. Martyna, D. J. Tobias, M. L. Klein, J. Chem. Phys. 101, 4177 (1994), https://doi.org/10.1063/1.467468,
        eq. 2.9 (isotropic) and 2.14 (full cell).
    """

    def __init__(
        self,
        atoms: Atoms,
        *,
        timestep: float,
        thermostat: Thermostat,
        free: int,
        resting: bool,
        cell_thermostat: Thermostat,
        cell_time: float,
        isotropic: bool,
        kt: float,
    ) -> None:
        super().__init__(atoms, timestep=timestep, thermostat=thermostat, free=free, resting=resting)
        self.cell_thermostat, self.isotropic = cell_thermostat, isotropic
        self.cell_mass = (len(atoms) + 1) * kt * cell_time**2
        self.cell_momentum = np.zeros((3, 3))
        self.cell_free = 1 if isotropic else 6
        self.work = 0.0  # done by a change of the external pressure (eV)
        self._pressure: float | None = None

    def step(self, kt: float, pressure: float = 0.0) -> None:
        """Go on by one time step; see `Integrator.step`."""
        if self._pressure is not None:
            self.work += (pressure - self._pressure) * self.atoms.get_volume()
        self._pressure = pressure
        self._exchange_cell_heat(kt)
        self._exchange_heat(kt)
        self._push_cell(pressure)
        self._kick()
        self._drift()
        self._kick()
        self._push_cell(pressure)
        self._exchange_heat(kt)
        self._exchange_cell_heat(kt)

    def _exchange_cell_heat(self, kt: float) -> None:
        before = self.cell_energy
        momentum = self.cell_thermostat.apply(
            self.cell_momentum, np.array(self.cell_mass), self.cell_free, kt, 0.5 * self.timestep, self._allowed
        )
        self.cell_momentum = momentum
        self.heat += self.cell_energy - before

    @property
    def cell_energy(self) -> float:
        """Kinetic energy of the cell (eV)."""
        return float(np.sum(self.cell_momentum**2)) / (2.0 * self.cell_mass)

    def _allowed(self, matrix: Array) -> Array:
        """Take the part of a (3, 3) matrix that the cell may follow."""
        return np.eye(3) * (np.trace(matrix) / 3.0) if self.isotropic else 0.5 * (matrix + matrix.T)

    def _push_cell(self, pressure: float) -> None:
        """Change the cell's momentum by the internal less the external pressure, for half a step."""
        atoms = self.atoms
        volume, momenta = atoms.get_volume(), atoms.get_momenta()
        stress = atoms.get_stress(voigt=False)
        twice_kinetic = momenta.T @ (momenta / self.masses)  # (3, 3)
        force = twice_kinetic - volume * (stress + pressure * np.eye(3))
        force += np.eye(3) * np.trace(twice_kinetic) / (3 * len(atoms))
        self.cell_momentum = self.cell_momentum + 0.5 * self.timestep * self._allowed(force)

    def _kick(self) -> None:
        """Change momenta by forces and by the flow of the cell, for half a step."""
        time = 0.5 * self.timestep
        rates, axes = np.linalg.eigh(self.cell_momentum / self.cell_mass)  # (3,), columns
        damping = (rates + rates.sum() / (3 * len(self.atoms))) * time
        momenta, forces = self.atoms.get_momenta() @ axes, self.atoms.get_forces(md=True) @ axes
        moved = momenta * np.exp(-damping) + time * forces * exprel(-damping)
        self.atoms.set_momenta(moved @ axes.T)

    def _drift(self) -> None:
        """Move atoms and cell by a step."""
        atoms, time = self.atoms, self.timestep
        rates, axes = np.linalg.eigh(self.cell_momentum / self.cell_mass)
        growth = rates * time
        velocities = (atoms.get_momenta() / self.masses) @ axes
        moved = (atoms.get_positions() @ axes) * np.exp(growth) + time * velocities * exprel(growth)
        cell = ((atoms.cell.array @ axes) * np.exp(growth)) @ axes.T
        atoms.set_cell(cell, scale_atoms=False)
        atoms.set_positions(moved @ axes.T)

    def conserved(self, pressure: float = 0.0) -> float:
        """Give the quantity that the exact equations of motion conserve (eV)."""
        volume_work = pressure * self.atoms.get_volume() - self.work
        return super().conserved() + self.cell_energy + float(volume_work)

    def state(self) -> dict[str, Array]:
        """Give everything that the next step depends on, besides the random generator."""
        bath = {f"cell_thermostat_{name}": value for name, value in self.cell_thermostat.state().items()}
        pressure = np.array(np.nan if self._pressure is None else self._pressure)
        own = {"cell_momentum": self.cell_momentum.copy(), "work": np.array(self.work), "pressure": pressure}
        return {**super().state(), **bath, **own}

    def load(self, state: dict[str, Array]) -> None:
        """Take everything up again, to the last bit."""
        super().load(state)
        self.cell_thermostat.load(_prefixed(state, "cell_thermostat_"))
        self.cell_momentum, self.work = np.array(state["cell_momentum"]), float(state["work"])
        self._pressure = None if np.isnan(state["pressure"]) else float(state["pressure"])


def _prefixed(state: dict[str, Array], prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
