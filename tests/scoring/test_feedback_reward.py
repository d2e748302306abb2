"""The reward that learns from the store's labels, and hindsight."""

import json
import random
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from drift.config import FeedbackRewardSettings, LabelSettings, PolicySettings, ScorerSettings, WarmStartSettings
from drift.errors import DataError, PrerequisiteError
from drift.policy.chat import encode_user_turn
from drift.policy.logps import logps_of_ids
from drift.policy.model import load_policy
from drift.records import (
    ChatMessage,
    Completion,
    Conversation,
    FeedbackLabel,
    Message,
    PromptItem,
    ReplyToScore,
    Score,
    read_jsonl,
    write_jsonl,
)
from drift.scoring import score_replies
from drift.scoring.classifier import check_architecture
from drift.scoring.feedback_reward import (
    JudgedTurn,
    JudgedTurnSettings,
    LearnedTurn,
    RewardQuality,
    _check_useful,
    auroc,
    check_judged,
    fit_feedback_reward,
    judged_turns,
    quality_of,
    unknown_within,
)
from drift.scoring.hindsight import HindsightScorer
from drift.scoring.reward_model import RewardModelScorer
from drift.store import Store

SETTINGS = FeedbackRewardSettings(epochs=6, learning_rate=3e-3)


def which(min_p_sat: float = 0.5, **labels) -> JudgedTurnSettings:
    return JudgedTurnSettings.of(LabelSettings(**labels), WarmStartSettings(min_p_sat=min_p_sat))


def chat(n: int, liked: bool) -> Conversation:
    """Users like replies with `yes` and dislike those with `nah`, whatever their length."""
    word = "yes" if liked else "nah"
    reply = " ".join([word] * (1 + n % 3))
    messages = (Message("user", f"question {n}"), Message("assistant", reply), Message("user", "hm"))
    return Conversation(f"c{n}{liked}", "test", None, messages, "train")


def filled(tmp_path, turns: int = 120, shuffled: bool = False) -> Store:
    store = Store(tmp_path / "store")
    chats = [chat(n, liked) for n in range(turns) for liked in (True, False)]
    store.add(chats)
    rng = random.Random(3)
    liked = [rng.random() < 0.5 if shuffled else "yes" in chat.messages[1].content for chat in chats]
    store.add_labels(
        FeedbackLabel(chat.conversation_id, 1, 2, "SAT" if good else "DSAT", "embedded", "1")
        for chat, good in zip(chats, liked, strict=True)
    )
    return store


def fit(tmp_path, store: Store, policy) -> dict:
    out = tmp_path / "reward"
    return dict(fit_feedback_reward(out, store, policy, SETTINGS, PolicySettings(), 500, 1, which()))


def test_it_learns_what_users_like_and_scores_both_replies(tmp_path, tiny_policy):
    counts = fit(tmp_path, filled(tmp_path), tiny_policy)
    assert counts["auroc"] > 0.9
    assert counts["length"] < 0.65
    assert counts == {**counts, **json.loads((tmp_path / "reward/quality.json").read_text())}
    learned = list(read_jsonl(tmp_path / "reward/turns.jsonl", LearnedTurn))
    assert (len(learned), learned[0].liked) == (counts["learned"], learned[0].conversation_id.endswith("True"))
    item = PromptItem(
        "p", "c", 1, (ChatMessage("user", "question 7"),), "train", rejected=ChatMessage("assistant", "nah")
    )
    prompts, completions = tmp_path / "prompts.jsonl", tmp_path / "completions.jsonl"
    write_jsonl(prompts, [item])
    write_jsonl(completions, [Completion("p", 1, 0, False, "yes yes", "stop", 0, "x", "t")])
    scorer = ScorerSettings(name="feedback")
    score_replies(
        tmp_path / "scores.jsonl", scorer, tiny_policy, (prompts, completions), PolicySettings(), 500, None, 0,
        tmp_path / "reward",
    )  # fmt: skip
    (score,) = read_jsonl(tmp_path / "scores.jsonl", Score)
    assert score.score is not None
    assert score.rejected_score is not None
    assert score.score > score.rejected_score


def test_the_same_seed_gives_the_same_reward(tmp_path, tiny_policy):
    store, settings = filled(tmp_path), SETTINGS.model_copy(update={"epochs": 2})
    weights = []
    for name in ("one", "two"):
        fit_feedback_reward(tmp_path / name, store, tiny_policy, settings, PolicySettings(), 500, 1, which())
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_a_batch_in_parts_gives_the_same_reward(tmp_path, tiny_policy, monkeypatch):
    store, settings = filled(tmp_path), SETTINGS.model_copy(update={"epochs": 1})
    for name, tokens in (("whole", 10**6), ("row by row", 1)):
        monkeypatch.setattr("drift.scoring.feedback_reward.MICRO_BATCH_TOKENS", tokens)
        (tmp_path / name).mkdir()
        fit_feedback_reward(tmp_path / name, store, tiny_policy, settings, PolicySettings(), 500, 1, which())
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "row by row"))
    assert whole.keys() == parts.keys()
    for name, weights in whole.items():
        assert torch.allclose(weights, parts[name], atol=1e-4), name


