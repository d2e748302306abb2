"""The labeller that ships: labels a reply by the words of the user turn after it, and by how they relate to the reply.

It needs numpy alone, labels some twenty thousand turns per second, and is fitted by
`python -m drift.feedback.embedded.fit`. It judges EXPRESSED feedback: most failures of an assistant leave no trace in
what the user writes next.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence, Set
from itertools import islice, takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from drift.feedback.embedded.approval import P_SAT, Approval, approval, grammar_version
from drift.feedback.embedded.features import VERSION, Batch, Turn, features, features_of_texts
from drift.feedback.embedded.language import english, sure_english
from drift.feedback.embedded.look_alikes import look_alikes_version, without_look_alikes
from drift.feedback.embedded.model import LINEAR, VERDICTS, WEIGHTS, TurnScorer, load_model
from drift.feedback.embedded.multilingual import LANGUAGES, foreign_version, language_of, load_foreign
from drift.feedback.embedded.spell import HEAD, TAIL
from drift.feedback.sentences import LONGEST_EVIDENCE, sentence_spans
from drift.records import Conversation, FeedbackLabel, Verdict, stable_hash
from drift.turns import as_text, judged_reply

BATCH = 512  # turns
DECISION = 0.5  # the least probability of a DSAT or SAT verdict
SENTENCE_SCORES = (LINEAR.index("plain"), LINEAR.index("sat"))
_WORDS = re.compile(r"[^\W_]")


class ReactingTurn(NamedTuple):
    """A user turn that judges a reply, and where both stand."""

    conversation_id: str
    user_index: int
    reply_index: int
    turn: Turn


def reactions(conversation: Conversation) -> Iterator[ReactingTurn]:
    """Each user turn that judges a reply; its request is the last user message before it, however far back."""
    request, messages = "", conversation.messages
    for i, message in enumerate(messages):
        if message.role != "user":
            continue
        if (reply := judged_reply(messages, i)) is not None:
            turn = Turn(message.content, as_text(messages[reply]), request)
            yield ReactingTurn(conversation.conversation_id, i, reply, turn)
        request = message.content


class EmbeddedLabeller:
    """A `Labeller`. `version` identifies the weights, the code of the features, the lists of what only looks like a
    complaint and, with `phrases`, the grammar.

    `phrases`: thanks and praise are also found by the grammar of `approval`, where the classifier sees none.
    `multilingual`: turns in LANGUAGES are labelled too; otherwise the labeller abstains from all that is not English.
    """

    def __init__(self, weights: Path = WEIGHTS, phrases: bool = False, multilingual: bool = False):
        self.multilingual = multilingual
        self.scorer = TurnScorer(load_model(weights))
        self.phrases = phrases
        options = ((phrases, grammar_version), (multilingual, foreign_version))
        further = (version() for is_used, version in options if is_used)
        fitted = hashlib.sha256(weights.read_bytes()).hexdigest()
        self.version = stable_hash(VERSION, fitted, look_alikes_version(), *further)

    def label(self, conversations: Iterable[Conversation]) -> Iterator[FeedbackLabel]:
        stream = (reaction for conversation in conversations for reaction in reactions(conversation))
        while batch := list(islice(stream, BATCH)):
            yield from self._judge(batch)

    def probabilities(self, turns: Sequence[Turn]) -> np.ndarray:
        """float64 [n, 2]: p_dsat and p_sat of each turn, whatever its language."""
        return self._chances(features(turns))

    def _chances(self, batch: Batch) -> np.ndarray:
        return np.round(1.0 / (1.0 + np.exp(-self.scorer.odds(batch))), 4)

    def _judge(self, reacting: Sequence[ReactingTurn]) -> Iterator[FeedbackLabel]:
        turns = [reaction.turn for reaction in reacting]
        batch = features(turns)
        chances = self._chances(batch)
        reasons = _abstain_reasons(turns, batch)
        foreign = self._foreign(turns, batch, reasons) if self.multilingual else []
        if foreign:
            chances[foreign] = load_foreign().probabilities([turns[i] for i in foreign])
            for i in foreign:
                reasons[i] = None
        verdicts: list[Verdict] = [
            _verdict(reason, *pair) for reason, pair in zip(reasons, chances.tolist(), strict=True)
        ]
        for i, chance in self._read_again(turns, verdicts, {*foreign}):
            chances[i], verdicts[i] = chance, _verdict(None, *chance)
        approvals = self._approvals(turns, verdicts, reasons) if self.phrases else {}
        for i, each in approvals.items():
            verdicts[i], reasons[i] = ("NEUTRAL", None) if each.mocks else ("SAT", None)
            p_dsat, p_sat = chances[i]
            chances[i] = (p_dsat, min(p_sat, 1 - P_SAT)) if each.mocks else (min(p_dsat, 1 - P_SAT), max(p_sat, P_SAT))
        findings = self._findings(verdicts, turns, batch, {*foreign})
        for i, each in approvals.items():
            if not each.mocks:
                findings[i] = each.subtype, _sentence_at(turns[i].text, each.start)
        for i, (reaction, reason, (p_dsat, p_sat)) in enumerate(zip(reacting, reasons, chances.tolist(), strict=True)):
            subtype, evidence = findings.get(i, (None, None))
            yield FeedbackLabel(
                reaction.conversation_id,
                reaction.reply_index,
                reaction.user_index,
                verdicts[i],
                "embedded",
                self.version,
                subtype=subtype,
                p_dsat=None if reason else p_dsat,
                p_sat=None if reason else p_sat,
                evidence=evidence,
                abstain_reason=reason,
            )

    def _read_again(
        self, turns: Sequence[Turn], verdicts: Sequence[Verdict], foreign: Set[int]
    ) -> Iterator[tuple[int, tuple[float, float]]]:
        """The complaints that are none without what only looks like one: their index, with p_dsat and p_sat then."""
        rests = {
            i: rest for i, v in enumerate(verdicts) if v == "DSAT" and (rest := without_look_alikes(turns[i].text))
        }
        for places in ([i for i in rests if i not in foreign], [i for i in rests if i in foreign]):
            if places:
                read = [turns[i]._replace(text=rests[i]) for i in places]
                chances = load_foreign().probabilities(read) if places[0] in foreign else self.probabilities(read)
                yield from (
                    (i, tuple(pair)) for i, pair in zip(places, chances.tolist(), strict=True) if pair[0] < DECISION
                )

    def _approvals(
        self, turns: Sequence[Turn], verdicts: Sequence[Verdict], reasons: Sequence[str | None]
    ) -> dict[int, Approval]:
        """By the turn's index, what the grammar finds that the classifier did not. A turn that goes on after the
        approval counts only if the classifier sees no complaint in it, nor in the rest alone."""
        approvals: dict[int, Approval] = {}
        unsure: list[int] = []
        for i, turn in enumerate(turns):
            parsed = approval(turn.text) if reasons[i] != "empty" else None
            if parsed is None or (parsed.mocks and verdicts[i] != "SAT") or (not parsed.mocks and verdicts[i] == "SAT"):
                continue
            if parsed.mocks or not parsed.rest:
                approvals[i] = parsed
            elif verdicts[i] == "NEUTRAL":
                approvals[i] = parsed
                unsure.append(i)
        if unsure:
            rests = [turns[i]._replace(text=approvals[i].rest) for i in unsure]
            for i, p_dsat in zip(unsure, self.probabilities(rests)[:, 0].tolist(), strict=True):
                if p_dsat >= DECISION:
                    del approvals[i]
        return approvals

    def _foreign(self, turns: Sequence[Turn], batch: Batch, reasons: Sequence[str | None]) -> list[int]:
        """The turns in one of the languages of the phrase books: those that do not pass as English, and those that pass
        because they are too short to tell, if their request is not surely English either."""
        sure = sure_english(batch)
        clear = (sure[: len(turns)] | sure[batch.asked]).tolist()
        doubtful = [i for i, reason in enumerate(reasons) if reason == "language" or (reason is None and not clear[i])]
        return [i for i in doubtful if language_of(turns[i]) in LANGUAGES]

    def _findings(
        self, verdicts: Sequence[Verdict], turns: Sequence[Turn], batch: Batch, foreign: Set[int]
    ) -> dict[int, tuple[str | None, str]]:
        """Subtype and evidence of the turns with a DSAT or SAT verdict, by their index in the batch. `foreign` turns,
        which are not English, have no subtype."""
        named = [i for i, verdict in enumerate(verdicts) if verdict in VERDICTS]
        abroad: dict[int, tuple[str | None, str]] = {
            i: (None, _foreign_evidence(turns[i], VERDICTS.index(verdicts[i]))) for i in named if i in foreign
        }
        places = [i for i in named if i not in foreign]
        if not places:
            return abroad
        model, scores = self.scorer.model, self.scorer.subtypes(batch.only(places))
        columns = [VERDICTS.index(verdicts[i]) for i in places]
        owners = np.asarray([VERDICTS.index(verdict) for verdict in model.subtype_verdicts])
        scores[owners[None, :] != np.asarray(columns)[:, None]] = -np.inf
        kinds = scores.argmax(axis=1).tolist()
        spans = self._evidence([turns[i].text for i in places], columns)
        rows = zip(places, kinds, spans, strict=True)
        return {**abroad, **{i: (model.subtype_names[kind], span) for i, kind, span in rows}}

    def _evidence(self, texts: Sequence[str], columns: Sequence[int]) -> list[str]:
        """For each text the sentence that, scored alone, has the highest score for its verdict."""
        parts = [read_sentences(text) for text in texts]
        every = features_of_texts([sentence for part in parts for sentence in part])
        scores = self.scorer.linear(every)[:, SENTENCE_SCORES]
        loudest, begin = [], 0
        for part, column in zip(parts, columns, strict=True):
            loudest.append(part[int(scores[begin : begin + len(part), column].argmax())])
            begin += len(part)
        return loudest


def _verdict(reason: str | None, p_dsat: float, p_sat: float) -> Verdict:
    if reason:
        return "ABSTAIN"
    if max(p_dsat, p_sat) < DECISION:
        return "NEUTRAL"
    return "DSAT" if p_dsat >= p_sat else "SAT"


def _foreign_evidence(turn: Turn, column: int) -> str:
    """The sentence that, scored alone, has the highest score for the verdict."""
    parts = read_sentences(turn.text)
    odds = load_foreign().odds([Turn(part, "", "") for part in parts])
    return parts[int(odds[:, column].argmax())]


def _sentence_at(text: str, place: int) -> str:
    """The sentence in which the character at this place stands."""
    spans = sentence_spans(text[: place + LONGEST_EVIDENCE], LONGEST_EVIDENCE)
    return next((text[start:end] for start, end in spans if start <= place < end), text[place:].split("\n")[0].strip())


def read_sentences(text: str) -> list[str]:
    """The sentences of which the labeller reads a part, whole and verbatim; at least one."""
    size = len(text)
    if size <= HEAD + TAIL:
        spans = list(sentence_spans(text, LONGEST_EVIDENCE))
    else:  # a part that is cut in a sentence longer than that is cut again, between words
        late = max(0, size - TAIL - LONGEST_EVIDENCE)
        first = sentence_spans(text[: HEAD + LONGEST_EVIDENCE], LONGEST_EVIDENCE)
        last = sentence_spans(text[late:], LONGEST_EVIDENCE)
        spans = list(takewhile(lambda span: span[0] < HEAD, first))
        spans += [(late + start, late + end) for start, end in last if late + end > size - TAIL]
    return [text[start:end] for start, end in spans] or [text.strip()[:HEAD]]


def _abstain_reasons(turns: Sequence[Turn], batch: Batch) -> list[str | None]:
    return [_abstain_reason(turn.text, known) for turn, known in zip(turns, english(turns, batch), strict=True)]


def _abstain_reason(text: str, is_english: bool) -> str | None:
    """Marks and emoji alone are no words: the classifier learned from words, and would take a dot for approval."""
    if not text.strip():
        return "empty"
    if not _WORDS.search(text):
        return "no words"
    return None if is_english else "language"
