#!/bin/bash
# What users can do wrong, done to the real program: each gets one clear sentence and a non-zero exit, and nothing half-written.
#   user_errors_test.sh <angel-ptm> <tiny_moe.textproto> <work folder> [mpirun words...]
set -uo pipefail
program=$1 config=$2 work=$3
shift 3
mpirun=("$@")
rm -rf "$work"
mkdir -p "$work/text"
failures=0

# expect <name> <exit code> <text that must appear> <command...>
expect() {
  local name=$1 code=$2 text=$3 output got
  shift 3
  output=$("$@" 2>&1 < /dev/null)
  got=$?
  if [[ $got -ne $code || $output != *"$text"* ]]; then
    echo "FAILED $name: wanted exit $code and \"$text\", got exit $got and:"
    tail -n 5 <<< "$output"
    failures=$((failures + 1))
  else
    echo "ok $name"
  fi
}

# A text that is large enough for a few windows.
for file in a b c d; do
  for i in $(seq 1 400); do echo "$file line $i of a text about pages, frames and plans: $((i * 7919 % 1009))"; [[ $((i % 9)) -eq 0 ]] && echo; done > "$work/text/$file.txt"
done
common=(--config "$config" --set "data.directory=$work/data" --set "data.prepare.input=$work/text"
        --set model.hunyuan_lm.vocab_size=0 --set data.prepare.validation_fraction=0.1 --set evaluation.every_steps=0
        --set optimizer.schedule.warmup_steps=1 --set memory.page_bytes=4096)
train() { "$program" train "${common[@]}" --set "output.directory=$work/run" --set steps=4 --set checkpoint.every_steps=2 "$@"; }

expect "no config" 1 "--config is missing" "$program" train
expect "missing config" 1 "$work/none.textproto" "$program" train --config "$work/none.textproto"
printf 'steps: 3\nmodel { hunyuan_lm { hidden_sise: 3 } }\n' > "$work/bad.textproto"
expect "unknown field, with line and column" 1 "$work/bad.textproto:2:22" "$program" train --config "$work/bad.textproto"
expect "wrong override" 1 "learning_rate" "$program" train "${common[@]}" --set optimizer.adamw.learning_rat=1
expect "several semantic errors, the first" 1 "sharding.zero_stage" train --set sharding.zero_stage=7 --set model.hunyuan_lm.moe_topk=99
expect "several semantic errors, the second" 1 "model.hunyuan_lm.moe_topk" train --set sharding.zero_stage=7 --set model.hunyuan_lm.moe_topk=99
expect "batch that does not divide" 1 "batch" train --set batch.global_batch_sequences=7 --set batch.micro_batch_sequences=2
expect "unprepared data" 1 "$work/data" train
expect "missing text" 1 "$work/nothing" "$program" prepare "${common[@]}" --set "data.prepare.input=[\"$work/nothing\"]"
expect "prepare" 0 "unigram entropy" "$program" prepare "${common[@]}"
expect "vocabulary smaller than the tokenizer's" 1 "vocab_size" train --set model.hunyuan_lm.vocab_size=300
expect "sequence longer than the data" 1 "tokens" train --set data.sequence_length=60000 --set model.hunyuan_lm.max_position_embeddings=60000
expect "device budget too small: by how much" 1 "more" train --set memory.device_bytes=100000
expect "device budget too small: which field" 1 "memory.device_bytes" train --set memory.device_bytes=100000
expect "host budget too small" 1 "memory.host_bytes" train --set memory.device_bytes=4000000 --set memory.host_bytes=4096
expect "more than the machine has: which tier" 1 "does not fit: the device tier needs" train --set model.hunyuan_lm.hidden_size=65536 \
  --set model.hunyuan_lm.intermediate_size=131072 --set model.hunyuan_lm.num_hidden_layers=64
expect "more than the machine has: by how much" 1 "TiB more" train --set model.hunyuan_lm.hidden_size=16384 \
  --set model.hunyuan_lm.intermediate_size=65536 --set model.hunyuan_lm.num_hidden_layers=16
expect "resume without a checkpoint" 1 "no checkpoint" train --resume
expect "unknown argument" 1 "--fast" "$program" train "${common[@]}" --fast
expect "unknown command" 1 "unknown command" "$program" fly

cp "$work/data/train.tokens" "$work/good.tokens"
truncate -s -100 "$work/data/train.tokens"
expect "truncated token file" 1 "train.tokens" train
cp "$work/good.tokens" "$work/data/train.tokens"
printf '\xff' | dd of="$work/data/train.tokens" bs=1 seek=3000 conv=notrunc status=none
expect "bit-flipped token file" 1 "train.tokens" train
cp "$work/good.tokens" "$work/data/train.tokens"
mv "$work/data/tokenizer.json" "$work/tokenizer.json"
expect "missing tokenizer" 1 "tokenizer.json" train
cp "$work/tokenizer.json" "$work/data/tokenizer.json"
expect "nothing half-written so far" 1 "no checkpoint" "$program" inspect "$work/run"

