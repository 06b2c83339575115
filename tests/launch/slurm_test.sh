#!/bin/bash
# slurm_test.sh <program> <config> <folder> <mpirun...>: runs launch/slurm/train.sbatch as Slurm does, with a stand-in
# for scontrol. A warned job lets the ranks save and asks to be queued again. That job continues where the first one
# stopped and, when done, ends for good. A cancelled job saves and is not queued again; neither is a run that fails.
source "$(dirname -- "${BASH_SOURCE[0]}")/job_testing.sh"
script=$launch/slurm/train.sbatch
printf '#!/bin/sh\necho "$@" >> "%s/scontrol.calls"\n' "$work" > "$work/bin/scontrol"
chmod +x "$work/bin/scontrol"

# job <name> <settings...>: runs the script as job 7 with two tasks.
job() {
  local name=$1
  shift
  rm -f "$work/scontrol.calls"
  MPIRUN_FLAGS=--oversubscribe SLURM_NTASKS=2 SLURM_JOB_ID=7 "$script" "${of_run[@]}" "$@" > "$work/$name.log" 2>&1 &
}
calls() { cat "$work/scontrol.calls" 2> /dev/null; }

job warned --set steps=1000000
signalled USR1 warned
ends 0 warned
[[ $(calls) == "requeue 7" ]] || fail "the warned job is not queued again: $(calls)"
stopped=$(saved_by warned) || fail "the warned job has not saved"

job again --set steps=$((stopped + 2))
ends 0 again
goes_on_at again "$stopped"
[[ -z $(calls) ]] || fail "a job that is done is queued again: $(calls)"

rm -rf "$work/run"
job cancelled --set steps=1000000
signalled TERM cancelled
ends 0 cancelled
saved_by cancelled > /dev/null || fail "the cancelled job has not saved"
[[ -z $(calls) ]] || fail "a cancelled job is queued again: $(calls)"

job wrong --set steps=-1
wait $! && fail "a wrong setting ends well"
[[ -z $(calls) ]] || fail "a job that failed is queued again: $(calls)"
"$script" > "$work/none.log" 2>&1 && fail "a job without a configuration ends well"
grep -q "wanted a configuration" "$work/none.log" || fail "a job without a configuration does not say so"
echo "passed"
