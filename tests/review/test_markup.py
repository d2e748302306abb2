"""Texts of logs are shown as text, and times as words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drift.records import ChatMessage, Conversation, FeedbackLabel, FunctionCall, Message, ToolCall
from drift.review.pages import conversation_html, marked, message_html, time_left

NASTY = '<script>alert(1)</script><img src=x onerror=alert(2)> & "quotes"'


@given(st.text(), st.text())
def test_nothing_of_a_text_becomes_markup(text, evidence):
    shown = marked(text, evidence).replace("<mark>", "").replace("</mark>", "")
    assert "<" not in shown
    assert ">" not in shown


def test_the_judged_reply_and_the_evidence_are_marked():
    texts = (("user", "hi"), ("assistant", NASTY), ("user", f"no: {NASTY}, really"))
    conversation = Conversation("c", "test", "c", tuple(Message(role, text) for role, text in texts), "train")
    label = FeedbackLabel("c", 1, 2, "DSAT", "embedded", "1", evidence="really")
    html = conversation_html(conversation, label, decided=True)
    assert "<script" not in html
    assert "<img" not in html
    assert html.count('class="message judged"') == 1
    assert "<mark>really</mark>" in html
    # Only DSAT and SAT labels have evidence: a mark would tell the label to someone who has not decided yet.
    assert conversation_html(conversation, label, decided=False) == html.replace("<mark>", "").replace("</mark>", "")


def test_long_conversations_are_cut_around_the_reply_and_say_so():
    messages = tuple(Message(("user", "assistant")[i % 2], f"text {i}") for i in range(100))
    conversation = Conversation("c", "test", "c", messages, "train")
    html = conversation_html(conversation, FeedbackLabel("c", 51, 52, "SAT", "embedded", "1"), decided=False)
    assert "… 31 earlier messages" in html
    assert "… 43 later messages" in html
    assert "text 51<" in html


def test_a_call_and_thoughts_are_shown_and_escaped():
    call = ToolCall(FunctionCall("sort", '{"tag": "<b>"}'))
    shown = message_html(ChatMessage("assistant", "", tool_calls=(call,), reasoning="<i>hm</i>"))
    assert "[call sort({&quot;tag&quot;: &quot;&lt;b&gt;&quot;})]" in shown
    assert "<summary>thoughts</summary>&lt;i&gt;hm&lt;/i&gt;" in shown
    assert '<div class="role">tool sort</div>' in message_html(ChatMessage("tool", "x", name="sort"))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "the time left is known after four decisions"),
        (0, "no time left"),
        (20, "less than a minute left at this pace"),
        (90, "about 2 min left at this pace"),
        (3600 * 3 + 60 * 20, "about 3 h 20 min left at this pace"),
    ],
)
def test_time_left_in_words(seconds, words):
    assert time_left(seconds) == words
