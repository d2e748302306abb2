"""Fit the weights that ship with the project.

    python -m drift.feedback.embedded.fit --iard FILE --gold FILE --store DIR

The store holds the logs that the gold labels are about (`drift ingest LOGS --store DIR`).
"""

import argparse
import logging
from pathlib import Path

from drift.feedback.embedded.fit.learn import Linears, fit
from drift.feedback.embedded.fit.pool import project_pool
from drift.feedback.embedded.fit.sources import gold_turns, read_iard
from drift.feedback.embedded.model import WEIGHTS, save_model
from drift.store import Store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--iard", type=Path, required=True, help="IARD dialogues: iard.jsonl")
    parser.add_argument("--gold", type=Path, required=True, help="gold labels of real chats (JSON Lines)")
    parser.add_argument("--store", type=Path, required=True, help="the store that holds these chats")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    conversations = list(Store(arguments.store).conversations())
    gold = gold_turns(arguments.gold, conversations)
    save_model(arguments.out, fit(Linears(project_pool(read_iard(arguments.iard), gold, conversations))))


if __name__ == "__main__":
    main()
