"""A small SevenNet put together from e3nn's modules, as its paper and its files describe it; only for the tests.

It shares no line with `forcefield.networks.nequip`: products edge by edge, e3nn's linear maps, gates and radial nets.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list
from e3nn import o3
from e3nn.nn import FullyConnectedNet, Gate
from torch import Tensor, nn

ELEMENTS = (8, 1, 22)
"""In an order of their own, as in the files."""


class Original(nn.Module):
    """SevenNet with random weights.

    Args:
        channels: of degree 0, 1, ...
        n_layers: interaction layers.
        cutoff: r_c (Å).
        onset: of the switched cutoff (Å), None for the polynomial one.
    """

    def __init__(self, *, channels: tuple[int, ...], n_layers: int, cutoff: float, onset: float | None) -> None:
        super().__init__()
        self.channels, self.n_layers, self.cutoff, self.onset = channels, n_layers, cutoff, onset
        n, lmax = len(ELEMENTS), len(channels) - 1
        hidden = o3.Irreps([(c, (l, 1)) for l, c in enumerate(channels)])
        self.harmonics = o3.Irreps([(1, (l, 1)) for l in range(lmax + 1)])
        self.waves = nn.Parameter(torch.arange(1, 5) * math.pi / cutoff * (1 + 0.1 * torch.rand(4)))
        self.embedding = o3.Linear(f"{n}x0e", f"{channels[0]}x0e")
        self.layers = nn.ModuleList()
        for t in range(n_layers):
            into = o3.Irreps(f"{channels[0]}x0e") if t == 0 else hidden
            out = o3.Irreps(f"{channels[0]}x0e") if t == n_layers - 1 else hidden
            self.layers.append(OriginalLayer(into, self.harmonics, out))
        self.to_hidden = o3.Linear(f"{channels[0]}x0e", "3x0e")
        self.to_energy = o3.Linear("3x0e", "1x0e")
        self.shift = nn.Parameter(torch.randn(n))

    def forward(self, atoms: Atoms, positions: Tensor) -> Tensor:
        """Energy (eV) of atoms, at positions (Å) that may carry a gradient."""
        i, j, shift = neighbor_list("ijS", atoms, self.cutoff)
        vectors = positions[j] - positions[i] + torch.from_numpy(shift @ atoms.cell.array)
        r = vectors.norm(dim=1, keepdim=True)
        basis = 2 / self.cutoff * torch.sin(self.waves * r) / r * self.envelope(r)
        harmonics = o3.spherical_harmonics(self.harmonics, vectors, True, "component")
        species = torch.tensor([ELEMENTS.index(z) for z in atoms.numbers])
        features = self.embedding(nn.functional.one_hot(species, len(ELEMENTS)).to(r))
        edges = torch.from_numpy(np.stack([i, j]))
        for layer in self.layers:
            features = layer(features, harmonics, basis, edges)
        return (0.7 * self.to_energy(self.to_hidden(features))[:, 0] + self.shift[species]).sum()

    def envelope(self, r: Tensor) -> Tensor:
        """The cutoff function."""
        if self.onset is None:
            x = r / self.cutoff
            return 1 - 28 * x**6 + 48 * x**7 - 21 * x**8
        a, b = self.onset**2, self.cutoff**2
        return torch.where(r < self.onset, 1.0, (b - r**2) ** 2 * (b + 2 * r**2 - 3 * a) / (b - a) ** 3)

    def checkpoint(self, **changes: Any) -> dict[str, Any]:
        """What SevenNet 0.12 would write.

        Args:
            changes: other entries of the configuration.
        """
        middle = "+".join(f"{c}x{l}e" for l, c in enumerate(self.channels))
        scalars = f"{self.channels[0]}x0e"
        switched = {"cutoff_function_name": "XPLOR", "cutoff_on": self.onset}
        config = {
            **{"version": "0.12.0", "is_parity": False, "act_radial": "silu", "interaction_type": "nequip"},
            **{"use_bias_in_linear": False, "readout_as_fcn": False, "_normalize_sph": True, "lmax_edge": -1},
            **{"self_connection_type": "linear", "act_scalar": {"e": "silu"}, "act_gate": {"e": "silu"}},
            "radial_basis": {"radial_basis_name": "bessel", "bessel_basis_num": 4},
            "cutoff_function": switched if self.onset else {"cutoff_function_name": "poly_cut", "poly_cut_p_value": 6},
            "_type_map": {z: row for row, z in enumerate(ELEMENTS)},
            "irreps_manual": [scalars, *[middle] * (self.n_layers - 1), scalars],
            "lmax": len(self.channels) - 1,
            "cutoff": self.cutoff,
            "num_convolution_layer": self.n_layers,
            "weight_nn_hidden_neurons": [6, 5],
            "shift": self.shift.detach().numpy(),  # NumPy arrays are in the original's files too
            **changes,
        }
        return {"config": config, "model_state_dict": self.weights(), "epoch": 1}

    def weights(self) -> dict[str, Tensor]:
        """The weights under the original's names."""
        found = {
            "edge_embedding.basis_function.coeffs": self.waves.data,
            "onehot_to_feature_x.linear.weight": self.embedding.weight.data,
            "reduce_input_to_hidden.linear.weight": self.to_hidden.weight.data,
            "reduce_hidden_to_energy.linear.weight": self.to_energy.weight.data,
            "rescale_atomic_energy.shift": self.shift.data,
            "rescale_atomic_energy.scale": torch.full((len(ELEMENTS),), 0.7, dtype=torch.float64),
        }
        for t, layer in enumerate(self.layers):
            found[f"{t}_self_connection_intro.linear.weight"] = layer.connection.weight.data
            found[f"{t}_self_interaction_1.linear.weight"] = layer.before.weight.data
            found[f"{t}_self_interaction_2.linear.weight"] = layer.behind.weight.data
            found[f"{t}_convolution.denominator"] = layer.denominator.data
            for k, matrix in enumerate(layer.radial.parameters()):
                found[f"{t}_convolution.weight_nn.layer{k}.weight"] = matrix.data
        return found


