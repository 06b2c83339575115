#!/bin/bash
# The program as the README shows it: every command on a small text succeeds, and prints and writes what it should.
#   program_test.sh <angel-ptm> <tiny_moe.textproto> <work folder> <build folder> [mpirun words...]
build=$4
source "$(dirname -- "${BASH_SOURCE[0]}")/program_testing.sh" "${@:1:3}" "${@:5}"

expect "version" 0 "options: CUDA=" "$program" --version
[[ $output =~ ^angel-ptm\ [0-9.]+\ \(commit\ ([0-9a-f]{12}(-dirty)?|unknown)\) ]] || failed "no commit in: $output"
for command in help --help -h; do expect "$command" 0 "angel-ptm export" "$program" $command; done
expect "no command" 0 "angel-ptm export" "$program"
for command in doctor init prepare plan train encode generate import export merge report inspect help; do
  expect "$command --help" 0 "Example" "$program" "$command" --help
  [[ $output == "angel-ptm $command "* ]] || failed "$command --help is about something else: $output"
done
expect "help behind other words" 0 "Examples:" "$program" train "$config" --set steps=3 --help
expect "the code in use" 0 "in use: kernels for " "$program" --version
[[ $output =~ OpenBLAS\ [0-9.]+.*,\ core\ [A-Za-z0-9]+ ]] || failed "no matrix library named: $output"
expect "help fields" 0 "optimizer.adamw.learning_rate" "$program" help fields

expect "prepare" 0 "unigram entropy of the validation tokens" "$program" prepare "${common[@]}"
[[ $output =~ [0-9.]+\ nats\ per\ token,\ [0-9.]+\ bits\ per\ byte ]] || failed "no entropy in: $output"

# What plan predicts is what train reserves.
expect "plan" 0 "packing loss" "$program" plan "${common[@]}" --ranks 2
planned=$(grep "^arena" <<< "$output")
expect "plan of local ranks" 0 "2 ranks" "$program" plan "${common[@]}" --set communication.local_ranks=2
[[ $(grep "^arena" <<< "$output") == "$planned" ]] || failed "ranks as threads are planned otherwise: $output"
expect "plan of what GPUs have beside the tiers" 0 "of a rank's host memory, page-locked" "$program" plan "${common[@]}" \
  --ranks 2 --set device=CUDA
expect "plan and its threads" 0 "2 ranks x $(($(nproc) / 2 > 0 ? $(nproc) / 2 : 1)) threads" "$program" plan "${common[@]}" \
  --ranks 2 --set numerics.threads_per_rank=0
expect "plan for another machine" 0 "2 ranks x 16 threads" "$program" plan "${common[@]}" --ranks 2 --threads-per-rank 16
[[ $output != *"threads per rank (this machine's"* ]] || failed "a note about threads that were given: $output"
expect "plan's note about threads" 0 "so set --threads-per-rank for another machine" "$program" plan "${common[@]}" \
  --ranks 2 --set numerics.threads_per_rank=0
expect "plan for programs" 0 '"least_device_bytes": ' "$program" plan "${common[@]}" --ranks 2 --json
expect "plan with its parts" 0 "micro-step, " "$program" plan "${common[@]}" --ranks 2 --graph --listing
[[ $output == *"forward Attention"* && $output == *"backward GroupedMatmulGradWeight"* ]] || failed "no graph was printed"
clusters=$(dirname "$config")/../clusters
expect "plan and time" 0 "bound by compute" "$program" plan "${common[@]}" --cluster "$clusters/a100_40g_x8.textproto" \
  --trace "$work/predicted.json"
grep -q '"name": "predicted"' "$work/predicted.json" || failed "plan --trace wrote no trace"
refused "more ranks than devices" "--ranks is 9, the cluster has 8 devices" "$program" plan "${common[@]}" --ranks 9 \
  --set batch.global_batch_sequences=9 \
  --cluster "$clusters/a100_40g_x8.textproto"
sed 's/reserve_bytes: 1610612736/reserve_bytes: 99999999999/' "$clusters/a100_40g_x8.textproto" > "$work/wrong.textproto"
refused "a cluster that contradicts itself" "wrong.textproto: device.reserve_bytes is 93.1 GiB of device.bytes 40.0 GiB" \
  "$program" plan "${common[@]}" --cluster "$work/wrong.textproto"
refused "the time of what runs beside the steps" "the time of a step with optimizer.update=LOCK_FREE is not predicted" \
  "$program" plan "${common[@]}" --cluster "$clusters/a100_40g_x8.textproto" --set optimizer.update=LOCK_FREE
