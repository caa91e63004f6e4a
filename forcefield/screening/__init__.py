"""Screening: one task for very many structures, on any `concurrent.futures.Executor`, in bounded memory, resumable."""

from __future__ import annotations

from forcefield.screening.result import ScreeningProgress, ScreeningResult
from forcefield.screening.run import screen
from forcefield.screening.tasks import TASKS

__all__ = ["TASKS", "ScreeningProgress", "ScreeningResult", "screen"]
