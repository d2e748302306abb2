"""The room's stages: files and store in, one file out, with counts of what was made and what was dropped, by reason."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from drift.config import LabelSettings, RecipeSettings, SamplingSettings
from drift.pairs.disliked import prompt_items
from drift.pairs.recipes import RECIPES
from drift.pairs.repairs import repair_pairs
from drift.records import Completion, Counts, PromptItem, read_jsonl, write_kept
from drift.store import Store


@dataclass(frozen=True, slots=True)
class PairsSummary:
    prompts: str
    prompt_counts: Counts
    repairs: str
    repair_counts: Counts


def find_prompts(out: Path, store: Store, settings: LabelSettings, part: Literal["train", "heldout", "all"]) -> Counts:
    """Write the PromptItems of the training split, of the three others, or of all."""
    splits = {"train": {"train"}, "heldout": {"stop", "validation", "test"}}.get(part)
    labelled = ((c, labels) for c, labels in store.labelled() if splits is None or c.split in splits)
    return write_kept(out, prompt_items(labelled, settings.min_p_dsat))


def find_repairs(out: Path, prompts: Path) -> Counts:
    """Write the DSAT -> SAT repairs among the items as pairs."""
    return write_kept(out, repair_pairs(read_jsonl(prompts, PromptItem)))


def build_pairs(
    out: Path, prompts: Path, completions: Path, recipe: RecipeSettings, sampling: SamplingSettings
) -> Counts:
    """Write the recipe's pairs out of the prompts and the policy's completions."""
    rows = RECIPES[recipe.name].pairs(
        read_jsonl(prompts, PromptItem), read_jsonl(completions, Completion), sampling.drop_truncated
    )
    return write_kept(out, rows)


def write_pairs(store: Store, out: Path, min_p_dsat: float) -> PairsSummary:
    """PromptItems of all splits to `out`, repair pairs beside it; for looking at, and for other trainers.

    Raises DataError if the store is empty.
    """
    store.require_conversations()
    settings = LabelSettings(min_p_dsat=min_p_dsat)
    beside = out.with_suffix(".repairs.jsonl")
    return PairsSummary(str(out), find_prompts(out, store, settings, "all"), str(beside), find_repairs(beside, out))
