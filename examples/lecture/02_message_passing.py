# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Messages: what to sum, how far they reach, when they blur
#
# One layer of message passing is
#
# $$m_i = \bigoplus_{j \in N(i)} M(h_i, h_j, e_{ij}), \qquad h_i' = U(h_i, m_i)$$
#
# with a message $M$, an aggregation $\bigoplus$ and an update $U$ (Gilmer et al., arXiv:1704.01212, eq. 1 and 2).

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from ase.build import bulk

from forcefield import GNNCalculator
from forcefield.graph import graph_from_atoms
from forcefield.models import load_model
from forcefield.networks import build_network

PICTURES = Path("pictures")
PICTURES.mkdir(exist_ok=True)

# %% [markdown]
# ## max, mean or sum
#
# Which neighbourhoods can an aggregation tell apart? Take neighbours with feature 1 or 2 (Xu et al., arXiv:1810.00826,
# figure 3). The maximum forgets how many there are of each, the mean how many there are at all. A potential needs the sum:
# twelve neighbours bind more strongly than six.

# %%
pairs = {
    "(1, 2) or (1, 1, 2)": ([1.0, 2.0], [1.0, 1.0, 2.0]),
    "(1, 2) or (1, 1, 2, 2)": ([1.0, 2.0], [1.0, 1.0, 2.0, 2.0]),
    "six or twelve equal": ([1.0] * 6, [1.0] * 12),
}
aggregations = {"max": np.max, "mean": np.mean, "sum": np.sum}
for name, (one, other) in pairs.items():
    told = {label: "yes" if function(one) != function(other) else "no" for label, function in aggregations.items()}
    print(f"{name:24s}", "  ".join(f"{label}: {answer:3s}" for label, answer in told.items()))
assert np.mean([1.0] * 6) == np.mean([1.0] * 12) and np.sum([1.0] * 6) != np.sum([1.0] * 12)

# %% [markdown]
# ## The receptive field grows with depth
#
# After $k$ layers an atom has heard of atoms $k$ cutoffs away, and of none further. We ask a graph network for one atom's
# energy and look which atoms it depends on: a chain of 21 atoms, 2.5 Å apart, cutoff 3 Å.

# %%
chain = bulk("Cu", "sc", a=2.5).repeat((21, 1, 1))
chain.pbc = [False, False, False]
graph = graph_from_atoms(chain, cutoff=3.0)
middle, reach = 10, []
for depth in (1, 2, 3, 4):
    torch.manual_seed(depth)
    network = build_network("gcn", [29], cutoff=3.0, channels=16, n_layers=depth)
    vectors = graph.edge_vectors().float().requires_grad_()
    energy = network(graph, vectors)[middle]
    (slope,) = torch.autograd.grad(energy, vectors)
    strength = torch.zeros(21).index_add_(0, graph.edge_index[0], slope.norm(dim=1))
    reach.append(strength.numpy() > 1e-12)
    print(f"{depth} layers: edges of {int(reach[-1].sum())} atoms matter")
figure, axis = plt.subplots(figsize=(6, 2.2))
axis.imshow(np.array(reach), cmap="Blues", aspect="auto")
axis.set(xlabel="atom of the chain", yticks=range(4), yticklabels=[1, 2, 3, 4], ylabel="layers")
figure.tight_layout()
figure.savefig(PICTURES / "receptive_field.png", dpi=90)
widths = [int(row.sum()) for row in reach]
assert all(later > earlier for earlier, later in zip(widths, widths[1:], strict=False))

# %% [markdown]
# A potential feels this as a distance beyond which atoms do not know of each other. That is what makes its cost linear in
# the number of atoms, and why long-range electrostatics is beyond it. The energy of an atom of the shipped model reaches
# `layers x cutoff` far; a force is a sum of such energies' slopes, so two atoms can talk twice as far through those
# between them, and never further.

# %%
calculator = GNNCalculator(dtype="float64")
model = load_model("default").config
reach = model["cutoff"] * model["hyperparameters"]["n_layers"]
wire = bulk("Cu", "sc", a=2.4).repeat((12, 1, 1))
wire.pbc = [False, False, False]
hessian = calculator.get_hessian(wire)
response = np.abs(hessian[:3].reshape(3, 12, 3)).max(axis=(0, 2))  # forces on atom 0 when atom j moves
distances = wire.get_distances(0, range(12))
print(f"an atom's energy reaches {reach:.0f} Å")
for distance, value in zip(distances, response, strict=True):
    print(f"{distance:5.1f} Å  {value:.2e} eV/Å²")
assert (response[distances > 2 * reach] == 0).all() and response[1] > 1e-3

# %% [markdown]
# ## Over-smoothing
#
# Averaging over neighbours again and again makes all nodes alike: without learned weights the normalised adjacency matrix
# $\hat A = D^{-1/2}(A + 1)D^{-1/2}$ is a low-pass filter (Li, Han, Wu, arXiv:1801.07606). We measure the variance of the
# features over the atoms of a random alloy against the number of layers, for a graph convolution with random weights, with
# and without residual connections.

# %%
alloy = bulk("Cu", cubic=True).repeat(3)
rng = np.random.default_rng(1)
alloy.numbers = rng.choice([29, 79, 13, 28], size=len(alloy))
alloy.rattle(0.1, seed=1)
graph = graph_from_atoms(alloy, cutoff=4.0)
depths = list(range(1, 17))
spread = {}
for residual in (False, True):
    values = []
    for depth in depths:
        torch.manual_seed(0)
        network = build_network("gcn", [13, 28, 29, 79], cutoff=4.0, channels=64, n_layers=depth, residual=residual)
        with torch.no_grad():
            features, _ = network.features(graph, graph.edge_vectors().float())
        values.append(float(features.var(dim=0).sum()))
    spread[residual] = values
figure, axis = plt.subplots(figsize=(5, 3.2))
axis.semilogy(depths, spread[False], "o-", label="without residuals")
axis.semilogy(depths, spread[True], "s-", label="with residuals")
axis.set(xlabel="layers", ylabel="variance of the features over the atoms")
axis.legend()
figure.tight_layout()
figure.savefig(PICTURES / "over_smoothing.png", dpi=90)
print(f"16 layers: {spread[False][-1]:.2e} without residuals, {spread[True][-1]:.2e} with")
assert spread[False][-1] < 0.1 * spread[False][0] and spread[True][-1] > 10 * spread[False][-1]

# %% [markdown]
# ## What is learned on a small cell holds for a large one
#
# The weights belong to edges and nodes, not to a structure: a network is *inductive*. The same atoms in a cell twice as
# long, or a larger piece with a defect in it, need no new training.

# %%
cell = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
large = cell.repeat((2, 2, 2))
small_energy = calculator.get_potential_energy(cell) / len(cell)
large_energy = calculator.get_potential_energy(large) / len(large)
print(f"{small_energy:.8f} eV/atom in {len(cell)} atoms, {large_energy:.8f} in {len(large)}")
assert abs(small_energy - large_energy) < 1e-8
