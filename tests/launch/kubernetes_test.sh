#!/bin/bash
# kubernetes_test.sh <program> <config> <folder> <mpirun...>: runs launch/kubernetes as train.yaml starts it. A launcher
# that is told to end, and ranks whose pod must go, save and are started again. The next job continues and, when done,
# ends for good. A run that fails says so.
source "$(dirname -- "${BASH_SOURCE[0]}")/job_testing.sh"

# job <name> <settings...>: starts the launcher with two slots.
job() {
  local name=$1
  shift
  MPIRUN_FLAGS="--oversubscribe -np 2" "$launch/kubernetes/launch_ranks" "${of_run[@]}" "$@" > "$work/$name.log" 2>&1 &
}

job evicted --set steps=1000000
signalled TERM evicted
ends 75 evicted
stopped=$(saved_by evicted) || fail "the launcher that was told to end has not saved"

job drained --set steps=1000000
trains drained $((stopped + 2))
goes_on_at drained "$stopped"
"$launch/kubernetes/save_ranks" "$program train .*$work" || fail "save_ranks"
pgrep -f -- "$program train .*$work/run" > /dev/null && fail "save_ranks ends before the ranks"
ends 75 drained
stopped=$(saved_by drained) || fail "ranks whose pod must go have not saved"

job again --set steps=$((stopped + 2))
ends 0 again
goes_on_at again "$stopped"

"$launch/kubernetes/save_ranks" "$program train .*$work" || fail "save_ranks without ranks"
job wrong --set steps=-1
wait $! && fail "a wrong setting ends well"
[[ $? -ne 75 ]] || fail "a wrong setting is tried again as if it had been stopped"
"$launch/kubernetes/launch_ranks" > "$work/none.log" 2>&1 && fail "a launcher without a configuration ends well"
grep -q "wanted a configuration" "$work/none.log" || fail "a launcher without a configuration does not say so"
echo "passed"