expect "a run" 0 "saved" train
expect "an output that exists" 1 "--resume" train
expect "a checkpoint of another model" 1 "layers.0" train --resume --set model.hunyuan_lm.intermediate_size=128 --set steps=6
newest=$work/run/checkpoints/step-00000004
cp -r "$newest" "$work/copy"
shard=$(ls "$newest"/rank-*.safetensors | head -n 1)
printf '\xff\xff' | dd of="$shard" bs=1 seek=$(($(stat -c %s "$shard") / 2)) conv=notrunc status=none
expect "bit-flipped checkpoint" 1 "safetensors" train --resume --set steps=6
rm -rf "$newest" && cp -r "$work/copy" "$newest"
truncate -s -64 "$shard"
expect "truncated checkpoint" 1 "safetensors" train --resume --set steps=6
rm -rf "$newest" && cp -r "$work/copy" "$newest"
expect "resume" 0 "resumed" train --resume --set steps=6
expect "export over an existing directory" 1 "$work/copy" "$program" export --checkpoint "$work/run" --format huggingface --output "$work/copy"
expect "export in an unknown format" 1 "huggingface" "$program" export --checkpoint "$work/run" --format onnx --output "$work/onnx"

# A loss that is not finite is skipped, counted, and ends the run by naming the tensor.
diverge() {
  rm -rf "$work/nan"
  "$program" train "${common[@]}" --set "output.directory=$work/nan" --set steps=20 --set checkpoint.every_steps=0 \
    --set optimizer.adamw.learning_rate=1e30 --set optimizer.schedule.warmup_steps=0 --set communication.local_ranks=2 "$@"
}
expect "non-finite" 1 "as the 3 steps before it; optimizer.skipped_steps_max is 3" diverge --set optimizer.skipped_steps_max=3
expect "non-finite, skipped and counted" 0 "3" grep -c '"skipped": true' "$work/nan/metrics.jsonl"
expect "non-finite, at once" 1 "the first tensor that went bad: " diverge --set optimizer.skipped_steps_max=0

# SIGTERM saves and ends well.
"$program" train "${common[@]}" --set "output.directory=$work/term" --set steps=100000 --set checkpoint.every_steps=0 \
  --set output.log_every_steps=1 > "$work/term.log" 2>&1 &
pid=$!
for _ in $(seq 1 100); do grep -q "^step 1/" "$work/term.log" && break; sleep 0.2; done
kill -TERM $pid
wait $pid
code=$?
expect "SIGTERM" 0 "continue with --resume" sh -c "cat '$work/term.log'; exit $code"
expect "SIGTERM left a checkpoint" 0 "format version" "$program" inspect "$work/term" --verify

# A killed rank takes the others down within 10 s, with a sentence that says which and where. Several times: whether the
# survivor waits for the dead rank, reads from it or computes when it dies is chance.
killed_rank() {
  local log=$work/killed.$1.log pid victim start code
  "${mpirun[@]}" -np 2 --oversubscribe --bind-to none "$program" train "${common[@]}" --set "output.directory=$work/killed.$1" \
    --set steps=100000 --set checkpoint.every_steps=0 --set output.log_every_steps=1 > "$log" 2>&1 &
  pid=$!
  for _ in $(seq 1 300); do grep -q "^step 1/" "$log" && break; sleep 0.1; done
  victim=$(pgrep -f "output.directory=$work/killed.$1" | xargs -I{} sh -c 'tr "\0" "\n" < /proc/{}/environ | grep -qx OMPI_COMM_WORLD_RANK=1 && echo {}' | head -n 1)
  kill -KILL "$victim"
  start=$SECONDS
  wait $pid
  code=$?
  [[ $((SECONDS - start)) -le 10 ]] || { echo "FAILED killed rank: the job took $((SECONDS - start)) s to end"; failures=$((failures + 1)); }
  [[ $code -ne 0 ]] || { echo "FAILED killed rank: exit 0"; failures=$((failures + 1)); }
  expect "killed rank $1" 0 "rank 1 (pid $victim" cat "$log"
  expect "killed rank $1: where it was" 0 "died at step" cat "$log"
}
if [[ ${#mpirun[@]} -gt 0 ]]; then
  for i in 1 2 3 4; do killed_rank $i; done
fi

[[ $failures -eq 0 ]] && echo "all user errors are answered" || echo "$failures cases failed"
exit $((failures > 0))
