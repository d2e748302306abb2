"""A small comparison, for tests of `drift compare`."""

from drift.experiments.compare.settings import CompareSettings

SMALL = {
    "seeds": [1],
    "bases": ["embedded"],
    "workers": 1,
    "rates": [1e-4, 2e-4],
    "shared": {
        "deployment": {"turns": 1500},
        "iterations": 1,
        "sampling": {"max_new_tokens": 32, "max_prompt_length": 512},
        "warm_start": {"epochs": 1, "optimizer": "adamw_torch"},
        "training": {"learning_rate": 1e-4, "optimizer": "adamw_torch", "batch_size": 8},
        "recipe": {"pairs": 16},
        "evaluation": {"temperatures": [1.0, 0.0], "max_prompts": 20},
    },
    "arms": {
        "drift": {},
        "spin": {"recipe": {"name": "spin"}},
        "kto": {"recipe": {"name": "unpaired"}, "training": {"loss": "kto"}},
        "best_of_two": {
            "sampling": {"temperature": 1.0, "top_p": 1.0},  # two guided replies at 0.7 are the same for all 28 prompts
            "recipe": {"name": "iter_dpo", "guided_share": 0.5, "samples": 2, "scorer": {"name": "oracle"}},
        },
    },
    "differences": [["drift", "spin"]],
}


def settings(**changes) -> CompareSettings:
    return CompareSettings.model_validate({"name": "test", **SMALL, **changes})
