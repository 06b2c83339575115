#!/bin/bash
# What can happen to a run: numbers that go bad, a full disk, signals, a rank that is killed.
#   faults_test.sh <angel-ptm> <tiny_moe.textproto> <work folder> [mpirun words...]
source "$(dirname -- "${BASH_SOURCE[0]}")/program_testing.sh"
"$program" prepare "${common[@]}" > "$work/prepare.log" 2>&1 || failed "prepare: $(cat "$work/prepare.log")"
# Never ends by itself.
endless=("$program" train "${common[@]}" --set steps=100000 --set checkpoint.every_steps=0 --set output.log_every_steps=1)

# A loss that is not finite is skipped, counted, and ends the run by naming the tensor.
diverge() {
  rm -rf "$work/nan"
  train_in nan --set steps=20 --set checkpoint.every_steps=0 --set optimizer.adamw.learning_rate=1e30 \
    --set optimizer.schedule.warmup_steps=0 --set communication.local_ranks=2 "$@"
}
expect "non-finite" 1 "as the 3 steps before it; optimizer.skipped_steps_max is 3" diverge --set optimizer.skipped_steps_max=3
expect "non-finite, skipped and counted" 0 "3" grep -c '"skipped": true' "$work/nan/metrics.jsonl"
expect "non-finite, at once" 1 "the first tensor that went bad: " diverge --set optimizer.skipped_steps_max=0
[[ $output == *"micro-batch 0 of rank "* ]] || failed "where it went bad: $output"

# A full disk while saving (here: a limit on the size of files): the run goes on, the last checkpoint stays whole, and
# with room again the run ends as if nothing had happened.
numbers() { grep -oE '"(step|loss|grad_norm)": [^,}]+' "$work/$1/metrics.jsonl"; }
hindered() { (trap '' XFSZ; ulimit -f 1024; train_in full --set steps=8 "$@"); }
expect "unhindered run" 0 "saved" train_in unhindered --set steps=8 --set checkpoint.keep_last=9
expect "no room to save" 1 "angel-ptm: the checkpoint of step 8 was not saved: rank 0: cannot write " hindered
[[ $output == *"File too large; earlier checkpoints are intact"* ]] || failed "no room to save: why: $output"
[[ $(grep -c "^warning: checkpoint not saved, training goes on: " <<< "$output") -eq 3 ]] || failed "no warnings: $output"
diff <(numbers unhindered) <(numbers full) || failed "without room the numbers differ"
[[ -z $(ls "$work/full/checkpoints") ]] || failed "half a checkpoint was left: $(ls "$work/full/checkpoints")"
cp -r "$work/unhindered/checkpoints/step-00000004" "$work/full/checkpoints/"
expect "no room to save after a resume" 1 "the checkpoint of step 8 was not saved" hindered --resume
diff -r "$work/unhindered/checkpoints/step-00000004" "$work/full/checkpoints/step-00000004" || failed "the old checkpoint changed"
expect "room again" 0 "resumed $work/full/checkpoints/step-00000004 at step 4" train_in full --set steps=8 --resume
diff <(numbers unhindered) <(numbers full) || failed "after a full disk the numbers differ"
for file in "$work"/unhindered/checkpoints/step-00000008/*.safetensors; do
  cmp "$file" "$work/full/checkpoints/step-00000008/${file##*/}" || failed "after a full disk the weights differ"
done

# SIGTERM saves and ends well.
"${endless[@]}" --set "output.directory=$work/term" > "$work/term.log" 2>&1 &
pid=$!
if await_line "^step 1/" "$work/term.log" $pid; then
  kill -TERM $pid
  wait $pid || failed "SIGTERM: exit code $?"
  expect "SIGTERM" 0 "continue with --resume" cat "$work/term.log"
  expect "SIGTERM left a checkpoint" 0 "every byte matches" "$program" inspect "$work/term" --verify
fi

# One run at a time has an output directory, until it ends, however it does.
"${endless[@]}" --set "output.directory=$work/locked" > "$work/locked.log" 2>&1 &
pid=$!
if await_line "^step 1/" "$work/locked.log" $pid; then
  expect "a second run beside it" 1 "$work/locked is in use by process $pid on host " "${endless[@]}" --set "output.directory=$work/locked"
  expect "a resume beside it" 1 "$work/locked is in use by process $pid on host " \
    "${endless[@]}" --set "output.directory=$work/locked" --resume
  kill -KILL $pid
  wait $pid 2> /dev/null
  expect "a run after a killed one" 0 "took over $work/locked/lock of process $pid" train_in locked
  [[ $output == *"lines of an earlier run, which are kept as $work/locked/metrics.jsonl.1"* ]] || failed "the killed run's metrics: $output"
  [[ ! -e $work/locked/lock ]] || failed "the lock is still there"
fi

# mpirun passes SIGUSR1 on and ends with 0.
stop_job() {
  local log=$work/stop.log
  with_ranks 2 "${endless[@]}" --set "output.directory=$work/stop" > "$log" 2>&1 &
  local job=$!
  await_line "^step 1/" "$log" $job || return
  kill -USR1 "$(mpirun_process $job)"
  wait $job || failed "SIGUSR1: exit code $?"
  expect "SIGUSR1 under mpirun" 0 "continue with --resume" cat "$log"
  expect "SIGUSR1 left a checkpoint" 0 "every byte matches" "$program" inspect "$work/stop" --verify
}

# killed_rank <number> <ranks> <victim>: a killed rank takes the others down within 10 s, with a sentence that says
# which and where.
killed_rank() {
  local log=$work/killed.$1.log ranks=$2 victim=$3 process start code
  with_ranks "$ranks" "${endless[@]}" --set "output.directory=$work/killed.$1" > "$log" 2>&1 &
  local job=$!
  await_line "^step 1/" "$log" $job || return
  process=$(process_of_rank "$victim" $job)
  [[ -n $process ]] || { failed "killed rank: found no process of rank $victim"; kill_job $job; return; }
  start=$SECONDS
  kill -KILL "$process"
  wait $job
  code=$?
  [[ $((SECONDS - start)) -le 10 ]] || failed "killed rank: the job took $((SECONDS - start)) s to end"
  [[ $code -ne 0 ]] || failed "killed rank: exit 0"
  expect "killed rank $victim of $ranks" 0 "angel-ptm: rank $victim (pid $process on host " cat "$log"
  expect "killed rank $victim of $ranks: where it was" 0 ") died at step " cat "$log"
}
if [[ ${#mpirun[@]} -gt 0 ]]; then
  stop_job
  # Several times: whether a survivor waits for the dead rank, reads from it or computes when it dies is chance.
  killed_rank 1 2 1
  killed_rank 2 2 1
  killed_rank 3 2 0
  killed_rank 4 3 1
  killed_rank 5 3 0
fi

finish "all faults are handled"
