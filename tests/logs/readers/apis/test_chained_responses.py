"""OpenAI responses that only hold what is new: they become what the same calls with their whole history become."""

import random
import time

import orjson
import pytest

from drift.logs.ingest import ingest
from drift.store import Store


def row(number: int, above: int | None, asked: list[dict], more: dict) -> dict:
    output = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": reply(number)}]}]
    before = {} if above is None else {"previous_response_id": f"r{above}"}
    more = {"created_at": 1716212345 + number, "user": "ann", **more}
    return {"id": f"r{number}", "object": "response", "input": asked, "output": output, **before, **more}


def reply(number: int) -> str:
    return f"Answer {number}."


def told(tmp_path, name: str, *files: list[dict]) -> set:
    logs = []
    for number, rows in enumerate(files):
        logs.append(tmp_path / f"{name}-{number}.jsonl")
        logs[-1].write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in rows))
    store = Store(tmp_path / name)
    summary = ingest(logs, store)
    assert summary.adds_up
    return {
        (
            c.conversation_id,
            c.user_key is None,
            c.split,
            c.started_at,
            c.ratings,
            tuple((m.role, m.content) for m in c.messages),
        )
        for c in store.conversations()
    }


@pytest.mark.parametrize("seed", range(2))
def test_chains_are_what_their_calls_with_all_of_their_history_are(tmp_path, seed):
    """Forests that branch (regenerations, requests sent again), with instructions that change, thumbs and users."""
    rng = random.Random(seed)
    above = [None if n == 0 or rng.random() < 0.15 else rng.randrange(max(0, n - 4), n) for n in range(40)]
    users = {n: rng.choice(("ann", "bob")) for n, parent in enumerate(above) if parent is None}
    chained, whole, history = [], [], {}
    for number, parent in enumerate(above):
        users[number] = users[number if parent is None else parent]
        asked = [{"role": "user", "content": f"Question {rng.choice((parent, number))}?"}]
        more = {"user": users[number], **({"thumb": rng.choice(("up", "down"))} if rng.random() < 0.3 else {})}
        more |= {"instructions": f"Be {rng.choice(('brief', 'kind'))}."} if rng.random() < 0.3 else {}
        chained.append(row(number, parent, asked, more))
        said = [*(history[parent] if parent is not None else []), *asked]
        whole.append(row(number, None, said, more))
        history[number] = [*said, {"role": "assistant", "content": reply(number)}]
    expected = told(tmp_path, "whole", whole)
    assert len(expected) > 5
    assert told(tmp_path, "oldest-first", chained) == expected
    rng.shuffle(chained)
    assert told(tmp_path, "any-order", chained) == expected
    assert told(tmp_path, "two-files", chained[:17], chained[17:]) == expected


def asked(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


def test_a_chain_that_names_its_user_once_is_of_this_user(tmp_path):
    rows = [row(n, n - 1 if n else None, asked(f"Question {n}?"), {"user": None if n else "ann"}) for n in range(3)]
    (one,) = told(tmp_path, "chain", rows)
    assert one[1] is False
    assert [text for _, text in one[-1]] == ["Question 0?", reply(0), "Question 1?", reply(1), "Question 2?", reply(2)]


def test_a_chain_that_goes_over_to_another_user_is_a_conversation_of_each(tmp_path):
    rows = [row(n, n - 1 if n else None, asked(f"Question {n}?"), {"user": "ab"[n > 1]}) for n in range(4)]
    assert sorted(len(one[-1]) for one in told(tmp_path, "chain", rows)) == [4, 8]


def test_responses_that_go_on_from_each_other_in_a_circle_are_read(tmp_path):
    rows = [row(n, (n + 1) % 3, asked(f"Question {n}?"), {}) for n in range(3)] + [row(3, 3, asked("Own?"), {})]
    assert sorted(len(one[-1]) for one in told(tmp_path, "circle", rows)) == [2, 6]


@pytest.mark.parametrize("turn", [1, -1])
def test_a_long_chain_costs_as_much_per_response_as_a_short_one(tmp_path, turn):
    """With the square of its length, 1,500 responses took 25 s."""
    rows = [row(n, n - 1 if n else None, asked(f"Question {n}?"), {}) for n in range(1500)][::turn]
    started = time.process_time()
    (one,) = told(tmp_path, "long", rows)
    assert time.process_time() - started < 5
    assert [text for _, text in one[-1]][-2:] == ["Question 1499?", reply(1499)]


def test_thumbs_of_responses_with_the_same_words_stay_with_their_own(tmp_path):
    rows = []
    for chat in range(2):
        first, second = (
            row(2 * chat, None, asked(f"Chat {chat}?"), {}),
            row(2 * chat + 1, 2 * chat, asked("Go on."), {}),
        )
        second["output"][0]["content"][0]["text"] = "More."
        rows += [first, {**second, "thumb": ("up", "down")[chat]}]
    found = {one[-1][0][1]: [(r.reply_index, r.value) for r in one[4]] for one in told(tmp_path, "thumbs", rows)}
    assert found == {"Chat 0?": [(3, 1.0)], "Chat 1?": [(3, -1.0)]}
