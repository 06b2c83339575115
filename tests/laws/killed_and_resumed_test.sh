#!/bin/bash
# killed_and_resumed_test.sh <program> [<mpirun...>]: the real program is killed by SIGKILL in the middle of a run,
# twice. Resumed, it ends with the numbers and the weights of a run that was never killed. Models: a dense one without
# accumulation, a mixture of experts with it. Every part of a killed run has another ZeRO stage, page size and device
# budget, at which pages move; the last part keeps state in files. With mpirun, one of its two ranks is killed and
# mpirun ends the other, and the second part runs as threads. Without, all parts are two threads of one process.
set -u
source "$(dirname -- "${BASH_SOURCE[0]}")/../support/processes.sh"
program=$1
shift
mpirun=("$@")
readonly STEPS=240
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# The log written last is printed last, where a truncated output still shows it.
fail() { { ls -tr "$folder"/*.log | xargs tail -n 20; echo "FAILED: $*"; } >&2; exit 1; }

mkdir "$folder/text"
awk 'BEGIN {
  split("pages move between device and host while ranks gather what they need in order of use", word, " ")
  x = 1
  for (i = 0; i < 6000; i++) { x = (x * 48271) % 2147483647; printf "%s%s", word[x % 16 + 1], x % 11 ? " " : ".\n\n" }
}' > "$folder/text/prose.txt"
cat > "$folder/config.textproto" << CONFIG
model { hunyuan_lm { hidden_size: 32 intermediate_size: 32 num_hidden_layers: 2 num_attention_heads: 4 head_dim: 8 } }
data { directory: "$folder/data" sequence_length: 64
  prepare { input: "$folder/text" vocabulary_size: 300 validation_fraction: 0.1 } }
optimizer { schedule { warmup_steps: 10 } }
batch { global_batch_sequences: 2 }
steps: $STEPS
evaluation { every_steps: 30 sequences: 4 }
numerics { threads_per_rank: 1 lm_head_chunk_tokens: 48 expert_block_rows: 8 }
checkpoint { every_steps: 8 }
CONFIG
"$program" prepare --config "$folder/config.textproto" > "$folder/prepare.log" 2>&1 || fail "prepare ended with $?"
dense=()
moe=(--set model.hunyuan_lm.num_experts=4 --set model.hunyuan_lm.moe_topk=2
     --set model.hunyuan_lm.router_aux_loss_coefficient=0.01 --set model.hunyuan_lm.tie_word_embeddings=true
     --set batch.global_batch_sequences=4)
# With processes, each has half of the experts.
[ ${#mpirun[@]} -gt 0 ] && moe+=(--set sharding.expert_degree=2)

# budget <percent> <arguments...>: prints the --set of a device budget of <percent> of the bytes that the run would
# take. Pages move at such a budget.
budget() {
  local percent=$1 bytes
  shift
  bytes=$("$program" plan --config "$folder/config.textproto" --ranks 2 "$@" | awk -v percent="$percent" '
    /^arena/ { unit["KiB"] = 1024; unit["MiB"] = 1048576; printf "%d", $2 * unit[$3] * percent / 100 }')
  "$program" plan --config "$folder/config.textproto" --ranks 2 "$@" --set "memory.device_bytes=$bytes" |
    grep -Eq 'copy-in .* [1-9][0-9]* move' || fail "nothing moves at $bytes device bytes"
  echo "--set=memory.device_bytes=$bytes"
}
# files <device budget> <arguments...>: prints the --set of the least host budget that works, with all other state in
# files.
files() {
  local bytes directory=$folder
  [[ -w /dev/shm ]] && directory=/dev/shm
  local nvme=("--set=memory.nvme.directory=$directory" --set=memory.nvme.allow_buffered=true)
  bytes=$("$program" plan --config "$folder/config.textproto" --ranks 2 "$@" "${nvme[@]}" --set=memory.host_bytes=8192 2>&1 |
    sed -n 's/.*the least that works is [^(]*(\([0-9]*\)).*/\1/p')
  [[ -n $bytes ]] || fail "no host budget is named: $*"
  echo "${nvme[@]}" "--set=memory.host_bytes=$bytes"
}
# train <name> <transport> <arguments...>: puts the command into `command`.
train() {
  local name=$1 transport=$2
  shift 2
  command=("$program" train --config "$folder/config.textproto" --set "output.directory=$folder/$name" "$@")
  if [ "$transport" = mpi ]; then
    command=("${mpirun[@]}" -np 2 --oversubscribe --bind-to none "${command[@]}")
  else
    command+=(--set communication.local_ranks=2)
  fi
}
steps_done() {
  local file=$folder/$1/metrics.jsonl
  if [[ -e $file ]]; then grep -c step "$file"; else echo 0; fi
}
# kill_part_of <name> <resumes>: starts `command` and kills one process of the program once the run has resumed
# <resumes> times in all and done some steps since.
kill_part_of() {
  local name=$1 resumes=$2 started first
  echo "== ${command[*]##*/}"
  "${command[@]}" >> "$folder/$name.log" 2>&1 &
  started=$!
  until [ "$(grep -c "^resumed " "$folder/$name.log")" -eq "$resumes" ] && [ "$(steps_done "$name")" -gt 0 ]; do
    kill -0 $started 2> /dev/null || fail "the run ended before it was killed"
    sleep 0.01
  done
  first=$(steps_done "$name")
  until [ "$(steps_done "$name")" -ge $((first + 12)) ]; do
    kill -0 $started 2> /dev/null || fail "the run ended before it was killed"
    sleep 0.01
  done
  kill -KILL "$(program_processes $started | tail -n 1)" || fail "the run ended before it was killed"
  wait $started 2> /dev/null && fail "a killed run ended with 0"
  echo "killed at step $(steps_done "$name")"
  [ "$(steps_done "$name")" -lt $STEPS ] || fail "the run was over when it was killed"
}
# The numbers of metrics.jsonl that law 1 fixes.
numbers() { grep -oE '"(step|loss|grad_norm|learning_rate|expert_balance|validation_[a-z_]*)": [^,}]+' "$1/metrics.jsonl"; }
# same_weights <name> <name>: whether the two runs' last checkpoints have the same weights.
same_weights() {
  local file last
  last=$(printf 'checkpoints/step-%08d' $STEPS)
  for file in "$folder/$1/$last"/*.safetensors; do
    cmp "$file" "$folder/$2/$last/${file##*/}" || return 1
  done
}

