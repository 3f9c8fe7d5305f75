#!/bin/bash
# Start a run, or go on with it: a launcher that starts a job again calls this again.
#
#   train.sh RUN [options of yolo12edge train]
set -eu
run=$1
shift
if [ -f "$run/state.ckpt" ]; then
    exec yolo12edge train --resume "$run"
fi
exec yolo12edge train --out "$run" "$@"