def test_a_useless_reward_is_refused(tmp_path, tiny_policy):
    with pytest.raises(DataError, match=r"AUROC of 0\.\d+ on \d+ held-out .* at least 0\.60 is .*another scorer"):
        fit(tmp_path, filled(tmp_path, shuffled=True), tiny_policy)


def test_a_reward_that_is_no_better_than_length_is_refused():
    quality = RewardQuality(
        turns=55, liked=35, auroc=0.9, auroc_low=0.8, auroc_high=1.0, within=None, within_comparisons=0, length=0.8999,
        calibration_error=0.0,
    )  # fmt: skip
    _check_useful(quality)
    assert "AUROC 0.90) was compared on 0 pairs of a liked and a disliked reply to the same" in unknown_within(quality)
    assert unknown_within(quality.model_copy(update={"within": 0.7, "within_comparisons": 20})) == ""
    with pytest.raises(DataError, match=r"AUROC of 0.90 on 55 .*more than what length alone reaches \(0\.90\)"):
        _check_useful(quality.model_copy(update={"length": 0.9}))


def test_too_few_judged_replies_are_counted(tmp_path, tiny_policy):
    with pytest.raises(DataError, match=r"too few judged replies .*\(\d+ liked and \d+ disliked replies to learn from"):
        fit(tmp_path, filled(tmp_path, turns=12), tiny_policy)


def test_too_few_because_of_a_limit_names_the_limit(tmp_path):
    """More chats of the one user would not help. Likes and dislikes have a limit each, as where pairs are made."""
    store, one = Store(tmp_path / "store"), [chat(n, liked) for n in range(60) for liked in (True, False)]
    store.add([replace(each, user_key="u", family=each.conversation_id) for each in one])
    store.add_labels(
        FeedbackLabel(each.conversation_id, 1, 2, "SAT" if each.conversation_id.endswith("True") else "DSAT", "r", "1")
        for each in one
    )
    left_out: Counter[str] = Counter()
    turns = list(judged_turns(store, which(max_per_user=50), left_out))
    assert Counter(turn.liked for turn in turns) == {True: 50, False: 50}
    with pytest.raises(DataError, match=r"left out: 110 user_cap\)\. Raise labels\.max_per_user, or choose another"):
        check_judged(store, which(max_per_user=5))


def test_a_kind_of_model_without_a_classifier_is_refused_by_its_config(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "granite", "architectures": ["GraniteForCausalLM"]}')
    with pytest.raises(PrerequisiteError, match=r"none for granite\. Set recipe\.scorer\.model to a model of another"):
        check_architecture(str(tmp_path))


def test_the_reward_reads_chats_in_the_form_that_it_learned_from(tmp_path, tiny_policy):
    """A template argument changes the request's tokens, so a reward that ignored it would judge other chats."""
    folder = tmp_path / "policy"
    shutil.copytree(tiny_policy, folder)
    template = folder / "chat_template.jinja"
    template.write_text("{% if strict is defined %}strict {% endif %}" + template.read_text())
    form = PolicySettings(template_arguments={"strict": True})
    store = filled(tmp_path)
    fit_feedback_reward(tmp_path / "reward", store, folder, SETTINGS, form, 500, 1, which())
    asked = ReplyToScore((ChatMessage("user", "question 1"),), "yes")
    scorer = RewardModelScorer(str(tmp_path / "reward"), "float32", 500, form=form)
    plain = RewardModelScorer(str(tmp_path / "reward"), "float32", 500)
    assert len(scorer._ids(asked)) == len(plain._ids(asked)) + len("strict ")
    assert scorer.score_all([asked]) != plain.score_all([asked])


def test_families_stay_together(tmp_path):
    store = Store(tmp_path / "store")
    chats = [replace(chat(n, True), family=f"f{n // 4}") for n in range(40)]
    store.add(chats)
    store.add_labels(FeedbackLabel(c.conversation_id, 1, 2, "SAT", "embedded", "1") for c in chats)
    by_family: dict[str, set[bool]] = {}
    for turn in judged_turns(store, which(), Counter()):
        by_family.setdefault(turn.group, set()).add(turn.held_out)
    assert all(len(sides) == 1 for sides in by_family.values())
    assert {side for sides in by_family.values() for side in sides} == {True, False}


def judged(tmp_path, chats: list[Conversation], subtypes: list[str | None]) -> Store:
    store = Store(tmp_path / "store")
    store.add(chats)
    store.add_labels(
        FeedbackLabel(one.conversation_id, 1, 2, "DSAT", "judge", "1", subtype=subtype)
        for one, subtype in zip(chats, subtypes, strict=True)
    )
    return store


