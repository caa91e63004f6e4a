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
# # Why forces need equivariance
#
# Turn a molecule, and its energy stays while its forces turn along: $E(Rx) = E(x)$ and $F(Rx) = R F(x)$. A network that
# does not know this must learn it from data, one orientation after the other.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from ase.build import molecule
from ase.calculators.emt import EMT
from scipy.spatial.transform import Rotation

from forcefield.graph import collate, graph_from_atoms
from forcefield.networks import build_network

PICTURES = Path("pictures")
PICTURES.mkdir(exist_ok=True)

# %% [markdown]
# ## Three networks of untrained weights
#
# A list reader takes the coordinates as they are. SchNet sees distances only, so its energy cannot change and its forces,
# as derivatives, turn by themselves. PaiNN carries vectors from atom to atom; it could even predict a force directly.

# %%
torch.manual_seed(0)
atoms = molecule("CH3CH2OH")
atoms.rattle(0.05, seed=0)
turn = Rotation.from_euler("xyz", [30, 50, 70], degrees=True).as_matrix()
turned = atoms.copy()
turned.positions = atoms.positions @ turn.T
elements = sorted(set(atoms.numbers.tolist()))
list_reader = torch.nn.Sequential(torch.nn.Linear(27, 64), torch.nn.Tanh(), torch.nn.Linear(64, 1)).double()
networks = {name: build_network(name, elements, cutoff=5.0).double() for name in ("schnet", "painn")}


def energy_of_list(positions):
    return list_reader(positions.flatten(-2)).sum()


def energy_of_graph(network, structures):
    """Total energy and the positions it depends on."""
    graph = collate([graph_from_atoms(one, network.cutoff) for one in structures])
    positions = graph.positions.clone().requires_grad_()
    centre, neighbour = graph.edge_index
    vectors = graph.edge_vectors() + (positions - graph.positions)[neighbour] - (positions - graph.positions)[centre]
    return network(graph, vectors), positions


def forces(name, structure):
    if name == "list reader":
        positions = torch.tensor(structure.positions, requires_grad=True)
        energy = energy_of_list(positions)
    else:
        energy, positions = energy_of_graph(networks[name], [structure])
    return -torch.autograd.grad(energy.sum(), positions)[0].numpy(), float(energy.sum().detach())


for name in ("list reader", *networks):
    (before, one), (after, other) = forces(name, atoms), forces(name, turned)
    wrong = np.abs(after - before @ turn.T).max() / np.abs(before).max()
    print(f"{name:12s} energy changes by {abs(other - one):.1e}, forces are off by {100 * wrong:.1e} %")
    assert (wrong > 0.1) if name == "list reader" else (wrong < 1e-10)

# %% [markdown]
# ## What it costs not to know
#
# All three learn the forces of the same molecule, shaken, from a cheap analytic potential, in *one* orientation. Then they
# are asked about other shakes of it, in that orientation and turned.

# %%
rng = np.random.default_rng(1)
frames = []
for k in range(60):
    one = atoms.copy()
    one.rattle(0.08, seed=100 + k)
    one.calc = EMT()
    frames.append((one, torch.tensor(one.get_forces())))
train, test = frames[:50], frames[50:]
spread = torch.stack([wanted for _, wanted in train]).std()


def train_list_reader(steps=400):
    positions = torch.stack([torch.tensor(one.positions) for one, _ in train]).requires_grad_()
    wanted = torch.stack([values for _, values in train]) / spread
    optimizer = torch.optim.Adam(list_reader.parameters(), 3e-3)
    for _ in range(steps):
        (slope,) = torch.autograd.grad(energy_of_list(positions), positions, create_graph=True)
        loss = (slope + wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def train_network(network, steps=60):
    wanted = torch.cat([values for _, values in train]) / spread
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(steps):
        energy, positions = energy_of_graph(network, [one for one, _ in train])
        (slope,) = torch.autograd.grad(energy.sum(), positions, create_graph=True)
        loss = (slope + wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


train_list_reader()
for network in networks.values():
    train_network(network)

errors = {}
for name in ("list reader", *networks):
    as_trained, rotated = [], []
    for one, wanted in test:
        as_trained.append(np.linalg.norm(forces(name, one)[0] - (wanted / spread).numpy(), axis=1).mean())
        other = one.copy()
        other.positions = one.positions @ turn.T
        rotated.append(np.linalg.norm(forces(name, other)[0] - (wanted / spread).numpy() @ turn.T, axis=1).mean())
    errors[name] = (float(np.mean(as_trained)), float(np.mean(rotated)))
    print(f"{name:12s} error {errors[name][0]:.3f} as trained, {errors[name][1]:.3f} turned")
lengths = [np.linalg.norm(wanted / spread, axis=1).mean() for _, wanted in test]
no_forces = float(np.mean(lengths))
print(f"error of saying that there are no forces: {no_forces:.3f} (in units of the components' spread, all of them)")

# %%
figure, axis = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
places = np.arange(len(errors))
axis.bar(places - 0.2, [pair[0] for pair in errors.values()], 0.4, label="orientation of the training")
axis.bar(places + 0.2, [pair[1] for pair in errors.values()], 0.4, label="turned")
axis.set_xticks(places, list(errors))
axis.axhline(no_forces, color="0.4", ls="--", lw=1, label="forces of zero")
axis.set_ylabel("mean error of a force / spread of components")
axis.legend()
figure.savefig(PICTURES / "equivariance.png", dpi=90)
assert errors["list reader"][1] > no_forces > 2 * errors["list reader"][0]
assert all(abs(a - b) < 1e-9 for a, b in (errors["schnet"], errors["painn"]))

# %% [markdown]
# In the orientation of the training the list reader has learned something; of the turned molecule it knows less than one
# who says that there are no forces. It would have to see every orientation, and every order of the atoms. The other two
# are as good turned as not, to the last digits, from the same fifty frames. Which of *them* is ahead means little here:
# one molecule, sixty steps, and distances alone tell its shapes apart. The next notebook and `docs/ladder.md` compare them
# on crystals.
