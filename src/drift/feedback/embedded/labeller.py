"""The labeller that ships: a linear model on hashed features says what a user turn expresses about the reply before it.

It runs on numpy alone, at some ten thousand turns per second, and is fitted by `python -m drift.feedback.embedded.fit`.
It judges EXPRESSED feedback: most failures of an assistant leave no trace in what the user writes next.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from drift.errors import DataError
from drift.feedback.embedded.features import BUCKETS, HEAD, RELATION, TAIL, VERSION, Batch, Features, Turn, cut
from drift.feedback.embedded.language import is_english
from drift.records import Conversation, FeedbackLabel, Verdict, stable_hash

WEIGHTS = Path(__file__).with_name("weights.npz")
BATCH = 512
DECISION = 0.5
VERDICTS: tuple[Verdict, ...] = ("DSAT", "SAT")
CLAUSE = re.compile(r"(?:[^.!?;\n,]|[.,](?=\w)|,(?! but| however))+[.!?]*")


@dataclass(frozen=True, slots=True)
class Model:
    """Linear scores of turns, as log-odds; DSAT and SAT are calibrated.

    `idf` float32 [BUCKETS]; `verdicts` float32 [2, BUCKETS + len(RELATION) + 1], rows as VERDICTS, the bias last;
    `subtypes` the same for each name in `subtype_names`, each of which belongs to one of `subtype_verdicts`.
    """

    idf: np.ndarray
    verdicts: np.ndarray
    subtypes: np.ndarray
    subtype_names: tuple[str, ...]
    subtype_verdicts: tuple[str, ...]


def bucket_values(batch: Batch, idf: np.ndarray) -> np.ndarray:
    """float64 [m]: the value of each bucket in use, its idf, scaled so that a turn's values have length 1."""
    value = idf[batch.buckets].astype(np.float64)
    return value / np.sqrt(np.bincount(batch.owners, value * value, minlength=len(batch.words)))[batch.owners]


