"""How much memory and time it takes to make a frame store from a large extended XYZ file.

    python benchmarks/data_streaming.py --size 4 --limit 4

writes a file of 4 GB into a temporary folder, builds a store from it in a process whose address space is limited to
4 GB, and prints throughput and the peak of its resident memory. Several sizes show that the peak does not depend on the
size. Files and stores are removed afterwards; there must be room for about twice the largest size.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

GIGABYTE = 1e9
CHILD = """
import json, resource, sys, time
limit = int(sys.argv[3])
if limit:
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
from forcefield.data.build import build_stores
start, cpu = time.perf_counter(), time.process_time()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
report = build_stores([sys.argv[1]], sys.argv[2], cutoff=5.0)
print(json.dumps({
    "frames": report.frames[0], "atoms": report.atoms[0],
    "seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu,
    "start_mb": before / 1e3, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
}))
"""


def frame_text(rng: np.random.Generator) -> str:
    """A rattled rock-salt cell of 8 to 216 atoms with labels, as a data set of crystals has them."""
    repeats = rng.integers(1, 4, size=3)
    sites = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]) * 2.82
    species = np.array(["Na"] * 4 + ["Cl"] * 4)
    shifts = np.stack(np.meshgrid(*map(range, repeats), indexing="ij"), axis=-1).reshape(-1, 3) * 5.64
    positions = (shifts[:, None] + sites).reshape(-1, 3)
    numbers = np.hstack([positions + rng.normal(scale=0.05, size=positions.shape), rng.normal(size=positions.shape)])
    symbols = np.tile(species, len(shifts))
    cell = " ".join(f"{x:.8f}" for x in (np.diag(repeats) * 5.64).ravel())
    stress = " ".join(f"{x:.8f}" for x in np.diag(rng.normal(scale=0.01, size=3)).ravel())
    comment = f'Lattice="{cell}" Properties=species:S:1:pos:R:3:forces:R:3 energy={-3.4 * len(numbers):.8f} '
    rows = [f"{s:2s} " + " ".join(f"{x:16.8f}" for x in row) for s, row in zip(symbols, numbers, strict=True)]
    return "\n".join([str(len(rows)), comment + f'stress="{stress}" pbc="T T T"', *rows]) + "\n"


def write_file(path: Path, size: float) -> None:
    """Write frames until the file has a size in bytes; two hundred different ones take turns."""
    rng = np.random.default_rng(0)
    texts = [frame_text(rng).encode() for _ in range(200)]
    written, k = 0, 0
    with path.open("wb") as file:
        while written < size:
            written += file.write(texts[k % len(texts)])
            k += 1


def measure(size: float, limit: float, folder: Path) -> dict[str, float]:
    """Build a store from a file of a size in a process of its own.

    Args:
        size: of the file (GB).
        limit: of the address space (GB); 0 for none.
        folder: for the file and the store, which are removed again.
    """
    path, store = folder / "frames.extxyz", folder / "store"
    write_file(path, size * GIGABYTE)
    command = [sys.executable, "-c", CHILD, str(path), str(store), str(int(limit * GIGABYTE))]
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"the build failed:\n{done.stderr}")
    result = json.loads(done.stdout)
    result["size_gb"] = path.stat().st_size / GIGABYTE
    result["store_gb"] = sum(file.stat().st_size for file in store.iterdir()) / GIGABYTE
    path.unlink()
    shutil.rmtree(store)
    return result


def main() -> None:
    """Measure each size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=float, nargs="+", default=[4.0], help="sizes of the file (GB)")
    parser.add_argument("--limit", type=float, default=4.0, help="limit of the address space (GB); 0 for none")
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary folder")
    options = parser.parse_args()
    print(
        "| file (GB) | frames | atoms | time (s) | CPU (s) | MB/CPU s | atoms/CPU s | store (GB) | peak memory (MB) |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for size in options.size:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            start = time.strftime("%H:%M:%S")
            r = measure(size, options.limit, Path(folder))
        print(
            f"| {r['size_gb']:.3f} | {r['frames']:,} | {r['atoms']:,} | {r['seconds']:.0f} | {r['cpu_seconds']:.0f} "
            f"| {r['size_gb'] * 1e3 / r['cpu_seconds']:.1f} | {r['atoms'] / r['cpu_seconds']:,.0f} "
            f"| {r['store_gb']:.3f} | {r['peak_mb']:.0f} (of which {r['start_mb']:.0f} imports) |",
            flush=True,
        )
        print(f"started {start}, limit of the address space {options.limit:g} GB", file=sys.stderr)


if __name__ == "__main__":
    main()
