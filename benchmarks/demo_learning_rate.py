"""Chooses the demo's learning rate on the validation requests, never on the test requests.

    python benchmarks/demo_learning_rate.py --rates 1e-4 2e-4 3e-4 --seeds 1 2

The output is kept as benchmarks/results/demo_learning_rate.txt.

One deployment per seed; for each rate the demo's loop on its logs, with everything else as in configs/demo.yaml.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from drift.evaluation.results import read_evaluation
from drift.experiments.demo import demo_config, sandbox_truth, write_deployment
from drift.run import collect, learn, open_run


def utilities(rate: float, seed: int, folder: Path) -> list[float]:
    """Validation utility at temperature 1 of the warm start and of every iteration."""
    cfg = demo_config(seed, 1, folder)
    cfg = cfg.model_copy(update={"training": cfg.training.model_copy(update={"learning_rate": rate})})
    with open_run(cfg, folder) as run:
        write_deployment(cfg, run)
        learn(cfg, run, collect(cfg, run), sandbox_truth("validation", cfg.evaluation.max_prompts))
    steps = [folder / "warm-start", *(folder / f"iteration-{k}" for k in range(1, cfg.iterations + 1))]
    return [read_evaluation(step / "evaluation.json").utility[0].mean for step in steps]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=float, nargs="+", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    args = parser.parse_args()
    sys.stdout.write("validation utility at temperature 1: warm start, then each iteration; gain of the last\n")
    with tempfile.TemporaryDirectory() as root:
        for rate in args.rates:
            for seed in args.seeds:
                found = utilities(rate, seed, Path(root) / f"seed-{seed}")  # shared: the deployment is reused
                told = " ".join(f"{u:.3f}" for u in found)
                sys.stdout.write(f"rate {rate:g} seed {seed}: {told}  gain {found[-1] - found[0]:+.3f}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