def test_what_must_not_teach_a_pair_teaches_the_reward_nothing(tmp_path):
    subtypes = ["user_mistaken", "wrong", None, "refusal_complaint", "abuse", None]
    chats = [chat(n, False) for n in range(6)]
    chats[5] = replace(chats[5], tags={"toxic": "true"})
    store, left_out = judged(tmp_path, chats, subtypes), Counter()
    assert len(list(judged_turns(store, which(), left_out))) == 2
    assert left_out == {f"dropped.{name}": 1 for name in ("user_mistaken", "refusal_complaint", "abuse", "toxic")}
    everything = which(include=("user_mistaken", "refusal_complaint", "abuse", "toxic"))
    assert len(list(judged_turns(store, everything, Counter()))) == 6


def test_one_user_has_no_more_say_than_in_pairs(tmp_path):
    chats = [replace(chat(n, False), user_key="ann" if n < 5 else "ben") for n in range(6)]
    store, left_out = judged(tmp_path, chats, [None] * 6), Counter()
    assert len(list(judged_turns(store, which(max_per_user=2), left_out))) == 3
    assert left_out == {"dropped.user_cap": 3}


def test_a_label_must_be_probable_enough_and_counts_once(tmp_path):
    store, left_out = Store(tmp_path / "store"), Counter()
    store.add([replace(chat(0, True), conversation_id=name) for name in ("a", "b")] + [chat(1, False)])
    store.add_labels(FeedbackLabel(name, 1, 2, "SAT", "judge", "1", p_sat=0.9) for name in ("a", "b"))
    store.add_labels([FeedbackLabel("c1False", 1, 2, "DSAT", "judge", "1", p_dsat=0.6)])
    liked, disliked = judged_turns(store, which(), left_out)
    assert (liked.liked, disliked.liked) == (True, False)
    assert left_out == {"dropped.duplicate_prompt": 1}
    assert [turn.liked for turn in judged_turns(store, which(min_p_dsat=0.7), Counter())] == [True]
    assert [turn.liked for turn in judged_turns(store, which(min_p_sat=0.95), Counter())] == [False]


def test_a_reply_that_gave_in_to_a_user_who_was_wrong_is_not_liked(tmp_path):
    messages = tuple(
        Message(role, text)
        for role, text in (
            ("user", "2+2?"), ("assistant", "4"), ("user", "No, 5."), ("assistant", "Right, 5."), ("user", "Thanks!"),
        )
    )  # fmt: skip
    store, left_out = Store(tmp_path / "store"), Counter()
    store.add([Conversation("c", "test", None, messages, "train")])
    store.add_labels(
        [
            FeedbackLabel("c", 1, 2, "DSAT", "judge", "1", subtype="user_mistaken"),
            FeedbackLabel("c", 3, 4, "SAT", "judge", "1"),
        ]
    )
    assert list(judged_turns(store, which(), left_out)) == []
    assert left_out == {"dropped.user_mistaken": 2}


def test_figures_by_hand():
    asked, other = ((ChatMessage("user", text),) for text in ("a", "b"))
    rows = [(asked, "good", True), (asked, "bad", False), (other, "fine", True), (other, "poor!", False)]
    turns = [JudgedTurn(prompt, ChatMessage("assistant", text), None, liked, text) for prompt, text, liked in rows]
    scores = np.array([2.0, 1.0, 0.0, 3.0])
    assert auroc(scores, np.array([True, False, True, False])) == 0.25  # one of four pairs: 2 over 1
    quality = quality_of(turns, scores)
    assert (quality.turns, quality.liked, quality.within, quality.within_comparisons) == (4, 2, 0.5, 2)
    assert quality.length == 0.5  # 4 over 3, 4 below 5, and once more
    assert auroc(np.array([1.0, 1.0, 0.0]), np.array([True, False, False])) == 0.75  # a tie and a win


def test_hindsight_is_the_likelihood_of_the_complaint(tiny_policy):
    policy = load_policy(tiny_policy, PolicySettings())
    asked = (ChatMessage("user", "Say a."),)
    replies = [ReplyToScore(asked, text, complaint="No, say a.") for text in ("b", "ccc", "a")]
    scores = HindsightScorer(policy, 200).score_all([*replies, ReplyToScore(asked, "b")])
    assert scores[3] is None  # nobody complained
    template = "<|im_start|>user\nSay a.<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\n"
    before, said = (tuple(policy.tokenizer(text)["input_ids"]) for text in (template, "No, say a."))
    assert encode_user_turn(policy.chat, (*asked, ChatMessage("assistant", "b")), "No, say a.") == (before, said)
    (expected,) = logps_of_ids(policy, [(before, said)])
    assert scores[0] == pytest.approx(-expected.per_token, abs=1e-5)
    assert HindsightScorer(policy, 20).score_all(replies) == [None, None, None]  # too long
