"""Where the thanks in the instructions world's logs are lost, phrasing by phrasing and rule by rule. Deploys no model.

    python benchmarks/thanks.py --replies 4000 --seed 1 --json

The world's own users react to right answers (the sandbox writes them) and to wrong ones (an answer to another request),
mixed so that `--right` of the replies are right. Both settings of `labels.approval` label the same logs. `recall` and
`precision` are those of SAT against what the users meant; `lost` says what became of the thanks that are not SAT.
"""

import argparse
import json
import random
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from drift.config import LabelSettings
from drift.feedback.label import label_store
from drift.feedback.stage import embedded_labeller
from drift.logs.ingest import ingest
from drift.pairs.stages import find_liked_replies
from drift.records import ChatMessage, FeedbackLabel
from drift.sandbox.instructions.answers import right_answer
from drift.sandbox.instructions.assignment import draw_request
from drift.sandbox.instructions.book import phrases
from drift.sandbox.instructions.chats import Answer, AssistantReply, Chat, chat_with, write_logs
from drift.sandbox.instructions.recognise import assignment_of
from drift.sandbox.instructions.users import UserSettings
from drift.store import Store

MIN_P_SAT = 0.5
"""`warm_start.min_p_sat`, the default."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replies", type=int, default=4000)
    parser.add_argument("--right", type=float, default=0.12)
    parser.add_argument("--thanks", type=float, default=1.0)
    parser.add_argument("--two-constraints", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    users = UserSettings(thanks=args.thanks, two_constraints=args.two_constraints, three_constraints=0.0)
    chats = chat_with(_answers(args.right, args.seed), args.replies, args.seed, users)
    with tempfile.TemporaryDirectory() as folder:
        write_logs(chats, Path(folder) / "logs", "simulated")
        result = {name: _measure(chats, Path(folder), name) for name in ("model", "phrases")}
    if args.json:
        sys.stdout.write(json.dumps({"replies": args.replies, "right": args.right, "seed": args.seed, **result}) + "\n")
        return
    for name, figures in result.items():
        sys.stderr.write(f"\nlabels.approval: {name}\n")
        for key, value in figures.items():
            if key != "phrasings":
                sys.stderr.write(f"  {key:<12}{value}\n")
        for phrase, (found, said) in sorted(figures["phrasings"].items(), key=lambda row: row[1][0] / row[1][1]):
            sys.stderr.write(f"  {found:>4} of {said:<4} {phrase}\n")


def _answers(right: float, seed: int) -> Answer:
    rng = random.Random(f"thanks {seed}")

    def answer(chats: Sequence[Sequence[ChatMessage]], keys: Sequence[str]) -> list[AssistantReply]:
        del keys
        wanted = [assignment_of(chat) for chat in chats]
        every = [found if found and rng.random() < right else draw_request(rng, "logs") for found in wanted]
        return [AssistantReply(right_answer(assignment, rng)) for assignment in every]

    return answer


def _measure(chats: Sequence[Chat], folder: Path, approval: str) -> dict:
    store = Store(folder / approval)
    ingest([folder / "logs"], store)
    settings = LabelSettings.model_validate({"approval": approval})
    label_store(store, labeller=embedded_labeller(settings))
    labels: dict[tuple[str | None, int | None], FeedbackLabel] = {
        (conversation.source_id, conversation.messages[label.user_index].source_index): label
        for conversation, row in store.labelled()
        for label in row
        if label.user_index is not None
    }
    said = {chat.source_id: chat.messages for chat in chats}
    meant: dict[tuple[str | None, int | None], str] = {
        (r.source_id, r.message_index): r.label for chat in chats for r in chat.reactions
    }
    thanks = [(r.source_id, r.message_index) for chat in chats for r in chat.reactions if r.label == "SAT"]
    called = [place for place, label in labels.items() if label.label == "SAT"]
    hits = sum(labels[place].label == "SAT" for place in thanks)
    after = {
        "alone": [p for p in thanks if p[1] == len(said[p[0]]) - 1],
        "with a request": [p for p in thanks if p[1] < len(said[p[0]]) - 1],
    }
    counts = find_liked_replies(folder / f"{approval}-liked", store, "train", MIN_P_SAT, settings)
    return {
        "thanks": len(thanks),
        "recall": _share(hits, len(thanks)),
        "precision": _share(sum(meant[place] == "SAT" for place in called), len(called)),
        **{name: _share(sum(labels[p].label == "SAT" for p in row), len(row)) for name, row in after.items()},
        "lost": dict(Counter(_loss(labels[place]) for place in thanks if labels[place].label != "SAT")),
        "wrong": dict(Counter(meant[place] for place in called if meant[place] != "SAT")),
        "used": dict(counts),
        "phrasings": _by_phrasing([(said[s][i].content, labels[s, i].label == "SAT") for s, i in thanks]),
    }


def _loss(label: FeedbackLabel) -> str:
    if label.abstain_reason:
        return f"abstain: {label.abstain_reason}"
    return "called a complaint" if label.label == "DSAT" else "called neutral"


def _by_phrasing(rows: Sequence[tuple[str, bool]]) -> dict[str, tuple[int, int]]:
    """For each of the users' phrasings how often it was found, and how often it was said; "typed carelessly" has those
    that are not written as in the book."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    ways = sorted(phrases("thanks"), key=len, reverse=True)
    for text, found in rows:
        way = next((way for way in ways if text.startswith(way)), "typed carelessly")
        counts[way][0] += found
        counts[way][1] += 1
    return {way: (found, said) for way, (found, said) in counts.items()}


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


if __name__ == "__main__":
    main()
