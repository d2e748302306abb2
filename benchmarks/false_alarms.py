"""How often the steps that users can switch on misread honest people, on real dialogues.

    python benchmarks/false_alarms.py --logs FILE --gold FILE --iard FILE --mwoz FILE --sgd FILE --json

`labels`: complaints (DSAT) and thanks (SAT) by the embedded labeller: English alone, with `labels.approval: phrases`,
and with `labels.languages: all` besides. `precision` with a 95 % interval (bootstrap over verdicts); `false_alarms`: of
all other turns, the share with the verdict. The truth: of chats, the gold file; of IARD's test dialogues, its intents;
of MWOZ and SGD (the USS ratings), a mean rating below 3 is a complaint, and a turn whose act is thanking is thanks.
The weights that ship have seen the chats' truth.
`languages`: verdicts on all turns of the chats by language (py3langid), without truth.

`echo_cap`: replies of the chats stand in for honest corrections by as many users; `dropped`: those of them that
`defence.max_per_echo: 3` drops, and with a cap that ignores what the model writes by itself (`OWN_RATIO = 0`).
"""

import argparse
import json
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from drift.bench.label import read_logs
from drift.config import DefenceSettings
from drift.feedback.embedded.features import Turn
from drift.feedback.embedded.fit.sources import gold_turns, read_iard
from drift.feedback.embedded.labeller import EmbeddedLabeller, reactions
from drift.feedback.embedded.multilingual import LANGUAGES, language_of
from drift.pairs import defence
from drift.records import ChatMessage, Conversation, Message, PreferencePair, PromptItem, Verdict
from drift.statistics import bootstrap_mean

SETTINGS = {
    "default": {},
    "phrases": {"phrases": True},
    "phrases, all languages": {"phrases": True, "multilingual": True},
}
VERDICTS: tuple[Verdict, ...] = ("DSAT", "SAT")
THANKING = ("general-thank", "THANK_YOU")
NEUTRAL_RATING = 3.0
CORRECTIONS = (100, 200)


