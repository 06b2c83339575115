# Shared by slurm_test.sh and kubernetes_test.sh, which are called with <program> <config> <folder> <mpirun...>:
# prepares data and a run of it in the folder, and starts jobs in the background, whose output goes to <name>.log.
set -uo pipefail
program=$1 config=$2 work=$3 mpirun=${!#}
# Jobs start the program directly, because a wrapper that sets the environment would not pass signals on.
for word in "${@:4}"; do
  if [[ $word == *=* ]]; then export "${word?}"; fi
done
launch=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)/launch
fail() { { echo "FAILED: $*"; tail -n 20 "$work"/*.log; } >&2; exit 1; }

rm -rf "$work"
mkdir -p "$work/bin" "$work/text"
printf '#!/bin/sh\nexec %s "$@"\n' "$mpirun" > "$work/bin/mpirun"
chmod +x "$work/bin/mpirun"
PATH="$work/bin:$PATH"
export ANGEL_PTM=$program
awk 'BEGIN {
  split("jobs that are warned before their time is over save and go on when they are queued again", word, " ")
  x = 1
  for (i = 0; i < 20000; i++) { x = (x * 48271) % 2147483647; printf "%s%s", word[x % 17 + 1], x % 11 ? " " : ".\n\n" }
}' > "$work/text/prose.txt"
of_run=("$config" --set "data.directory=$work/data" --set model.hunyuan_lm.vocab_size=300 --set evaluation.every_steps=0
        --set checkpoint.every_steps=0 --set output.log_every_steps=1)
"$program" prepare "${of_run[@]}" --set "data.prepare.input=$work/text" --set data.prepare.vocabulary_size=300 \
  > "$work/prepare.log" 2>&1 || fail "prepare"
of_run+=(--set "output.directory=$work/run")

# trains <name> [step]: waits until the job is at step 3, or at <step>.
trains() {
  for ((i = 0; i < 600; i++)); do
    grep -q "^step ${2:-3}/" "$work/$1.log" 2> /dev/null && break
    sleep 0.1
  done
}
# signalled <signal> <name>: sends the signal to the job once it trains.
signalled() { trains "$2"; kill "-$1" $!; }
ends() { wait $!; local status=$?; [[ $status -eq $1 ]] || fail "$2 ended with $status, wanted $1"; }
# saved_by <name>: prints the step at which the job stopped and saved.
saved_by() {
  local step
  step=$(sed -n 's/^stopped at step \([0-9]*\) as asked.*/\1/p' "$work/$1.log")
  [[ -n $step && -d $work/run/checkpoints/step-$(printf %08d "$step") ]] && echo "$step"
}
goes_on_at() { grep -q "^step $2/" "$work/$1.log" || fail "the job $1 does not go on at step $2"; }
