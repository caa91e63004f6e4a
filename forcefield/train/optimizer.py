"""Optimisers: Adam (with weight decay) for everything, or Muon for the mixing matrices and Adam for the rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from forcefield.train.element_tables import element_tables

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the Newton-Schulz iteration (Jordan et al. 2024)."""
LONG = 2
"""Columns for each row from which on a matrix is cheaper to orthogonalise by its Gram matrix alone."""


def orthogonalised(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Nearest (semi-)orthogonal matrices, approximately: all singular values are moved close to one.

    A step is ``X <- p(G) X`` with ``p(G) = a + b G + c G^2`` and ``G = X X^T``. Where X is long, the product of all p
    is found from G alone, which goes over into ``p^2 G``: half the multiplications, and errors of 1e-4 instead of 1e-6.

    Args:
        matrices: (batch, rows, columns).
        iterations: Newton-Schulz steps.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-12)
    gram = x @ x.transpose(1, 2)
    if x.shape[2] < LONG * x.shape[1]:
        x = _polynomial(gram) @ x
        for _ in range(iterations - 1):
            x = _polynomial(x @ x.transpose(1, 2)) @ x
    else:
        product = factor = _polynomial(gram)
        for _ in range(iterations - 1):
            gram = factor @ gram @ factor
            factor = _polynomial(gram)
            product = factor @ product
        x = product @ x
    return x.transpose(1, 2) if tall else x


def _polynomial(gram: Tensor) -> Tensor:
    """p(G) of `orthogonalised`, (batch, rows, rows)."""
    a, b, c = QUINTIC
    result = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    result.diagonal(dim1=1, dim2=2).add_(a)
    return result


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised, for matrices that mix channels.

    The update has the root mean square of a typical Adam step, ``0.2 lr``, so that one learning rate serves both.
    Matrices of one shape are orthogonalised together.

    Args:
        parameters: two-dimensional weights.
        lr: learning rate.
        momentum: decay of the momentum (Nesterov).
        weight_decay: decoupled weight decay.

    References:
        Jordan et al., Muon (2024), kellerjordan.github.io/posts/muon; scale: Liu et al., arXiv:2502.16982, eq. 4.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 3e-3,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update; ``closure`` is not supported."""
        assert closure is None
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(tuple(parameter.shape), []).append(parameter)
            for shape, parameters in by_shape.items():
                updates = orthogonalised(torch.stack([self._momentum(p, group["momentum"]) for p in parameters]))
                rate = group["lr"] * 0.2 * max(shape) ** 0.5
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=rate)

    def _momentum(self, parameter: Tensor, decay: float) -> Tensor:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        gradient = parameter.grad
        assert gradient is not None
        state["momentum"].lerp_(gradient, 1 - decay)
        return gradient.lerp(state["momentum"], decay)


FEW = 64
"""Inputs of a matrix up to which it learns at the full rate."""


def rate_factor(name: str, parameter: Tensor) -> float:
    """Share of the learning rate for a matrix of many inputs.

    An Adam step changes all weights of a unit together, so that its sum changes by as many steps as there are inputs
    (Yang et al., arXiv:2203.03466, table 3).
    """
    mixes = parameter.dim() == 2 and "element" not in name and "sender" not in name
    return min(1.0, FEW / parameter.shape[0]) if mixes else 1.0


def _groups(members: dict[float, list[Tensor]]) -> list[dict[str, Any]]:
    return [{"params": parameters, "factor": factor} for factor, parameters in members.items()]


class Optimizers:
    """Several optimisers that step together.

    Args:
        network: module to train.
        name: "adam", "adamw", or "muon" (Muon for hidden matrices, Adam for embeddings, biases and readouts).
        learning_rate: common learning rate.
        weight_decay: decoupled weight decay, of all parameters.
        scale_by_inputs: lower rates for matrices of many inputs, see `rate_factor`; those of Muon stay.
        shared_rate: share of the learning rate for parameters that all elements share.
    """

    def __init__(
        self,
        network: nn.Module,
        name: str,
        learning_rate: float,
        weight_decay: float = 0.0,
        *,
        scale_by_inputs: bool = False,
        shared_rate: float = 1.0,
    ) -> None:
        adam: dict[float, list[Tensor]] = {}
        muon: dict[float, list[Tensor]] = {}
        own = element_tables(network)
        for key, parameter in network.named_parameters():
            if not parameter.requires_grad:
                continue
            factor = 1.0 if key in own else shared_rate
            if name == "muon" and is_hidden_matrix(key, parameter):
                muon.setdefault(factor, []).append(parameter)
            else:
                inputs = rate_factor(key, parameter) if scale_by_inputs else 1.0
                adam.setdefault(factor * inputs, []).append(parameter)
        self.parts: list[torch.optim.Optimizer] = []
        if adam:
            self.parts.append(torch.optim.AdamW(_groups(adam), learning_rate, weight_decay=weight_decay, fused=True))
        if muon:
            self.parts.append(Muon(_groups(muon), learning_rate, weight_decay=weight_decay))

    def set_learning_rate(self, rate: float) -> None:
        """Same rate for all."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate * group.get("factor", 1.0)

    def step(self) -> None:
        """One update of all parameters."""
        for part in self.parts:
            part.step()

    def mean_gradient(self, parameter: Tensor) -> Tensor | None:
        """Mean of a parameter's last gradients, the momentum of either optimiser; None before the first step."""
        for part in self.parts:
            if parameter in part.state:
                state = part.state[parameter]
                return state["momentum" if "momentum" in state else "exp_avg"]
        return None

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict]:
        """State of each part."""
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict]) -> None:
        """Take up the state of each part."""
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """Two-dimensional weights between hidden features: no energy readouts, and no element tables that say so by name.

    Tables by another name (``embedding``, ``invariant_scale``) count as matrices here. The shipped models and the
    tables in docs/networks.md were trained so.
    """
    return parameter.dim() == 2 and min(parameter.shape) >= 8 and "element" not in name and "sender" not in name
