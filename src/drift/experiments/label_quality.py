"""How good are the labels, where the truth about every user turn is known?"""

from pathlib import Path

from drift.records import Counts, read_jsonl
from drift.report.files import LabelQuality, write_json
from drift.sandbox.deployment import Reaction
from drift.store import Store


def measure_labels(out: Path, store: Store, truth: Path) -> Counts:
    """DSAT labels against the world's truth, over all user turns that follow a reply."""
    known = {(r.source_id, r.message_index): r.label == "DSAT" for r in read_jsonl(truth, Reaction)}
    found = {
        (conversation.source_id, conversation.messages[label.user_index].source_index): label.label == "DSAT"
        for conversation, labels in store.labelled()
        for label in labels
        if label.user_index is not None
    }
    both = sum(found.get(turn, False) for turn, is_dsat in known.items() if is_dsat)
    quality = LabelQuality(
        precision=both / max(sum(found.values()), 1), recall=both / max(sum(known.values()), 1), n=len(known)
    )
    write_json(out, quality)
    return {"precision": round(quality.precision, 4), "recall": round(quality.recall, 4), "judged": quality.n}
