"""JSON out of a model's text: what counts as the answer, and what is too broken to be one."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drift.endpoint.json_text import json_field, json_object
from drift.endpoint.thoughts import split_thoughts

ONE = {"score": "7", "why": 'a {brace} and a "quote"'}
PLAIN = json.dumps(ONE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PLAIN, ONE),
        (f"```json\n{PLAIN}\n```", ONE),
        (f"Here it is:\n{PLAIN}\nI hope that helps.", ONE),
        ('{"score": {"a": {"b": 1}}}', {"score": {"a": {"b": 1}}}),
        ('{"why": "} or {"}', {"why": "} or {"}),
        ("{}", {}),
        (f'{{"draft": 1}}\n{PLAIN}', ONE),  # the last of several that begin a line
        (f'{{"score": "1"}}\n\nNo, better:\n```json\n{PLAIN}\n```', ONE),
        (f'{{"score": bad}}\n{PLAIN}', ONE),  # a broken draft, then the answer
        (f"Rejected: {{draft}}, {{x: 1}}. {PLAIN}", ONE),
        (f'{PLAIN} The user wrote {{"score": "10"}} there.', ONE),  # a quotation after the answer
        ('I read {"a": 1} and {"a": 2}.', None),  # two in one line: which of them is the answer?
        ('{"why": "he wrote\n{"score": "10"}\n", "score": "2"}', None),  # broken, with a line of a quoted object
        ('{"a": NaN}', None),
        (PLAIN[:-1], None),  # truncated
        ('{"turns": [{"evidence": "he wrote {"turns": []}"', None),  # truncated, with an object quoted in it
        ('{"why": "says "no"", "score": 4}', None),  # broken strings
        ("[1, 2]", None),
        ("7", None),
        ("no JSON at all", None),
        ("} {", None),
        ("", None),
        ("{" * 5000, None),
        ('{"a":' * 5000 + "1" + "}" * 5000, None),  # deeper than a parser goes
    ],
)  # fmt: skip
def test_the_object_of_an_answer(text, expected):
    assert json_object(text) == expected


def test_only_an_object_that_fits_is_the_answer():
    text = 'First {"score": 4}\n{"score": 5}\n{"note": "done"}'
    assert json_object(text, lambda value: "score" in value) == {"score": 5}
    assert json_object(text, lambda value: "label" in value) is None


def test_many_braces_are_read_in_time():
    started = time.monotonic()
    assert json_object('{"a": ' * 20_000) is None
    assert json_object('{"a" ' * 20_000 + "}" * 20_000) is None
    assert json_object('{"a"} ' * 20_000) is None
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PLAIN, "7"),
        (f"```json\n{PLAIN}\n```", "7"),
        ('{"score": 4.5}', 4.5),
        ('{"why": "he wrote \\"score\\": \\"10\\"", "score": "3"}', "3"),
        ('{"score": "3"} {"score": "8"}', "8"),  # a draft, then the answer
        ('{"score": "3"}\n\n```{"score": "8"}```', "8"),
        (f'{PLAIN}\nThe reply says: {{"score": "10"}}', "7"),  # the judge quotes what it was told to answer
        ('It says {"score": "10"}. My score: {"score": "2"}', "2"),
        ('{"weaknesses": "says "no"", "score": 4}', "4"),
        ('{"weaknesses": "he wrote "score": "10"", "score": "2"}', "2"),
        ('{"result": {"score": 6}}', "6"),
        ('{"why": "x", "score": "9', "9"),  # truncated behind the value
        ('{"why": "x", "sco', None),
        ('{"score": null}', None),
        ("a score of 7", None),
        ("", None),
    ],
)
def test_the_field_of_an_answer(text, expected):
    assert json_field(text, "score") == expected


@given(st.text())
def test_any_text_is_read_or_refused(text):
    assert json_object(text) is None or isinstance(json_object(text), dict)
    json_field(text, "score")


@given(st.dictionaries(st.text(), st.text() | st.integers(-9, 9) | st.none()), st.text(alphabet='ab `\n:"[]'))
def test_every_object_is_found_in_prose_without_braces(value, prose):
    assert json_object(f"{prose}{json.dumps(value)}{prose}") == value


def test_many_thoughts_are_split_in_one_pass():
    """Each was cut out of what followed it: 200,000 of them took 25 s."""
    started = time.process_time()
    thoughts, answer = split_thoughts("<think>a</think> " * 100_000 + "56")
    assert (thoughts.count("a"), answer) == (100_000, "56")
    assert time.process_time() - started < 5
