import json
import math
import shutil
from collections.abc import Sequence
from typing import get_args

import pytest
import torch

from drift.config import EndpointSettings, PolicySettings, ScorerSettings
from drift.errors import ConfigError, PrerequisiteError
from drift.evaluation.unlearned import find_unlearned
from drift.evaluation.utility import PairImprovement, measure_improvement
from drift.policy.logps import reply_logps
from drift.policy.model import load_policy
from drift.records import (
    ChatMessage,
    Completion,
    FunctionCall,
    Judgement,
    PreferencePair,
    PromptItem,
    ReplyToScore,
    Score,
    ScorerName,
    ToolCall,
    Truth,
    read_jsonl,
    write_jsonl,
)
from drift.rundir import RunDir
from drift.scoring import score_replies
from drift.scoring.reward_model import RewardModelScorer
from drift.scoring.scorers import SCORERS, LikelihoodScorer, ScorerKind, TruthScorer, known_truth

ASKED = (ChatMessage("user", "Say a."),)


class Vowels:
    def score(self, prompt, completion: str, finish="stop") -> float:
        return float(sum(letter in "aeiou" for letter in completion))


TRUTH = Truth((ASKED,), Vowels(), "vowels")


@pytest.fixture
def files(tmp_path):
    prompts, completions = tmp_path / "prompts.jsonl", tmp_path / "completions.jsonl"
    items = [PromptItem(f"p{i}", "c", 1, ASKED, "train", rejected=ChatMessage("assistant", "a")) for i in range(2)]
    write_jsonl(prompts, items)
    texts = ("aa", "b", "a")
    done = [
        Completion(f"p{i}", 1, n, False, text, "stop", 0, "x", "t") for i in range(2) for n, text in enumerate(texts)
    ]
    write_jsonl(completions, done)
    return prompts, completions


def scores(tmp_path, files, settings: ScorerSettings, policy="none", truth: Truth | None = TRUTH) -> list[Score]:
    out = tmp_path / "scores.jsonl"
    score_replies(out, settings, policy, files, PolicySettings(), 200, truth, seed=0)
    return list(read_jsonl(out, Score))


def test_the_oracle_says_the_truth_of_both_replies(tmp_path, files):
    found = scores(tmp_path, files, ScorerSettings(name="oracle"))
    assert [(s.prompt_id, s.sample, s.score, s.rejected_score) for s in found[:3]] == [
        ("p0", 0, 2.0, 1.0),
        ("p0", 1, 0.0, 1.0),
        ("p0", 2, 1.0, 1.0),
    ]


def test_noise_is_the_replys_own(tmp_path, files):
    noisy = ScorerSettings(name="noisy_oracle", noise=0.1)
    first = scores(tmp_path, files, noisy)
    assert first == scores(tmp_path, files, noisy)
    assert first[2].score == first[2].rejected_score  # the same text
    assert 0 < abs(first[0].score - 2.0) < 0.6


def test_a_scorer_is_a_class_and_its_entry(tmp_path, files, monkeypatch):
    """What scoring/scorers.py would hold; the config then allows what records.ScorerName lists."""

    class Longest:
        def score_all(self, replies: Sequence[ReplyToScore]) -> list[float | None]:
            return [float(len(reply.text)) for reply in replies]

    monkeypatch.setitem(SCORERS, "longest", ScorerKind(lambda inputs: Longest()))
    assert set(get_args(ScorerName)) | {"longest"} == SCORERS.keys()  # every allowed name has one
    with pytest.raises(ConfigError, match="allowed here: self, hindsight, feedback, reward_model, judge, longest"):
        known_truth("oracle", None)
    found = scores(tmp_path, files, ScorerSettings.model_construct(name="longest"), truth=None)
    assert [s.score for s in found] == [float(len(c.text)) for c in read_jsonl(files[1], Completion)]
    assert {s.scorer for s in found} == {"longest"}


def test_a_failed_or_empty_reply_is_not_scored_and_no_judge_is_paid_for_it(tmp_path, files, serve, said):
    server = serve(lambda path, body, number: said.chat("A"))
    settings = ScorerSettings(name="judge", endpoint=EndpointSettings(base_url=server.url, model="judge", retries=0))
    done = [Completion("p0", 1, n, False, text, finish, 0, "x", "t") for n, (text, finish) in enumerate(
        (("aa", "stop"), ("", "error"), (" ", "stop"))
    )]  # fmt: skip
    write_jsonl(files[1], done)
    assert [s.score for s in scores(tmp_path, files, settings)] == [0.5, None, None]
    assert len([body for body in server.chats() if body["messages"][0]["role"] == "system"]) == 2


