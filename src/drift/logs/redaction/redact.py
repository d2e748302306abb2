"""Replace personal data by placeholders such as `<EMAIL_1>`: within a conversation, one placeholder per value.

Names of people are found by Presidio and a spaCy model (the extra `pii`): slow, and as accurate as the model.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, get_args

import orjson

from drift.config import IngestionSettings
from drift.errors import PrerequisiteError
from drift.logs.files.rows import Reject
from drift.logs.redaction.finder import DETECTORS, detectors_for, find, without_overlaps
from drift.logs.redaction.span import Detector, PersonalSpan, PersonFinder
from drift.records import Conversation, Message, PersonalData

CHARACTERS_PER_BATCH = 2_000_000  # of the conversations that are scanned together
_PLACEHOLDER = re.compile(rf"<({'|'.join(kind.upper() for kind in get_args(PersonalData))})_([0-9]{{1,9}})>")
_MAX_PASSES = 4  # a replaced value can uncover another one beside it, which is rare


class Placeholders:
    """The placeholders of one conversation, numbered in the order in which values appear.

    `texts`: all texts of the conversation. Placeholders in them, from an earlier redaction, are not used again.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._names: dict[tuple[PersonalData, str], str] = {}
        self._last: Counter[str] = Counter()
        for text in texts:
            for kind, number in _PLACEHOLDER.findall(text) if "<" in text else ():
                self._last[kind] = max(self._last[kind], int(number))

    def of(self, span: PersonalSpan) -> str:
        """The placeholder for a value."""
        name = self._names.get((span.kind, span.key))
        if name is None:
            kind = span.kind.upper()
            self._last[kind] += 1
            name = self._names[span.kind, span.key] = f"<{kind}_{self._last[kind]}>"
        return name


class Redactor:
    """Replaces personal data in texts and conversations.

    `keep`: kinds that are not replaced. `persons`: finds names of people (slow: a model); by default names stay.
    `counts`: replaced values by kind.
    """

    def __init__(self, keep: Iterable[PersonalData] = (), persons: PersonFinder | None = None) -> None:
        self.counts: Counter[PersonalData] = Counter()
        self._keep = frozenset(keep)
        self._persons = persons

    def each(self, rows: Iterable[Conversation | Reject]) -> Iterator[Conversation | Reject]:
        """Yield the rows in order, redacted."""
        batch: list[Conversation | Reject] = []
        characters = 0
        for row in rows:
            batch.append(row)
            characters += 500 + (sum([len(m.content) for m in row.messages]) if isinstance(row, Conversation) else 0)
            if characters > CHARACTERS_PER_BATCH:
                yield from self._redact_batch(batch)
                batch, characters = [], 0
        yield from self._redact_batch(batch)

    def _redact_batch(self, rows: list[Conversation | Reject]) -> Iterator[Conversation | Reject]:
        texts_of_rows = [_texts(row) for row in rows]
        chosen = iter(detectors_for([text for texts in texts_of_rows for text in texts]))
        for row, texts in zip(rows, texts_of_rows, strict=True):
            detectors = [next(chosen) for _ in texts]
            yield self._redacted(row, texts, detectors) if self._persons or any(detectors) else row

    def _redacted(
        self, row: Conversation | Reject, texts: list[str], detectors: list[tuple[Detector, ...]]
    ) -> Conversation | Reject:
        names = Placeholders(texts)
        clean = map(self.text, texts, detectors, itertools.repeat(names))
        if isinstance(row, Reject):
            return replace(row, detail=next(clean))
        return replace(
            row,
            messages=tuple(_with_texts(message, clean) for message in row.messages),
            tools=row.tools and next(clean),
            ratings=tuple(
                replace(r, comment=r.comment and next(clean), preferred=r.preferred and next(clean))
                for r in row.ratings
            ),
            tags={key: next(clean) for key in row.tags},
            source_id=next(clean) or None,
        )

    def text(self, text: str, detectors: Iterable[Detector], names: Placeholders) -> str:
        """Replace the personal data that `detectors` find in one text. JSON (the arguments of a call) stays JSON."""
        counts = self.counts.copy() if text[:1] in ("{", "[") else None
        clean = self._plain_text(text, detectors, names)
        if counts is None or clean is text or not _is_json(text) or _is_json(clean):
            return clean
        whole, self.counts = self.counts, counts
        try:
            return orjson.dumps(self._leaves(orjson.loads(text), detectors, names)).decode()
        except (RecursionError, orjson.JSONEncodeError):  # too deep: rather broken JSON than personal data
            self.counts = whole
            return clean

    def _leaves(self, value: Any, detectors: Iterable[Detector], names: Placeholders) -> Any:
        """A parsed value with its texts and numbers redacted one by one: a number that goes becomes a text."""
        if isinstance(value, dict):
            return {key: self._leaves(inner, detectors, names) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._leaves(inner, detectors, names) for inner in value]
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return value
        clean = self._plain_text(str(value), detectors, names)
        return value if clean == str(value) else clean

    def _plain_text(self, text: str, detectors: Iterable[Detector], names: Placeholders) -> str:
        for _ in range(_MAX_PASSES):
            spans = [span for span in find(text, detectors) if span.kind not in self._keep]
            if self._persons is not None and "person" not in self._keep:
                spans = without_overlaps((*spans, *self._persons(text)))
            if not spans:
                break
            self.counts.update(span.kind for span in spans)
            text = _replaced(text, spans, names)
        return text