def logits(batch: Batch, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """float64 [n, rows of `weights`]. A row does not depend on the other rows: all sums are in the batch's order."""
    n = len(batch.words)
    said = [np.bincount(batch.owners, values * row[batch.buckets], minlength=n) for row in weights]
    related = [(batch.relation * row[BUCKETS:-1]).sum(axis=1, dtype=np.float64) + row[-1] for row in weights]
    return np.stack(said, axis=1) + np.stack(related, axis=1)


def save_model(path: Path, model: Model) -> None:
    np.savez_compressed(
        path,
        features=np.asarray(VERSION),
        idf=model.idf.astype(np.float16),
        verdicts=model.verdicts.astype(np.float16),
        subtypes=model.subtypes.astype(np.float16),
        subtype_names=np.asarray(model.subtype_names),
        subtype_verdicts=np.asarray(model.subtype_verdicts),
    )


def load_model(path: Path) -> Model:
    """Raises DataError if the file is missing, damaged, or fitted on features that this code does not compute."""
    remedy = "Fit it anew: python -m drift.feedback.embedded.fit --iard FILE"
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        version = str(arrays["features"])
        width, expected = arrays["verdicts"].shape[1], BUCKETS + len(RELATION) + 1
        if (version, width) != (VERSION, expected):
            raise DataError(
                f"{path}: fitted on {width} features of version {version}, this code computes {expected} of version "
                f"{VERSION}. {remedy}"
            )
        weights = (arrays[name].astype(np.float32) for name in ("idf", "verdicts", "subtypes"))
        names = (tuple(map(str, arrays[name])) for name in ("subtype_names", "subtype_verdicts"))
        return Model(*weights, *names)
    except (OSError, EOFError, ValueError, KeyError, IndexError) as error:
        raise DataError(f"{path}: no weights of the labeller ({error}). {remedy}") from None


class Reaction(NamedTuple):
    """A user turn that directly follows a reply, and where it stands."""

    conversation_id: str
    user_index: int
    turn: Turn


def reactions(conversation: Conversation) -> Iterator[Reaction]:
    """Each user turn with an assistant message right before it; the request is the last user message before that."""
    request, messages = "", conversation.messages
    for i, message in enumerate(messages):
        if message.role != "user":
            continue
        if i and messages[i - 1].role == "assistant":
            yield Reaction(conversation.conversation_id, i, Turn(message.content, messages[i - 1].content, request))
        request = message.content


class EmbeddedLabeller:
    """A `Labeller`. `version` names the weights and the code of the features."""

    def __init__(self, weights: Path = WEIGHTS):
        self.model = load_model(weights)
        self.version = stable_hash(VERSION, hashlib.sha256(weights.read_bytes()).hexdigest())
        self._features = Features()

    def label(self, conversations: Iterable[Conversation]) -> Iterator[FeedbackLabel]:
        stream = (reaction for conversation in conversations for reaction in reactions(conversation))
        while batch := list(islice(stream, BATCH)):
            yield from self._judge(batch)

    def probabilities(self, turns: Sequence[Turn]) -> np.ndarray:
        """float64 [n, 2]: p_dsat and p_sat of each turn, whatever its language."""
        return self._chances(self._features.batch(turns))

    def _chances(self, batch: Batch) -> np.ndarray:
        odds = logits(batch, bucket_values(batch, self.model.idf), self.model.verdicts)
        return np.round(1.0 / (1.0 + np.exp(-odds)), 4)

    def _judge(self, some: Sequence[Reaction]) -> Iterator[FeedbackLabel]:
        turns = [reaction.turn for reaction in some]
        batch = self._features.batch(turns)
        chances = self._chances(batch)
        reasons = [_abstain_reason(turn, words) for turn, words in zip(turns, batch.words, strict=True)]
        verdicts: list[Verdict] = [
            _verdict(reason, *pair) for reason, pair in zip(reasons, chances.tolist(), strict=True)
        ]
        findings = {
            i: finding for verdict in VERDICTS for i, finding in self._findings(verdict, verdicts, turns, batch)
        }
        for i, (reaction, reason) in enumerate(zip(some, reasons, strict=True)):
            subtype, evidence = findings.get(i, (None, None))
            yield FeedbackLabel(
                reaction.conversation_id,
                reaction.user_index - 1,
                reaction.user_index,
                verdicts[i],
                "embedded",
                self.version,
                subtype=subtype,
                p_dsat=None if reason else float(chances[i, 0]),
                p_sat=None if reason else float(chances[i, 1]),
                evidence=evidence,
                abstain_reason=reason,
            )

    def _findings(
        self, verdict: Verdict, verdicts: Sequence[Verdict], turns: Sequence[Turn], batch: Batch
    ) -> Iterator[tuple[int, tuple[str, str]]]:
        """Place, subtype and evidence of the turns that got this verdict."""
        places = [i for i, given in enumerate(verdicts) if given == verdict]
        if not places:
            return
        model, some = self.model, batch.only(places)
        rows = [i for i, owner in enumerate(model.subtype_verdicts) if owner == verdict]
        kinds = logits(some, bucket_values(some, model.idf), model.subtypes[rows]).argmax(axis=1)
        row = VERDICTS.index(verdict)
        spans = self._evidence(model.verdicts[row : row + 1], [turns[i].text for i in places])
        for i, kind, span in zip(places, kinds, spans, strict=True):
            yield i, (model.subtype_names[rows[kind]], span)

    def _evidence(self, weights: np.ndarray, texts: Sequence[str]) -> list[str]:
        """Of each text the clause that, standing alone, speaks loudest for the verdict."""
        spans = [clauses(text) for text in texts]
        rivals = [clause for part in spans if len(part) > 1 for clause in part]
        loudness = iter(self._loudness(weights, rivals))
        return [
            part[0] if len(part) == 1 else max(((next(loudness), clause) for clause in part), key=itemgetter(0))[1]
            for part in spans
        ]

    def _loudness(self, weights: np.ndarray, texts: Sequence[str]) -> list[float]:
        if not texts:
            return []
        batch = self._features.texts(texts)
        return logits(batch, bucket_values(batch, self.model.idf), weights)[:, 0].tolist()


def _verdict(reason: str | None, p_dsat: float, p_sat: float) -> Verdict:
    if reason:
        return "ABSTAIN"
    if max(p_dsat, p_sat) < DECISION:
        return "NEUTRAL"
    return "DSAT" if p_dsat >= p_sat else "SAT"


def clauses(text: str) -> list[str]:
    """The sentences and clauses of what the labeller reads of a text, each of them verbatim; at least one."""
    read = [text] if len(text) <= HEAD + TAIL else [text[:HEAD], text[-TAIL:]]
    found = [
        clause for part in read for clause in map(str.strip, CLAUSE.findall(part)) if any(map(str.isalnum, clause))
    ]
    return found or [text.strip()[:HEAD]]


def _abstain_reason(turn: Turn, words: list[str]) -> str | None:
    if not turn.text.strip():
        return "empty"
    return None if is_english(cut(turn.text), words, turn.request) else "language"
