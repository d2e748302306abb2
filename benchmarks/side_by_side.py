"""Deploy two policies of the sandbox side by side, and let `drift live` find the better one.

    drift demo --seed 1
    python benchmarks/side_by_side.py --trained runs/demo-seed-1/policy --out runs/side-by-side --json

The base and the trained policy serve the same simulated users on the same days. Writes OUT/logs, the chats;
OUT/gold.jsonl, the truth about AUDITED reactions drawn at random, as an audit by people would give it; OUT/store, and
OUT/store/live.html. Prints how often users were truly dissatisfied, and what the readout says with and without the
audit. The same command again serves nobody anew.
"""

import argparse
import json
import random
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from drift.config import load_config
from drift.experiments import demo
from drift.experiments.simulation import simulate_side_by_side
from drift.feedback.label import label_store
from drift.live.page import as_text, write_live
from drift.live.readout import read_live
from drift.logs.ingest import ingest
from drift.policy.model import source_of
from drift.records import read_jsonl, write_jsonl
from drift.sandbox.deployment import Reaction
from drift.store import Store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trained", type=Path, required=True, help="folder of a policy of the sandbox")
    parser.add_argument("--out", type=Path, default=Path("runs/side-by-side"))
    parser.add_argument("--turns", type=int, default=5000, help="replies that both give together")
    parser.add_argument("--audited", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = side_by_side(arguments.trained, arguments.out, arguments.turns, arguments.audited, arguments.seed)
    print(json.dumps(result) if arguments.json else "")


def side_by_side(trained: Path, out: Path, turns: int, audited: int, seed: int) -> dict[str, Any]:
    cfg = load_config(Path(demo.__file__).with_name("demo.yaml"))
    policies = {"base": source_of(cfg.policy.model), "trained": trained}
    if not (out / "truth.jsonl").is_file():  # it is written last
        simulate_side_by_side(out, policies, cfg.policy, cfg.sampling, turns, seed)
    reactions = list(read_jsonl(out / "truth.jsonl", Reaction))
    write_jsonl(out / "gold.jsonl", random.Random(seed).sample(reactions, min(audited, len(reactions))))
    store = Store(out / "store")
    ingest([out / "logs"], store)
    label_store(store)
    plain = read_live(store, against="base")
    corrected = read_live(store, against="base", gold=out / "gold.jsonl")
    print(*as_text(corrected), f"page: {write_live(corrected, store.path, None)}", sep="\n", file=sys.stderr)
    return {
        "truth": _true_rates(store, reactions),
        "labelled": asdict(plain.comparisons[0].difference),
        "corrected": asdict(corrected.comparisons[0].difference),
        "verdict": corrected.comparisons[0].verdict,
    }


def _true_rates(store: Store, reactions: list[Reaction]) -> dict[str, float]:
    """The share of the reactions of each model's users that were complaints."""
    model_of = {chat.source_id: chat.model or "" for chat in store.conversations()}
    judged, disliked = Counter[str](), Counter[str]()
    for reaction in reactions:
        judged[model_of[reaction.source_id]] += 1
        disliked[model_of[reaction.source_id]] += reaction.label == "DSAT"
    rates = {model: disliked[model] / judged[model] for model in sorted(judged)}
    return {model: round(rate, 4) for model, rate in rates.items()} | {
        "difference": round(rates["trained"] - rates["base"], 4)
    }


if __name__ == "__main__":
    main()
