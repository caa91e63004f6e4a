"""The convolution against explicit loops over edges and paths, with e3nn's own harmonics and Wigner 3j symbols."""

from __future__ import annotations

import math

import pytest
import torch
from e3nn import o3
from torch import Tensor

from forcefield.nn.degree_linear import DegreeLinear, SpeciesDegreeLinear
from forcefield.nn.gate import SILU_RMS, Gate, RMSNorm
from forcefield.nn.radial import BesselBasis
from forcefield.nn.scatter import neighbour_table
from forcefield.nn.tensor_product import Convolution, EdgeGeometry, convolution_paths

CUTOFF = 4.0


def random_edges(n_atoms: int, n_centres: int, n_edges: int) -> tuple[Tensor, Tensor]:
    """Edges sorted by centre, one centre left without any, and vectors of which some reach beyond the cutoff."""
    centre = torch.randint(1, n_centres, (n_edges,)).sort().values
    vectors = torch.randn(n_edges, 3, dtype=torch.float64)
    vectors *= (0.8 + 4 * torch.rand(n_edges, 1, dtype=torch.float64)) / vectors.norm(dim=1, keepdim=True)
    return torch.stack([centre, torch.randint(0, n_atoms, (n_edges,))]), vectors


def convolve(
    convolution: Convolution, geometry: EdgeGeometry, messages: Tensor, edges: Tensor, vectors: Tensor, n: int
):
    """Run the bricks the way a network does."""
    table = neighbour_table(edges, n)
    basis, couplings = geometry(vectors, table)
    return convolution(messages, basis, couplings, table)


def slow_convolution(
    convolution: Convolution, geometry: EdgeGeometry, messages: Tensor, edges: Tensor, vectors: Tensor, n: int
) -> list[Tensor]:
    """One edge and one path at a time."""
    channels = convolution.channels
    sizes = [(2 * l + 1) * c for l, c in enumerate(channels)]
    blocks: dict[int, list[Tensor]] = {out: [] for out in convolution.l_out}
    start = 0
    for first, second, out in convolution.paths:
        total = torch.zeros(n, 2 * out + 1, channels[first], dtype=torch.float64)
        coupling = o3.wigner_3j(first, second, out, dtype=torch.float64) * math.sqrt(2 * out + 1)
        for (i, j), vector in zip(edges.T.tolist(), vectors, strict=True):
            weights = convolution.weights(geometry.radial(vector.norm()[None]))[0, start : start + channels[first]]
            feature = messages[j].split(sizes)[first].view(2 * first + 1, channels[first])
            harmonics = o3.spherical_harmonics(second, vector, normalize=True, normalization="component")
            total[i] += geometry.scale * weights * torch.einsum("abc,au,b->cu", coupling, feature, harmonics)
        blocks[out].append(total)
        start += channels[first]
    return [torch.cat(blocks[out], dim=2) for out in convolution.l_out]


@pytest.mark.parametrize(
    ("channels", "lmax", "l_out"),
    [([5], 2, [0, 1, 2]), ([4, 3, 2], 2, [0, 1, 2]), ([3, 2, 2, 1], 3, [0, 1, 2, 3]), ([4, 3], 3, [0])],
)
def test_convolution_equals_loops_over_edges_and_paths(channels: list[int], lmax: int, l_out: list[int]) -> None:
    convolution = Convolution(channels, lmax, l_out, n_radial=4, radial_hidden=[6, 5]).double()
    geometry = EdgeGeometry(BesselBasis(CUTOFF, 4, 6), lmax, convolution.paths, scale=0.3).double()
    edges, vectors = random_edges(6, 4, 14)
    messages = torch.randn(6, sum((2 * l + 1) * c for l, c in enumerate(channels)), dtype=torch.float64)
    found = convolve(convolution, geometry, messages, edges, vectors, 4)
    expected = slow_convolution(convolution, geometry, messages, edges, vectors, 4)
    assert [x.shape[2] for x in found] == convolution.out_channels
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_paths_keep_parity_and_are_ordered_by_result_then_feature_then_harmonic() -> None:
    assert convolution_paths([0, 1], 2, [0, 1]) == [(0, 0, 0), (1, 1, 0), (0, 1, 1), (1, 0, 1), (1, 2, 1)]


