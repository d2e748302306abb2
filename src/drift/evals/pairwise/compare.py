"""`drift eval pairwise`: a model against another, or against the logs' own replies, on held-out requests."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from drift.config import SamplingSettings
from drift.endpoint.cost import CostEstimate
from drift.endpoint.options import UNPRICED, JudgePricing
from drift.evals.pairwise.heldout import HeldOut, HeldOutSet
from drift.evals.pairwise.verdicts import PairVerdict, PairwiseResult, summarise
from drift.evals.replies import NO_REPLY, Replies, ReplySettings, make_replies
from drift.evals.served import one_evaluation
from drift.records import write_jsonl
from drift.scoring.judges import PairJudge, ReplyPair, by_item

IDENTICAL = 0.5
"""The preference between identical replies: the judge is not asked."""


@dataclass(frozen=True, slots=True)
class PairwiseRun:
    """`dtype`, `seed`, `sampling`: of replies that are sampled in this process; `pricing`: of servers that reply."""

    model: str
    against: str
    sampling: SamplingSettings
    folder: Path
    dtype: str = "float32"
    seed: int = 0
    pricing: JudgePricing = UNPRICED


@dataclass(frozen=True, slots=True)
class PairwiseSummary:
    """`cut`: replies at the token limit, of the model and of the other; `identical`: pairs of equal replies (ties).

    `estimate`: cost of the questions that were still open; in a dry run nothing else is known.
    """

    model: str
    against: str
    judge: str
    prompts: int
    prompts_from: str
    seen_in_training: int
    estimate: CostEstimate | None
    result: PairwiseResult | None = None
    identical: int = 0
    cut: tuple[int, int] = (0, 0)
    not_comparable: tuple[str, ...] = ("the prompts, and the judge's instructions, are this project's own",)

    def plain(self) -> dict[str, Any]:
        """For JSON, flat."""
        flat = asdict(self)
        result = flat.pop("result") or {}
        return {**result, **flat}


def run_contest(
    contest: PairwiseRun,
    heldout: HeldOutSet,
    judge: PairJudge,
    dry_run: bool,
    tell: Callable[[str], None],
) -> PairwiseSummary:
    """Sample the replies, report the cost of judging, judge. Resumes from the folder."""
    with nullcontext() if dry_run else one_evaluation(contest.folder, (contest.against, contest.model)):
        requests = [item.request for item in heldout.items]
        settings = ReplySettings(contest.sampling, contest.folder, contest.dtype, contest.seed, contest.pricing)
        first, second = (
            make_replies(source, requests, settings, dry_run) for source in (contest.against, contest.model)
        )
        pairs = [pair for item in heldout.items if (pair := _pair(item, first, second)) and pair.first != pair.second]
        cost = judge.estimate(pairs)
        if cost is not None:
            tell(cost.line())
        verdicts = [] if dry_run else list(_verdicts(heldout.items, first, second, pairs, judge))
        if verdicts:
            write_jsonl(contest.folder / "verdicts.jsonl", verdicts)
        return PairwiseSummary(
            model=second.name,
            against=first.name,
            judge=judge.name,
            prompts=len(requests),
            prompts_from=heldout.source,
            seen_in_training=heldout.seen_in_training,
            estimate=cost,
            result=summarise(verdicts) if verdicts else None,
            identical=sum(_is_identical(item, first, second) for item in heldout.items),
            cut=(second.cut, first.cut),
        )


def _verdicts(
    items: Sequence[HeldOut], first: Replies, second: Replies, pairs: Sequence[ReplyPair], judge: PairJudge
) -> Iterator[PairVerdict]:
    decided = by_item(pairs, judge.decide(pairs))
    for item in items:
        key = item.request.item_id
        first_text, second_text = first.text(key), second.text(key)
        if first_text is None or second_text is None:
            yield PairVerdict(key, item.conversation_id, item.user, item.chat, item.subtype, None, 0, NO_REPLY)
            continue
        decision = decided.get(key)  # None: identical replies
        yield PairVerdict(
            item_id=key,
            conversation_id=item.conversation_id,
            user=item.user,
            chat=item.chat,
            subtype=item.subtype,
            preference=decision.value if decision else IDENTICAL,
            length_difference=len(first_text) - len(second_text),
            unscored_reason=decision.unscored_reason if decision else None,
            position_bias=decision.position_bias if decision else None,
        )


def _pair(item: HeldOut, first: Replies, second: Replies) -> ReplyPair | None:
    request = item.request
    a, b = (replies.by_item.get(request.item_id) for replies in (first, second))
    if a is None or b is None:
        return None
    return ReplyPair(request.item_id, item.conversation_id, request.messages, a.text, b.text, (a.finish, b.finish))


def _is_identical(item: HeldOut, first: Replies, second: Replies) -> bool:
    pair = _pair(item, first, second)
    return pair is not None and pair.first == pair.second
