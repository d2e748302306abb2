"""What a generation learns from: the judged replies that came since the one before, and a share of older ones.

A reply is known by its place (conversation and number), so a conversation that grew brings only what is new in it. The
same request with the same reply in another conversation is the same complaint again: news if it is about the policy
that is deployed now, and otherwise one that an earlier generation was trained on.
DEVIATION: the paper trains once on one log.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from drift.config import GenerationSettings
from drift.pairs.candidates import Labelled, prompt_id_of
from drift.records import (
    ChatMessage,
    Drop,
    FeedbackLabel,
    PreferencePair,
    PromptItem,
    Reason,
    TrainedReply,
    Verdict,
    read_jsonl,
    stable_hash,
)
from drift.store import Store


def trained_replies(
    generation: int, prompts: Sequence[Path], pairs: Sequence[Path], before: Path | None
) -> Iterator[TrainedReply]:
    """What the chain was trained on up to `generation`: each reply once, under the first generation that learned it.

    `prompts`, `pairs`: that generation's files; `before`: the same list of the one before it.
    """
    listed: set[str] = set()
    for reply in read_jsonl(before, TrainedReply) if before else ():
        listed.add(reply.prompt_id)
        yield reply
    items = {item.prompt_id: item for file in prompts for item in read_jsonl(file, PromptItem)}
    for pair in (pair for file in pairs for pair in read_jsonl(file, PreferencePair)):
        if pair.prompt_id not in listed:
            listed.add(pair.prompt_id)
            item = items.get(pair.prompt_id)
            judged = logged_reply(item) if item else (pair.rejected or pair.chosen)[-1]
            content = stable_hash(pair.prompt, judged)
            yield TrainedReply(pair.prompt_id, pair.conversation_id, stable_hash(pair.prompt), content, generation)


def logged_reply(item: PromptItem) -> ChatMessage | None:
    """The reply of the logs that the item is about: the disliked one, else the liked one."""
    return item.rejected or item.preferred


@dataclass(frozen=True, slots=True)
class Since:
    """What came before a generation. `earlier`: the file of TrainedReply; `read`: how far the chain has read the store
    (`Store.read_up_to`); `seed`: of the choice of what is replayed."""

    earlier: Path
    read: int
    settings: GenerationSettings
    seed: int

    def fingerprint(self) -> str:
        rows = list(read_jsonl(self.earlier, TrainedReply))
        return stable_hash(rows, self.read, self.settings.model_dump(), self.seed)

    def without_trained(self, items: Iterable[PromptItem | Drop]) -> Iterator[PromptItem | Drop]:
        """The items without those that an earlier generation was trained on, which become drops."""
        trained = {row.prompt_id for row in read_jsonl(self.earlier, TrainedReply)}
        for item in items:
            if isinstance(item, PromptItem) and item.prompt_id in trained:
                item = Drop(item.prompt_id, Reason.TRAINED_EARLIER)
            yield item

    def seen(self, store: Store) -> tuple[set[int], set[str]]:
        """What held-out complaints may not share with the chain's training: requests (by hash), and conversations
        that are nearly repeated by one that was trained on."""
        rows = list(read_jsonl(self.earlier, TrainedReply))
        trained = {row.conversation_id for row in rows}
        near = {repeat.of for repeat in store.repeats() if repeat.conversation_id in trained}
        return {int(row.request, 16) for row in rows}, near


class News:
    """Sorts the judged replies of a split into news, older ones to replay, and named drops.

    `counts`: `new`; `came_back`, those of them that repeat what was trained on before; `replayed`.
    """

    def __init__(self, since: Since) -> None:
        self.counts: Counter[str] = Counter(new=0, came_back=0, replayed=0)
        self._since = since
        rows = list(read_jsonl(since.earlier, TrainedReply))
        self._trained = frozenset(row.prompt_id for row in rows)
        self._contents = frozenset(row.content for row in rows)
        self._deployed: dict[str, bool] = {}
        """Of each conversation that came or changed since: is its reply the deployed policy's?"""

    def sorted(
        self, find: Callable[[Labelled], Iterator[PromptItem | Drop]], labelled: Callable[..., Labelled], about: Verdict
    ) -> Iterator[PromptItem | Drop]:
        """News first, about the deployed policy's replies first of all, then the replayed ones.

        `find`: makes items of labelled conversations, once for each content; so news win over their older twins.
        `labelled`: as `Store.labelled`, of one split. `about`: the verdict that gives items.
        """
        pool: list[tuple[int, str, PromptItem]] = []  # a heap: the largest key goes first
        for row in find(self._in_order(labelled, about)):
            if isinstance(row, Drop):
                yield row
            elif row.conversation_id in self._deployed and row.prompt_id not in self._trained:
                yield self._new(row)
            else:
                key = int(stable_hash("replay", self._since.seed, self._since.read, row.prompt_id), 16)
                heapq.heappush(pool, (-key, row.prompt_id, row))
                if len(pool) > self._room:
                    yield self._left_out(heapq.heappop(pool)[2])
        self.counts["replayed"] = len(pool)
        yield from (row for *_, row in sorted(pool, reverse=True))

    @property
    def _room(self) -> int:
        """How many older ones are replayed. By then all news have been counted: they come first."""
        share = self._since.settings.replay
        return round(self.counts["new"] * share / (1.0 - share))

    def _new(self, row: PromptItem) -> PromptItem | Drop:
        again = stable_hash(row.prompt, logged_reply(row)) in self._contents
        if again and not self._deployed[row.conversation_id]:
            return Drop(row.prompt_id, Reason.TRAINED_EARLIER)
        self.counts["new"] += 1
        self.counts["came_back"] += again
        return row

    def _left_out(self, row: PromptItem) -> Drop:
        trained = row.prompt_id in self._trained
        return Drop(row.prompt_id, Reason.TRAINED_EARLIER if trained else Reason.NOT_REPLAYED)

    def _in_order(self, labelled: Callable[..., Labelled], about: Verdict) -> Labelled:
        """Every conversation with its labels. Of one that changed since, those that were trained on come at the end."""
        deployed, read = self._since.settings.deployed, self._since.read
        for is_deployed in (True,) if deployed is None else (True, False):
            for conversation, labels in labelled(after=read):
                if labels and (deployed in (None, conversation.model)) is is_deployed:
                    self._deployed[conversation.conversation_id] = is_deployed
                    yield conversation, [each for each in labels if each.label != about or not self._is_old(each)]
        for conversation, labels in labelled(after=read):
            if any(map(self._is_old, labels)):
                yield conversation, [each for each in labels if each.label != about or self._is_old(each)]
        yield from labelled(upto=read)

    def _is_old(self, label: FeedbackLabel) -> bool:
        return prompt_id_of(label.conversation_id, label.reply_index) in self._trained
