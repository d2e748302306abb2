"""What the comparisons say about the paper's theory: does p_imp predict the gain, does Lemma 1's bound hold?

    python benchmarks/theory.py --results results/compare/results.json --runs runs/lemma/cells/*/*

The output for the figures of docs/evidence.md is benchmarks/results/theory.txt.
--results: results.json of comparisons; rank correlation, over their arms, of the first iteration's p_imp with the gain.
--runs: run folders trained with training.diagnostics; both sides of Lemma 1 at the start and end of every iteration.
"""

import argparse
import json
import sys
from pathlib import Path

from scipy.stats import spearmanr


def p_imp_and_gain(path: Path) -> None:
    arms = json.loads(path.read_text())["arms"]
    rows = sorted((arm["p_imp"][0], arm["gain"][0], name) for name, arm in arms.items())
    for p_imp, gain, name in rows:
        sys.stdout.write(f"{path.parent.name} {name}: p_imp {p_imp:.3f}, gain {gain:+.3f}\n")
    correlation = spearmanr([row[0] for row in rows], [row[1] for row in rows])
    sys.stdout.write(f"{path.parent.name}: Spearman {correlation.statistic:.2f} over {len(rows)} arms\n")


def both_sides(row: dict[str, float]) -> str:
    gradient, bound, p0, norm = (row[f"lemma_1/{key}"] for key in ("gradient_norm", "bound", "p0", "difference_norm"))
    return f"gradient {gradient:.3f}, bound {bound:.3f} (p0 {p0:.2f}, D {norm:.1f})"


def lemma(run: Path) -> None:
    for folder in sorted(run.glob("iteration-*"), key=lambda path: int(path.name.split("-")[1])):
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
        sides = [row for row in rows if "lemma_1/bound" in row]
        both = "; ".join(map(both_sides, sides))
        sys.stdout.write(f"{run.parent.name} {run.name} {folder.name}: {both}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, nargs="*", default=[])
    parser.add_argument("--runs", type=Path, nargs="*", default=[])
    args = parser.parse_args()
    for path in args.results:
        p_imp_and_gain(path)
    for run in args.runs:
        lemma(run)


if __name__ == "__main__":
    main()
