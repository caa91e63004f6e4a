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
from forcefield.derivatives import evaluate
from forcefield.graph import collate, graph_from_atoms
from forcefield.models import load_model
from forcefield.networks import build_network
from forcefield.potential import Potential
from forcefield.train.optimizer import Optimizers

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
# After $k$ layers an atom has heard of atoms $k$ cutoffs away, and of none further. We ask a network for one atom's
# energy and look which atoms' positions it depends on: a chain of 21 atoms, 2.5 Å apart, cutoff 3 Å.

# %%
chain = bulk("Cu", "sc", a=2.5).repeat((21, 1, 1))
chain.pbc = [False, False, False]
chain.rattle(0.02, seed=0)  # where both sides are alike, the atom in the middle feels no force
graph = graph_from_atoms(chain, cutoff=3.0)
centre, neighbour = graph.edge_index
middle, depths, reach = 10, [1, 2, 3, 4], []
for depth in depths:
    torch.manual_seed(depth)
    network = build_network("schnet", [29], cutoff=3.0, channels=16, n_layers=depth).double()
    moves = torch.zeros(21, 3, dtype=torch.float64, requires_grad=True)
    energy = network(graph, graph.edge_vectors() + moves[neighbour] - moves[centre])[middle]
    (slope,) = torch.autograd.grad(energy, moves)
    reach.append(slope.norm(dim=1).numpy() > 0)
    print(f"layers: {depth}, atoms that the energy depends on: {int(reach[-1].sum())}")
figure, axis = plt.subplots(figsize=(6, 2.2), layout="constrained")
axis.imshow(np.array(reach), cmap="Blues", aspect="auto")
axis.set(xlabel="atom of the chain", xticks=range(0, 21, 5), yticks=range(4), yticklabels=depths, ylabel="layers")
axis.set_title("dark: atoms that the energy of atom 10 depends on", fontsize=10)
figure.savefig(PICTURES / "receptive_field.png", dpi=90)
assert [int(row.sum()) for row in reach] == [2 * depth + 1 for depth in depths]

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
# features over the atoms of a random alloy against the number of layers, for a graph convolution with random weights:
# without residual connections, with them, and with them where the layers' weights are scaled by 0.3. The share of the
# variance in the mean square is what tells atoms apart; the variance itself also grows with features that all atoms share.

# %%
alloy = bulk("Cu", cubic=True).repeat(3)
rng = np.random.default_rng(1)
alloy.numbers = rng.choice([29, 79, 13, 28], size=len(alloy))
alloy.rattle(0.1, seed=1)
graph = graph_from_atoms(alloy, cutoff=4.0)


def spread(depth, residual, scale):
    """Variance of the features over the atoms, and its share in their mean square."""
    torch.manual_seed(0)
    network = build_network("gcn", [13, 28, 29, 79], cutoff=4.0, channels=64, n_layers=depth, residual=residual)
    with torch.no_grad():
        for layer in network.layers:
            layer.linear.weight *= scale
        features, _ = network.features(graph, graph.edge_vectors().float())
    variance = float(features.var(dim=0).sum())
    return variance, variance / float(features.square().sum(dim=1).mean())


depths = list(range(1, 17))
kinds = {"without residuals": (False, 1.0), "with residuals": (True, 1.0), "with residuals, small layers": (True, 0.3)}
spreads = {name: np.array([spread(depth, *kind) for depth in depths]) for name, kind in kinds.items()}
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for name, values in spreads.items():
    for axis, column in zip(axes, values.T, strict=True):
        axis.semilogy(depths, column, "o-", ms=3, label=name)
    print(f"{name:30s} 16 layers: variance {values[-1, 0]:.1e}, share {values[-1, 1]:.1e}")
axes[0].set(xlabel="layers", xticks=range(2, 17, 2), ylabel="variance over the atoms")
axes[1].set(xlabel="layers", xticks=range(2, 17, 2), ylabel="variance / mean square")
axes[1].legend(fontsize=8)
figure.savefig(PICTURES / "over_smoothing.png", dpi=90)
share = {name: values[-1, 1] / values[0, 1] for name, values in spreads.items()}
assert share["without residuals"] < 0.01 and share["with residuals, small layers"] > 0.5
assert spreads["with residuals"][-1, 0] > spreads["with residuals"][0, 0]

# %% [markdown]
# Without residuals the features of all atoms become the same. Residuals keep the variance from vanishing, but as long as a
# layer adds as much as there was, it adds mostly what all atoms share, and the *share* of the differences falls as deep. It
# lasts where layers change little: the last matrices of most networks here start small, for this reason.

# %% [markdown]
# ## What is learned on a small cell holds for a large one
#
# The weights belong to edges and nodes, not to a structure: a network is *inductive*. SchNet learns the forces in cells of
# eight atoms of shaken rock salt, labelled by the shipped force field, and is asked about a cell of 64 atoms that it has
# never seen, with all atoms and without one. (A layer whose weights belong to nodes could not even be applied to it.)


# %%
def shaken(size, seed):
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True).repeat(size)
    atoms.rattle(0.12, seed=seed)
    return atoms


def batch(frames):
    """Graph of the structures and their forces (eV/Å)."""
    forces = np.concatenate([calculator.get_forces(atoms) for atoms in frames])
    return collate([graph_from_atoms(atoms, 5.0) for atoms in frames]), torch.from_numpy(forces)


cells = [shaken(1, seed) for seed in range(16)]
large = shaken(2, 100)
vacancy = large.copy()
del vacancy[21]
torch.manual_seed(0)
network = build_network("schnet", [11, 17], cutoff=5.0, channels=32, n_layers=2)
potential = Potential(network, isolated_energies={11: 0.0, 17: 0.0}, bound_energies={11: 0.0, 17: 0.0})
optimizer = Optimizers(network, "muon", 0.01)
graph, right = batch(cells[:12])
for step in range(60):
    loss = (evaluate(potential, graph, training=True).forces - right).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.set_learning_rate(0.01 * (1 - step / 60))
    optimizer.step()
errors = {}
for name, frames in {"8 atoms": cells[12:], "64 atoms": [large], "63 atoms, a vacancy": [vacancy]}.items():
    graph, right = batch(frames)
    errors[name] = float((evaluate(potential, graph).forces - right).abs().mean())
    print(f"{name:20s} {1000 * errors[name]:4.0f} meV/Å (mean force component {1000 * float(right.abs().mean()):.0f})")
assert errors["64 atoms"] < 0.4 * float(right.abs().mean())

# %% [markdown]
# Most of it carries over, even next to a vacancy, but not all. In the small cells an atom's images, 5.64 Å away, always
# moved along with it; in a large one the surroundings move in ways that no small cell has. Weights fit any size of cell,
# what they know is what the training cells could show.
#
# A perfect crystal's energy is the same per atom in any cell, by construction:

# %%
cell = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
repeated = cell.repeat((2, 2, 2))
small_energy = calculator.get_potential_energy(cell) / len(cell)
large_energy = calculator.get_potential_energy(repeated) / len(repeated)
print(f"{small_energy:.8f} eV/atom in {len(cell)} atoms, {large_energy:.8f} in {len(repeated)}")
assert abs(small_energy - large_energy) < 1e-8
