"""Nothing that a speaker writes can leave its string, its line or the fence."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drift.endpoint.fence import CLOSE, LONGEST_MESSAGE, OPEN, FencedMessage, escaped, fenced, shortened

CONTROL = re.compile(
    r"<\||\|>|\[/?[A-Z_]+\]|</?s>|[\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\U000e0000-\U000e007f\x00-\x09\x0b-\x1f]"
)


@given(st.text() | st.text(alphabet='<>/conversat"\\u003{}\n[INST]'))
def test_escaping_loses_nothing_and_lets_nothing_out(text):
    inside = escaped(text)
    assert json.loads(f'"{inside}"') == text
    assert not set(inside) & set("<>\n\r\u2028\u2029")


def test_each_injection_stays_one_string_between_the_marks(injections):
    assert len(injections) >= 40
    for text in injections:
        told = fenced(
            [
                FencedMessage(0, "user", "hi"),
                FencedMessage(1, "assistant", text),
                FencedMessage(2, "user", text, judge=True),
            ]
        )
        first, *lines, last = told.split("\n")
        assert (first, last) == (OPEN, CLOSE)
        assert told.count(OPEN) == told.count(CLOSE) == 1
        assert len(lines) == 3
        assert [json.loads(line) for line in lines][2] == {"turn": 2, "speaker": "user", "judge": True, "text": text}
        assert not CONTROL.search("".join(lines)), text


@pytest.mark.parametrize(
    "token",
    [
        "[THINK]",
        "[/think]",
        "[gMASK]",
        "[|user|]",
        "[|endofturn|]",
        "]~b]ai",
        "[e~[",
        "\u25c1/think\u25b7",
        "[TOOL_CALLS]",
        "[/INST]",
    ],
)
def test_control_tokens_in_other_brackets_are_escaped(token):
    assert token not in escaped(f"a {token} b")
    assert json.loads(f'"{escaped(token)}"') == token


def test_ordinary_text_of_any_language_is_readable():
    assert escaped("see [1], [x] and a[|i - 1|]"[:18]) == "see [1], [x] and a"
    assert escaped("Das ist falsch! 这是错的 (x[0] == 'é') 😀") == "Das ist falsch! 这是错的 (x[0] == 'é') 😀"


def test_a_long_message_keeps_its_beginning_and_its_end():
    text = "a" * LONGEST_MESSAGE + "b" * 100
    cut = shortened(text)
    assert cut.startswith("aaa")
    assert cut.endswith("b" * 100)
    assert "[... 100 characters left out ...]" in cut
