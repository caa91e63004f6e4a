"""Run every example as it is and put its picture, reduced to 64 colours, into the documentation.

python examples/make_pictures.py                  # all ten, about five minutes on one core
python examples/make_pictures.py 04 10            # only these
python examples/make_pictures.py --pictures DIR   # do not run, take the pictures in this folder
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).resolve().parent
PICTURES = HERE.parent / "docs" / "images" / "examples"
COLOURS = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("numbers", nargs="*", help="numbers of the examples (default: all)")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="pictures already made, instead of running")
    options = parser.parse_args()
    scripts = sorted(HERE.glob("[0-9][0-9]_*.py"))
    wanted = [script for script in scripts if not options.numbers or script.name[:2] in options.numbers]
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        for script in wanted:
            folder = options.pictures or Path(temporary)
            if options.pictures is None:
                print(f"== {script.name}", flush=True)
                subprocess.run([sys.executable, str(script), "--output", str(folder)], check=True)
            reduce(folder / f"{script.stem}.png", PICTURES / f"{script.stem}.png")


def reduce(source: Path, target: Path) -> None:
    """Write a picture with few colours, which line drawings do well with, to keep the repository small."""
    with Image.open(source) as picture:
        picture.convert("RGB").quantize(COLOURS).save(target, optimize=True)
    print(f"{target.name}: {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
