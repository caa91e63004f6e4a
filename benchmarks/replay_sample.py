"""Draw the samples that travel with a model: training frames to replay, validation frames to measure forgetting.

    python benchmarks/replay_sample.py --training STORE --validation STORE --model models/mp-0

Training frames are drawn evenly over kinds and elements; validation frames at random, as they come. Fine-tuning reads
both (`forcefield finetune`). The samples hold labels of the data, not of the model: they serve every model trained on
that data.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from forcefield.data.store import FrameStore
from forcefield.train.replay import REPLAY, VALIDATION_SAMPLE, choose_evenly, write_sample


def main() -> None:
    """Write both samples into the model's folder and say what is in them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--training", type=Path, required=True, help="store that the model was trained on")
    parser.add_argument("--validation", type=Path, required=True, help="store that it was never trained on")
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--training-frames", type=int, default=4000)
    parser.add_argument("--validation-frames", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    training, validation = FrameStore(options.training), FrameStore(options.validation)
    generator = np.random.default_rng(options.seed)
    evenly = choose_evenly(training, options.training_frames, seed=options.seed)
    random = np.sort(generator.choice(len(validation), options.validation_frames, replace=False))
    for name, store, chosen in ((REPLAY, training, evenly), (VALIDATION_SAMPLE, validation, random)):
        frames = [store.frame(int(k)) for k in chosen]
        write_sample(options.model / name, frames)
        atoms = sum(len(frame.numbers) for frame in frames)
        size = (options.model / name).stat().st_size / 1e6
        print(f"{options.model / name}: {len(frames)} frames, {atoms} atoms, {size:.2f} MB")
        kinds = {kind: sum(frame.kind == kind for frame in frames) for kind in sorted({f.kind for f in frames})}
        print("  " + ", ".join(f"{kind} {number}" for kind, number in kinds.items()))
        elements = np.zeros(119, dtype=int)
        for frame in frames:
            elements[np.unique(frame.numbers)] += 1
        fewest, most = elements[elements > 0].min(), elements.max()
        print(f"  {np.count_nonzero(elements)} elements, each in {fewest} to {most} frames")


if __name__ == "__main__":
    main()
