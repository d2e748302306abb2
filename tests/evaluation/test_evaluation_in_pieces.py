"""Evaluation and scoring by several workers, each with the policy: the files that one process writes, byte for byte."""

import multiprocessing
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForSequenceClassification

from drift.config import EvaluationSettings, PolicySettings, SamplingSettings, ScorerSettings
from drift.engine import Engine, Local, Processes, using_engine
from drift.engine.engine import answer
from drift.errors import PrerequisiteError
from drift.evaluation.evaluate import evaluate
from drift.evaluation.results import Asker, Evaluation, read_evaluation
from drift.evaluation.unlearned import find_unlearned
from drift.policy import spread
from drift.policy.logps import reply_logps
from drift.policy.model import cpu_threads
from drift.progress import listening
from drift.records import (
    ChatMessage,
    Completion,
    Counts,
    Finish,
    PreferencePair,
    PromptItem,
    Split,
    Truth,
    read_jsonl,
    write_jsonl,
)
from drift.scoring import reward_model, score_replies
from engine.pieces import TwoModels

SAMPLING = SamplingSettings(max_new_tokens=6, max_prompt_length=200, batch_tokens=120)
SETTINGS = EvaluationSettings(temperatures=(1.0, 0.0), samples=2, max_prompts=4, max_length=300)


class Vowels:
    def score(self, prompt: object, completion: str, finish: str = "stop") -> float:
        return float(any(vowel in completion for vowel in "aeiou"))


def asked(n: int) -> tuple[ChatMessage, ...]:
    return (ChatMessage("user", f"question {n} " + "why " * n),)


def replied(text: str) -> tuple[ChatMessage, ...]:
    return (ChatMessage("assistant", text),)


TRUTH = Truth(tuple(asked(n) for n in range(4)), Vowels(), "vowels")


@pytest.fixture
def held_out(tmp_path: Path) -> tuple[Path, Path]:
    """Four held-out pairs of each split, and three liked replies."""
    splits: list[Split] = ["test", "stop"]
    pairs = [
        PreferencePair(
            f"{split}{n}", f"{split}{n}", "c", 1, "drift", 0, "x", asked(n), replied("five"), replied("six " * n + "."),
            split=split,
        )
        for split in splits
        for n in range(4)
    ]  # fmt: skip
    liked = [
        PreferencePair(f"l{n}", f"l{n}", "c", 1, "liked", 0, "logs", asked(n), replied("yes " * (n + 1)), ())
        for n in range(3)
    ]
    write_jsonl(tmp_path / "pairs.jsonl", pairs)
    write_jsonl(tmp_path / "liked.jsonl", liked)
    return tmp_path / "pairs.jsonl", tmp_path / "liked.jsonl"


Evaluate = Callable[..., tuple[Counts, bytes]]


@pytest.fixture
def evaluated(tiny_policy: Path, held_out: tuple[Path, Path], tmp_path: Path) -> Evaluate:
    """`evaluated(name, engine, truth)`: the counts and the file of the stage."""

    def run(name: str, engine: Engine, truth: Truth | None = None) -> tuple[Counts, bytes]:
        out = tmp_path / name / "evaluation.json"
        out.parent.mkdir(exist_ok=True)
        with using_engine(engine):
            counts = evaluate(out, tiny_policy, held_out, SETTINGS, SAMPLING, PolicySettings(), truth, 7)
        return counts, out.read_bytes()

    return run


@pytest.fixture(autouse=True)
def nothing_is_loaded() -> None:
    spread._load.cache_clear()
    reward_model._loaded.cache_clear()


@pytest.mark.parametrize("truth", [None, TRUTH])
def test_an_evaluation_in_pieces_has_the_same_bytes(evaluated: Evaluate, truth: Truth | None):
    engine = TwoModels()
    assert evaluated("two", engine, truth) == evaluated("one", Local(), truth)
    assert "batch 0 of log-probs" in engine.done
    assert "batch 1 of the replies" in engine.done


def test_an_evaluation_says_whose_its_prompts_are(evaluated: Evaluate):
    found = Evaluation.model_validate_json(evaluated("one", Local())[1])
    assert found.askers == {name: Asker(user="c", chat="c") for name in found.askers}
    assert sorted(found.askers) == ["l0", "l1", "l2", *(f"{split}{n}" for split in ("stop", "test") for n in range(4))]
    assert found.replies is not None
    assert {each.asker for each in found.replies.each} == {Asker(user="c", chat="c")}


def test_replies_of_an_interrupted_evaluation_are_not_made_again_by_another_engine(evaluated: Evaluate):
    expected = evaluated("one", Local(), TRUTH)
    first, second = TwoModels(limit=7), TwoModels()
    with pytest.raises(KeyboardInterrupt):
        evaluated("stopped", first, TRUTH)
    made = [name for name in first.done if "replies" in name]
    assert evaluated("stopped", second, TRUTH) == expected
    everything = TwoModels()
    evaluated("two", everything, TRUTH)
    assert len(made) > 1
    assert len(second.done) == len(everything.done) - len(made)


class Counted(TwoModels):
    """`blocks`: how often workers with a model were started."""

    blocks = 0

    def for_models(self, threads: int | None, gpus: int, only: Sequence[int] = ()) -> AbstractContextManager[Engine]:
        self.blocks += 1
        return super().for_models(threads, gpus, only)


