"""Analysis of trajectories against walks, lattices, gases and oscillators whose answers are known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from forcefield.workflows.outcome import plain
from forcefield.workflows.trajectory_analysis import analyse_trajectory
from forcefield.workflows.trajectory_analysis_motion import (
    diffusion_coefficient,
    mean_square_displacement,
    unwrapped_positions,
)
from forcefield.workflows.trajectory_analysis_statistics import block_average
from forcefield.workflows.trajectory_analysis_structure import radial_distribution


def walk(n_frames=2000, n_atoms=40, step=0.1, seed=0):
    """Positions of independent random walkers; D is step² / (2 frames) along each axis."""
    steps = np.random.default_rng(seed).normal(scale=step, size=(n_frames - 1, n_atoms, 3))
    return np.concatenate([np.zeros((1, n_atoms, 3)), np.cumsum(steps, axis=0)])


def framed(path, interval=2.0, cell=None, wrap=False, momenta=None):
    frames = []
    for number, positions in enumerate(path):
        atoms = Atoms(f"Ar{len(positions)}", positions=positions, cell=cell, pbc=cell is not None)
        atoms.info["time_fs"] = interval * number
        if momenta is not None:
            atoms.set_momenta(momenta[number])
        if wrap:
            atoms.wrap()
        frames.append(atoms)
    return frames


def test_displacement_by_fourier_transform_is_the_plain_sum():
    path = walk(50, 3)
    for lag, moved in enumerate(mean_square_displacement(path)):
        direct = np.mean(np.sum((path[lag:] - path[: 50 - lag]) ** 2, axis=2))
        assert moved == pytest.approx(direct, abs=1e-10)


def test_random_walk_has_its_diffusion_coefficient_within_the_error():
    exact = 0.1**2 / (2 * 2.0) * 0.1  # step² / (2 interval) in Å²/fs, as cm²/s
    hits = 0
    for seed in range(20):
        found = diffusion_coefficient(walk(1000, 20, seed=seed), 2.0)
        assert found.coefficient == pytest.approx(exact, rel=0.25) and found.resolved
        hits += found.interval[0] <= exact <= found.interval[1]
    assert hits >= 16  # 95 % of twenty is 19


def test_walk_through_a_skewed_periodic_cell_is_followed_and_drift_taken_out():
    cell = np.array([[6.0, 0, 0], [3.0, 6.0, 0], [1.0, -2.0, 7.0]])
    path = walk(200, 5) + 0.05 * np.arange(200)[:, None, None]
    wrapped = framed(path, cell=cell, wrap=True)
    followed = unwrapped_positions(wrapped)
    np.testing.assert_allclose(followed - followed[0], path - path[0], atol=1e-9)
    still = framed(np.arange(60)[:, None, None] * 0.3 + np.arange(6).reshape(1, 2, 3), cell=cell, wrap=True)
    result = analyse_trajectory(still, cutoff=4.0)
    np.testing.assert_allclose(result.displacements["all"], 0.0, atol=1e-18)
    assert not result.diffusion["all"].resolved


def test_lattice_has_its_shells():
    copper = bulk("Cu", a=3.6)
    result = radial_distribution([copper], cutoff=5.0, bins=500)
    neighbours = np.interp([2.6, 3.7, 4.5, 4.99], result[0].distances, result[0].coordination)
    np.testing.assert_allclose(neighbours, [12, 18, 42, 42], atol=1e-9)
    big = radial_distribution([copper * (3, 2, 2)], cutoff=5.0, bins=500)
    np.testing.assert_allclose(big[0].density, result[0].density, atol=1e-9)
    salt = radial_distribution([bulk("NaCl", "rocksalt", a=5.6)], cutoff=4.5, bins=90)
    by_pair = {distribution.pair: distribution for distribution in salt}
    assert set(by_pair) == {("all", "all"), ("Na", "Na"), ("Na", "Cl"), ("Cl", "Cl")} or ("Cl", "Na") in by_pair
    unlike = by_pair.get(("Na", "Cl")) or by_pair[("Cl", "Na")]
    assert unlike.distances[np.argmax(unlike.density)] == pytest.approx(2.8, abs=0.05)
    assert unlike.coordination[-1] == pytest.approx(6.0) and by_pair[("Na", "Na")].coordination[-1] == pytest.approx(12)


def test_gas_has_a_distribution_of_one():
    rng = np.random.default_rng(2)
    cell = np.array([[9.0, 0, 0], [4.0, 8.0, 0], [-3.0, 2.0, 9.0]])
    frames = [Atoms("Ar60", scaled_positions=rng.random((60, 3)), cell=cell, pbc=True) for _ in range(60)]
    (gas, *_) = radial_distribution(frames, cutoff=6.0, bins=12)
    np.testing.assert_allclose(gas.density[3:], 59 / 60, atol=0.05)


def test_oscillator_shows_its_frequency_and_a_molecule_counts_neighbours():
    times = np.arange(4000) * 2.0  # fs
    frequencies = (3.0, 8.0)  # THz
    momenta = np.zeros((4000, 2, 3))
    for atom, frequency in enumerate(frequencies):
        momenta[:, atom, 0] = np.cos(2 * np.pi * frequency * 1e-3 * times + atom)
    path = np.tile(np.array([[[0.0, 0, 0], [0, 0, 3.0]]]), (4000, 1, 1))
    result = analyse_trajectory(framed(path, momenta=momenta))
    spectrum = result.spectrum
    assert spectrum is not None and spectrum.resolution == pytest.approx(0.5, rel=0.01)
    step = spectrum.frequencies[1]
    assert spectrum.density.sum() * step == pytest.approx(1.0)
    for frequency in frequencies:
        near = np.abs(spectrum.frequencies - frequency) < 1.0
        assert spectrum.density[near].sum() * step == pytest.approx(0.5, abs=0.01)
        peak = spectrum.frequencies[near][np.argmax(spectrum.density[near])]
        assert peak == pytest.approx(frequency, abs=0.1)
    correlation = result.autocorrelation
    expected = 0.5 * sum(np.cos(2 * np.pi * f * 1e-3 * times[:200]) for f in frequencies)
    np.testing.assert_allclose(correlation[:200], expected, atol=0.02)
    (pair, *_) = result.distributions
    assert pair.coordination[-1] == pytest.approx(1.0)
    assert json.loads(json.dumps(plain(result), allow_nan=False))["n_frames"] == 4000


def test_block_average_sees_correlation():
    rng = np.random.default_rng(5)
    independent = rng.normal(3.0, 2.0, size=4096)
    mean = block_average(independent)
    assert abs(mean.mean - 3.0) < 4 * mean.error and mean.error == pytest.approx(2 / 64, rel=0.7)
    errors, off = [], []
    for _ in range(40):  # x' = 0.95 x + noise: the error of the mean is sqrt(1.95 / 0.05) times that of noise
        series = np.zeros(4096)
        noise = rng.normal(size=4096)
        for k in range(1, 4096):
            series[k] = 0.95 * series[k - 1] + noise[k]
        mean = block_average(series)
        errors.append(mean.error)
        off.append(mean.mean)
    assert np.mean(errors) == pytest.approx(np.std(off), rel=0.5)
    assert block_average(np.full(9, 2.0)).error == 0.0
    with pytest.raises(ValueError, match="finite"):
        block_average(np.array([]))


@pytest.mark.parametrize(
    ("frames", "options", "message"),
    [
        ([bulk("Cu")], {}, "1 frame came"),
        ([bulk("Cu"), bulk("Al")], {}, "Frame 1 has other atoms"),
        ([bulk("Cu"), bulk("Cu")], {}, "do not say their time"),
        (framed(walk(5, 2))[:2] + framed(walk(5, 2))[3:], {}, "equally spaced"),
        (framed(walk(5, 2)), {"interval": 0.0}, "interval is 0.0"),
        (framed(walk(5, 2)), {"cutoff": -1.0}, "cutoff is -1.0"),
        (framed(walk(50, 2)), {"blocks": 1}, "blocks is 1"),
    ],
)
def test_impossible_input_is_refused(frames, options, message):
    with pytest.raises(ValueError, match=message):
        analyse_trajectory(frames, **options)


def test_few_frames_and_missing_velocities_are_said():
    result = analyse_trajectory(framed(walk(10, 2)))
    assert result.diffusion == {} and result.spectrum is None
    assert len(result.warnings) == 2
