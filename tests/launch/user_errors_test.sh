#!/bin/bash
# User errors, made with the real program: each gets one clear sentence and a non-zero exit code, and leaves nothing
# half-written.
#   user_errors_test.sh <angel-ptm> <tiny_moe.textproto> <work folder> [mpirun words...]
source "$(dirname -- "${BASH_SOURCE[0]}")/program_testing.sh"
train() { train_in refused "$@"; }

refused "no config" "--config is missing" "$program" train
refused "missing config" "cannot read the config file '$work/none.textproto': No such file" "$program" train --config "$work/none.textproto"
refused "config that is a folder" "$work/text" "$program" train --config "$work/text"
printf 'steps: 3\nmodel { hunyuan_lm { hidden_sise: 3 } }\n' > "$work/bad.textproto"
refused "unknown field, with line and column" "$work/bad.textproto:2:22" "$program" train --config "$work/bad.textproto"
refused "wrong override" "learning_rat" "$program" train "${common[@]}" --set optimizer.adamw.learning_rat=1
refused "override that is no number" "wanted an integer, got 'many'" "$program" train "${common[@]}" --set steps=many
refused "a config without end" "wanted at most 16777216 bytes of text" "$program" train --config /dev/zero
printf '\xff\xfes\0t\0e\0p\0s\0:\0 \0003\0' > "$work/utf16.textproto"
refused "a config in UTF-16" "wanted text in UTF-8, got text in UTF-16" "$program" train --config "$work/utf16.textproto"
(printf '\xef\xbb\xbf'; sed 's|directory: "runs/tiny_moe/train"|directory: "'"$work"'/half\\000name"|' "$config") > "$work/zero.textproto"
refused "a zero byte in a path" 'output.directory: holds a control character, wanted a path without, got "'"$work"'/half\x00name"' \
  "$program" train --config "$work/zero.textproto" --set "data.directory=$work/data"
[[ ! -e $work/half ]] || failed "a folder of half the name was made"
refused "a line break in a path" 'data.directory: holds a control character' train --set "data.directory=$work/a
b"
for setting in optimizer.adamw.learning_rate=1e300 optimizer.adamw.epsilon=1e-46 model.hunyuan_lm.initializer_range=1e60 \
  model.hunyuan_lm.initializer_range=1e-50; do
  refused "beyond fp32: $setting" "${setting%=*}: too small or too large to compute with" train --set "$setting"
done
refused "a decay beyond fp32" "beta2: too close to 0 or 1 to compute with" train --set optimizer.adamw.beta2=0.99999999999
refused "no average to evaluate" "evaluation.weights: there is no average of the weights, wanted LAST, or optimizer.ema_decay" \
  train --set evaluation.every_steps=2 --set evaluation.weights=EMA
refused "an average that never moves" "optimizer.ema_decay: out of range" train --set optimizer.ema_decay=1
refused "several semantic errors, the first" "sharding.zero_stage: out of range, wanted 0 to 3, got 7" \
  train --set sharding.zero_stage=7 --set model.hunyuan_lm.moe_topk=99
refused "several semantic errors, the second" "model.hunyuan_lm.moe_topk: tokens cannot visit that many experts" \
  train --set sharding.zero_stage=7 --set model.hunyuan_lm.moe_topk=99
refused "batch that does not divide" "batch.global_batch_sequences: not whole micro-batches, wanted a multiple of" \
  train --set batch.global_batch_sequences=7 --set batch.micro_batch_sequences=2
refused "more ranks than micro-batches" "so some of the 3 ranks would have no work" \
  train --set batch.global_batch_sequences=2 --set communication.local_ranks=3
refused "unprepared data" "$work/data is not a finished dataset" train
refused "a plan without data" "prepare the data with angel-ptm prepare, or set model.hunyuan_lm.vocab_size" \
  "$program" plan "${common[@]}" --set model.hunyuan_lm.vocab_size=0
refused "missing text" "the input $work/nothing does not exist" \
  "$program" prepare "${common[@]}" --set "data.prepare.input=[\"$work/nothing\"]"
