"""Would a sentence-embedding model help the embedded labeller? AUROC of p_dsat on gold labels, out of fold.

    python benchmarks/label_embedding.py --model FOLDER --iard FILE --logs FILE --gold FILE

FOLDER: a sentence-transformers folder (mean pooling). `alone`: logistic regression on the embedding; `stacked`: on the
labeller's log-odds and that score, each of which saw nothing of the fold. Needs the extra `train`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from transformers import AutoModel, AutoTokenizer

from drift.bench.label import read_logs
from drift.feedback.embedded.fit.learn import Linears, held_out
from drift.feedback.embedded.fit.pool import project_pool
from drift.feedback.embedded.fit.sources import FOLDS, gold_turns, read_iard
from drift.feedback.embedded.spell import cut

LONGEST, BATCH = 64, 32  # tokens, texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "iard", "logs", "gold"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    chats = read_logs(args.logs)
    gold = gold_turns(args.gold, chats)
    p_dsat = held_out(Linears(project_pool(read_iard(args.iard), gold, chats))).clip(1e-4, 1 - 1e-4)
    odds, truth = np.log(p_dsat / (1 - p_dsat)), np.asarray([row.truth == "DSAT" for row in gold])
    fold = np.asarray([row.fold for row in gold])
    turn, request = (embed(args.model, [cut(text) for text in texts]) for texts in (
        [row.turn.text for row in gold], [row.turn.request for row in gold]))  # fmt: skip
    likeness = (turn * request).sum(1, keepdims=True)
    seen = {
        "turn": turn,
        "turn, likeness": np.hstack([turn, likeness]),
        "turn, request, difference": np.hstack([turn, request, abs(turn - request)]),
    }
    say(f"labeller {roc_auc_score(truth, odds):.4f}")
    for name, features in seen.items():
        for strength in (0.3, 1.0, 3.0):
            alone, stacked = out_of_fold(features, odds, truth, fold, strength)
            figures = f"alone {roc_auc_score(truth, alone):.4f} stacked {roc_auc_score(truth, stacked):.4f}"
            say(f"{name}, C {strength}: {figures}")


def embed(folder: Path, texts: Sequence[str]) -> np.ndarray:
    """float32 [n, size], each row of length 1: the mean of the last hidden states."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    found = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
    by_length = np.argsort([len(text) for text in texts])
    for start in range(0, len(texts), BATCH):
        rows = by_length[start : start + BATCH]
        batch = tokenizer(
            [texts[i] for i in rows], padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
        )
        with torch.no_grad():
            hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None].float()
        found[rows] = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).numpy()
    return found


def out_of_fold(
    features: np.ndarray, odds: np.ndarray, truth: np.ndarray, fold: np.ndarray, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the embedding alone, and stacked on the labeller's: the stack learns from inner folds."""
    alone, stacked = np.zeros(len(truth)), np.zeros(len(truth))
    for outer in range(FOLDS):
        rest, out = fold != outer, fold == outer
        alone[out] = _score(features, truth, rest, out, strength)
        inner = np.zeros(len(truth))
        for each in range(FOLDS):
            if each != outer:
                inner[fold == each] = _score(features, truth, rest & (fold != each), fold == each, strength)
        both = np.stack((odds, np.where(out, alone, inner)), axis=1)
        stacked[out] = LogisticRegression().fit(both[rest], truth[rest]).decision_function(both[out])
    return alone, stacked


def _score(features: np.ndarray, truth: np.ndarray, rows: np.ndarray, out: np.ndarray, strength: float) -> np.ndarray:
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=500)
    return model.fit(features[rows], truth[rows]).decision_function(features[out])


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
