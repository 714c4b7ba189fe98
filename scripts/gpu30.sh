#!/usr/bin/env bash
# Half an hour of one GPU, in pieces of less than ten minutes on a machine that may be gone after each.
#
#   scripts/gpu30.sh MODEL RUN DATA...
#
# One call is one piece: the first begins the run, each later one goes on with it, on the photographs DATA (other ones
# if you like), until it is finished. It goes on from RUN/checkpoint.pt where that is still there, else from what an
# earlier call left in $OUT and you have carried into $CARRIED: run.json, log.jsonl, restart.safetensors.00, .01, ...
# From those the optimiser begins anew: the learning rate rises again over the recipe's warm-up.
#
#   PYTHON=python3         interpreter; the package is taken from this checkout
#   RECIPE=gpu30           recipe of the first call
#   DEVICE=cuda            cpu to try it
#   COMPILE=--compile      empty: without torch.compile
#   BUDGET_MINUTES=24      of steps, all pieces together; three pieces hold about so much
#   PIECE=8.5m             wall time of a call before it pauses; a minute more goes into validation and files
#   LAST=                  a time, as 6m: the decay begins now and the run ends within it, whatever was planned
#   OUT=                   folder for what has to leave the machine: at most 8 files of 15 MiB
#   CARRIED=RUN            folder with what came in
set -euo pipefail

(($# >= 3)) || {
  echo "usage: scripts/gpu30.sh MODEL RUN DATA..." >&2
  exit 2
}
model=$1 run=$2
shift 2
data=()
for source in "$@"; do data+=(--data "$source"); done

PYTHON=${PYTHON:-python3}
CARRIED=${CARRIED:-$run}
OUT=${OUT:-}
LAST=${LAST:-}
MOST_FILES=8
common=(--device "${DEVICE:-cuda}" --pause-after "${PIECE:-8.5m}" --no-anchors --no-progress "${data[@]}")
[[ ${COMPILE---compile} ]] && common+=(--compile)
PYTHONPATH=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/src${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH

# Put the carried files into RUN, unless there is a checkpoint, which knows more.
take_in() {
  [[ ! -e $run/checkpoint.pt && -e $CARRIED/restart.safetensors.00 ]] || return 0
  mkdir -p "$run"
  cat "$CARRIED"/restart.safetensors.[0-9][0-9] >"$run/restart.safetensors"
  [[ $CARRIED -ef $run ]] || cp "$CARRIED/run.json" "$CARRIED/log.jsonl" "$run/"
}

# Leave in $OUT what the next call, or the person, needs; also after a failure.
leave() {
  [[ $OUT ]] || return 0
  local file name=restart.safetensors
  [[ -e $run/weights.safetensors ]] && name=weights.safetensors
  mkdir -p "$OUT"
  rm -f "$OUT"/restart.safetensors.[0-9][0-9] "$OUT"/weights.safetensors.[0-9][0-9]
  for file in run.json log.jsonl; do
    [[ ! -e $run/$file ]] || cp "$run/$file" "$OUT/"
  done
  [[ ! -e $run/$name ]] || split --bytes=15M --numeric-suffixes --suffix-length=2 "$run/$name" "$OUT/$name."
  local files=("$OUT"/*)
  ((${#files[@]} <= MOST_FILES)) ||
    echo "gpu30: ${#files[@]} files in $OUT, of which $MOST_FILES may be taken along: $model is too large to be carried" >&2
}

# Speed in the last record of the log.
speed() {
  "$PYTHON" - "$run/log.jsonl" <<'END'
import json, sys

with open(sys.argv[1], encoding="utf-8") as log:
    records = [record for record in map(json.loads, log) if record["kind"] == "train"]
if records:
    last = records[-1]
    print(
        f"gpu30: step {last['step']}, {last['done']:.0%} of the budget, {last['steps_per_s']:.2f} steps/s, "
        f"{last['gflop_per_s'] / 1000:.2f} TFLOP/s, {last['roofline_share']:.1%} of this card's matrix product, "
        f"{last['data_share']:.0%} of the time waiting for data"
    )
END
}

take_in
if [[ -e $run/checkpoint.pt || -e $run/restart.safetensors ]]; then
  command=(--resume "$run" ${LAST:+--finish-in "$LAST"})
else
  command=("$model" --recipe "${RECIPE:-gpu30}" --minutes "${BUDGET_MINUTES:-24}" -o "$run")
fi
failed=0
"$PYTHON" -m rdcodec train "${command[@]}" "${common[@]}" || failed=$?
leave
((failed == 0)) || {
  echo "gpu30: rdc train failed with $failed; what there is lies in ${OUT:-$run}" >&2
  exit "$failed"
}
speed
if [[ -e $run/weights.safetensors ]]; then
  echo "gpu30: finished; the weights are $run/weights.safetensors"
  [[ ! $OUT ]] || echo "gpu30: cat $OUT/weights.safetensors.?? > weights.safetensors joins the pieces"
else
  echo "gpu30: not finished; call again: scripts/gpu30.sh $model $run DATA..."
  [[ ! $OUT ]] || echo "gpu30: on another machine, carry the files of $OUT there, with CARRIED naming their folder"
fi
