"""p_imp: does the chosen reply really beat the rejected one? DRIFT assumes it (theorem 1); a known truth can tell."""

from pathlib import Path

from drift.evaluation.results import Improvement
from drift.evaluation.utility import Truth
from drift.records import Counts, PreferencePair, read_jsonl


def measure_improvement(out: Path, pairs: Path, truth: Truth) -> Counts:
    """Write improvement.json of an iteration's pairs (one at least); nothing of it goes back into training."""
    gaps = [
        truth.scorer.score(pair.prompt, pair.chosen[0].content)
        - truth.scorer.score(pair.prompt, pair.rejected[0].content)
        for pair in read_jsonl(pairs, PreferencePair)
    ]
    count = len(gaps)
    better, worse = sum(gap > 0 for gap in gaps) / count, sum(gap < 0 for gap in gaps) / count
    found = Improvement(better=better, worse=worse, equal=1 - better - worse, gap=sum(gaps) / count, pairs=count)
    out.write_text(found.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return {"p_imp": round(better, 4), "worse": round(worse, 4)}
