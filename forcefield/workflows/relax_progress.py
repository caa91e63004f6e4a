"""Whether a relaxation still gets anywhere, so that one that goes back and forth for ever has an end."""

from __future__ import annotations

import math
from dataclasses import dataclass

PATIENCE = 100
"""Steps without progress after which an optimizer counts as stuck."""
SMALLEST_FALL = 1.0e-6
"""Fall of energy or enthalpy that is progress (eV)."""
SMALLEST_APPROACH = 0.01
"""Decrease of the distance from the limits that is progress, relative."""


@dataclass
class Progress:
    """The best of a relaxation so far, and for how many steps nothing better has come.

    Quasi-Newton methods without line search take a region where the surface bends downwards (under pressure, far from
    the minimum) for a hill to climb back, and may then alternate between two states without end.

    Attributes:
        lowest: energy or enthalpy (eV).
        closest: largest force or stress deviation, in units of its limit.
        idle: steps since one of them was last improved.
    """

    lowest: float = math.inf
    closest: float = math.inf
    idle: int = -1

    def is_stuck(self, enthalpy: float, distance: float) -> bool:
        """Take a step into account, and say whether there was no progress for `PATIENCE` steps.

        Args:
            enthalpy: energy, plus pressure times volume (eV).
            distance: largest force or stress deviation, in units of its limit.
        """
        falls = enthalpy < self.lowest - SMALLEST_FALL
        nears = distance < self.closest * (1.0 - SMALLEST_APPROACH)
        self.lowest = enthalpy if falls else self.lowest
        self.closest = distance if nears else self.closest
        self.idle = 0 if falls or nears else self.idle + 1
        return self.idle >= PATIENCE
