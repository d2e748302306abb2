"""The embedded labeller on gold labels of real chats that it was not fitted on.

    python benchmarks/label_gold.py --gold sharegpt_gold.jsonl --logs sharegpt_real.json

Disputed turns are left out. Intervals: bootstrap over conversations.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import orjson
from sklearn.metrics import roc_auc_score

from drift.feedback.embedded.labeller import EmbeddedLabeller
from drift.logs.ingest import ingest
from drift.store import Store

RESAMPLES = 1000


def judged(gold: Path, logs: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Per undisputed turn: its conversation's number, is it DSAT, p_dsat, and was it labelled DSAT."""
    rows = map(orjson.loads, gold.read_bytes().splitlines())
    truth = {(r["conversation_id"], r["message_index"]): r["label"] == "DSAT" for r in rows if r["label"] != "DISPUTED"}
    found = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        ingest([logs], store)
        conversations = {c.conversation_id: c for c in store.conversations()}
    for label in EmbeddedLabeller().label(conversations.values()):
        conversation = conversations[label.conversation_id]
        turn = (conversation.source_id, conversation.messages[label.user_index or 0].source_index)
        if turn in truth:
            found.append((turn[0], truth[turn], label.p_dsat or 0.0, label.label == "DSAT"))
    names, is_dsat, p_dsat, said = zip(*found, strict=True)
    return np.unique(names, return_inverse=True)[1], np.asarray(is_dsat), np.asarray(p_dsat), np.asarray(said)


def figures(is_dsat: np.ndarray, p_dsat: np.ndarray, said: np.ndarray) -> list[float]:
    both = (is_dsat & said).sum()
    return [roc_auc_score(is_dsat, p_dsat), both / max(said.sum(), 1), both / max(is_dsat.sum(), 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gold", type=Path, required=True)
    parser.add_argument("--logs", type=Path, required=True)
    args = parser.parse_args()
    conversation, *columns = judged(args.gold, args.logs)
    rng, members = np.random.default_rng(0), [np.flatnonzero(conversation == i) for i in range(conversation.max() + 1)]
    draws = []
    for _ in range(RESAMPLES):
        rows = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        draws.append(figures(*(column[rows] for column in columns)))
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    sys.stdout.write(f"{len(conversation)} turns, {columns[0].sum()} DSAT, {columns[2].sum()} labelled DSAT\n")
    for name, value, a, b in zip(("AUROC", "precision", "recall"), figures(*columns), low, high, strict=True):
        sys.stdout.write(f"{name} {value:.3f} [{a:.3f}, {b:.3f}]\n")


if __name__ == "__main__":
    main()
