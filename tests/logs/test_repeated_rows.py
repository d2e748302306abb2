"""The same messages in several files of one command: dumps of each night, pages that overlap."""

import pytest

from chats import WRONG, A, B, Q
from drift.logs.ingest import IngestSummary
from drift.records import Conversation, Rating, Reason
from message_rows import CHAT, MAP, TIMED, ai_sdk, dify, flowise, langchain, librechat, oasst, read, table


def repeats(summary: IngestSummary) -> int:
    assert summary.quarantined == {}
    return summary.filtered_by.get(Reason.REPEATED_ROW, 0)


def texts(conversation: Conversation) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in conversation.messages]


@pytest.mark.parametrize("row", [librechat, flowise, langchain, ai_sdk, oasst, dify, table])
def test_files_that_overlap_are_read_as_the_chat_that_they_hold(tmp_path, row):
    columns = TIMED if row is table else None
    rows = [row(place, role, text) for place, (role, text) in enumerate(CHAT)]
    whole, summary = read(tmp_path, rows, columns=columns, name="whole")
    assert (len(whole), repeats(summary)) == (1, 0)
    twice, summary = read(tmp_path, rows, rows, columns=columns, name="twice")
    assert (twice, repeats(summary), summary.rows) == (whole, 4, 8)
    pages, summary = read(tmp_path, rows[:3], rows[1:], columns=columns, name="pages")
    assert (pages, repeats(summary), summary.rows) == (whole, 2, 6)


def test_the_latest_version_of_a_message_counts(tmp_path):
    """The reply got its thumb after the first dump, and a message of the user was corrected."""
    rows = [librechat(place, role, text) for place, (role, text) in enumerate(CHAT)]
    later = [*rows[:2], librechat(2, "user", "No."), librechat(3, "assistant", B, feedback={"rating": "thumbsUp"})]
    (chat,), summary = read(tmp_path, rows, later, rows[:2])
    assert texts(chat) == [*CHAT[:2], ("user", "No."), CHAT[3]]
    assert (chat.ratings, repeats(summary)) == ((Rating(3, "thumb", 1.0),), 6)


def test_a_rating_of_a_table_that_came_later(tmp_path):
    rows = [table(place, role, text) for place, (role, text) in enumerate(CHAT)]
    rated = [*rows[:3], {**rows[3], "thumb": "up"}]
    (chat,), summary = read(tmp_path, rows, rated, columns={**TIMED, "rating": "thumb"})
    assert (texts(chat), chat.ratings, repeats(summary)) == (CHAT, (Rating(3, "thumb", 1.0),), 4)


@pytest.mark.parametrize("when", [{}, {"at": "2024-05-01"}])
def test_what_a_user_writes_again_stays_where_no_time_tells_the_rows_apart(tmp_path, when):
    """Two parts of one table; a second dump begins as the first one."""
    chat = [*CHAT, ("user", WRONG), ("assistant", "3"), ("user", WRONG), ("assistant", B)]
    rows = [{"chat": "c", "who": role, "text": text, **when} for role, text in chat]
    columns = TIMED if when else MAP
    (parts,), summary = read(tmp_path, rows[:6], rows[6:], columns=columns, name="parts")
    assert (texts(parts), repeats(summary)) == (chat, 0)
    (dumps,), summary = read(tmp_path, rows[:6], rows, columns=columns, name="dumps")
    assert (texts(dumps), repeats(summary)) == (chat, 6)


def test_files_that_begin_alike_are_parts_if_none_is_the_beginning_of_the_other(tmp_path):
    """Each day of the chat begins with the same greeting."""
    hello = [("user", "hi"), ("assistant", "Hello")]
    days = [[{"chat": "c", "who": role, "text": text} for role, text in hello + part] for part in (CHAT[:2], CHAT[2:])]
    (parts,), summary = read(tmp_path, *days, columns=MAP, name="parts")
    assert (texts(parts), repeats(summary)) == ([*hello, *CHAT[:2], *hello, *CHAT[2:]], 0)
    (dumps,), summary = read(tmp_path, days[0], days[1], days[1][:3], days[0], columns=MAP, name="dumps")
    assert (dumps.messages, repeats(summary)) == (parts.messages, 7)


@pytest.mark.parametrize("more", [{"id": "c"}, {"id": "ann", "user_id": "ann"}])
def test_the_id_of_the_chat_or_of_its_user_is_no_id_of_a_row(tmp_path, more):
    chat = [("user", Q), ("assistant", "Sure?"), ("user", "yes"), ("assistant", "Really?"), ("user", "yes")]
    rows = [{**langchain(place, role, text), **more} for place, (role, text) in enumerate(chat)]
    (once,), summary = read(tmp_path, rows)
    assert (texts(once), repeats(summary)) == (chat, 0)
    (twice,), summary = read(tmp_path, rows[:2], rows, name="twice")
    assert (texts(twice), repeats(summary)) == (chat, 2)


def test_a_batch_that_is_given_twice(tmp_path):
    request = {"custom_id": "1", "url": "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": Q}]}}
    body = {"choices": [{"message": {"role": "assistant", "content": A}}]}
    rows = [request, {"custom_id": "1", "response": {"status_code": 200, "body": body}}]
    (chat,), summary = read(tmp_path, rows, rows)
    assert (texts(chat), repeats(summary)) == (CHAT[:2], 2)


def test_a_vote_that_is_given_twice_counts_once(tmp_path):
    rows = [ai_sdk(place, role, text) for place, (role, text) in enumerate(CHAT)]
    votes = [{"chatId": "c", "messageId": "3", "isUpvoted": True}]
    (chat,), summary = read(tmp_path, rows, votes, rows, votes)
    assert (chat.ratings, repeats(summary)) == ((Rating(3, "thumb", 1.0),), 4)
    assert summary.filtered_by[Reason.JOINED_AS_EVIDENCE] == 2
