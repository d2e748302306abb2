"""Is a checkpoint that was loaded usable, and up to which length?

Each check raises PrerequisiteError of one line that says what to do.
"""

from functools import lru_cache

import torch
from peft import PeftModel
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from drift.errors import PrerequisiteError
from drift.policy.chat import ChatFormat, encode_prompt, end_of_turn
from drift.progress import report_note
from drift.records import ChatMessage, Reason


def check_weights(model: torch.nn.Module, source: str) -> None:
    broken = next((name for name, tensor in model.named_parameters() if not bool(tensor.isfinite().all())), None)
    if broken:
        raise PrerequisiteError(
            f"{source}: {broken} has NaN or infinite values, so the checkpoint is damaged; download it again or set "
            "policy.model to another one."
        )


def check_tokens(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, source: str) -> None:
    """Raises PrerequisiteError if the tokenizer is missing or another model's. For a folder without tokenizer.json,
    transformers makes an empty tokenizer: every text has no tokens, and every reply is empty.

    Tokens that were added after training may have no row: some checkpoints ship ones that nobody uses.
    """
    remedy = "Copy tokenizer.json and tokenizer_config.json of the same model into its folder."
    if not tokenizer.encode("Hello, world", add_special_tokens=False):
        raise PrerequisiteError(f"{source}: its tokenizer knows no words, as where tokenizer.json is missing. {remedy}")
    added = set(tokenizer.get_added_vocab())  # pyright: ignore[reportCallIssue, reportOptionalCall]
    rows = int(model.config.get_text_config().vocab_size)
    last = max(token for word, token in tokenizer.get_vocab().items() if word not in added)
    if last >= rows:
        raise PrerequisiteError(
            f"{source}: its tokenizer has tokens up to {last}, and the model rows for {rows}: it is another model's. "
            f"{remedy}"
        )


def check_template_tokens(model: PreTrainedModel | PeftModel, chat: ChatFormat, source: str) -> None:
    """Raises PrerequisiteError if the chat template writes a token for which the model has no row, as where tokens were
    added to the tokenizer and not to the model."""
    prompt = encode_prompt(chat, [ChatMessage("user", "Hello")], 1_000_000)
    used = {*(() if isinstance(prompt, Reason) else prompt.ids), *filter(None, (end_of_turn(chat),))}
    rows = int(model.config.get_text_config().vocab_size)
    if used and max(used) >= rows:
        token = chat.tokenizer.convert_ids_to_tokens(max(used))
        raise PrerequisiteError(
            f"{source}: its chat template writes {token!r} (token {max(used)}), and the model has rows for {rows}: the "
            "token was added to the tokenizer alone. Use the tokenizer that the model was trained with."
        )


def positions(config: PreTrainedConfig) -> int:
    """The number of positions that are used, in tokens: the length of the longest row. A million if the model's config
    sets no limit.

    Longrope (arXiv 2402.13753) has two sets of frequencies, and the longest row of a batch chooses the one for all of
    its rows. So with longrope no row is longer than its original length. (Dynamic NTK, the other rotary embedding that
    depends on the longest row, does so beyond `max_position_embeddings` only.)
    """
    rope = getattr(config.get_text_config(), "rope_parameters", None) or {}
    kinds = [kind for kind in (rope, *rope.values()) if isinstance(kind, dict)]  # of all layers, or of each type
    original = [kind["original_max_position_embeddings"] for kind in kinds if kind.get("rope_type") == "longrope"]
    return int(min([_declared_positions(config), *original]))


def report_positions(config: PreTrainedConfig) -> None:
    """A note, if fewer positions are used than the config declares."""
    if positions(config) < _declared_positions(config):
        _report_unused(positions(config), _declared_positions(config))


def _declared_positions(config: PreTrainedConfig) -> int:
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or 1_000_000)


@lru_cache(maxsize=32)
def _report_unused(used: int, declared: int) -> None:
    """Once for each such model in each process."""
    report_note(
        f"only the first {used} of the model's {declared} positions are used: a longer row would change the longrope "
        "frequencies of every row in its batch. What does not fit is shortened, cut or dropped, and counted"
    )