def test_what_is_unlearned_by_two_policies_in_turn(tiny_policy: Path, tmp_path: Path):
    torch.manual_seed(2)
    changed = tmp_path / "changed"
    policy = spread.load_policy(tiny_policy, PolicySettings())
    for weights in policy.model.parameters():
        weights.data += 0.02 * torch.randn_like(weights)
    policy.model.save_pretrained(str(changed))
    policy.tokenizer.save_pretrained(changed)
    disliked = [ChatMessage("assistant", "no " * (n + 1)) for n in range(6)]
    rows = (PromptItem(f"p{n}", f"c{n}", 1, asked(n), "train", rejected=each) for n, each in enumerate(disliked))
    write_jsonl(tmp_path / "prompts.jsonl", rows)
    given: list[tuple[ChatMessage, Finish]] = [(each, "stop") for each in disliked]
    before, now = (
        reply_logps(spread.load_policy(source, PolicySettings()), [asked(n) for n in range(6)], given, 300)
        for source in (tiny_policy, changed)
    )
    falls = [old.total - new.total for old, new in zip(before, now, strict=True) if old and new]
    limit = sorted(falls)[3]
    expected = [f"p{n}" for n, fall in enumerate(falls) if fall > limit]
    assert len(expected) == 2
    out = tmp_path / "unlearned.jsonl"
    for engine in (Local(), counted := Counted()):
        with using_engine(engine):
            find_unlearned(out, changed, tiny_policy, tmp_path / "prompts.jsonl", limit, PolicySettings(), 300)
        assert list(read_jsonl(out, str)) == expected
    assert counted.blocks == 2  # no worker holds both policies


@pytest.fixture(scope="module")
def reward(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: Any) -> Path:
    torch.manual_seed(1)
    config = Qwen2Config(
        vocab_size=len(byte_tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
        num_labels=1,  # pyright: ignore[reportCallIssue]
        pad_token_id=byte_tokenizer.pad_token_id,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("reward")
    Qwen2ForSequenceClassification(config).save_pretrained(folder)
    byte_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def scored(tiny_policy: Path, reward: Path, tmp_path: Path) -> Callable[..., tuple[Counts, bytes]]:
    """`scored(scorer, engine)`: the counts and the file of the stage."""
    no = ChatMessage("user", "No, that is wrong.")
    items = [
        PromptItem(f"p{n}", f"c{n}", 1, asked(n), "train", rejected=ChatMessage("assistant", "bad"), complaint=no)
        for n in range(5)
    ]
    fresh = (
        Completion(f"p{n}", 1, k, False, "good " * (n + k), "stop", 0, "x", "t") for n in range(5) for k in range(2)
    )
    prompts, completions = tmp_path / "prompts.jsonl", tmp_path / "completions.jsonl"
    write_jsonl(prompts, items)
    write_jsonl(completions, fresh)

    def run(name: Any, engine: Engine) -> tuple[Counts, bytes]:
        settings = ScorerSettings(name=name, model=str(reward) if name == "reward_model" else None)
        out, trained = tmp_path / "scores.jsonl", reward if name == "feedback" else None
        files = prompts, completions
        with using_engine(engine):
            counts = score_replies(out, settings, tiny_policy, files, PolicySettings(), 300, None, 0, trained)
        return counts, out.read_bytes()

    return run


@pytest.mark.parametrize("name", ["self", "hindsight", "reward_model", "feedback"])
def test_scores_in_pieces_have_the_same_bytes(scored: Callable[..., Any], name: str):
    expected = scored(name, Local())
    assert expected[0]["scored"] >= 9  # an empty reply may have no score
    engine = TwoModels()
    assert scored(name, engine) == expected
    assert engine.done


def test_a_worker_with_another_reward_of_this_name(
    scored: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, reward: Path
):
    ids = iter(["here", "there"])
    monkeypatch.setattr(reward_model, "weights_id", lambda model: next(ids))
    with pytest.raises(PrerequisiteError, match=r"a worker loaded other weights \(there\) than the run has \(here\)"):
        scored("reward_model", TwoModels())


def test_a_worker_without_the_reward_says_so_in_one_line(tmp_path: Path):
    missing = reward_model.SpreadReward(str(tmp_path / "gone"), "float32", "id", 1)
    found = answer(partial(reward_model._rewards_in_worker, missing), reward_model.RewardPiece("batch 0", [[1]]))
    assert isinstance(found.error, PrerequisiteError)
    assert str(found.error).startswith(f"{tmp_path}/gone: cannot be loaded as a reward model (")


@pytest.mark.slow  # worker processes load torch
def test_workers_that_are_killed_change_nothing_and_end_with_the_stage(evaluated: Evaluate, scored: Callable[..., Any]):
    killed: list[int | None] = []

    def kill_once(*_: int) -> None:
        children = multiprocessing.active_children()
        if children and len(killed) < 2:
            killed.extend(child.pid for child in children)
            for child in children:
                child.kill()

    with cpu_threads(1), closing(Processes(2)) as engine:
        expected = evaluated("one", Local(), TRUTH)
        with listening(kill_once):
            assert evaluated("two", engine, TRUTH) == expected
        assert len(killed) >= 2
        assert not multiprocessing.active_children()
        assert scored("reward_model", engine) == scored("reward_model", Local())
        assert not multiprocessing.active_children()


@pytest.mark.parametrize(("temperatures", "measured"), [((0.0,), True), ((0.7,), False), ((0.7, 0.0), True)])
def test_answers_that_were_right_by_luck_are_not_doubted(tiny_policy, held_out, tmp_path, temperatures, measured):
    settings, out = SETTINGS.model_copy(update={"temperatures": temperatures}), tmp_path / "evaluation.json"
    counts = evaluate(out, tiny_policy, held_out, settings, SAMPLING, PolicySettings(), TRUTH, 7)
    assert (read_evaluation(out).sycophancy is not None) == measured
    assert ("given_up" in counts) <= measured
