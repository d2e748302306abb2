"""What single judgements say by their name, their number and their word."""

import pytest

from drift.logs.files.rows import Place, Unusable
from drift.logs.traces.verdicts import judgement
from drift.records import Reason


@pytest.mark.parametrize(
    ("name", "value", "word", "kind", "said"),
    [
        ("user-feedback", 1, None, "thumb", 1.0),
        ("userFeedback", 0.5, None, "thumb", 0.5),
        ("userfeedback", True, None, "thumb", 1.0),
        ("THUMBS_UP", 1.0, None, "thumb", 1.0),
        ("likes", 1.0, None, "thumb", 1.0),
        ("likely_correct", 0.9, None, "score", 0.9),
        ("harmlessness", 0.9, None, "score", 0.9),
        ("Relevance", 0.0, None, "score", 0.0),
        ("thumbs_down", 1, None, "thumb", -1.0),
        ("thumbsDown", True, None, "thumb", -1.0),
        ("dislike", None, "yes", "thumb", -1.0),
        ("thumbs_up_down", 1, None, "thumb", 1.0),
        ("like/dislike", False, None, "thumb", -1.0),
        ("user_dislike", -1.0, None, "thumb", -1.0),
        ("toxicity", 0.9, "fail", "score", -1.0),
        ("hallucination", None, "passed", "score", 1.0),
    ],
)
def test_names_are_read_word_by_word(name, value, word, kind, said):
    found = judgement(Place(1), ["a"], name, value, word, None)
    assert (found.kind, found.value) == (kind, said)


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("hallucination", 1.0, None),
        ("toxicity", 0.9, None),
        ("ToxicityScore", 0.05, None),
        ("likelihood_of_refund", 0.9, None),
        ("user_frustration", True, None),
        ("error-rate", 0, None),
        ("latency", 0.7, None),
        ("bias", None, "no"),
        ("jailbreak", None, "positive"),
        ("refusal", 0.2, "maybe"),
        ("dislike", 0, None),
        ("thumbs_down", None, "false"),
        ("quality", None, "maybe"),
    ],
)
def test_what_does_not_say_which_way_is_good_is_no_verdict(name, value, word):
    with pytest.raises(Unusable) as raised:
        judgement(Place(1), ["a"], name, value, word, None)
    assert raised.value.reason == Reason.NO_VERDICT


def test_a_score_in_a_persons_words_is_not_quoted():
    with pytest.raises(Unusable) as refusal:
        judgement(Place(1), [], "note", "write to ann@example.com", None, None)
    assert refusal.value.detail == "note is a text of 24 characters: neither a number nor a word for good or bad"


CHAT = [{"role": "user", "content": "2+2?"}], {"role": "assistant", "content": "5"}
RUN = {"id": "r", "run_type": "llm", "inputs": {"messages": CHAT[0]}, "outputs": {"choices": [{"message": CHAT[1]}]}}
FEEDBACK = {"run_id": "r", "key": "user_satisfaction", "score": 0}
SPAN = {
    "context": {"span_id": "s", "trace_id": "t"},
    "name": "chat",
    "attributes": {
        "openinference.span.kind": "LLM",
        "llm.input_messages": [{"message.role": "user", "message.content": "2+2?"}],
        "llm.output_messages": [{"message.role": "assistant", "message.content": "5"}],
    },
}
NOTE = {"span_id": "s", "name": "user feedback", "result": {"label": "thumbs-down"}}
DIFY = {"id": "m", "conversation_id": "c", "query": "2+2?", "answer": "5", "inputs": {}, "created_at": 1716212345}
LIKE = {"id": "f", "conversation_id": "c", "message_id": "m", "rating": "dislike"}


@pytest.mark.parametrize(
    ("call", "judged", "kind"),
    [
        (RUN, {**FEEDBACK, "feedback_source": {"type": "api"}}, "thumb"),
        (RUN, FEEDBACK, "thumb"),
        (RUN, {**FEEDBACK, "feedback_source": {"type": "model", "metadata": {}}}, "score"),
        (RUN, {**FEEDBACK, "feedback_source": '{"type": "auto_eval"}'}, "score"),
        (RUN, {**FEEDBACK, "feedback_source": {"type": "app"}}, "score"),
        (SPAN, {**NOTE, "annotator_kind": "HUMAN"}, "thumb"),
        (SPAN, {**NOTE, "annotator_kind": "LLM"}, "score"),
        (SPAN, {**NOTE, "annotator_kind": "CODE"}, "score"),
        (DIFY, {**LIKE, "from_source": "user"}, "thumb"),
        (DIFY, {**LIKE, "from_source": "admin"}, "score"),
    ],
)
def test_what_is_no_users_judgement_is_a_score_whatever_its_name(read, call, judged, kind):
    done = read(call, judged)
    assert [(rating.kind, rating.value) for rating in done.only.ratings] == [(kind, -1.0)]
    assert done.reasons == [Reason.JOINED_AS_EVIDENCE]
