"""The potential that a run starts from: new or loaded, with its reference energies and frozen parts."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from forcefield.data.statistics import bound_energies, read_element_energies
from forcefield.data.store import FrameStore
from forcefield.models import load_model
from forcefield.networks import NETWORKS, build_network
from forcefield.potential import SATURATION_RATE, Potential
from forcefield.train.config import Energies, TrainConfig
from forcefield.train.config_file import nearest
from forcefield.train.element_tables import freeze_shared, train_rows_of
from forcefield.train.precision import STORED, keep_products_exact


def with_initial(config: TrainConfig) -> TrainConfig:
    """The configuration with network and hyper-parameters of the model that it starts from.

    Raises:
        ValueError: the configuration asks for another network than that model's.
    """
    if config.initial is None:
        return config
    model = load_model(config.initial).config
    found = {name: model[name] for name in ("network", "hyperparameters")}
    for name in config.model_fields_set & found.keys():
        wanted = getattr(config, name)
        same = wanted == found[name] if name == "network" else wanted.items() <= found[name].items()
        if not same:
            raise ValueError(
                f"{name} is {wanted}, but the initial model {config.initial} has {found[name]}; "
                f"leave {name} out, or train without an initial model"
            )
    return config.model_copy(update=found)


def settled(config: TrainConfig) -> TrainConfig:
    """The configuration with the network's hyper-parameters written out, as they are in this version."""
    config = with_initial(config)
    return config.model_copy(
        update={"hyperparameters": {**default_hyperparameters(config.network), **config.hyperparameters}}
    )


def default_hyperparameters(network: str) -> dict[str, Any]:
    """Hyper-parameters that a network takes if they are not given."""
    parameters = inspect.signature(NETWORKS[network]).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not one.empty}


def network_cutoff(config: TrainConfig) -> float:
    """Neighbour radius of the network (Å) before it is built."""
    with torch.device("meta"):
        return float(build_network(config.network, [1], **config.hyperparameters).cutoff)  # type: ignore[arg-type]


def build_potential(config: TrainConfig, store: FrameStore) -> Potential:
    """A potential for the elements of the store, or the initial model, with the reference energies asked for.

    Raises:
        ValueError: a reference energy is missing, or cannot be fitted.
    """
    if config.initial is None:
        potential = _fresh(config, store)
    else:
        potential = load_model(config.initial, dtype=torch.float32).potential
        _refer(config, potential, store)
        if config.saturation_rate is not None:
            potential.saturation_rate = config.saturation_rate
    potential.requires_grad_(True)
    freeze(potential, config.freeze)
    if config.shared_rate == 0:
        freeze_shared(potential)
    if config.trained_elements:
        train_rows_of(potential, config.trained_elements)
    if config.dtype == "bf16":
        keep_products_exact(potential)
    return potential.with_dtype(STORED[config.dtype]).to(config.device).train()


def _fresh(config: TrainConfig, store: FrameStore) -> Potential:
    free = element_energies(config.isolated_energies) if config.isolated_energies is not None else None
    isolated = dict.fromkeys(store.elements, 0.0) if free is None else free
    if isinstance(config.reference_energies, (Path, dict)):
        bound = _relative(element_energies(config.reference_energies), isolated, store.elements)
        scale = _spread(store, isolated, bound)
    else:
        bound, scale = bound_energies(store, isolated)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = build_network(config.network, store.elements, **config.hyperparameters)
    rate = SATURATION_RATE if config.saturation_rate is None else config.saturation_rate
    energies: dict[str, Any] = {"isolated_energies": isolated, "bound_energies": bound, "scale": max(scale, 1e-3)}
    return Potential(network, **energies, saturation_rate=rate)


def _refer(config: TrainConfig, potential: Potential, store: FrameStore) -> None:
    """Change the reference energies of an initial model where the configuration says so."""
    if config.isolated_energies is not None:
        for number, energy in element_energies(config.isolated_energies).items():
            if number in potential.elements:
                potential.bound[number] += potential.isolated[number] - energy  # bound atoms stay where they are
                potential.isolated[number] = energy
    if isinstance(config.reference_energies, (Path, dict)):
        isolated = {z: float(potential.isolated[z]) for z in potential.elements}
        given = _relative(element_energies(config.reference_energies), isolated, store.elements)
        potential.bound[list(given)] = torch.tensor(list(given.values()), dtype=torch.float64)
    elif config.reference_energies == "fit":
        raise ValueError(
            "reference_energies is 'fit' together with an initial model, whose network carries a part of the energy; "
            "forcefield finetune shifts them to new data, or give them as numbers"
        )


def element_energies(given: Energies) -> dict[int, float]:
    """Energies by atomic number (eV), from a mapping by symbol or a JSON file of one.

    Raises:
        ValueError: a key is no element symbol.
    """
    if isinstance(given, Path):
        return read_element_energies(given)
    for symbol in given:
        if symbol not in atomic_numbers:
            raise ValueError(f"{symbol!r} is no element symbol, but element energies are given by symbol")
    return {atomic_numbers[symbol]: float(energy) for symbol, energy in given.items()}


def _relative(given: Mapping[int, float], isolated: Mapping[int, float], elements: Sequence[int]) -> dict[int, float]:
    missing = [chemical_symbols[z] for z in elements if z not in given or z not in isolated]
    if missing:
        raise ValueError(f"no reference or isolated energy for {', '.join(missing)}; add them, or let them be fitted")
    return {z: given[z] - isolated[z] for z in elements}


def _spread(store: FrameStore, isolated: Mapping[int, float], bound: Mapping[int, float]) -> float:
    """Root mean square, per atom, of what reference energies leave of the total energies (eV); 1 without any."""
    table = np.zeros(119)
    table[list(bound)] = [isolated[z] + bound[z] for z in bound]
    per_atom: NDArray[np.float64] = table[np.asarray(store.arrays["numbers"], dtype=np.int64)]
    totals = np.add.reduceat(per_atom, store.first_atom[:-1])
    rest = (np.asarray(store.arrays["energy"]) - totals) / np.asarray(store.arrays["n_atoms"])
    return float(np.sqrt(np.nanmean(rest**2))) if not np.isnan(rest).all() else 1.0


def freeze(potential: Potential, patterns: Sequence[str]) -> None:
    """Take parameters out of the training, by patterns of their names.

    Raises:
        ValueError: a pattern fits no parameter, or nothing is left to train.
    """
    named = {name.removeprefix("network."): parameter for name, parameter in potential.named_parameters()}
    for pattern in patterns:
        chosen = [name for name in named if fnmatchcase(name, pattern) or fnmatchcase(f"network.{name}", pattern)]
        if not chosen:
            raise ValueError(f"freeze: {pattern!r} fits no parameter of the network{nearest(pattern, named)}")
        for name in chosen:
            named[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in named.values()):
        raise ValueError(f"freeze: {', '.join(patterns)} leaves nothing to train")