mkdir "$work/empty"
refused "empty text" "holds no text" "$program" prepare "${common[@]}" --set "data.prepare.input=[\"$work/empty\"]"
refused "vocabulary beyond the text" "the text supports only" \
  "$program" prepare "${common[@]}" --set data.prepare.vocabulary_size=60000 --set model.hunyuan_lm.vocab_size=60000
[[ ! -e $work/data/dataset.json ]] || failed "a refused prepare left a dataset"
prepare_images() {
  "$program" prepare "${common[@]}" --set "data.prepare.input=$work/images" --set data.prepare.images.source=FOLDER \
    --set "data.directory=$work/$1" --set data.prepare.validation_fraction=0 "${@:2}"
}
mkdir "$work/images"
# One red pixel.
base64 -d > "$work/images/a.png" <<< iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC
if [[ $(prepare_images refused 2>&1) != *"no image libraries"* ]]; then
  refused "an image without caption" "a.png has no caption, wanted $work/images/a.txt" prepare_images refused
  echo "a red square" > "$work/images/a.txt"
  head -c 50 "$work/images/a.png" > "$work/images/b.png"
  echo "another" > "$work/images/b.txt"
  refused "a damaged image" "b.png is a damaged PNG" prepare_images images_data
  [[ ! -e $work/images_data/dataset.json ]] || failed "a refused prepare left images"
  expect "damaged images that were declared" 0 "1 damaged images were left out" \
    prepare_images images_data --set data.prepare.images.damaged_max=1
  refused "images where text is wanted" 'format should be "angel-ptm text dataset"' \
    train --set "data.directory=$work/images_data"
fi
expect "prepare" 0 "unigram entropy" "$program" prepare "${common[@]}"

expect "fewer held-out sequences than asked for" 0 "held-out sequences, all of which are scored" \
  train_in few --set evaluation.every_steps=2 --set evaluation.sequences=100000
refused "vocabulary smaller than the tokenizer's" "model.hunyuan_lm.vocab_size: smaller than the tokenizer" \
  train --set model.hunyuan_lm.vocab_size=300
refused "sequence longer than the data" "a sequence length of 60000 is longer than the data" \
  train --set data.sequence_length=60000 --set model.hunyuan_lm.max_position_embeddings=60000
refused "head dimension the backend does not run" "takes an even head dimension from 2 to 256, got 512" \
  train --set model.hunyuan_lm.head_dim=512
refused "a GPU for what no CUDA kernel computes, products in fp32" "device: wanted CUDA, but " \
  train --set device=CUDA
refused "resume without a checkpoint" "--resume: there is no checkpoint in $work/refused/checkpoints" train --resume
refused "unknown argument" "unknown argument --fast; this command takes FILE, --config" "$program" train "${common[@]}" --fast
refused "a mistyped argument" "unknown argument --resum; did you mean --resume? this command" "$program" train "$config" --resum
refused "a single dash" "unknown argument -resume; did you mean --resume?" "$program" train "$config" -resume
refused "two configurations" "wanted one configuration, got $config and --config x" "$program" train "$config" --config x
refused "a mistyped command" "unknown command trian; did you mean train?" "$program" trian
refused "help on nothing" "no help on fly" "$program" help fly
refused "init without a name" "init: which NAME?" "$program" init
refused "init with a path" "init: wanted a name without '/'" "$program" init a/b
refused "unknown command" "unknown command fly" "$program" fly

# Budgets: the error names the tier, by how much it is too small, and changes that really fit.
tight=(--set memory.recomputation=NONE --set batch.micro_batch_sequences=4)
budget() { train "${tight[@]}" "$@"; }
refused "device budget too small" "does not fit: memory.device_bytes is 97.7 KiB (100000), the least that works is" \
  budget --set memory.device_bytes=100000
least=$(sed -n 's/.*the least that works is [^(]*(\([0-9]*\)).*/\1/p' <<< "$output")
expect "the least device budget works" 0 "saved" train_in least "${tight[@]}" --set "memory.device_bytes=$least"
refused "three percent less does not" "more; " budget --set "memory.device_bytes=$((least * 97 / 100))"
changes=$(sed -n 's/.*; or set //p' <<< "$output")
[[ -n $changes ]] || failed "no changes that would fit are named"
number=0
while IFS= read -r change; do
  number=$((number + 1))
  expect "suggested change: $change" 0 "saved" train_in "change$number" "${tight[@]}" \
    --set "memory.device_bytes=$((least * 97 / 100))" --set "$change"
