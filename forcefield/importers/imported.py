"""What an importer makes of a published file, and how it becomes a model folder with a card.

The networks' own normalisations differ from those of the packages that the weights come from, so an importer folds
constant factors into the weights. It does so in float64; the folder holds float32, as every model does.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase
import torch
from torch import Tensor, nn

from forcefield.cards import ending, provenance, section
from forcefield.graph import graph_from_atoms
from forcefield.models import CARD, load_model, save_model
from forcefield.networks import build_network
from forcefield.potential import Potential

CRYSTALS = "Trained on bulk crystals: molecules, surfaces and lone atoms are outside of its training data."
"""A limit that several published models share."""
FAR_APART = 1.0e3
"""Distance (Å) between atoms that must not see each other."""


@dataclass(frozen=True)
class Imported:
    """A published model in the terms of this package.

    Attributes:
        network: key of `forcefield.networks.NETWORKS`.
        hyperparameters: keywords of the network.
        weights: name of a parameter -> its value, (float64).
        energies: atomic number -> energy of an atom where the network gives zero (eV).
        scale: energy (eV) that one unit of the network's output stands for.
        licence: of the weights, with the copyright line that it asks for.
        origin: where the model was published: package, address, paper.
        labels: what it was trained on.
        limits: known limits, one sentence each.
    """

    network: str
    hyperparameters: Mapping[str, Any]
    weights: Mapping[str, Tensor] = field(repr=False)
    energies: Mapping[int, float] = field(repr=False)
    scale: float
    licence: str
    origin: str
    labels: str
    limits: tuple[str, ...] = ()

    def potential(self) -> Potential:
        """The potential, its network in float64.

        The reference energy of each element is the free atom's, as in models trained here: what the network gives for
        an atom without neighbours is moved there from its output.

        Raises:
            ValueError: the weights are not those of the network.
        """
        elements = sorted(self.energies)
        with torch.random.fork_rng(devices=[]):  # random weights are made and replaced
            network = build_network(self.network, elements, **self.hyperparameters).double()
        fill(network, self.weights)
        alone = free_atoms(network)
        return Potential(
            network,
            isolated_energies={z: self.energies[z] + self.scale * alone[z] for z in elements},
            bound_energies={z: -self.scale * alone[z] for z in elements},
            scale=self.scale,
            repulsion=False,
            saturates=False,
        )

    def save(self, folder: str | os.PathLike[str], source: Path) -> Path:
        """Write the model folder.

        Args:
            folder: where.
            source: the published file, of which name and checksum go into the card.

        Raises:
            ValueError: the weights are not those of the network.
        """
        potential = self.potential().with_dtype(torch.float32)
        save_model(
            folder,
            potential,
            network=self.network,
            hyperparameters=self.hyperparameters,
            default=False,
            licence=self.licence,
            labels=self.labels,
            limits=list(self.limits),
            imported={"origin": self.origin, "file": source.name, "sha256": checksum(source)},
        )
        model = load_model(folder)
        Path(folder, CARD).write_text(card(model.name, model.config), encoding="utf-8")
        return Path(folder)


def checksum(file: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def fill(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Set every parameter of a network.

    Args:
        network: the network.
        weights: name of each of its parameters -> value.

    Raises:
        ValueError: a parameter is left out, unknown or of another shape, or a value is not finite.
    """
    parameters = dict(network.named_parameters())
    if parameters.keys() != weights.keys():
        odd = ", ".join(sorted(parameters.keys() ^ weights.keys()))
        raise ValueError(f"the file does not fit the network: {odd} only on one side; is it of another architecture?")
    for name, parameter in parameters.items():
        value = weights[name]
        if value.shape != parameter.shape:
            raise ValueError(
                f"the file does not fit the network: {name} has shape {tuple(value.shape)}, not "
                f"{tuple(parameter.shape)}; is it of another architecture?"
            )
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"the file is damaged: the weights for {name} are not all finite")
        with torch.no_grad():
            parameter.copy_(value)


def free_atoms(network: nn.Module) -> dict[int, float]:
    """Atomic number -> what the network gives for an atom without neighbours, in units of the potential's scale."""
    elements = list(network.elements)  # type: ignore[arg-type]
    positions = [[FAR_APART * k, 0.0, 0.0] for k in range(len(elements))]
    graph = graph_from_atoms(ase.Atoms(numbers=elements, positions=positions), float(network.cutoff))  # type: ignore
    with torch.no_grad():
        return dict(zip(elements, network(graph, graph.edge_vectors()).tolist(), strict=True))


def card(name: str, config: Mapping[str, Any]) -> str:
    """The card of an imported model, from its configuration."""
    imported = config["imported"]
    lines = [
        f"# {name}",
        "",
        f"Imported weights. Network `{config['network']}` with {config['parameters']:,} parameters, cutoff "
        f"{config['cutoff']} Å, " + provenance(config),
        "",
        *section(
            "Origin",
            imported["origin"],
            "",
            f"Converted from `{imported['file']}` (SHA-256 {imported['sha256']}). Not trained or changed here; "
            "constant factors were folded into the weights, which moves energies and forces by rounding only.",
        ),
        *section("Labels", config["labels"]),
        *ending(config, no_limits="None known to the importer."),
    ]
    return "\n".join(lines)
