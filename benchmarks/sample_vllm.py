"""Sample with the vLLM backend on this machine: replies per second, and that each reply has its own token ids.

    python benchmarks/sample_vllm.py --model embedded --prompts 64

It prints one JSON object. Needs vLLM: pip install 'drift-training[vllm]'.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from drift.config import PolicySettings, SamplingSettings
from drift.policy.sampler import sample
from drift.policy.samplers.requests import FreshReplies
from drift.records import ChatMessage, Completion, PromptItem, read_jsonl, write_jsonl


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    items = [
        PromptItem(f"p{n}", f"c{n}", 1, (ChatMessage("user", f"What is {n} plus {n}?"),), "train")
        for n in range(args.prompts)
    ]
    sampling = SamplingSettings(backend="vllm", max_new_tokens=64, max_prompt_length=256)
    with tempfile.TemporaryDirectory() as folder:
        prompts, out = Path(folder, "prompts.jsonl"), Path(folder, "completions.jsonl")
        write_jsonl(prompts, items)
        start = time.perf_counter()
        counts = sample(out, args.model, prompts, sampling, FreshReplies(), PolicySettings(), 1, args.seed)
        seconds = time.perf_counter() - start
        completions = list(read_jsonl(out, Completion))
    with_ids = sum(completion.token_ids is not None for completion in completions)
    print(json.dumps({**counts, "with_token_ids": with_ids, "seconds_with_start": round(seconds, 2)}))


if __name__ == "__main__":
    main()
