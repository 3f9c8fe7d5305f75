#!/bin/bash
# One run on all GPUs of several machines; call it on each of them. A process that fails ends the run, which torchrun
# then starts again, up to 3 times, from its last whole epoch.
#
#   HEAD=node0 NODES=2 GPUS=8 torchrun.sh runs/large --data data.yaml --model l --batch 256
set -eu
exec torchrun --nnodes "$NODES" --nproc-per-node "$GPUS" --max-restarts 3 \
    --rdzv-backend c10d --rdzv-endpoint "$HEAD:29400" --rdzv-id "$1" \
    --no-python "$(dirname "$0")/train.sh" "$@"
