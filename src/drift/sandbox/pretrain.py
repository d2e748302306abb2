"""Make the embedded base policies that ship with the package: `python -m drift.sandbox.pretrain --seed 1 --out DIR`.

`--world long` makes the one of the second world.
A Qwen2 of about half a million parameters and a byte-level BPE tokenizer, so that any text can pass through it.
"""

import argparse
import math
import random
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from drift.sandbox.corpus import Line, dialogues
from drift.sandbox.long.corpus import list_dialogues

VOCABULARY = 1536
ROLES = ("system", "user", "assistant", "tool")
PAD, END = 0, 1
SPECIAL = ["<|pad|>", "<|end|>", *(f"<|{role}|>" for role in ROLES)]
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


Corpus = Callable[[random.Random], Iterator[list[Line]]]
CORPORA: dict[str, Corpus] = {"first": dialogues, "long": list_dialogues}


def make_tokenizer(corpus: Corpus) -> PreTrainedTokenizerFast:
    """Byte-level BPE trained on the corpus; every digit is a token of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (line.text for lines in islice(corpus(random.Random("tokenizer")), 20_000) for line in lines)
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>", chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False, model_max_length=8192,
    )  # fmt: skip


def make_model(tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=96, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=8192, tie_word_embeddings=True,
        pad_token_id=PAD, eos_token_id=END, bos_token_id=None,
    )  # fmt: skip
    return Qwen2ForCausalLM(config)


def encode(tokenizer: PreTrainedTokenizerFast, lines: list[Line]) -> tuple[list[int], list[bool]]:
    """Token ids of a dialogue, and for each whether the model is trained to predict it."""
    ids: list[int] = []
    targets: list[bool] = []
    for line in lines:
        body = [*tokenizer.encode(line.text, add_special_tokens=False), END]
        ids += [tokenizer.convert_tokens_to_ids(f"<|{line.role}|>"), *body]
        targets += [False, *([line.is_target] * len(body))]
    return ids, targets


def batches(
    tokenizer: PreTrainedTokenizerFast, corpus: Corpus, seed: int, size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Ids and labels, both int64 [size, length], of dialogues of similar length; the label -100 is not predicted."""
    source = corpus(random.Random(f"pretraining {seed}"))
    shuffle = random.Random(seed)
    while True:
        pool = sorted((encode(tokenizer, next(source)) for _ in range(size * 50)), key=lambda row: len(row[0]))
        groups = [pool[i : i + size] for i in range(0, len(pool), size)]
        shuffle.shuffle(groups)
        for group in groups:
            width = max(len(ids) for ids, _ in group)
            ids = torch.full((size, width), PAD)
            labels = torch.full((size, width), -100)
            for row, (tokens, targets) in enumerate(group):
                ids[row, : len(tokens)] = torch.tensor(tokens)
                labels[row, : len(tokens)] = torch.tensor(
                    [t if on else -100 for t, on in zip(tokens, targets, strict=True)]
                )
            yield ids, labels


def loss_of(model: Qwen2ForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats; the head computes only positions that predict a target."""
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
    wanted = labels[:, 1:]
    return cross_entropy(model.lm_head(hidden[wanted != -100]), wanted[wanted != -100])


def make_optimizers(model: Qwen2ForCausalLM, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, which then learn in far fewer steps; AdamW for embeddings, norms and biases."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def pretrain(
    corpus: Corpus,
    seed: int,
    steps: int,
    batch_size: int,
    learning_rate: float,
    out: Path,
    say: Callable[[str], object],
) -> None:
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(corpus)
    model = make_model(tokenizer)
    model.model.forward = torch.compile(model.model.forward, dynamic=True)  # 1.6 times faster at this size
    optimizers = make_optimizers(model, learning_rate)
    start, recent = time.perf_counter(), 0.0
    for step, (ids, labels) in enumerate(islice(batches(tokenizer, corpus, seed, batch_size), steps), 1):
        scale = min(step / 200, 0.5 * (1 + math.cos(math.pi * step / steps)) + 0.01)
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = learning_rate * scale
        loss = loss_of(model, ids, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        recent = loss.item() if step == 1 else 0.98 * recent + 0.02 * loss.item()
        if step % 250 == 0:
            say(f"seed {seed} step {step} loss {recent:.3f} {time.perf_counter() - start:.0f} s\n")
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", choices=CORPORA, default="first")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    args = parser.parse_args()
    corpus = CORPORA[args.world]
    pretrain(corpus, args.seed, args.steps, args.batch_size, args.learning_rate, args.out, sys.stderr.write)


if __name__ == "__main__":
    main()
