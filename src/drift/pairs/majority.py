"""The policy's own majority: a complaint against what the policy nearly always says may be a mistake of the user.

Before training, the policy answers each disliked request several times, the request alone. If most of these replies are
the disliked one, then a fresh reply that differs from it gave in to the complaint, and its pair would teach to give in:
the complaint is not believed. Where most replies say something else, or no two agree, it is. Replies agree if they are
the same text, so only short answers have a majority: for long ones, a judge finds the complaints of users who are wrong
(subtype `user_mistaken`).
DEVIATION: the paper believes every complaint.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

from drift.pairs.form import with_thoughts_apart
from drift.records import ChatMessage, Completion, Drop, PromptItem, Reason, stable_hash
from drift.turns import as_text


def majorities(own: Iterable[Completion]) -> dict[str, str]:
    """By prompt: the hash of what more than half of the policy's own replies say. Prompts without a majority are left
    out; a reply that failed or was cut agrees with no other."""
    replies: dict[str, list[str]] = defaultdict(list)
    for completion in own:
        content = _content(completion.message) if completion.finish == "stop" else f"unfinished {completion.sample}"
        replies[completion.prompt_id].append(content)
    most = {prompt_id: Counter(texts).most_common(1)[0] for prompt_id, texts in replies.items()}
    return {prompt_id: text for prompt_id, (text, count) in most.items() if 2 * count > len(replies[prompt_id])}


def believed(items: Iterable[PromptItem], majority: Mapping[str, str]) -> Iterator[PromptItem | Drop]:
    """The items but for those whose disliked reply is the policy's own majority, which become drops."""
    for item in items:
        if item.rejected is not None and majority.get(item.prompt_id) == _content(with_thoughts_apart(item.rejected)):
            yield Drop(item.prompt_id, Reason.AGAINST_MAJORITY)
        else:
            yield item


def _content(reply: ChatMessage) -> str:
    """A hash of a reply's words and calls, whatever their spacing."""
    return stable_hash(as_text(reply).split())
