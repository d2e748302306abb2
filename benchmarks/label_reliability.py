"""The reliability plot of the embedded labeller, out of what `drift bench label ... --gold FILE --json` printed.

python benchmarks/label_reliability.py benchmarks/results/bench_label.json benchmarks/results/label_reliability.svg
"""

import sys
from pathlib import Path

import orjson
from matplotlib import pyplot as plt


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    plt.switch_backend("svg")
    plt.rcParams["svg.hashsalt"] = "drift"
    gold = orjson.loads(source.read_bytes())["gold"]
    told, found, turns = zip(*gold["reliability"], strict=True)
    figure, axes = plt.subplots(figsize=(4.5, 4.5))
    axes.plot([0, 1], [0, 1], linestyle=":", color="grey", label="as told")
    errors = [(share * (1 - share) / n) ** 0.5 for share, n in zip(found, turns, strict=True)]
    axes.errorbar(told, found, yerr=errors, marker="o", capsize=3, label="found (one standard error)")
    axes.set(xlabel="p_dsat, mean of the bin", ylabel="share of dissatisfied turns", xlim=(0, 1), ylim=(0, 1))
    axes.set_title(f"{gold['turns']} real turns, out of fold\nBrier skill {gold['brier_skill']:.2f}")
    axes.legend(loc="upper left")
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    main()