together() { refused "plan ${*:2}" "$1" "$program" plan "${common[@]}" --cluster "$clusters/a100_40g_x8.textproto" "${@:2}"; }
together "--find-fastest prints something else than --trace asks for" --find-fastest --trace "$work/refused"
together "--find-fastest prints something else than --json asks for" --json --find-fastest
together "--find-largest-model prints something else than --find-fastest asks for" --find-fastest --find-largest-model
together "--json prints something else than --listing asks for" --listing --json
together "--scale: wanted --find-largest-model with it" --scale width
refused "a trace without time" "--trace: wanted --cluster with it" "$program" plan "${common[@]}" --trace "$work/x.json"
# Skipped with sanitizers: instrumented kernels would take minutes.
if [[ -z ${SANITIZED:-} ]]; then
  expect "doctor" 0 "wrote $work/machine.textproto" "$program" doctor --seconds 1 --threads-per-rank 1 --directory "$work" \
    --allow-buffered --out "$work/machine.textproto"
  [[ $output == *"cores: "*"locked memory: "*"F32   product  1024 x"*"step file-out"* ]] || failed "doctor said $output"
  if [[ ${#mpirun[@]} -gt 0 ]]; then
    expect "doctor under mpirun" 0 "wrote $work/ranks.textproto" with_ranks 2 "$program" doctor --seconds 1 \
      --threads-per-rank 1 --out "$work/ranks.textproto"
    [[ $output == *"transport: "*"network between 2 ranks of a node: "* ]] || failed "doctor under mpirun said $output"
    doctor=("$program" doctor --seconds 1 --threads-per-rank 1)
    expect "doctor where one rank cannot" 1 "angel-ptm: rank 1: --isa: wanted one of " "${mpirun[@]}" --oversubscribe \
      --bind-to none -np 1 "${doctor[@]}" : -np 1 "${doctor[@]}" --isa none
    expect "plan of what ranks measured" 0 "predicted step" "$program" plan "${common[@]}" --ranks 2 \
      --cluster "$work/ranks.textproto"
  fi
  expect "plan of what doctor measured" 0 "predicted step" "$program" plan "${common[@]}" --cluster "$work/machine.textproto" \
    --set memory.device_bytes=2000000 --set memory.host_bytes=4000000 --set "memory.nvme.directory=$work" \
    --set memory.page_bytes=8192
  expect "the largest model" 0 "one step more: " "$program" plan "${common[@]}" --cluster "$work/machine.textproto" \
    --find-largest-model --scale width --set memory.device_bytes=3000000 --set memory.host_bytes=4000000
  expect "the fastest run" 0 "candidates: " "$program" plan "${common[@]}" --cluster "$work/machine.textproto" --find-fastest
  expect "train by what doctor measured" 0 "saved $work/by_machine/checkpoints/step-00000004" train_in by_machine \
    --cluster "$work/machine.textproto"
fi
refused "a search without a cluster" "--find-fastest: wanted --cluster with it" "$program" plan "${common[@]}" --find-fastest
refused "doctor without a directory" "doctor: 1 of these keep runs from starting" "$program" doctor --directory "$work/nowhere"
refused "doctor of two processes" "they do not meet, and each would measure alone" env OMPI_COMM_WORLD_SIZE=2 "$program" doctor
[[ ${#mpirun[@]} -eq 0 ]] || refused "doctor told the ranks of mpirun" "--ranks: under mpirun the processes are the ranks" \
  with_ranks 2 "$program" doctor --ranks 2
refused "doctor of no ranks" "--ranks: wanted 1 to 64, got 0" "$program" doctor --ranks 0
refused "train by no cluster" "nowhere.textproto" "$program" train "${common[@]}" --cluster "$work/nowhere.textproto" \
  --set "output.directory=$work/refused"
[[ ! -e $work/run ]] || failed "plan wrote something"
expect "train" 0 "saved $work/run/checkpoints/step-00000004" train_in run --set communication.local_ranks=2 \
  --set evaluation.every_steps=2 --set output.log_every_steps=1
[[ $(grep "^arena" <<< "$output") == "$planned" ]] || failed "planned $planned, reserved $(grep "^arena" <<< "$output")"
line='^step 3/4  loss [0-9.]+  validation [0-9.]+ \([0-9.]+ bits/byte\)  grad_norm [0-9.]+  lr [0-9.e-]+  memory [0-9.]+ [KMG]iB  tps [0-9.]+( [kMG])?  tflops [0-9.e-]+  mfu [0-9.]+%  balance [0-9.]+  ETA [0-9.]+ s$'
grep -qE "$line" <<< "$output" || failed "no progress line in: $output"
[[ $(wc -l < "$work/run/metrics.jsonl") -eq 4 ]] || failed "metrics.jsonl has $(wc -l < "$work/run/metrics.jsonl") lines"
for key in step loss grad_norm learning_rate tokens_per_second validation_loss validation_bits_per_byte; do
  tail -n 1 "$work/run/metrics.jsonl" | grep -q "\"$key\": [0-9]" || failed "metrics.jsonl has no $key"
done

expect "inspect" 0 "every byte matches its checksum" "$program" inspect "$work/run" --verify
[[ $output == *"layers.1.mlp.experts.down_proj [4, 64, 64]"* ]] || failed "inspect lists no parameters"
expect "generate" 0 "--- a line" "$program" generate --checkpoint "$work/run" --prompt "a line" --prompt "b" --tokens 8
first=$output
printf '%s\n' '{"prompt": "b", "seed": 3}' '{"prompt": "a line"}' '{"prompt": "b", "seed": 3}' > "$work/prompts.jsonl"
expect "generate from a file" 0 "--- a line" \
  "$program" generate --checkpoint "$work/run" --prompts "$work/prompts.jsonl" --tokens 8 --output "$work/of_file.jsonl"
[[ $(sed -n '1p;3p' "$work/of_file.jsonl" | uniq | wc -l) == 1 ]] || failed "a prompt with a seed depends on its place"
expect "generate again" 0 "--- b" "$program" generate --checkpoint "$work/run" --prompt "a line" --prompt "b" --tokens 8
[[ $output == "$first" ]] || failed "the same seed gave another text"
expect "export" 0 "compared every tensor" "$program" export --checkpoint "$work/run" --format huggingface --output "$work/hf/"
# A run with an accepted budget is not killed, because the process's own memory is first subtracted from the control
# group's limit. Runs only where this test may create such a group.
group=/sys/fs/cgroup/memory/angel-ptm-test-$$
if mkdir "$group" 2> /dev/null; then
  echo $((170 << 20)) > "$group/memory.limit_in_bytes"
  in_group() {
    bash -c 'echo $$ > "$0/cgroup.procs" && exec "$@"' "$group" "$program" train "${common[@]}" --set steps=2 \
      --set "output.directory=$work/group" --set model.hunyuan_lm.hidden_size=512 --set numerics.threads_per_rank=1 \
      --set model.hunyuan_lm.intermediate_size=384 --set memory.page_bytes=1048576 --set memory.device_bytes=66000000 "$@"
  }
  expect "a budget of all of the group's memory" 1 "more than the rank's share of the machine's memory" \
    in_group --set memory.host_bytes=$(((170 << 20) - 66000000))
  # Skipped with sanitizers, whose own memory is in no budget.
  if [[ ! $(ldd "$program") =~ lib[at]san ]]; then
    share=$(sed -n 's/.*wanted at most \([0-9]*\) .*/\1/p' <<< "$output")
    expect "a budget of what is left" 0 "saved" in_group --set "memory.host_bytes=$((share - 66000000 - 1000000))"
  fi
  rmdir "$group"
fi

for file in config.json generation_config.json model.safetensors tokenizer.json tokenizer_config.json; do
  [[ -s $work/hf/$file ]] || failed "the export has no $file"
done
expect "export of one checkpoint" 0 "compared every tensor" "$program" export --format huggingface \
  --checkpoint "$work/run/checkpoints/step-00000002" --output "$work/hf2"
cmp -s "$work/hf/model.safetensors" "$work/hf2/model.safetensors" && failed "two checkpoints have the same weights"

if [[ ${#mpirun[@]} -gt 0 ]]; then
  expect "train under mpirun" 0 "saved" with_ranks 2 "$program" train "${common[@]}" --set "output.directory=$work/mpi" \
    --set steps=4 --set evaluation.every_steps=2
  grep -qE '^transport: (direct reads|messages \(.+\))$' <<< "$output" || failed "no transport in: $output"
  numbers() { grep -oE '"(step|loss|grad_norm|validation_[a-z_]*)": [^,}]+' "$work/$1/metrics.jsonl"; }
  diff <(numbers run) <(numbers mpi) || failed "threads and processes differ"
fi

# Datasets that are damaged, changed or of the previous version, and one that is truncated while a run reads it.
cp -r "$work/data" "$work/cut"
train_on_cut() { train_in "$1" --set "data.directory=$work/cut" "${@:2}"; }
sed -i 's/endoftext/eNdoftext/' "$work/cut/tokenizer_config.json"
expect "a changed tokenizer_config.json" 1 "$work/cut/tokenizer_config.json does not belong to its folder's dataset.json" \
  train_on_cut refused
cp "$work/data/tokenizer_config.json" "$work/cut"
sed -i -e '1c {' -e '/"tokenizer_config_xxh64"/d' -e 's/"version": 2/"version": 1/' "$work/cut/dataset.json"
expect "a dataset of version 1" 0 "note: $work/cut has dataset format version 1, which has no checksums" train_on_cut old
train_on_cut cut --set steps=1000000 --set output.log_every_steps=1 --set checkpoint.every_steps=0 > "$work/cut.log" 2>&1 &
pid=$!
if await_line "^step 1/" "$work/cut.log" $pid; then
  truncate -s 5000 "$work/cut/train.tokens"
  wait $pid
  got=$?
  [[ $got -eq 1 ]] || failed "a token file cut short in a run: exit code $got"
  expect "a token file cut short in a run" 0 "train.tokens was truncated while it was in use: expected" cat "$work/cut.log"
fi

# An average of the weights is kept beside them, evaluated, sampled from and exported. A run that starts to keep one
# says so.
averaging=(--set optimizer.ema_decay=0.5 --set evaluation.every_steps=2 --set evaluation.weights=EMA)
expect "train with an average" 0 "saved $work/average/checkpoints/step-00000004" train_in average "${averaging[@]}"
grep -o '"validation_loss": *[0-9.]*' "$work/average/metrics.jsonl" > "$work/of_average"
expect "train with an average, evaluating the last weights" 0 "saved" \
  train_in last "${averaging[@]}" --set evaluation.weights=LAST
grep -o '"validation_loss": *[0-9.]*' "$work/last/metrics.jsonl" > "$work/of_last"
[[ -s $work/of_last ]] || failed "nothing was evaluated"
cmp -s "$work/of_average" "$work/of_last" && failed "the average has the validation loss of the last weights"
expect "inspect an average" 0 "every byte matches" "$program" inspect "$work/average" --verify
expect "generate from an average" 0 "--- a" "$program" generate --checkpoint "$work/average" --prompt a --tokens 4 --weights ema
expect "export an average" 0 "compared every tensor" "$program" export --checkpoint "$work/average" --format huggingface \
  --weights ema --output "$work/hf-average"
expect "export the last weights" 0 "compared every tensor" "$program" export --checkpoint "$work/average" \
  --format huggingface --output "$work/hf-last"
cmp -s "$work/hf-average/model.safetensors" "$work/hf-last/model.safetensors" && failed "the average is exported as the last weights"
expect "an average that is not there" 1 "has no average of the weights" \
  "$program" generate --checkpoint "$work/run" --prompt a --tokens 4 --weights ema
expect "resume with a new average" 0 "the checkpoint has no ema: it starts as a copy of the parameters" \
  train_in run --resume --set steps=6 --set optimizer.ema_decay=0.5

# Frozen units keep their weights, and their checkpoints contain only weights.
expect "train with frozen units" 0 "saved $work/frozen/checkpoints/step-00000004" \
  train_in frozen --set "model.freeze=layers.0.*"
expect "inspect frozen units" 0 "every byte matches" "$program" inspect "$work/frozen" --verify
expect "resume frozen units" 0 "resumed" train_in frozen --set "model.freeze=layers.0.*" --resume --set steps=6

# A new user's first steps: init writes a commented configuration, which prepares and trains.
first_steps() { (cd "$work/first" && "$program" "$@"); }
mkdir "$work/first"
expect "init" 0 "wrote story.textproto" first_steps init story --input "$work/text"
expect "init does not overwrite" 1 "story.textproto exists already" first_steps init story
expect "prepare the starter" 0 "unigram entropy" first_steps prepare story.textproto --set data.prepare.vocabulary_size=512 \
  --set data.prepare.validation_fraction=0.1
expect "plan the starter" 0 "memory of a rank" first_steps plan --config story.textproto
expect "train the starter" 0 "saved runs/story/train/checkpoints/step-00000001" first_steps train story.textproto \
  --set steps=1 --set optimizer.schedule.warmup_steps=1 --set evaluation.every_steps=0

# The install target installs a program that runs, its configurations and the notices.
expect "install" 0 "" cmake --install "$build" --prefix "$work/installed"
expect "the installed program" 0 "commit" "$work/installed/bin/angel-ptm" --version
expect "an installed configuration" 0 "memory of a rank" "$work/installed/bin/angel-ptm" plan \
  --config "$work/installed/share/angel-ptm/configs/hunyuan_7b.textproto" --ranks 8
[[ -s $work/installed/share/doc/angel_ptm/LICENSE ]] || failed "no LICENSE installed"

finish "the program does what the README says"
