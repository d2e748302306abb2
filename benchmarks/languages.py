"""The embedded labeller in twelve languages, on labelled turns that were written by hand before its phrase books.

    python benchmarks/languages.py --json

For each language: AUROC of p_dsat and of p_sat, by the model alone (`model`) and by the labels (`labels`: with the
check of the language; a turn without a probability ranks last), and precision and recall of the verdicts. Intervals:
95 %, bootstrap over the turns.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from drift.feedback.embedded.features import Turn
from drift.feedback.embedded.labeller import EmbeddedLabeller
from drift.feedback.embedded.multilingual import load_foreign
from drift.records import Conversation, FeedbackLabel, Message

GOLD = Path(__file__).with_name("gold_languages.jsonl")
RESAMPLES = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gold", type=Path, default=GOLD)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = [json.loads(line) for line in args.gold.read_text("utf-8").splitlines()]
    by_language: dict[str, list[dict]] = defaultdict(list)
    for row in rows:
        by_language[row["language"]].append(row)
    labeller = EmbeddedLabeller(multilingual=True)
    result = {language: _measure(labeller, of, args.seed) for language, of in by_language.items()}
    result["all"] = _measure(labeller, rows, args.seed)
    if args.json:
        sys.stdout.write(json.dumps(result) + "\n")
        return
    for language, figures in result.items():
        sys.stderr.write(f"{language}  " + "  ".join(f"{name} {value}" for name, value in figures.items()) + "\n")


def _measure(labeller: EmbeddedLabeller, rows: Sequence[dict], seed: int) -> dict:
    turns = [Turn(row["text"], row["reply"], row["request"]) for row in rows]
    labels = list(labeller.label([_conversation(i, turn) for i, turn in enumerate(turns)]))
    model = load_foreign().probabilities(turns)
    dsat, sat = (np.asarray([row["label"] == verdict for row in rows]) for verdict in ("DSAT", "SAT"))
    labelled = np.asarray([label.p_dsat or 0.0 for label in labels])
    return {
        "turns": len(rows),
        "model_dsat": _auroc(dsat, model[:, 0], seed),
        "model_sat": _auroc(sat, model[:, 1], seed),
        "labels_dsat": _auroc(dsat, labelled, seed),
        "abstained": sum(label.label == "ABSTAIN" for label in labels),
        "dsat": _precision_recall(labels, dsat, "DSAT"),
        "sat": _precision_recall(labels, sat, "SAT"),
    }


def _conversation(number: int, turn: Turn) -> Conversation:
    messages = (Message("user", turn.request), Message("assistant", turn.reply), Message("user", turn.text))
    return Conversation(str(number), "gold", None, messages, "train")


def _auroc(truth: np.ndarray, score: np.ndarray, seed: int) -> tuple[float, float, float]:
    """AUROC and its interval."""
    rng = np.random.default_rng(seed)
    resampled = (rng.integers(len(truth), size=len(truth)) for _ in range(RESAMPLES))
    values = [roc_auc_score(truth[rows], score[rows]) for rows in resampled if 0 < truth[rows].sum() < len(rows)]
    low, high = np.quantile(values, (0.025, 0.975)).tolist()
    return round(float(roc_auc_score(truth, score)), 3), round(low, 3), round(high, 3)


def _precision_recall(labels: Sequence[FeedbackLabel], truth: np.ndarray, verdict: str) -> tuple[float, float]:
    called = np.asarray([label.label == verdict for label in labels])
    hits = int((called & truth).sum())
    return round(hits / max(int(called.sum()), 1), 2), round(hits / max(int(truth.sum()), 1), 2)


if __name__ == "__main__":
    main()
