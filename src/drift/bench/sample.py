"""`drift bench sample`: the built-in sampler against `model.generate`, same prompts and weights, in one process.

The model is random, so its replies would never end. The hidden state's first coordinate is therefore nearly constant,
and the end token reads only that coordinate, which gives it a small probability at every step. The other logits are as
peaked as those of a trained model at temperature 0.7, so that the nucleus is small.
"""

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from drift.config import SamplingSettings
from drift.policy.chat import ChatFormat
from drift.policy.decode import decode_batch, plan_batches
from drift.policy.model import Policy, identified
from drift.progress import report_progress

VOCABULARY = 16_384
HIDDEN = 512
PAD, END = 0, 1
PROMPT_TOKENS = (150, 250)
"""A quarter of the 600 to 1,000 tokens of real chats."""
ARRIVAL_BATCH = 16
SAMPLING = SamplingSettings(max_new_tokens=256, batch_tokens=48 * (PROMPT_TOKENS[1] + 256))
FIRST_COORDINATE = 4.0
"""Of the hidden state before the final norm; the other coordinates are about 1."""
END_WEIGHT = 2.8
LOGIT_SPREAD = 3.5
TEMPLATE = (
    "{% for message in messages %}{{ message.content }}<end>{% endfor %}{% if add_generation_prompt %}{% endif %}"
)

TokenRows = list[tuple[int, ...]]
TimedSampler = Callable[[Policy, TokenRows, int], int]


@dataclass(frozen=True, slots=True)
class SampleBench:
    """Medians over rounds; spreads are minimum and maximum. Rates: reply tokens per second of process CPU time.

    `ratio`: our rate / that of `generate` with batches of 16 in arrival order. `ratio_same_batch`: with our batches.
    """

    ratio: float
    ratio_same_batch: float
    ratio_spread: tuple[float, float]
    ratio_same_batch_spread: tuple[float, float]
    tokens_per_cpu_second: dict[str, float]
    reply_tokens: float
    prompts: int
    rounds: int
    shape: str


def bench_sample(prompts: int, rounds: int, seed: int) -> SampleBench:
    """Each round samples new prompts with all three samplers, one after the other, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        policy = random_policy(seed)
        rates: dict[str, list[float]] = {name: [] for name in SAMPLERS}
        lengths: list[float] = []
        for number in range(rounds):
            rows = _prompts(prompts, seed + number)
            for name, sampler in SAMPLERS.items():
                begun = time.process_time()
                tokens = sampler(policy, rows, seed + number)
                rates[name].append(tokens / (time.process_time() - begun))
                lengths.append(tokens / prompts)
                report_progress(len(lengths), rounds * len(SAMPLERS), int(sum(lengths) * prompts))
    finally:
        torch.set_num_threads(threads)
    arrival, same = (
        [ours / theirs for ours, theirs in zip(rates["drift"], rates[rival], strict=True)]
        for rival in ("generate_arrival_16", "generate_same_batches")
    )
    return SampleBench(
        ratio=round(statistics.median(arrival), 3),
        ratio_same_batch=round(statistics.median(same), 3),
        ratio_spread=(round(min(arrival), 3), round(max(arrival), 3)),
        ratio_same_batch_spread=(round(min(same), 3), round(max(same), 3)),
        tokens_per_cpu_second={name: round(statistics.median(by_round), 1) for name, by_round in rates.items()},
        reply_tokens=round(statistics.mean(lengths), 1),
        prompts=prompts,
        rounds=rounds,
        shape=f"Qwen2 hidden {HIDDEN}, 8 layers, vocabulary {VOCABULARY}, bfloat16, prompts of {PROMPT_TOKENS} tokens",
    )


def random_policy(seed: int) -> Policy:
    """Random weights; see the module's docstring for why their replies end."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=1408,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        pad_token_id=PAD,
        eos_token_id=END,
        bos_token_id=None,
    )
    model = Qwen2ForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.normal_()
        model.model.embed_tokens.weight[:, 0] = FIRST_COORDINATE
        model.lm_head.weight.normal_(std=LOGIT_SPREAD / HIDDEN**0.5)
        model.lm_head.weight[END] = 0.0
        model.lm_head.weight[END, 0] = END_WEIGHT
    return identified(model.to(torch.bfloat16).eval(), ChatFormat(_tokenizer()))  # pyright: ignore[reportArgumentType]


def _tokenizer() -> PreTrainedTokenizerFast:
    words = {"<pad>": PAD, "<end>": END} | {f"w{n}": n for n in range(2, VOCABULARY)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w2")),
        pad_token="<pad>",
        eos_token="<end>",
        chat_template=TEMPLATE,
    )


def _prompts(count: int, seed: int) -> TokenRows:
    """In arrival order, independent of their lengths."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(*PROMPT_TOKENS, (count,), generator=draw).tolist()
    return [tuple(torch.randint(2, VOCABULARY, (length,), generator=draw).tolist()) for length in lengths]


def _ours(policy: Policy, prompts: TokenRows, seed: int) -> int:
    replies = [
        reply
        for rows in _plan(prompts)
        for reply in decode_batch(policy, [prompts[row] for row in rows], [f"{seed}/{row}" for row in rows], SAMPLING)
    ]
    return sum(len(reply.token_ids or ()) for reply in replies)


def _generate_arrival(policy: Policy, prompts: TokenRows, seed: int) -> int:
    return _generate(policy, arrival_batches(prompts), seed)


def _generate_same_batches(policy: Policy, prompts: TokenRows, seed: int) -> int:
    return _generate(policy, [[prompts[row] for row in rows] for rows in _plan(prompts)], seed)


SAMPLERS: dict[str, TimedSampler] = {
    "generate_arrival_16": _generate_arrival,
    "drift": _ours,
    "generate_same_batches": _generate_same_batches,
}


def _plan(prompts: TokenRows) -> list[list[int]]:
    return plan_batches([len(prompt) for prompt in prompts], [str(row) for row in range(len(prompts))], SAMPLING)


def _generate(policy: Policy, batches: Iterable[TokenRows], seed: int) -> int:
    return sum(map(len, generate_replies(policy, batches, SAMPLING, seed)))


def generate_replies(policy: Policy, batches: Iterable[TokenRows], sampling: SamplingSettings, seed: int) -> TokenRows:
    """The replies of transformers' own loop with these settings, as token ids up to the end token, in order."""
    torch.manual_seed(seed)
    ends = policy.stop_ids
    declared = policy.tokenizer.pad_token_id
    pad = declared if isinstance(declared, int) else min(ends)
    replies: TokenRows = []
    for batch in batches:
        width = max(map(len, batch))
        ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in batch])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in batch])
        with torch.inference_mode():
            output = policy.model.generate(  # pyright: ignore[reportCallIssue]
                input_ids=ids.to(policy.device),
                attention_mask=mask.to(policy.device),
                do_sample=True,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=0,
                repetition_penalty=1.0,  # a checkpoint may declare another one
                eos_token_id=sorted(ends),
                pad_token_id=pad,
                max_new_tokens=sampling.max_new_tokens,
            )
        for row in output[:, width:].tolist():
            end = next((place for place, token in enumerate(row) if token in ends), len(row) - 1)
            replies.append(tuple(row[: end + 1]))
    return replies


def arrival_batches(prompts: TokenRows) -> list[TokenRows]:
    """Batches of ARRIVAL_BATCH in the order of arrival, as the authors' scripts sample."""
    return [prompts[start : start + ARRIVAL_BATCH] for start in range(0, len(prompts), ARRIVAL_BATCH)]