done < <(sed 's/, or /\n/g' <<< "$changes")
refused "host budget too small" "memory.host_bytes is 4.00 KiB (4096), the least that works is" \
  train --set memory.device_bytes=4000000 --set memory.host_bytes=4096
# The file tier.
offloaded=(train --set memory.page_bytes=8192 --set memory.device_bytes=4000000 --set memory.host_bytes=300000)
in_files() { refused "$1" "$2" "${offloaded[@]}" --set "memory.nvme.directory=$3" "${@:4}"; }
refused "no file tier where one would help" "or give the run a file tier, memory.nvme" "${offloaded[@]}"
in_files "file tier in a missing folder" "there is no such directory" "$work/no_pages"
in_files "file tier in a file" "it is not a directory" "$work/bad.textproto"
in_files "file tier too small" "of state rest in the file tier, memory.nvme.bytes is 8.00 KiB (8192): raise it by" "$work" \
  --set memory.nvme.bytes=8192
in_files "pages smaller than two blocks" "memory.page_bytes: too small for memory.nvme, wanted at least 8192, got 4096" \
  "$work" --set memory.page_bytes=4096
refused "room without a folder" "memory.nvme.directory: not set, but memory.nvme.bytes is" train --set memory.nvme.bytes=65536
if [[ $(stat -f -c %T /dev/shm 2> /dev/null) == tmpfs ]]; then
  in_files "file tier in memory" "choose a directory on a drive or allow buffered I/O" /dev/shm
fi
refused "more than the machine has: which tier, by how much" "TiB more" train --set model.hunyuan_lm.hidden_size=65536 \
  --set model.hunyuan_lm.intermediate_size=131072 --set model.hunyuan_lm.num_hidden_layers=64
[[ $output == *"does not fit: the device tier needs"* ]] || failed "which tier: $output"

# Damaged data. flip <file> <offset> damages two bytes; restore puts the prepared data back.
good=$work/good
cp -r "$work/data" "$good"
restore() { rm -rf "$work/data" && cp -r "$good" "$work/data"; }
flip() { printf '\xff\xff' | dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }
truncate -s -100 "$work/data/train.tokens"
refused "truncated token file" "token file $work/data/train.tokens is truncated" train
restore
flip "$work/data/train.tokens" 5000
refused "bit-flipped token file" "token file $work/data/train.tokens is damaged" train
restore
flip "$work/data/validation.tokens" 5000
refused "bit-flipped validation file" "$work/data/validation.tokens is damaged" train --set evaluation.every_steps=2
restore
rm "$work/data/train.tokens"
refused "missing token file" "cannot open $work/data/train.tokens" train
mkdir "$work/data/train.tokens"
refused "unreadable token file" "$work/data/train.tokens" train
restore
rm "$work/data/tokenizer.json"
refused "missing tokenizer" "cannot open $work/data/tokenizer.json" train
restore
flip "$work/data/tokenizer.json" 3000
refused "damaged tokenizer" "$work/data/tokenizer.json" train
restore

# Checkpoints.
expect "a run" 0 "saved" train_in run
refused "a pattern that freezes nothing" 'model.freeze: "layer.*" matches no unit, wanted some of embedding, layers.0.dense' \
  train --set 'model.freeze=layer.*'
refused "everything frozen" "model.freeze: leaves nothing to train" train --set 'model.freeze=*'
refused "an output that exists" "step-00000004 exists already: continue it with --resume" train_in run
refused "a checkpoint of another model" "is of another model: model.hunyuan_lm.intermediate_size: wanted 64, got 128" \
  train_in run --resume --set model.hunyuan_lm.intermediate_size=128 --set steps=6