# check <name> <arguments...>: the whole test for one model.
check() {
  local name=$1 transport=local resumed file
  shift
  [ ${#mpirun[@]} -gt 0 ] && transport=mpi
  train "$name.straight" local --set sharding.zero_stage=0 "$@"
  "${command[@]}" > "$folder/$name.straight.log" 2>&1 || fail "the straight run ended with $?"

  local stage3=(--set sharding.zero_stage=3 --set memory.page_bytes=4096 "$@")
  local stage2=(--set sharding.zero_stage=2 --set memory.page_bytes=16384 "$@")
  local stage1=(--set sharding.zero_stage=1 --set memory.page_bytes=8192 "$@")
  local budget3 budget2 budget1
  budget3=$(budget 60 "${stage3[@]}") && budget2=$(budget 45 "${stage2[@]}") && budget1=$(budget 35 "${stage1[@]}") || exit 1
  train "$name.killed" $transport "${stage3[@]}" "$budget3"
  kill_part_of "$name.killed" 0
  train "$name.killed" local "${stage2[@]}" "$budget2" --resume
  kill_part_of "$name.killed" 1
  local in_files
  in_files=$(files "$budget1" "${stage1[@]}") || exit 1
  train "$name.killed" $transport "${stage1[@]}" "$budget1" $in_files --resume
  echo "== ${command[*]##*/}"
  "${command[@]}" >> "$folder/$name.killed.log" 2>&1 || fail "the resumed run ended with $?"

  grep -q "^file tier: " "$folder/$name.killed.log" || fail "no state rested in a file"
  resumed=$(grep -c "^resumed .* at step [1-9]" "$folder/$name.killed.log")
  [ "$resumed" -eq 2 ] || fail "resumed $resumed times, wanted 2"
  [ "$(numbers "$folder/$name.straight" | grep -c '"loss"')" -eq $STEPS ] || fail "the straight run has not printed $STEPS losses"
  diff <(numbers "$folder/$name.straight") <(numbers "$folder/$name.killed") > "$folder/difference.log" ||
    fail "the numbers differ"
  same_weights "$name.straight" "$name.killed" || fail "the weights differ"
  # The comparison itself must detect a flipped bit.
  file=$(ls "$folder/$name.killed/checkpoints/step-$(printf %08d $STEPS)"/*.safetensors | head -n 1)
  printf '\xff\xff' | dd of="$file" bs=1 seek=$(($(stat -c %s "$file") / 2)) conv=notrunc status=none
  same_weights "$name.straight" "$name.killed" > /dev/null && fail "the comparison of weights finds nothing"
  echo "$name: $STEPS steps, killed twice: the same numbers and weights"
}

check dense "${dense[@]}"
check moe "${moe[@]}"
