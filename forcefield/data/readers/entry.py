"""What every reader yields: a frame with its place in the file, or why there is none."""

from __future__ import annotations

from typing import NamedTuple

from forcefield.data.frames import Frame


class Entry(NamedTuple):
    """One entry of a file.

    Attributes:
        place: where it is in the file, for messages (``#12``, ``mp-1/mp-1-0-3``).
        frame: the frame, or None where it could not be read.
        fault: why not.
    """

    place: str
    frame: Frame | None
    fault: str = ""
