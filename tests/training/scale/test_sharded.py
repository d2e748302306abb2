"""What is cut by itself: every layer. (That two processes train what one trains is in test_launch.)"""

from drift.config import PolicySettings
from drift.policy.model import load_policy
from drift.training.scale.sharded import layers


def test_each_layer_is_cut_by_itself_under_an_adapter_too(tiny_policy):
    from peft import LoraConfig, get_peft_model

    model = load_policy(tiny_policy, PolicySettings()).model
    assert layers(model) == list(model.get_submodule("model.layers"))
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert layers(adapted) == list(model.get_submodule("model.layers"))
