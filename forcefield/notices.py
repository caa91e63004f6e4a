"""Warnings that point at the user's line rather than at one of ours, of ASE or of PyTorch."""

from __future__ import annotations

import sys
import warnings

PASSED_OVER = ("forcefield", "ase", "torch")


def warn_user(message: str, category: type[Warning]) -> None:
    """Warn as from the innermost line outside this package, ASE and PyTorch that led here."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in PASSED_OVER:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
