"""`python -m forcefield.lammps`; see `forcefield.lammps.command`."""

from __future__ import annotations

from forcefield.lammps.command import main

if __name__ == "__main__":
    main()
