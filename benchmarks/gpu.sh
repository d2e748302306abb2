#!/usr/bin/env bash
# What needs a CUDA GPU, in one command and under 8 minutes on one GPU (11 with MODEL):
#
#     OUT=/tmp/gpu bash benchmarks/gpu.sh
#
# Each part writes $OUT/NAME.txt (stdout, then stderr) and one line `NAME exit CODE SECONDS` to $OUT/summary.txt
# (default of OUT: benchmarks/results/gpu). A part that fails or takes too long does not stop the others. Without a GPU
# the same parts run with tiny shapes: that tests this script and gives no figures.
# MODEL: a chat model for `drift bench iteration` (default: none, and the part is skipped).
# PYTHON: the interpreter (default: .venv/bin/python, else python).
set -u
cd "$(dirname "$0")/.."
OUT="${OUT:-benchmarks/results/gpu}"
PYTHON="${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python)}"
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}"
mkdir -p "$OUT"
: > "$OUT/summary.txt"

part() { # part NAME SECONDS COMMAND...: at most SECONDS; exit code 124: it took longer
    local name="$1" limit="$2" begun=$SECONDS code=0
    shift 2
    timeout -k 10 "$limit" "$@" > "$OUT/$name.txt" 2> "$OUT/$name.stderr" || code=$?
    cat "$OUT/$name.stderr" >> "$OUT/$name.txt"
    rm -f "$OUT/$name.stderr"
    echo "$name exit $code $((SECONDS - begun)) s" | tee -a "$OUT/summary.txt"
}

if "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    shape=(--shape 7b --steps 5)
    nvidia-smi > "$OUT/machine.txt" 2>&1
else
    shape=(--shape tiny --steps 2)
    echo "no CUDA GPU: tiny shapes, no figures" > "$OUT/machine.txt"
fi
# LoRA with gradient checkpointing fits 80 GB; full training at 7B shapes needs about 140 GB
conditions=(--lora --gradient-checkpointing)

# only the files that have such tests: collecting the others takes time
part tests 120 "$PYTHON" -m pytest -q -m gpu -rs $(grep -rlE "mark\.gpu" tests --include='test_*.py')
part train_ours 110 "$PYTHON" benchmarks/train_gpu.py ours "${shape[@]}" "${conditions[@]}"
part train_trl 110 "$PYTHON" benchmarks/train_gpu.py trl "${shape[@]}" "${conditions[@]}"
# a whole iteration on a real model, if one is named: a folder, or a GGUF file
if [ -n "${MODEL:-}" ]; then
    part iteration 170 "$PYTHON" -m drift bench iteration --model "$MODEL" --json
else
    echo "iteration skipped: set MODEL to a model's folder" | tee -a "$OUT/summary.txt"
fi
if "$PYTHON" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("vllm") is None)'; then
    part sample_vllm 120 "$PYTHON" benchmarks/sample_vllm.py
else
    echo "sample_vllm skipped: vllm is not installed (pip install 'drift-training[vllm]')" | tee -a "$OUT/summary.txt"
fi
exit 0