class RealTurn(NamedTuple):
    turn: Turn
    truth: frozenset[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("logs", "gold", "iard", "mwoz", "sgd"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    chats = read_logs(given.logs)
    sets = {
        "chats": [RealTurn(row.turn, frozenset({row.truth})) for row in gold_turns(given.gold, chats)],
        "iard": [RealTurn(row.turn, _intents(row.dissatisfied, row.accepts)) for row in read_iard(given.iard)
                 if row.is_test],
        "mwoz": list(read_rated(given.mwoz)),
        "sgd": list(read_rated(given.sgd)),
    }  # fmt: skip
    labellers = {name: EmbeddedLabeller(**options) for name, options in SETTINGS.items()}
    result = {
        "labels": {name: _of_set(labellers, turns) for name, turns in sets.items()},
        "languages": _by_language(labellers, [r.turn for chat in chats for r in reactions(chat)]),
        "echo_cap": {str(count): echo_cap(chats, count, given.seed) for count in CORRECTIONS},
    }
    sys.stdout.write(json.dumps(result, indent=None if given.json else 1) + "\n")


def _intents(dissatisfied: bool, accepts: bool) -> frozenset[str]:
    return frozenset(name for name, holds in (("DSAT", dissatisfied), ("SAT", accepts)) if holds)


def read_rated(path: Path) -> Iterator[RealTurn]:
    """The user turns of a USS file that follow a reply: role, text, act and the raters' figures, a tab between."""
    request = reply = None
    for line in path.read_text("utf-8").splitlines():
        role, text, act, ratings = (*line.split("\t"), "", "", "", "")[:4]
        if not role:
            request = reply = None
        elif role == "SYSTEM":
            reply = text
        elif text != "OVERALL":
            if reply and request:
                given = [float(each) for each in ratings.split(",")]
                unhappy = sum(given) / len(given) < NEUTRAL_RATING
                yield RealTurn(Turn(text, reply, request), _intents(unhappy, any(t in act for t in THANKING)))
            request, reply = text, None


def _verdicts(labeller: EmbeddedLabeller, turns: Sequence[Turn]) -> list[Verdict]:
    """One verdict a turn: each is a conversation of its own."""
    chats = [
        Conversation(str(i), "real", None, tuple(
            Message(role, text) for role, text in
            (("user", turn.request or "?"), ("assistant", turn.reply or "?"), ("user", turn.text))
        ), "train")
        for i, turn in enumerate(turns)
    ]  # fmt: skip
    labels = {label.conversation_id: label.label for label in labeller.label(chats)}
    return [labels.get(str(i), "ABSTAIN") for i in range(len(turns))]


def _of_set(labellers: dict[str, EmbeddedLabeller], rows: Sequence[RealTurn]) -> dict[str, Any]:
    said = {name: _verdicts(labeller, [row.turn for row in rows]) for name, labeller in labellers.items()}
    truly = Counter(name for row in rows for name in row.truth)
    return {
        "turns": len(rows),
        "truly": {name: truly[name] for name in VERDICTS},
        **{name: {verdict: _figures(rows, own, verdict) for verdict in VERDICTS} for name, own in said.items()},
    }


def _figures(rows: Sequence[RealTurn], said: Sequence[Verdict], verdict: Verdict) -> dict[str, Any]:
    right = [verdict in row.truth for row, own in zip(rows, said, strict=True) if own == verdict]
    others = sum(verdict not in row.truth for row in rows)
    share = bootstrap_mean([float(each) for each in right]).rounded() if right else None
    return {
        "verdicts": len(right),
        "precision": [share.value, share.low, share.high] if share else None,
        "recall": round(sum(right) / (len(rows) - others), 4),
        "false_alarms": round((len(right) - sum(right)) / others, 4),
    }


def _by_language(labellers: dict[str, EmbeddedLabeller], turns: Sequence[Turn]) -> dict[str, Any]:
    """Of each language of LANGUAGES, English and `other`: the turns, and the verdicts by setting."""
    code = [own if (own := language_of(turn)) in (*LANGUAGES, "en") else "other" for turn in turns]
    result: dict[str, Any] = defaultdict(dict)
    for language, count in Counter(code).most_common():
        result[language]["turns"] = count
    for name, labeller in labellers.items():
        counts = Counter(zip(code, _verdicts(labeller, turns), strict=True))
        for language in result:
            result[language][name] = {v: counts[language, v] for v in (*VERDICTS, "ABSTAIN")}
    return dict(result)


def echo_cap(chats: Sequence[Conversation], count: int, seed: int) -> dict[str, int]:
    """Corrections with the text of real replies, of one conversation each; the rejected reply is that of another one.
    All other conversations show what the model writes by itself."""
    rng = random.Random(f"corrections {seed}")
    turns = [
        (chat, i) for chat in chats for i, message in enumerate(chat.messages)
        if message.role == "assistant" and i and chat.messages[i - 1].role == "user" and message.content.strip()
    ]  # fmt: skip
    rng.shuffle(turns)
    of_chat = {chat.conversation_id: (chat, i) for chat, i in turns}
    picked = rng.sample(sorted(of_chat), count)
    items, pairs = {}, []
    for name in picked:
        (chat, i), (other, j) = of_chat[name], rng.choice(turns)
        prompt = tuple(message.chat() for message in chat.messages[:i])
        chosen, rejected = ChatMessage("assistant", chat.messages[i].content), other.messages[j].chat()
        items[name] = PromptItem(name, name, i, prompt, "train", rejected, None, chosen, name, corrected=True)
        pairs.append(PreferencePair(name, name, name, i, "repair", 0, "logs", prompt, (chosen,), (rejected,)))
    logs = [chat for chat in chats if chat.conversation_id not in items]
    capped, as_shipped = {}, defence.OWN_RATIO
    for name, ratio in (("dropped", as_shipped), ("dropped_by_a_plain_cap", 0)):
        defence.OWN_RATIO = ratio
        kept = defence.without_echoes(pairs, items, DefenceSettings(max_per_echo=3), lambda: logs)
        capped[name] = sum(not isinstance(row, PreferencePair) for row in kept)
    defence.OWN_RATIO = as_shipped
    return capped


if __name__ == "__main__":
    main()
