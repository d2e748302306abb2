"""LangSmith: chains, which are read where the logs hold no model call of their trace."""

import pytest

Q, A = "Sort: moon eagle", "moon eagle"


def run(name, kind, inputs, outputs, parent=None, trace="r1", at=0):
    return {
        "id": name, "trace_id": trace, "run_type": kind, "parent_run_id": parent, "inputs": inputs, "outputs": outputs,
        "start_time": f"2024-05-01T10:00:{at:02}", "extra": {"metadata": {"thread_id": "t", "user_id": "u"}},
    }  # fmt: skip


def human(text):
    return {"type": "human", "content": text}


def ai(text, **more):
    return {"type": "ai", "content": text, **more}


CALL = ai("", tool_calls=[{"id": "c", "name": "sort", "args": {"a": 1}}])
ANSWER = {"type": "tool", "content": "done", "tool_call_id": "c"}


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ({"messages": [{"role": "user", "content": Q}]}, {"output": A}),
        ({"input": Q}, {"output": A}),
        ({"question": Q}, {"answer": A, "sources": []}),
        ({"messages": [human(Q)]}, {"messages": [human(Q), ai(A)]}),
        ({"messages": [human(Q)]}, {"messages": [human("Hi."), ai("Hello."), human(Q), ai(A)]}),
    ],
)
def test_a_root_without_its_model_calls_is_read(read, inputs, outputs):
    told = read(run("r1", "chain", inputs, outputs))
    assert (told.texts(), told.only.user_key) == ([("user", Q), ("assistant", A)], "u")


def test_the_state_of_an_agent_holds_its_calls(read):
    outputs = {"messages": [human(Q), CALL, ANSWER, ai(A)]}
    told = read(run("r1", "chain", {"messages": [human(Q)]}, outputs))
    assert [m.role for m in told.only.messages] == ["user", "assistant", "tool", "assistant"]
    assert (told.only.messages[1].tool_calls[0].function.name, told.texts()[-1]) == ("sort", ("assistant", A))


def test_with_model_calls_a_chain_is_no_chat_and_its_feedback_judges_the_last_call(read):
    chain = run("r1", "chain", {"input": Q}, {"output": A})
    call = run("r2", "llm", {"messages": [[human(Q)]]}, {"output": A}, parent="r1", at=1)
    thumb = {"run_id": "r1", "key": "user_score", "score": 0}
    told = read(chain, call, thumb)
    assert told.texts() == [("user", Q), ("assistant", A)]
    assert sorted(told.reasons) == ["joined_as_evidence", "not_a_chat"]
    assert told.only.ratings[0].value == -1.0


def test_feedback_judges_a_root_by_itself(read):
    told = read(run("r1", "chain", {"input": Q}, {"output": A}), {"run_id": "r1", "key": "user_score", "score": 0})
    assert told.only.ratings[0].value == -1.0


def test_chains_that_hold_no_chat_have_a_name(read):
    told = read(run("r1", "chain", {"x": 1}, {"y": 2}), run("r2", "tool", {"input": Q}, {"output": A}, trace="r2"),
                run("r3", "chain", {"input": Q}, {"output": A}, trace="r3"))  # fmt: skip
    assert told.reasons == ["not_a_chat", "not_a_chat"]
    assert len(told.conversations) == 1
