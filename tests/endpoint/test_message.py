"""A server's message: text, thoughts, and why there is no answer; over HTTP where the wire matters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drift.endpoint import Choice, Endpoint, Reply, split_thoughts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", ("", "plain")),
        (" kept as it is\n", ("", " kept as it is\n")),
        ("<think>\na {b}\n</think>\n\nyes", ("a {b}", "yes")),
        ("\n<THINK>a</Think> yes", ("a", "yes")),
        ("a</think>\nyes", ("a", "yes")),  # the template opened the thought
        ("<think>a</think><think>b</think>yes", ("a\nb", "yes")),
        ("<think>a, then the limit", ("a, then the limit", "")),
        ("<think></think>yes", ("", "yes")),
        ("[THINK]a[/THINK]yes", ("a", "yes")),
        ("◁think▷a◁/think▷yes", ("a", "yes")),
        ("<seed:think>a</seed:think>yes", ("a", "yes")),
        ("<|begin_of_thought|>a<|end_of_thought|>\n<|begin_of_solution|>yes<|end_of_solution|>", ("a", "yes")),
        ("<|channel>thought\na<channel|>yes", ("a", "yes")),
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>yes",
            ("a", "yes"),
        ),
        ("<|channel|>final<|message|>yes", ("", "yes")),
        ('{"evidence": "he wrote </think>"}', ("", '{"evidence": "he wrote </think>"}')),  # a quotation
        ("Use the tag <think> for it", ("", "Use the tag <think> for it")),
        ("", ("", "")),
        ("so yes. </think> The sea", ("so yes.", "The sea")),
        ("it is 4 </think> 4", ("it is 4", "4")),
        ('"yes"</think>"yes"', ('"yes"', '"yes"')),
        ('He said "yes."</think>"yes."', ('He said "yes."', '"yes."')),
        ("I write `</think>`.</think>Put `</think>` after it.", ("I write `</think>`.", "Put `</think>` after it.")),
        ("<think>Not `</think>` yet</think>yes", ("Not `</think>` yet", "yes")),
        ("<think>Not `</think>` yet, then the limit", ("Not `</think>` yet, then the limit", "")),
        ("Draft:\n```\nx\n```\n</think>\n```\nx\n```", ("Draft:\n```\nx\n```", "```\nx\n```")),
    ],
)
def test_thoughts_and_answer(text, expected):
    assert split_thoughts(text) == expected


SPEAKS_OF_MARKS = [
    "Put the closing mark `</think>` after the thoughts.",
    'It ends with "</think>".',
    "It ends with \u201c</think>\u201d, or with \u2018[/THINK]\u2019.",
    "The </think> tag ends them, and `</think>` in code too.",
    "Like this:\n```xml\n<think>\na\n</think>\nb\n```\nDone.",
]


@pytest.mark.parametrize("text", SPEAKS_OF_MARKS)
def test_a_text_that_speaks_of_the_marks_is_an_answer(text):
    assert split_thoughts(text) == ("", text)
    choice = Choice(text, "stop")
    assert (choice.answer, choice.thoughts, choice.no_answer) == (text, "", None)


@given(st.text(alphabet="<>/thinkTHINK[]{}|ab \nİſ"))
def test_any_text_is_split(text):
    thoughts, answer = split_thoughts(text)
    assert len(thoughts) + len(answer) <= len(text)


@pytest.mark.parametrize(
    ("message", "finish", "text", "thoughts", "why"),
    [
        ({"content": "yes", "reasoning_content": "a"}, "stop", "yes", "a", None),
        ({"content": "yes", "reasoning": "a"}, "stop", "yes", "a", None),
        ({"content": "yes", "reasoning": {"effort": 1}, "reasoning_content": None}, "stop", "yes", "", None),
        ({"content": None, "reasoning_content": "a"}, "length", "", "a", "cut_in_thoughts"),
        ({"content": None, "reasoning_content": "a"}, "stop", "", "a", "thoughts_only"),
        ({"content": "<think>a"}, "length", "<think>a", "a", "cut_in_thoughts"),
        ({"content": "<think>a</think>"}, "stop", "<think>a</think>", "a", "thoughts_only"),
        ({"content": None}, "length", "", "", "cut"),
        ({"content": None}, "stop", "", "", "empty"),
        ({}, "stop", "", "", "empty"),
        ({"content": " \n"}, "stop", " \n", "", "empty"),
        ({"content": None, "refusal": "I will not."}, "stop", "", "", "refused"),
        ({"content": ""}, "content_filter", "", "", "refused"),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "a"}]},
                    {"type": "text", "text": "yes"},
                ]
            },
            "stop",
            "yes",
            "a",
            None,
        ),
    ],
)
def test_the_message_of_a_server(serve, said, settings, ask, message, finish, text, thoughts, why):
    server = serve(lambda *_: said.chat("", message={"role": "assistant", **message}, finish_reason=finish))
    with Endpoint(settings(server)) as endpoint:
        reply = endpoint.ask(ask())
    assert isinstance(reply, Reply)
    choice = reply.choices[0]
    assert (choice.text, choice.thoughts, choice.no_answer) == (text, thoughts, why)


@pytest.mark.parametrize("others", [{}, {"top_logprobs": None}, {"top_logprobs": []}])
def test_a_token_without_other_candidates_is_its_own_candidate(serve, said, settings, ask, others):
    logprobs = {"content": [{"token": "yes", "logprob": -0.5, **others}]}
    server = serve(lambda *_: said.chat("yes", logprobs=logprobs))
    with Endpoint(settings(server)) as endpoint:
        reply = endpoint.ask(ask(top_logprobs=2))
    assert isinstance(reply, Reply)
    assert [[(c.token, c.logprob) for c in tokens] for tokens in reply.choices[0].tokens] == [[("yes", -0.5)]]


def test_the_answer_of_a_choice_has_no_thoughts():
    choice = Choice('<think>maybe {"score": 1}</think>\n{"score": 4}', "stop")
    assert (choice.thoughts, choice.answer) == ('maybe {"score": 1}', '{"score": 4}')
