#!/bin/bash
# killed_and_resumed_test.sh <program> [<mpirun...>]: SIGKILL in the middle of a run of the real program, twice; resumed,
# it ends with the numbers and the weights of a run nobody killed. With mpirun one of its two ranks is killed and mpirun
# ends the other; without, the two ranks are threads of one process. The run goes on with the other transport once.
set -u
program=$1
shift
mpirun=("$@")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fail() { echo "FAILED: $*"; tail -n 20 "$folder"/*.log; exit 1; }

mkdir "$folder/text"
awk 'BEGIN {
  split("pages move between device and host while ranks gather what they need in order of use", word, " ")
  x = 1
  for (i = 0; i < 6000; i++) { x = (x * 48271) % 2147483647; printf "%s%s", word[x % 16 + 1], x % 11 ? " " : ".\n\n" }
}' > "$folder/text/prose.txt"
cat > "$folder/config.textproto" << CONFIG
model { hunyuan_lm { hidden_size: 32 intermediate_size: 32 num_hidden_layers: 2 num_attention_heads: 4 head_dim: 8
  num_experts: 4 moe_topk: 2 router_aux_loss_coefficient: 0.01 tie_word_embeddings: true } }
data { directory: "$folder/data" sequence_length: 64
  prepare { input: "$folder/text" vocabulary_size: 300 validation_fraction: 0.1 } }
optimizer { schedule { warmup_steps: 10 } }
batch { global_batch_sequences: 4 }
steps: 120
evaluation { every_steps: 30 sequences: 4 }
numerics { threads_per_rank: 1 lm_head_chunk_tokens: 48 expert_block_rows: 8 }
checkpoint { every_steps: 8 }
memory { page_bytes: 4096 }
CONFIG
"$program" prepare --config "$folder/config.textproto" > "$folder/prepare.log" 2>&1 || fail "prepare ended with $?"

# train <name> <transport> <arguments...>: the command in `command`.
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
steps_done() { grep -c step "$folder/$1/metrics.jsonl" 2> /dev/null || true; }
# The processes of the program below process $1, itself included.
program_processes() {
  [ "$(readlink "/proc/$1/exe")" = "$(readlink -f "$program")" ] && echo "$1"
  local child
  for child in $(cat "/proc/$1/task/$1/children" 2> /dev/null); do program_processes "$child"; done
}
# kill_after <steps>: starts `command` and kills one process of the program once that many steps are done.
kill_after() {
  echo "== ${command[*]##*/}"
  "${command[@]}" >> "$folder/killed.log" 2>&1 &
  local started=$!
  until [ "$(steps_done killed)" -ge "$1" ] 2> /dev/null; do
    kill -0 $started 2> /dev/null || fail "the run ended before it was killed"
    sleep 0.01
  done
  kill -KILL "$(program_processes $started | tail -n 1)" || fail "the run ended before it was killed"
  wait $started 2> /dev/null && fail "a killed run ended with 0"
  echo "killed at step $(steps_done killed)"
  [ "$(steps_done killed)" -lt 120 ] || fail "the run was over when it was killed"
}
# What law 1 fixes of metrics.jsonl.
numbers() { grep -oE '"(step|loss|grad_norm|learning_rate|expert_balance|validation_[a-z_]*)": [^,}]+' "$1/metrics.jsonl"; }

transport=local
[ ${#mpirun[@]} -gt 0 ] && transport=mpi
train straight local --set sharding.zero_stage=0
"${command[@]}" > "$folder/straight.log" 2>&1 || fail "the straight run ended with $?"

train killed $transport --set sharding.zero_stage=3
kill_after 20
train killed local --set sharding.zero_stage=2 --resume
kill_after 60
train killed $transport --set sharding.zero_stage=1 --resume
echo "== ${command[*]##*/}"
"${command[@]}" >> "$folder/killed.log" 2>&1 || fail "the resumed run ended with $?"

resumed=$(grep -c "^resumed .* at step [1-9]" "$folder/killed.log")
[ "$resumed" -eq 2 ] || fail "resumed $resumed times, wanted 2"
[ "$(numbers "$folder/straight" | grep -c '"loss"')" -eq 120 ] || fail "the straight run has not printed 120 losses"
diff <(numbers "$folder/straight") <(numbers "$folder/killed") > "$folder/difference.log" || fail "the numbers differ"
for file in "$folder"/straight/checkpoints/step-00000120/*.safetensors; do
  cmp "$file" "$folder/killed/checkpoints/step-00000120/${file##*/}" || fail "the weights differ"
done
echo "120 steps, killed twice: the same numbers and weights"
