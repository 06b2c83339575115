#!/bin/bash
# slurm_test.sh <program> <config> <folder> <mpirun...>: launch/slurm/train.sbatch as Slurm runs it, with a stand-in for
# scontrol: warned, it lets the ranks save and asks to be queued again; that job goes on where the first one stopped and,
# done, ends for good; cancelled, it saves and is not queued again; a run that fails is not, either.
set -uo pipefail
program=$1 config=$2 work=$3 mpirun=${!#}
# The program alone: whatever starts it with another environment would not pass signals on.
for word in "${@:4}"; do
  if [[ $word == *=* ]]; then export "${word?}"; fi
done
script=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)/launch/slurm/train.sbatch
fail() { { echo "FAILED: $*"; tail -n 20 "$work"/*.log; } >&2; exit 1; }

rm -rf "$work"
mkdir -p "$work/bin" "$work/text"
printf '#!/bin/sh\necho "$@" >> "%s/scontrol.calls"\n' "$work" > "$work/bin/scontrol"
printf '#!/bin/sh\nexec %s "$@"\n' "$mpirun" > "$work/bin/mpirun"
chmod +x "$work/bin/"*
awk 'BEGIN {
  split("jobs that are warned before their time is over save and go on when they are queued again", word, " ")
  x = 1
  for (i = 0; i < 20000; i++) { x = (x * 48271) % 2147483647; printf "%s%s", word[x % 17 + 1], x % 11 ? " " : ".\n\n" }
}' > "$work/text/prose.txt"
of_run=("$config" --set "data.directory=$work/data" --set model.hunyuan_lm.vocab_size=300 --set evaluation.every_steps=0
        --set checkpoint.every_steps=0 --set output.log_every_steps=1)
"$program" prepare "${of_run[@]}" --set "data.prepare.input=$work/text" --set data.prepare.vocabulary_size=300 \
  > "$work/prepare.log" 2>&1 || fail "prepare"

# job <name> <settings...>: the script in the background, as job 7 of two tasks; its output goes to <name>.log.
job() {
  local name=$1
  shift
  rm -f "$work/scontrol.calls"
  PATH="$work/bin:$PATH" ANGEL_PTM=$program MPIRUN_FLAGS=--oversubscribe SLURM_NTASKS=2 SLURM_JOB_ID=7 \
    "$script" "${of_run[@]}" --set "output.directory=$work/run" "$@" > "$work/$name.log" 2>&1 &
}
# signalled <signal> <name>: sends it to the job when it trains.
signalled() {
  for ((i = 0; i < 600; i++)); do
    grep -q '^step 3/' "$work/$2.log" && break
    sleep 0.1
  done
  kill "-$1" $!
}
ends() { wait $!; local status=$?; [[ $status -eq $1 ]] || fail "$2 ended with $status, wanted $1"; }
calls() { cat "$work/scontrol.calls" 2> /dev/null; }

job warned --set steps=1000000
signalled USR1 warned
ends 0 warned
[[ $(calls) == "requeue 7" ]] || fail "the warned job is not queued again: $(calls)"
stopped=$(sed -n 's/^stopped at step \([0-9]*\) as asked.*/\1/p' "$work/warned.log")
[[ -n $stopped && -d $work/run/checkpoints/step-$(printf %08d "$stopped") ]] || fail "the warned job has not saved"

job again --set steps=$((stopped + 2))
ends 0 again
grep -q "^step $stopped/" "$work/again.log" || fail "the second job does not go on at step $stopped"
[[ -z $(calls) ]] || fail "a job that is done is queued again: $(calls)"

rm -rf "$work/run"
job cancelled --set steps=1000000
signalled TERM cancelled
ends 0 cancelled
grep -q "^stopped at step [0-9]* as asked" "$work/cancelled.log" || fail "the cancelled job has not saved"
[[ -z $(calls) ]] || fail "a cancelled job is queued again: $(calls)"

job wrong --set steps=-1
wait $! && fail "a wrong setting ends well"
[[ -z $(calls) ]] || fail "a job that failed is queued again: $(calls)"
"$script" > "$work/none.log" 2>&1 && fail "a job without a configuration ends well"
grep -q "wanted a configuration" "$work/none.log" || fail "a job without a configuration does not say so"
echo "passed"
