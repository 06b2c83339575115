#!/bin/bash
# What can happen to a run: numbers that become non-finite, a full disk, slow files, signals, a rank that is killed or
# stopped.
#   faults_test.sh <angel-ptm> <tiny_moe.textproto> <work folder> <libslow_calls.so> [mpirun words...]
slow_calls=$4
set -- "${@:1:3}" "${@:5}"
source "$(dirname -- "${BASH_SOURCE[0]}")/program_testing.sh"
"$program" prepare "${common[@]}" > "$work/prepare.log" 2>&1 || failed "prepare: $(cat "$work/prepare.log")"
# Runs until it is stopped.
endless=("$program" train "${common[@]}" --set steps=100000 --set checkpoint.every_steps=0 --set output.log_every_steps=1)

# A step with a non-finite loss is skipped and counted; too many of them end the run, which names the tensor.
diverge() {
  rm -rf "$work/nan"
  train_in nan --set steps=20 --set checkpoint.every_steps=0 --set optimizer.adamw.learning_rate=1e30 \
    --set optimizer.schedule.warmup_steps=0 --set communication.local_ranks=2 "$@"
}
expect "non-finite" 1 "as the 3 steps before it; optimizer.skipped_steps_max is 3" diverge --set optimizer.skipped_steps_max=3
expect "non-finite, skipped and counted" 0 "3" grep -c '"skipped": true' "$work/nan/metrics.jsonl"
expect "non-finite, at once" 1 "the first tensor that went bad: " diverge --set optimizer.skipped_steps_max=0
[[ $output == *"micro-batch 0 of rank "* ]] || failed "where it went bad: $output"

# The disk is full while saving (here: a limit on the size of files). The run goes on and the last checkpoint stays
# whole; with room again, the run ends as if nothing had happened.
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

# SIGTERM saves and exits with 0.
"${endless[@]}" --set "output.directory=$work/term" > "$work/term.log" 2>&1 &
pid=$!
if await_line "^step 1/" "$work/term.log" $pid; then
  kill -TERM $pid
  wait $pid || failed "SIGTERM: exit code $?"
  expect "SIGTERM" 0 "continue with --resume" cat "$work/term.log"
  expect "SIGTERM left a checkpoint" 0 "every byte matches" "$program" inspect "$work/term" --verify
fi

# Only one run at a time holds an output directory, until it ends in any way.
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

# A rank whose files are slow for longer than the limit (slow_calls.cc: five seconds each to open, to sync and to
# remove) does not count as lost, nor does one whose output nobody reads for a while.
slow_run=("${common[@]}" --set steps=3 --set checkpoint.every_steps=1 --set checkpoint.keep_last=1
          --set communication.timeout_seconds=2)
slow_files() {
  [[ $output == *"slow open"* && $output == *"slow fsync"* && $output == *"slow unlinkat"* ]] ||
    failed "$1: the files were not slow: $output"
}
# Sanitizers must be loaded before everything else, so nothing can be preloaded.
preloads=yes
[[ ! $(ldd "$program") =~ lib[at]san ]] || preloads=no
if [[ $preloads == yes ]]; then
  expect "slow files on a thread" 0 "saved $work/slow/checkpoints/step-00000003" env LD_PRELOAD="$slow_calls" \
    "$program" train "${slow_run[@]}" --set "output.directory=$work/slow" --set communication.local_ranks=2
  slow_files "slow files on a thread"
fi
unread_output() {
  "$program" train "${common[@]}" --set "output.directory=$work/unread" --set steps=1200 --set checkpoint.every_steps=0 \
    --set output.log_every_steps=1 --set batch.global_batch_sequences=2 --set data.sequence_length=16 \
    --set communication.local_ranks=2 --set communication.timeout_seconds=2 | (sleep 12; cat)
  return "${PIPESTATUS[0]}"
}
expect "output that nobody reads for a while" 0 "step 1199/1200" unread_output

# Processes that a launcher started but MPI did not connect would each train alone in one folder.
expect "processes that do not meet" 1 "PMI_SIZE says that 2 processes were started, MPI's world has 1" \
  env PMI_RANK=0 PMI_SIZE=2 "$program" train "${common[@]}" --set steps=1 --set "output.directory=$work/unmet"
expect "tasks of plain srun" 1 "SLURM_NTASKS says that 2 processes were started, MPI's world has 1" \
  env SLURM_NTASKS=2 SLURM_PROCID=1 "$program" train "${common[@]}" --set steps=1 --set "output.directory=$work/unmet"
[[ ! -e $work/unmet ]] || failed "processes that do not meet left an output directory"

# mpirun passes SIGUSR1 on and exits with 0.
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

