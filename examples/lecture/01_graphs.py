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
# # Everything is a graph, a crystal too
#
# A graph is a set of nodes and a list of edges. Its adjacency matrix $A$ has $A_{ij} = 1$ where an edge joins $i$ and
# $j$. Images, sentences and molecules are graphs; a crystal is one with a twist: its edges cross the borders of the cell.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.neighborlist import build_neighbor_list, natural_cutoffs

from forcefield import GNNCalculator
from forcefield.graph import graph_from_atoms

PICTURES = Path("pictures")
PICTURES.mkdir(exist_ok=True)

# %% [markdown]
# ## An image, a sentence, a molecule
#
# Pixels have their neighbours in the grid, words have the next word, atoms have bonds.

# %%
side = 5
image = np.zeros((side**2, side**2))
for row in range(side):
    for column in range(side):
        for down, right in ((0, 1), (1, 0)):
            if row + down < side and column + right < side:
                one, other = row * side + column, (row + down) * side + column + right
                image[one, other] = image[other, one] = 1

words = ["graphs", "are", "all", "around", "us"]
sentence = np.diag(np.ones(len(words) - 1), k=1)  # directed: a word leads to the next

ethanol = molecule("CH3CH2OH")
bonds = build_neighbor_list(ethanol, natural_cutoffs(ethanol), self_interaction=False).get_connectivity_matrix()
bonds = bonds.toarray() + bonds.toarray().T

figure, axes = plt.subplots(1, 3, figsize=(9, 3.6), layout="constrained")
for axis, matrix, title in zip(axes, (image, sentence, bonds), ("5 x 5 pixels", "a sentence", "ethanol"), strict=True):
    axis.imshow(matrix > 0, cmap="Greys")
    axis.set_title(title)
    axis.set_xticks([])
    axis.set_yticks([])
axes[1].set_xticks(range(len(words)), words, rotation=40)
axes[2].set_xticks(range(len(ethanol)), list(ethanol.symbols))
figure.savefig(PICTURES / "adjacency.png", dpi=90, bbox_inches="tight")

# %% [markdown]
# ## A crystal under periodic boundaries
#
# Take one layer of rock salt with two atoms in its cell. Within 3.5 Å each atom has four neighbours of the other kind, but
# the cell holds only one: the others are its images. An edge must say *which* image it leads to, so it carries a vector.
# Two nodes may be joined by several edges, and an atom may be its own neighbour: with a cutoff of 4.2 Å, as below, each also
# sees four images of itself, 3.96 Å away.

# %%
layer = Atoms(
    "NaCl", [[0, 0, 0], [2.8, 0, 0]], cell=[[2.8, 2.8, 0], [2.8, -2.8, 0], [0, 0, 20]], pbc=[True, True, False]
)
graph = graph_from_atoms(layer, cutoff=4.2)
centre, neighbour = graph.edge_index
vectors = graph.edge_vectors()
print(f"{graph.n_atoms} atoms, {graph.n_edges} edges")
for kind, atom in enumerate(layer.symbols):
    print(atom, "sees", [layer.symbols[j] for j in neighbour[centre == kind]])
print(f"edges from an atom to its own images: {int((centre == neighbour).sum())}")

figure, axis = plt.subplots(figsize=(5, 5))
shifts = [(a, b) for a in range(-2, 3) for b in range(-2, 3)]
for a, b in shifts:
    moved = layer.positions + a * layer.cell[0] + b * layer.cell[1]
    inside = (a, b) == (0, 0)
    for symbol, position, colour in zip(layer.symbols, moved, ("tab:orange", "tab:green"), strict=True):
        axis.scatter(*position[:2], s=260, color=colour, alpha=1.0 if inside else 0.25, zorder=3)
        axis.text(*position[:2], symbol, ha="center", va="center", fontsize=9, zorder=4, clip_on=True)
for k in range(graph.n_edges):
    start = layer.positions[int(centre[k]), :2]
    step = vectors[k, :2].numpy()
    own = int(centre[k]) == int(neighbour[k])
    axis.annotate(
        "", start + 0.92 * step, start, arrowprops={"arrowstyle": "->", "color": "0.3", "ls": ":" if own else "-"}
    )
corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]) @ layer.cell.array[:2, :2] - [1.4, 0]
axis.plot(*corners.T, "k--", lw=1)
axis.set(xlim=(-3.6, 6.4), ylim=(-3.6, 3.6), aspect="equal")
axis.set_title("a cell (dashed) and its edges;\ndotted: from an atom to its own images", fontsize=10)
axis.axis("off")
figure.savefig(PICTURES / "crystal_graph.png", dpi=90, bbox_inches="tight")

# %% [markdown]
# A cell of a single atom shows it best: copper has one node and yet twelve nearest neighbours, all of them itself.

# %%
copper = graph_from_atoms(bulk("Cu"), cutoff=2.7)
print(f"{copper.n_atoms} atom, {copper.n_edges} edges, lengths {copper.edge_lengths().unique()[:1].tolist()} Å")
assert copper.n_edges == 12

# %% [markdown]
# ## The order of the atoms means nothing
#
# A permutation $P$ of the nodes turns $A$ into $P A P^T$. Whatever a network computes must not depend on it: features of the
# nodes are permuted along (equivariance), the energy stays (invariance). Message passing has this by construction, since a
# sum over neighbours knows no order.

# %%
rng = np.random.default_rng(0)
order = rng.permutation(len(ethanol))
matrix = np.eye(len(ethanol))[order]
again = ethanol[order]
bonds_again = build_neighbor_list(again, natural_cutoffs(again), self_interaction=False).get_connectivity_matrix()
assert np.array_equal(matrix @ bonds @ matrix.T, bonds_again.toarray() + bonds_again.toarray().T)

calculator = GNNCalculator(dtype="float64")
energies = [calculator.get_potential_energy(atoms) for atoms in (ethanol, again)]
descriptors = [calculator.get_descriptors(atoms) for atoms in (ethanol, again)]
print(f"energies {energies[0]:.10f} and {energies[1]:.10f} eV")
assert abs(energies[0] - energies[1]) < 1e-8
assert np.allclose(descriptors[0][order], descriptors[1])

# %% [markdown]
# A network without this property can be had cheaply: one that reads the coordinates as a list of numbers. It gives
# another answer for every order of the same atoms.

# %%
torch.manual_seed(0)
reads_a_list = torch.nn.Sequential(torch.nn.Linear(3 * len(ethanol), 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
with torch.no_grad():
    answers = [
        float(reads_a_list(torch.tensor(atoms.positions.ravel(), dtype=torch.float32))) for atoms in (ethanol, again)
    ]
print(f"answers of a list reader: {answers[0]:.3f} and {answers[1]:.3f}")
assert abs(answers[0] - answers[1]) > 1e-3