newest=$work/run/checkpoints/step-00000004
cp -r "$newest" "$work/copy"
put_back() { rm -rf "$newest" && cp -r "$work/copy" "$newest"; }
shard=$(ls "$newest"/rank-*.safetensors | head -n 1)
flip "$shard" $(($(stat -c %s "$shard") / 2))
refused "bit-flipped checkpoint" "the checkpoint is damaged: $shard" train_in run --resume --set steps=6
refused "bit-flipped checkpoint, inspected" "the checkpoint is damaged: $shard" "$program" inspect "$newest" --verify
put_back
truncate -s -64 "$shard"
refused "truncated checkpoint" "the checkpoint is damaged: $shard has" train_in run --resume --set steps=6
put_back
flip "$newest/manifest.json" 200
refused "damaged manifest" "$newest/manifest.json is damaged: its checksum is" train_in run --resume --set steps=6
put_back
expect "resume" 0 "resumed" train_in run --resume --set steps=6
for command in "generate --prompt a --checkpoint" "export --format huggingface --output $work/refused --checkpoint" inspect; do
  # shellcheck disable=SC2086  # words of a command
  refused "${command%% *} without a checkpoint" "no checkpoint in $work/nowhere" "$program" $command "$work/nowhere"
done
refused "export over a folder that is not empty" "$work/copy exists and is not empty" \
  "$program" export --checkpoint "$work/run" --format huggingface --output "$work/copy"
refused "export in an unknown format" "--format: wanted huggingface or diffusers, got onnx" \
  "$program" export --checkpoint "$work/run" --format onnx --output "$work/refused"

# Numbers on the command line.
refused "no ranks" "--ranks: wanted 1 to 65536, got 4294967296" "$program" plan "${common[@]}" --ranks 4294967296
for word in "tokens=9223372036854775807" "tokens=0" "temperature=nan" "temperature=-1" "top-k=-1" "top-p=0" \
    "top-p=1.5" "top-p=nan" "seed=-1" "seed=18446744073709551616"; do
  refused "generate --$word" "--${word%=*}: wanted " "$program" generate --checkpoint "$work/run" --prompt a "--$word"
done

echo '{"prompt": "a", "negative": "b"}' > "$work/negative.jsonl"
refused "a text's negative" "--negative-prompt: the checkpoint's model makes texts" \
  "$program" generate --checkpoint "$work/run" --prompt a --negative-prompt b
refused "a text's negative in a file" "--prompts: prompt 1 has a negative or a size, the checkpoint's model makes texts" \
  "$program" generate --checkpoint "$work/run" --prompts "$work/negative.jsonl"
expect "the greatest seed" 0 "--- a" "$program" generate --checkpoint "$work/run" --prompt a --tokens 2 \
  --seed 18446744073709551615 --output "$work/seeded.jsonl"
[[ $(< "$work/seeded.jsonl") == *'"seed":18446744073709551615'* ]] || failed "the seed that is noted: $(< "$work/seeded.jsonl")"
# An output that cannot be written is refused before anything is computed. Texts are printed before they are added to
# the file.
texts_to() { "$program" generate --checkpoint "$work/run" --prompt a --tokens 2 --output "$@"; }
refused "texts into a file's folder" "$work/seeded.jsonl" texts_to "$work/seeded.jsonl/x" --prompt ""
refused "no texts, no output" "--prompt: wanted at least one character" texts_to "$work/refused" --prompt ""
expect "texts into a full device" 1 "--- a" texts_to /dev/full

# Under mpirun, one rank reports a mistake, not every rank.
if [[ ${#mpirun[@]} -gt 0 ]]; then
  refused "a mistake on two ranks" "sharding.zero_stage: out of range" with_ranks 2 "$program" train "${common[@]}" \
    --set "output.directory=$work/refused" --set sharding.zero_stage=7
  refused "missing data on two ranks" "$work/none is not a finished dataset" with_ranks 2 "$program" train "${common[@]}" \
    --set "output.directory=$work/refused" --set "data.directory=$work/none"
  refused "more processes than micro-batches" "so some of the 3 ranks would have no work" with_ranks 3 "$program" train \
    "${common[@]}" --set "output.directory=$work/refused" --set batch.global_batch_sequences=2
  stage() { echo "$program" train "${common[@]}" --set "output.directory=$work/refused" --set "sharding.zero_stage=$1"; }
  # shellcheck disable=SC2046  # words of a command
  refused "ranks with different configurations" "rank 1 plans #0 reduce-scatter" with_ranks 1 $(stage 3) : -np 1 $(stage 2)
fi

finish "all user errors are answered"
