"""Defences against users who write to plant a behaviour (docs/poisoning.md). Each step drops rows by a named reason.

A user writes requests, complaints and, in some apps, corrections. What they want the policy to say reaches a chosen
reply when the policy reads it in the complaint and repeats it, or when the correction is the chosen reply. So a chosen
reply is checked for words that a user put there.
DEVIATION: the paper trusts every user.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from drift.config import DefenceSettings
from drift.records import (
    ChatMessage,
    Conversation,
    Drop,
    FeedbackLabel,
    PreferencePair,
    PromptItem,
    Reason,
    stable_hash,
)
from drift.store import Store
from drift.turns import SIGNS, as_text, readable, request_index

LabelledAgain = Callable[[], Iterable[tuple[Conversation, Sequence[FeedbackLabel]]]]

LONGEST_RUN = 3
"""Words of the longest run that is looked up."""
FEWEST_USERS = 3
"""A run that the model wrote by itself to fewer users than this is not its own."""
COMMON_SHARE, MOST_USERS = 0.1, 1000
"""A run that the model wrote by itself to this share of the users, or to this many, is common: it marks nothing."""
OWN_RATIO = 3
"""Beyond `max_per_echo`, so many times as many pairs may take a run as they would if it came to their users as often as
the model writes it to others. Honest corrections are written in the same language, and share its turns of phrase."""
ACCEPTED_BY, ACCEPTED_RATIO = 3, 4
"""A reply is contested if at least so many other users took it without a complaint, and so many times as many as
complained about it too."""

BEGIN, END = "^", "$"
"""Where a text begins and ends: never words, so a run with one of them stands at an edge."""
_WORD = re.compile(rf"[{SIGNS}]|[^\W_{SIGNS}]+")
"""A word, or a sign of a script that is compared sign by sign."""
_TOKEN = re.compile(rf"{_WORD.pattern}|[^\w\s]")
_PUNCTUATION = frozenset(".,;:!?\"'`()\u2026\u3002\u3001\u201c\u201d\u2018\u2019\u00ab\u00bb\u060c\u061f\u0964")
"""Tells no two requests apart. Other marks do: 3*5 is not 3+5."""


@dataclass(frozen=True, slots=True)
class Defence:
    """The steps to take, and the store that shows what other users got and what the model writes by itself."""

    settings: DefenceSettings
    store: Store

    @classmethod
    def of(cls, settings: DefenceSettings, store: Store) -> "Defence | None":
        """None if no step is on."""
        return None if settings == DefenceSettings() else cls(settings, store)

    def fingerprint(self) -> str:
        return stable_hash(self.settings.model_dump_json(), self.store.fingerprint())

    def of_prompts(
        self, items: Iterator[PromptItem | Drop], again: Callable[[], Iterable[PromptItem | Drop]]
    ) -> Iterator[PromptItem | Drop]:
        """The items that pass. `again` finds the same items: they may not fit into memory."""
        return without_contested(items, again(), self.store.labelled) if self.settings.drop_contested else items

    def of_pairs(
        self, rows: Iterable[PreferencePair | Drop], items: Mapping[str, PromptItem]
    ) -> Iterable[PreferencePair | Drop]:
        """The pairs that pass. `items`: by prompt_id, with the complaints."""
        if not self.settings.drop_echoes and self.settings.max_per_echo is None:
            return rows
        return without_echoes(rows, items, self.settings, self.store.conversations)


def without_echoes(
    rows: Iterable[PreferencePair | Drop],
    items: Mapping[str, PromptItem],
    settings: DefenceSettings,
    conversations: Callable[[], Iterable[Conversation]],
) -> Iterator[PreferencePair | Drop]:
    """The pairs whose chosen reply takes over no more from its user than `settings` allow.

    `conversations`: all those of the logs; they are read once. A correction that the user wrote is meant to bring new
    words, so it only counts towards `max_per_echo`.
    """
    rows = list(rows)
    pairs = [row for row in rows if isinstance(row, PreferencePair)]
    corrections = {pair.pair_id for pair in pairs if _is_correction(pair, items[pair.prompt_id])}
    echoes = {pair.pair_id: echoed_runs(pair, items[pair.prompt_id], pair.pair_id in corrections) for pair in pairs}
    own = own_runs(conversations(), {run for runs in echoes.values() for run in runs})
    echoing = sum(bool(runs) for runs in echoes.values())
    cap = settings.max_per_echo
    taken: Counter[str] = Counter()
    for row in rows:
        runs = echoes[row.pair_id] - own.common if isinstance(row, PreferencePair) else frozenset()
        if isinstance(row, Drop):
            yield row
        elif settings.drop_echoes and runs - own.known and row.pair_id not in corrections:
            yield Drop(f"{row.prompt_id}/{row.pair_id}", Reason.ECHOES_COMPLAINT)
        elif cap is not None and any(taken[run] >= cap + int(OWN_RATIO * echoing * own.share(run)) for run in runs):
            yield Drop(f"{row.prompt_id}/{row.pair_id}", Reason.ECHO_CAP)
        else:
            taken.update(runs)
            yield row


def _is_correction(pair: PreferencePair, item: PromptItem) -> bool:
    return item.corrected and pair.chosen[-1:] == (item.preferred,)


def echoed_runs(pair: PreferencePair, item: PromptItem, is_correction: bool = False) -> frozenset[str]:
    """The runs of words that the chosen reply has in common with the complaint, and with nothing else that the policy
    was shown: neither the conversation nor the disliked reply.

    All of a correction's runs come from the user, also how it begins and ends: the words of the request in a planted
    order are no new words, but a first word that many corrections of different replies share is a habit to plant.
    """
    if not pair.chosen or (item.complaint is None and not is_correction):
        return frozenset()
    shown = item.prompt if item.rejected is None else (*item.prompt, item.rejected)
    written = set(_runs(as_text(pair.chosen[-1]), edges=is_correction))
    sources = pair.chosen if is_correction or item.complaint is None else (item.complaint,)
    return frozenset(_among(written, sources) - _among(written, shown))


class OwnRuns:
    """What the model writes by itself. `known`: runs that it wrote to at least FEWEST_USERS users who had not written
    them. `common`: those of nearly everyone."""

    def __init__(self, users_of: Mapping[str, Collection[int]], users: int) -> None:
        self._users_of, self._users = users_of, users
        common = min(MOST_USERS, max(COMMON_SHARE * users, FEWEST_USERS))
        self.known = {run for run, readers in users_of.items() if len(readers) >= FEWEST_USERS}
        self.common = {run for run, readers in users_of.items() if len(readers) >= common}

    def share(self, run: str) -> float:
        """The share of users to whom the model wrote the run by itself."""
        return len(self._users_of[run]) / max(self._users, 1)


def own_runs(conversations: Iterable[Conversation], runs: Collection[str]) -> OwnRuns:
    """Which of the `runs` the model writes by itself. A conversation in which the user wrote the run first does not
    count: whoever plants words can have them repeated. A user counts once, however much they chat."""
    wanted = set(runs)
    users_of: dict[str, set[int]] = {run: set() for run in wanted}
    users: dict[str, int] = {}
    for conversation in conversations if wanted else ():
        user = users.setdefault(conversation.writer, len(users))
        replies = [m for m in conversation.messages if m.role == "assistant"]
        written = _among(wanted, replies)
        if written:
            written -= _among(written, [m for m in conversation.messages if m.role != "assistant"])
        for run in written:
            if len(users_of[run]) < MOST_USERS:
                users_of[run].add(user)
    return OwnRuns(users_of, len(users))


def without_contested(
    rows: Iterable[PromptItem | Drop], disliked: Iterable[PromptItem | Drop], labelled: LabelledAgain
) -> Iterator[PromptItem | Drop]:
    """The items without those whose disliked reply other users took for the same request without a complaint.

    `disliked`: the same items as `rows`, to know which replies to look for. `labelled`: all conversations.
    """
    asked = {key for item in disliked if isinstance(item, PromptItem) and (key := _exchange(item)) is not None}
    took: dict[int, tuple[set[str], set[str]]] = {key: (set(), set()) for key in asked}
    for conversation, labels in labelled() if asked else ():
        complained = {label.reply_index for label in labels if label.label == "DSAT"}
        for i, message in enumerate(conversation.messages):
            if message.role == "assistant" and (request := request_index(conversation.messages, i)) is not None:
                key = _key(conversation.messages[request].content, as_text(message))
                sides = took.get(key)
                if sides is not None and len(sides[i in complained]) < MOST_USERS:
                    sides[i in complained].add(conversation.writer)
    for row in rows:
        key = _exchange(row) if isinstance(row, PromptItem) else None
        yield row if key is None or isinstance(row, Drop) else _uncontested(row, *took[key])


def _uncontested(item: PromptItem, accepted: set[str], complained: set[str]) -> PromptItem | Drop:
    others, complaints = len(accepted - {item.writer}), len(complained - {item.writer})
    if others >= ACCEPTED_BY and others >= ACCEPTED_RATIO * complaints:
        return Drop(item.prompt_id, Reason.CONTESTED)
    return item


def _exchange(item: PromptItem) -> int | None:
    request = next((message.content for message in reversed(item.prompt) if message.role == "user"), None)
    return None if request is None or item.rejected is None else _key(request, as_text(item.rejected))


def _key(request: str, reply: str) -> int:
    """Of a request and its reply, whatever the case, the spaces and the punctuation."""
    return int(stable_hash(_tokens(request), _tokens(reply)), 16)


def _tokens(text: str) -> list[str]:
    """The words and signs of a text; one of punctuation alone as it is."""
    tokens = _TOKEN.findall(readable(text))
    return [token for token in tokens if token not in _PUNCTUATION] or tokens


def _runs(text: str, edges: bool = False) -> Iterator[str]:
    """All runs, with `edges` also those that begin or end with the text."""
    words = _WORD.findall(readable(text))
    words = [BEGIN, *words, END] if edges and words else words
    for start in range(len(words)):
        for end in range(start + 1, min(start + LONGEST_RUN, len(words)) + 1):
            if words[start:end] not in ([BEGIN], [END]):
                yield " ".join(words[start:end])


def _among(wanted: Collection[str], messages: Iterable[ChatMessage]) -> set[str]:
    """Which of the runs the messages hold. A text of megabytes is read word by word: none of its runs is kept."""
    held: set[str] = set()
    firsts = {run.split(" ", 1)[0] for run in wanted}
    for message in messages if wanted else ():
        words = [BEGIN, *(match[0] for match in _WORD.finditer(readable(as_text(message)))), END]
        for start, word in enumerate(words):
            if word in firsts:
                for end in range(start + 1, min(start + LONGEST_RUN, len(words)) + 1):
                    if (run := " ".join(words[start:end])) in wanted:
                        held.add(run)
    return held