def test_calls_are_scored_as_the_template_writes_them(tmp_path, files, tiny_policy):
    call = ToolCall(FunctionCall("sort", '{"order": "asc"}'))
    write_jsonl(files[1], [Completion("p0", 1, 0, False, "", "stop", 0, "x", "t", tool_calls=(call,))])
    (found,) = scores(tmp_path, files, ScorerSettings(name="self"), tiny_policy, None)
    policy = load_policy(tiny_policy, PolicySettings())
    (expected,) = reply_logps(policy, [ASKED], [(ChatMessage("assistant", "", tool_calls=(call,)), "stop")], 200)
    assert found.score == (None if expected is None else pytest.approx(expected.per_token, abs=1e-5))


def test_both_replies_are_scored_with_their_thoughts_or_both_without(tmp_path, files, tiny_policy):
    """The same reply in the log and fresh: whatever the mode, neither may look better."""
    said = ChatMessage("assistant", "aa", reasoning="hm")
    write_jsonl(files[0], [PromptItem("p0", "c", 1, ASKED, "train", rejected=said)])
    write_jsonl(files[1], [Completion("p0", 1, 0, False, "aa", "stop", 0, "x", "t", reasoning="hm")])
    totals = []
    for thinking in ("off", "keep"):
        out = tmp_path / f"{thinking}.jsonl"
        policy = PolicySettings(thinking=thinking)
        score_replies(out, ScorerSettings(name="self"), tiny_policy, files, policy, 200, None, seed=0)
        (found,) = read_jsonl(out, Score)
        assert found.score == pytest.approx(found.rejected_score, abs=1e-6)
        totals.append(found.score)
    assert totals[0] != pytest.approx(totals[1], abs=1e-6)  # the thoughts do count where they are kept


def test_without_a_truth_there_is_no_oracle(tmp_path, files):
    with pytest.raises(ConfigError, match="only the sandbox has"):
        scores(tmp_path, files, ScorerSettings(name="oracle"), truth=None)


def test_self_scores_are_the_policys_log_probs_per_token(tmp_path, files, tiny_policy):
    found = scores(tmp_path, files, ScorerSettings(name="self"), tiny_policy, None)
    (expected,) = reply_logps(
        load_policy(tiny_policy, PolicySettings()), [ASKED], [(ChatMessage("assistant", "aa"), "stop")], 200
    )
    assert expected
    assert found[0].score == pytest.approx(expected.total / 3, abs=1e-5)  # two bytes and the end