class OriginalLayer(nn.Module):
    """An interaction: linear, convolution, linear, self-connection, gate."""

    def __init__(self, into: o3.Irreps, harmonics: o3.Irreps, out: o3.Irreps) -> None:
        super().__init__()
        gates = o3.Irreps([(mul, (0, 1)) for mul, ir in out if ir.l])
        silu = nn.functional.silu
        self.gate = Gate(out[:1], [silu], gates, [silu] * len(gates), out[1:])
        paths = [
            (a, b, l)
            for l in range(out.lmax + 1)
            for a in range(len(into))
            for b in range(len(harmonics))
            if abs(into[a].ir.l - b) <= l <= into[a].ir.l + b
        ]
        between = o3.Irreps([(into[a].mul, (l, 1)) for a, _, l in paths])
        instructions = [(a, b, k, "uvu", True) for k, (a, b, _) in enumerate(paths)]
        self.product = o3.TensorProduct(
            into, harmonics, between, instructions, shared_weights=False, internal_weights=False
        )
        self.before = o3.Linear(into, into)
        self.behind = o3.Linear(between.simplify(), self.gate.irreps_in)
        self.connection = o3.Linear(into, self.gate.irreps_in)
        self.radial = FullyConnectedNet([4, 6, 5, self.product.weight_numel], silu)
        self.denominator = nn.Parameter(3.0 + torch.rand(1))

    def forward(self, features: Tensor, harmonics: Tensor, basis: Tensor, edges: Tensor) -> Tensor:
        """New features of all atoms."""
        messages = self.product(self.before(features)[edges[1]], harmonics, self.radial(basis))
        total = messages.new_zeros(len(features), messages.shape[1]).index_add(0, edges[0], messages)
        return self.gate(self.behind(total / self.denominator) + self.connection(features))
