"""The kinds of constraints: what checks them, and which of them may stand in one request."""

from collections.abc import Callable
from dataclasses import dataclass

from drift.sandbox.instructions.constraints import edges, layout, length, marks, words


@dataclass(frozen=True, slots=True)
class ConstraintKind:
    """`check`: the reply and the constraint's values in; of a relative kind, the reply before in place of values.

    Two kinds that share a tag do not stand in one request. `only_with`: if it is not empty, the only kinds that it
    stands together with.
    """

    name: str
    check: Callable[..., bool]
    tags: frozenset[str]
    only_with: frozenset[str] = frozenset()
    relative: bool = False

    def fits(self, other: "ConstraintKind") -> bool:
        """May both stand in one request?"""
        for one, two in ((self, other), (other, self)):
            if one.only_with and two.name not in one.only_with:
                return False
        return not self.tags & other.tags


@dataclass(frozen=True, slots=True)
class Constraint:
    """One thing that a request demands. `values` fill the slots of its kind: numbers and words, all as texts."""

    kind: str
    values: tuple[str, ...] = ()

    def holds(self, text: str, before: str = "") -> bool:
        """`before`: the assistant's reply that a follow-up wants changed."""
        kind = KINDS[self.kind]
        return kind.check(text, before) if kind.relative else kind.check(text, *self.values)


_WORDING = frozenset({"include_word", "include_two", "avoid_word", "avoid_letter"})


def _kind(name: str, check: Callable[..., bool], tags: str, only_with: frozenset[str] = frozenset()) -> ConstraintKind:
    return ConstraintKind(name, check, frozenset(tags.split()), only_with, relative="relative" in tags)


_ALL = (
    _kind("max_words", length.max_words, "length"),
    _kind("min_words", length.min_words, "length"),
    _kind("word_range", length.word_range, "length"),
    _kind("sentences", length.exact_sentences, "length sentences"),
    _kind("max_sentences", length.max_sentences, "length sentences"),
    _kind("short_sentences", length.short_sentences, "sentences"),
    _kind("paragraphs", length.exact_paragraphs, "length layout"),
    _kind("one_line", marks.one_line, "layout"),
    _kind("no_commas", marks.no_commas, "comma"),
    _kind("exclamations", marks.exclamations, "exclamations"),
    _kind("lower_case", marks.lower_case, "case capitals"),
    _kind("upper_case", marks.upper_case, "case capitals"),
    _kind("capital_words", marks.capital_words, "case"),
    _kind("avoid_letter", marks.avoid_letter, "avoid"),
    _kind("include_word", words.include_word, "include"),
    _kind("include_two", words.include_two, "include"),
    _kind("avoid_word", words.avoid_word, "avoid"),
    _kind("word_times", words.word_times, "include"),
    _kind("before", words.before, "include"),
    _kind("foreign_word", words.foreign_word, "foreign"),
    _kind("persona", words.persona, "voice comma"),
    _kind("address", words.address, "voice comma capitals"),
    _kind("begin_with", edges.begin_with, "start"),
    _kind("end_with", edges.end_with, "end"),
    _kind("end_question", edges.end_question, "end"),
    _kind("last_line", edges.last_line, "end layout capitals sentences"),
    _kind("bullets", layout.bullets, "layout sentences"),
    _kind("numbered", layout.numbered, "layout sentences"),
    _kind("comma_list", layout.comma_list, "layout", _WORDING | {"lower_case", "upper_case"}),
    _kind("sections", layout.sections, "layout sentences capitals start"),
    _kind("json_object", layout.json_object, "layout", _WORDING | {"max_words"}),
    _kind("quoted", layout.quoted, "layout start end"),
    _kind("title", layout.title, "start layout sentences"),
    _kind("bold", layout.bold, "bold"),
    _kind("shorter", length.shorter, "relative length"),
    _kind("longer", length.longer, "relative length"),
)
KINDS: dict[str, ConstraintKind] = {kind.name: kind for kind in _ALL}
"""Every kind by its name. To add one: a checker, its line above, its chapter of a phrase book, 20 golden rows."""