def test_an_empty_reply_has_no_self_score_and_spoils_no_other(tiny_policy):
    scorer = LikelihoodScorer(load_policy(tiny_policy, PolicySettings()), max_length=200)
    failed, good = ReplyToScore(ASKED, "", "error"), ReplyToScore(ASKED, "aa")
    (alone,) = scorer.score_all([good])
    assert scorer.score_all([failed, good, ReplyToScore(ASKED, "", "length")]) == [
        None,
        pytest.approx(alone, abs=1e-5),
        None,
    ]


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory, byte_tokenizer):
    from transformers import Qwen2Config, Qwen2ForSequenceClassification

    torch.manual_seed(1)
    config = Qwen2Config(
        vocab_size=len(byte_tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, num_labels=1,
        pad_token_id=byte_tokenizer.pad_token_id,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("reward")
    Qwen2ForSequenceClassification(config).save_pretrained(folder)
    byte_tokenizer.save_pretrained(folder)
    return folder


def test_a_reward_model_scores_each_reply_as_if_it_were_alone(reward_model):
    scorer = RewardModelScorer(str(reward_model), "float32", max_length=60)
    replies = [ReplyToScore(ASKED, text) for text in ("a", "bb", "cc", "x" * 60)]
    together = scorer.score_all(replies)
    alone = [scorer.score_all([reply])[0] for reply in replies]
    assert together[3] is None  # it does not fit
    assert together[:3] == pytest.approx(alone[:3], abs=1e-5)
    assert len({round(score, 5) for score in together[:3] if score is not None}) == 3


def test_a_reward_model_without_a_padding_token_reads_one_conversation_at_a_time(reward_model, tmp_path):
    folder = tmp_path / "reward"
    shutil.copytree(reward_model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": None}))
    replies = [ReplyToScore(ASKED, text) for text in ("aa", "bb")]  # of one length: they would be one batch
    expected = RewardModelScorer(str(reward_model), "float32", 60).score_all(replies)
    assert RewardModelScorer(str(folder), "float32", 60).score_all(replies) == pytest.approx(expected, abs=1e-5)


def test_an_empty_folder_is_no_reward_model(tmp_path):
    with pytest.raises(PrerequisiteError, match=r"recipe\.scorer\.model"):
        RewardModelScorer(str(tmp_path), "float32", 60)


def test_p_imp_counts_the_pairs_whose_chosen_is_truly_better(tmp_path):
    texts = (("aa", "a"), ("b", "a"), ("a", "i"), ("aaa", "b"))
    sides = [tuple((ChatMessage("assistant", text),) for text in pair) for pair in texts]
    pairs = [
        PreferencePair(str(n), "p", "c", 1, "drift", 1, "x", ASKED, chosen, rejected)
        for n, (chosen, rejected) in enumerate(sides)
    ]
    write_jsonl(tmp_path / "pairs.jsonl", pairs)
    measure_improvement(tmp_path / "out.json", tmp_path / "pairs.jsonl", TRUTH)
    found = PairImprovement.model_validate_json((tmp_path / "out.json").read_bytes())
    assert (found.better, found.worse, found.equal, found.pairs) == (0.5, 0.25, 0.25, 4)
    assert found.gap == pytest.approx(0.75)


def test_a_reply_is_spent_once_it_has_lost_enough(tmp_path, files, tiny_policy):
    policy = load_policy(tiny_policy, PolicySettings())
    with torch.no_grad():
        for name, weights in policy.model.named_parameters():
            if "norm" in name:
                weights.mul_(1.5)
    changed = tmp_path / "changed"
    policy.model.save_pretrained(changed)
    policy.tokenizer.save_pretrained(changed)
    before, after = (
        reply_logps(load_policy(source, PolicySettings()), [ASKED], [(ChatMessage("assistant", "a"), "stop")], 200)[
            0
        ].total
        for source in (tiny_policy, changed)
    )
    moved = abs(after - before)
    assert not math.isclose(moved, 0.0, abs_tol=1e-3)
    first, second = (changed, tiny_policy) if after < before else (tiny_policy, changed)
    for limit, unlearned in ((moved / 2, 2), (moved * 2, 0)):
        counts = find_unlearned(tmp_path / "unlearned.jsonl", first, second, files[0], limit, PolicySettings(), 200)
        assert counts == {"unlearned": unlearned, "of": 2}
        assert len(list(read_jsonl(tmp_path / "unlearned.jsonl", str))) == unlearned


def test_a_judge_scores_against_the_disliked_reply_in_both_orders(tmp_path, files, serve, said):
    server = serve(lambda path, body, number: said.chat("A"))
    settings = ScorerSettings(name="judge", endpoint=EndpointSettings(base_url=server.url, model="judge", retries=0))
    found = scores(tmp_path, files, settings)
    assert [s.score for s in found[:3]] == [0.5, 0.5, 0.5]  # who is shown first always wins: even over both orders
    assert {s.rejected_score for s in found} == {0.5}
    asked = [body for body in server.chats() if body["messages"][0]["role"] == "system"]
    assert len(asked) == 8 - 4  # "aa" and "b", either way round; the two prompts are the same, and "a" is the disliked


def test_judgements_outlive_an_interrupted_stage(tmp_path, files, serve, said):
    """An answer that was paid for is not paid for again, whatever ended the command."""
    refuses = {"from": 4}  # one question about log-probs, two judgements
    paid = []

    def answer(path, body, number):
        if number >= refuses["from"]:
            return said(b"", 401)
        paid.append(body["messages"])
        return said.chat("A")

    server = serve(answer)
    endpoint = EndpointSettings(base_url=server.url, model="judge", retries=0, max_concurrency=1)
    inputs = (ScorerSettings(name="judge", endpoint=endpoint), "none", files, PolicySettings(), 200, None, 0)
    with RunDir.open(tmp_path / "run", "", 0) as run:
        with pytest.raises(PrerequisiteError, match="401"):
            run.stage("iteration-1/scores.jsonl", score_replies, *inputs)
        refuses["from"] = 100
        run.stage("iteration-1/scores.jsonl", score_replies, *inputs)
    judged = [messages for messages in paid if messages[0]["role"] == "system"]
    assert len(judged) == 4
    assert all(judged.count(messages) == 1 for messages in judged)
    assert len(list(read_jsonl(tmp_path / "run/iteration-1/judgements.jsonl", Judgement))) == 4


def test_the_oracle_is_told_whether_a_reply_was_cut():
    class Finished:
        def score(self, prompt, completion: str, finish="stop") -> float:
            return float(finish == "stop")

    replies = [ReplyToScore(ASKED, "four"), ReplyToScore(ASKED, "four", "length")]
    assert TruthScorer(Finished(), 0.0, 0).score_all(replies) == [1.0, 0.0]
