#!/bin/bash
# The program with checkpoints that are missing, unreadable or damaged, and its exports.
#   checkpoints_test.sh <angel-ptm> <tiny_moe.textproto> <work folder>
source "$(dirname -- "${BASH_SOURCE[0]}")/program_testing.sh"
train() { train_in run "$@"; }
expect "prepare" 0 "unigram entropy" "$program" prepare "${common[@]}"
# A job that may be queued again: what a killed first save left is not a checkpoint.
checkpoints=$work/run/checkpoints
mkdir -p "$checkpoints/step-00000002.tmp"
touch "$checkpoints/step-00000002.tmp/manifest.json"
expect "resume where there is none" 1 "--resume: there is no checkpoint in $checkpoints" train --resume
expect "resume or start where there is none" 0 "no checkpoint in $checkpoints: the run starts from its first step" \
  train --resume-or-start
expect "resume or start again" 0 "nothing to do: step 4 is reached" train --resume-or-start

# A path that cannot be read does not make the program take an older checkpoint, or crash.
long=$(printf 'x%.0s' $(seq 1 300))
expect "a name that is too long" 1 "File name too long" "$program" inspect "$work/$long"
expect "a file" 1 "Not a directory" "$program" inspect "$config"
expect "nothing there" 1 "no checkpoint in $work/none" "$program" inspect "$work/none"
ln -s step-00000006 "$checkpoints/step-00000006"
expect "inspect beside a newest that cannot be looked into" 1 "step-00000006" "$program" inspect "$work/run"
expect "resume beside a newest that cannot be looked into" 1 "step-00000006" train --resume --set steps=6
expect "a new run where a checkpoint cannot be looked into" 1 "step-00000006" train
rm "$checkpoints/step-00000006"
mv "$checkpoints/step-00000004/manifest.json" "$work/manifest.json"
expect "the newest is incomplete: which is taken" 0 "step-00000002" "$program" inspect "$work/run"
expect "the newest is incomplete: a warning" 0 "warning: ignored $checkpoints/step-00000004" "$program" inspect "$work/run"
mv "$work/manifest.json" "$checkpoints/step-00000004/manifest.json"

# A damaged newest checkpoint is refused with a way out. A checkpoint renamed to a later step does not count as newer.
saved=$checkpoints/step-00000004/rank-00000-of-00001.safetensors
cp "$saved" "$work/saved"
printf 'x' | dd of="$saved" bs=1 seek="$(($(stat -c %s "$saved") / 2))" conv=notrunc status=none
expect "resume of a damaged newest" 1 "damaged" train --resume --set steps=6
[[ $output == *"the checkpoint of step 2 is whole: to go on from it, resume with --resume-from 2"* ]] ||
  failed "resume of a damaged newest: no way out: $output"
cp "$work/saved" "$saved"
mv "$checkpoints/step-00000002" "$checkpoints/step-00000099"
for command in "inspect $work/run" "inspect --verify $work/run" "generate --checkpoint $work/run --prompt a"; do
  # shellcheck disable=SC2086
  expect "a renamed checkpoint: ${command%% *}" 1 "step-00000099 is named 99, holds step 2" "$program" $command
done
expect "a renamed checkpoint: resume" 1 "is named 99, holds step 2" train --resume --set steps=6
[[ $output == *"resume with --resume-from 4"* ]] || failed "a renamed checkpoint: no way out: $output"
mv "$checkpoints/step-00000099" "$checkpoints/step-00000002"

# Returning to an older checkpoint sets the newer ones aside, so that the next --resume takes the new course.
expect "resume from a step without a checkpoint" 1 "there is no checkpoint of step 3 in $checkpoints, which has those of steps 2, 4" \
  train --resume-from 3 --set steps=6
expect "resume from what is no step" 1 "--resume-from: wanted a whole number, got two" train --resume-from two
cp -r "$work/run" "$work/back"
expect "resume from an older one" 0 "resumed $work/back/checkpoints/step-00000002 at step 2" \
  train_in back --resume-from 2 --set steps=5 --set optimizer.adamw.beta1=0.8
[[ $output == *"what is learned changes from here on: "*"optimizer.adamw.beta1: 0.9 -> 0.8"* ]] || failed "no note of beta1: $output"
[[ -d $work/back/set-aside/step-00000004 && -s $work/back/set-aside/metrics.jsonl ]] || failed "the newer one is not set aside"
[[ $(wc -l < "$work/back/metrics.jsonl") -eq 5 ]] || failed "the metrics have $(wc -l < "$work/back/metrics.jsonl") lines"
# Other kernels of the matrix library give other last bits, which a note reports.
for core in NEHALEM HASWELL; do
  expect "resume with kernels for $core" 0 "resumed" env OPENBLAS_CORETYPE=$core "$program" train "${common[@]}" \
    --set "output.directory=$work/run" --set steps=4 --resume
  grep -q "^note: the numerics change: matrix library OpenBLAS .*: the run continues within rounding" <<< "$output" && noted=1
done
[[ ${noted:-0} -eq 1 ]] || failed "no note of another matrix library: $output"
expect "resume after that" 0 "nothing to do: step 5 is reached" train_in back --resume --set steps=5

# Exports.
export_to() { "$program" export --checkpoint "$work/run" --format huggingface --output "$@"; }
expect "export to a name that ends in a slash" 0 "compared every tensor" export_to "$work/exported/"
expect "export: for the model's lengths" 0 '"model_max_length": ' cat "$work/exported/tokenizer_config.json"
expect "export: what the model takes" 0 '"model_input_names": [' cat "$work/exported/tokenizer_config.json"
for file in tokenizer.json tokenizer_config.json; do
  copied=$checkpoints/step-00000004/$file
  cp "$copied" "$work/copied"
  sed -i 's/pad/PAD/' "$copied"
  expect "export of a damaged $file" 1 "$copied has checksum" export_to "$work/damaged"
  cp "$work/copied" "$copied"
done
[[ ! -e $work/damaged ]] || failed "export: something is left"

finish "the program answers"