# signal_rank <label> <signal> <seconds> <what> <ranks> <victim> <option>...: the signalled rank takes the others down
# within <seconds>, and a sentence names it and says, as <what>, how it ended. $log is the job's output.
signal_rank() {
  local label=$1 signal=$2 seconds=$3 what=$4 ranks=$5 victim=$6 process start code
  log=$work/$label.log
  with_ranks "$ranks" "${endless[@]}" --set "output.directory=$work/$label" "${@:7}" > "$log" 2>&1 &
  local job=$!
  await_line "^step 1/" "$log" $job || return
  process=$(process_of_rank "$victim" $job)
  [[ -n $process ]] || { failed "$label: found no process of rank $victim"; kill_job $job; return; }
  start=$SECONDS
  kill "-$signal" "$process"
  wait $job
  code=$?
  [[ $((SECONDS - start)) -le $seconds ]] || failed "$label: the job took $((SECONDS - start)) s to end"
  [[ $code -ne 0 ]] || failed "$label: exit 0"
  expect "$label, rank $victim of $ranks" 0 "angel-ptm: rank $victim (pid $process on host " cat "$log"
  expect "$label, rank $victim of $ranks: how" 0 ") $what at step " cat "$log"
}
# killed_rank <number> <ranks> <victim>
killed_rank() { signal_rank "killed.$1" KILL 10 "died" "$2" "$3"; }
# stopped_rank <ranks> <victim>: the job ends soon after the limit, with one sentence.
stopped_rank() {
  signal_rank "stopped.$1" STOP 15 "is stopped" "$1" "$2" --set communication.timeout_seconds=3
  [[ $(grep -c "^angel-ptm: " "$log") -eq 1 ]] || failed "stopped rank: not one sentence: $(grep "^angel-ptm: " "$log")"
}

# All ranks are suspended for longer than the limit (Ctrl-Z, a paused machine): the run goes on.
suspended_job() {
  local log=$work/suspended.log
  with_ranks 3 "${endless[@]}" --set "output.directory=$work/suspended" --set communication.timeout_seconds=2 \
    > "$log" 2>&1 &
  local job=$! processes lines
  await_line "^step 1/" "$log" $job || return
  processes=$(program_processes $job)
  kill -STOP $processes
  sleep 6
  lines=$(wc -l < "$log")
  kill -CONT $processes
  local i
  for ((i = 0; i < 600 && $(wc -l < "$log") < lines + 20; ++i)); do sleep 0.1; done
  kill -USR1 "$(mpirun_process $job)"
  wait $job || failed "suspended job: exit code $?: $(grep "^angel-ptm: " "$log")"
  expect "suspended job" 0 "continue with --resume" cat "$log"
}

# Gives every rank a machine of its own: only the host name tells machines apart here.
apart=(unshare -u sh -c 'hostname "machine$OMPI_COMM_WORLD_RANK" && exec "$0" "$@"')
stopped_machine() {
  local log=$work/stopped_machine.log process
  with_ranks 2 "${apart[@]}" "${endless[@]}" --set "output.directory=$work/stopped_machine" \
    --set communication.timeout_seconds=3 > "$log" 2>&1 &
  local job=$!
  await_line "^step 1/" "$log" $job || return
  process=$(process_of_rank 1 $job)
  kill -STOP "$process"
  wait $job && failed "a stopped machine: exit 0"
  expect "a stopped machine" 0 "angel-ptm: the machine of rank 1 (pid $process on host machine1) gave no sign of life for " \
    cat "$log"
  [[ $(grep -c "^angel-ptm: " <<< "$output") -eq 1 ]] || failed "a stopped machine: not one sentence: $output"
}

# A process that never reaches MPI_Init keeps the others waiting there, but not longer than the limit.
stuck_start() {
  "${mpirun[@]}" -np 1 --oversubscribe --bind-to none "$program" train "${common[@]}" --set steps=1 \
    --set "output.directory=$work/stuck" --set communication.timeout_seconds=3 : -np 1 sleep 120
}
if [[ ${#mpirun[@]} -gt 0 ]]; then
  stop_job
  stopped_rank 2 1
  stopped_rank 3 0
  suspended_job
  expect "a process that hangs before it starts MPI" 1 "angel-ptm: rank 0 has waited in MPI_Init for 3 s" stuck_start
  if [[ $preloads == yes ]]; then
    expect "slow files on one of two ranks" 0 "saved $work/slow2/checkpoints/step-00000003" \
      "${mpirun[@]}" --oversubscribe --bind-to none -np 1 env LD_PRELOAD="$slow_calls" "$program" train "${slow_run[@]}" \
      --set "output.directory=$work/slow2" : -np 1 "$program" train "${slow_run[@]}" --set "output.directory=$work/slow2"
    slow_files "slow files on one of two ranks"
  fi
  # Where this user may not give a process its own host name, the test uses one machine.
  if unshare -u hostname machine0 2> /dev/null; then
    stopped_machine
    if [[ $preloads == yes ]]; then
      expect "slow files on one of two machines" 0 "saved $work/slow3/checkpoints/step-00000003" \
        "${mpirun[@]}" --oversubscribe --bind-to none -np 1 "${apart[@]}" env LD_PRELOAD="$slow_calls" "$program" train \
        "${slow_run[@]}" --set "output.directory=$work/slow3" : -np 1 "${apart[@]}" "$program" train "${slow_run[@]}" \
        --set "output.directory=$work/slow3"
      slow_files "slow files on one of two machines"
      [[ $output == *"transport: messages (the ranks are on 2 machines)"* ]] || failed "not two machines: $output"
    fi
  fi
  # Repeated, because chance decides whether a survivor waits for the dying rank, reads from it or computes.
  killed_rank 1 2 1
  killed_rank 2 2 1
  killed_rank 3 2 0
  killed_rank 4 3 1
  killed_rank 5 3 0
fi

finish "all faults are handled"
