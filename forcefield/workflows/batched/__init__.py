"""Relaxing many structures at once: `relax_many` gives a list, `relax_each` gives each as soon as it is done."""

from __future__ import annotations

from forcefield.workflows.batched.many import relax_each, relax_many
from forcefield.workflows.batched.outcome import BatchOutcome, BatchProgress

__all__ = ["BatchOutcome", "BatchProgress", "relax_each", "relax_many"]