def redact_text(text: str) -> str:
    """Redact one text by itself."""
    return Redactor().text(text, DETECTORS, Placeholders([text]))


def _replaced(text: str, spans: list[PersonalSpan], names: Placeholders) -> str:
    pieces, at = [], 0
    for span in spans:
        pieces += (text[at : span.start], names.of(span))
        at = span.end
    return "".join((*pieces, text[at:]))


def _texts(row: Conversation | Reject) -> list[str]:
    """Everything that people wrote in it, in the order in which placeholders are numbered."""
    if isinstance(row, Reject):
        return [row.detail]
    from_ratings = (text for rating in row.ratings for text in (rating.comment, rating.preferred) if text)
    tools = [row.tools] if row.tools else []
    return [*message_texts(row), *tools, *from_ratings, *row.tags.values(), row.source_id or ""]


def message_texts(conversation: Conversation) -> Iterator[str]:
    """All texts of the messages: the content, the arguments of calls, and thoughts."""
    for message in conversation.messages:
        yield message.content
        if message.tool_calls:
            yield from [call.function.arguments for call in message.tool_calls]
        if message.reasoning:
            yield message.reasoning


def _with_texts(message: Message, texts: Iterator[str]) -> Message:
    """The message with the next texts, in the order of `message_texts`."""
    content = next(texts)
    if not message.tool_calls and not message.reasoning:
        return replace(message, content=content)
    calls = tuple(replace(call, function=replace(call.function, arguments=next(texts))) for call in message.tool_calls)
    return replace(message, content=content, tool_calls=calls, reasoning=message.reasoning and next(texts))


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def make_redactor(settings: IngestionSettings) -> Redactor | None:
    """The redactor for these settings; None if redaction is off. Raises PrerequisiteError if the model is missing."""
    if not settings.redact:
        return None
    if settings.persons is None:
        return Redactor(settings.keep)
    from drift.logs.redaction.redact import person_finder

    return Redactor(settings.keep, person_finder(settings.persons))


_PIECE_CHARACTERS = 100_000  # the model's memory grows with its text


def person_finder(model: str) -> PersonFinder:
    """Load a spaCy model that is installed, for example en_core_web_sm; its first two letters are its language.

    Raises PrerequisiteError with the command that installs what is missing: nothing is downloaded here.
    """
    try:
        import spacy.util  # pyright: ignore[reportMissingImports]
        from presidio_analyzer import AnalyzerEngine  # pyright: ignore[reportMissingImports]
        from presidio_analyzer.nlp_engine import SpacyNlpEngine  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise PrerequisiteError(
            f"redacting names of people needs {error.name}: pip install 'drift-training[pii]'"
        ) from None
    if not spacy.util.is_package(model):
        raise PrerequisiteError(f"{model}: this spaCy model is not installed: python -m spacy download {model}")
    language = model[:2]
    engine = SpacyNlpEngine(models=[{"lang_code": language, "model_name": model}])
    analyzer = AnalyzerEngine(nlp_engine=engine, supported_languages=[language])

    def persons(text: str) -> Iterator[PersonalSpan]:
        for begin in range(0, len(text), _PIECE_CHARACTERS):
            piece = text[begin : begin + _PIECE_CHARACTERS]
            for result in analyzer.analyze(piece, language=language, entities=["PERSON"]):
                name = " ".join(piece[result.start : result.end].lower().split())
                if not name.startswith("<"):  # a placeholder, not a name
                    yield PersonalSpan(begin + result.start, begin + result.end, "person", name)

    return persons
