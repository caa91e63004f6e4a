"""`python -m forcefield` is the command `forcefield`; `torchrun -m forcefield train CONFIG` uses it."""

from __future__ import annotations

from forcefield.cli import main

if __name__ == "__main__":
    main()