def test_empty_slots_and_edges_beyond_the_cutoff_contribute_nothing() -> None:
    convolution = Convolution([3], 1, [0, 1], n_radial=4, radial_hidden=[6]).double()
    geometry = EdgeGeometry(BesselBasis(CUTOFF, 4, 6), 1, convolution.paths, scale=1.0).double()
    far = torch.tensor([[4.0, 0.0, 0.0], [0.0, 5.0, 0.0]], dtype=torch.float64)
    edges = torch.tensor([[0, 1], [1, 0]])
    for result in convolve(convolution, geometry, torch.ones(3, 3, dtype=torch.float64), edges, far, 3):
        assert torch.count_nonzero(result) == 0


@pytest.mark.parametrize("n", [0, 2])
def test_no_edges_give_zeros_of_the_right_shape(n: int) -> None:
    convolution = Convolution([3, 2], 2, [0, 1, 2], n_radial=4, radial_hidden=[6]).double()
    geometry = EdgeGeometry(BesselBasis(CUTOFF, 4, 6), 2, convolution.paths, scale=1.0).double()
    none = torch.zeros(2, 0, dtype=torch.int64)
    results = convolve(convolution, geometry, torch.ones(n, 9).double(), none, torch.zeros(0, 3).double(), n)
    shapes = [tuple(x.shape) for x in results]
    assert shapes == [(n, 2 * l + 1, c) for l, c in enumerate(convolution.out_channels)]
    assert all(torch.count_nonzero(x) == 0 for x in results)


def test_gate_multiplies_each_degree_by_its_own_scalars() -> None:
    gate = Gate([4, 3, 2])
    assert gate.in_channels == [9, 3, 2]
    features = [torch.randn(5, 2 * l + 1, c) for l, c in enumerate(gate.in_channels)]
    scalars, vectors, tensors = gate(features)
    active = torch.nn.functional.silu(features[0]) / SILU_RMS
    torch.testing.assert_close(scalars, active[..., :4])
    torch.testing.assert_close(vectors, features[1] * active[..., 4:7])
    torch.testing.assert_close(tensors, features[2] * active[..., 7:])


def test_activation_keeps_the_second_moment_of_a_normal_variable() -> None:
    x = torch.linspace(-12, 12, 200001, dtype=torch.float64)
    density = torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    moment = torch.trapezoid(torch.nn.functional.silu(x) ** 2 * density, x)
    assert float(moment.sqrt()) == pytest.approx(SILU_RMS, rel=1e-9)


def test_norm_ignores_the_scale_of_its_input_and_starts_at_unit_variance() -> None:
    norm = RMSNorm([64, 32, 16]).double()
    features = [torch.randn(300, 2 * l + 1, c, dtype=torch.float64) for l, c in enumerate([64, 32, 16])]
    results = [x.detach() for x in norm(features)]
    for a, b in zip(results, norm([7 * x for x in features]), strict=True):
        torch.testing.assert_close(a, b)
    assert all(0.9 < x.square().mean().item() < 1.1 for x in results)


def test_species_matrices_mix_each_atom_with_its_own() -> None:
    linear = SpeciesDegreeLinear(3, [4, 2, 2], [5, 3])
    features = [torch.randn(6, 2 * l + 1, c) for l, c in enumerate([4, 2, 2])]
    species = torch.tensor([0, 2, 1, 1, 0, 2])
    results = linear(features, species)
    assert len(results) == 2
    for l, result in enumerate(results):
        for atom, z in enumerate(species.tolist()):
            torch.testing.assert_close(result[atom], features[l][atom] @ linear.weights[l][z])


def test_degree_linear_leaves_out_degrees_of_one_side() -> None:
    assert [x.shape[2] for x in DegreeLinear([4, 3], [5])([torch.ones(2, 1, 4), torch.ones(2, 3, 3)])] == [5]
