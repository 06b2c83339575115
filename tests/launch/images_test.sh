#!/bin/bash
# Images with captions through the whole program: prepared, planned, trained, sampled. Flags for the other kind of model
# are refused.
#   images_test.sh <angel-ptm> <tiny_dit.textproto> <work folder> <autoencoder>
# Exit code 77, skipped: a build without image libraries.
source "$(dirname -- "${BASH_SOURCE[0]}")/program_testing.sh" "${@:1:3}"
autoencoder=$4

mkdir "$work/images"
# One red and one blue pixel; prepare makes them larger.
base64 -d > "$work/images/a.png" <<< iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC
base64 -d > "$work/images/b.png" <<< iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYPgPAAEDAQAIicLsAAAAAElFTkSuQmCC
echo "a red square" > "$work/images/a.txt"
echo "a blue square" > "$work/images/b.txt"
dit=(--config "$config" --set "data.directory=$work/data" --set model.dit.height=8 --set model.dit.hidden_size=32
     --set model.dit.num_hidden_layers=1 --set model.dit.text_hidden_size=16 --set model.dit.num_attention_heads=2
     --set model.dit.text_num_attention_heads=2 --set model.dit.text_num_hidden_layers=1 --set model.dit.text_vocab_size=0
     --set batch.global_batch_sequences=4 --set batch.micro_batch_sequences=2 --set evaluation.every_steps=0
     --set optimizer.schedule.warmup_steps=1 --set steps=4 --set checkpoint.every_steps=2
     --set sampling.every_steps=2 --set "sampling.prompt=a red square" --set "sampling.prompt=方")
prepare() {
  "$program" prepare "${dit[@]}" --set data.prepare.images.source=FOLDER --set "data.prepare.input=$work/images" \
    --set data.prepare.images.height=8 --set data.prepare.images.width=8 --set data.prepare.validation_fraction=0 \
    --set data.prepare.vocabulary_size=258
}
output=$(prepare 2>&1)
if [[ $output == *"no image libraries"* ]]; then
  echo "skipped: a build without image libraries"
  exit 77
fi
expect "prepare" 0 "2 images for training" prepare
expect "plan" 0 "least memory.device_bytes that works" "$program" plan "${dit[@]}" --ranks 2
expect "train" 0 "saved $work/run/checkpoints/step-00000004" \
  "$program" train "${dit[@]}" --set "output.directory=$work/run" --set communication.local_ranks=2
for step in 2 4; do
  [[ $(tail -n 1 "$work/run/samples/step-0000000$step/samples.jsonl") == '{"image":"0001.png","prompt":"方","step":'$step* ]] ||
    failed "no samples of step $step"
done
grep -q "<table class=\"progress\">" "$work/run/report.html" || failed "the report shows no samples"
expect "resume" 0 "saved $work/run/checkpoints/step-00000006" \
  "$program" train "${dit[@]}" --set "output.directory=$work/run" --set steps=6 --resume
refused "a resume of another model" "is of another model: model.dit.rope_theta" \
  "$program" train "${dit[@]}" --set "output.directory=$work/run" --set steps=8 --set model.dit.rope_theta=9 --resume
refused "images of other colours" "model.dit.channels: the images of $work/data have another number of channels, wanted 3" \
  "$program" train "${dit[@]}" --set "output.directory=$work/refused" --set model.dit.channels=1
refused "classes that are not there" "model.dit.class_count: the images of $work/data have another number of classes" \
  "$program" train "${dit[@]}" --set "output.directory=$work/refused" --set model.dit.class_count=3 --set model.dit.text_length=0

sample() { "$program" generate --checkpoint "$work/run" --prompt "a red square" --prompt "方" --steps 2 "$@"; }
expect "generate" 0 "4 images and $work/samples/sheet.png" sample --images 2 --weights ema --output "$work/samples"
for file in 0000 0001 0002 0003 sheet; do
  [[ $(head -c 4 "$work/samples/$file.png" | tail -c 3) == PNG ]] || failed "$work/samples/$file.png is no PNG"
done
[[ $(tail -n 1 "$work/samples/samples.jsonl") == '{"image":"0003.png","prompt":"方","step":'* ]] || failed "samples.jsonl names no prompts"
expect "the same again" 0 "4 images" sample --images 2 --weights ema --output "$work/again"
cmp "$work/samples/0003.png" "$work/again/0003.png" || failed "the same seed gave other images"
expect "an expert of itself" 0 "4 images" sample --images 2 --weights ema --expert "$work/run:500-1000" --output "$work/again"
cmp "$work/samples/0003.png" "$work/again/0003.png" || failed "an expert of the same weights gave other images"
expect "an older expert" 0 "4 images" \
  sample --images 2 --weights ema --expert "$work/run/checkpoints/step-00000004:0-501" --output "$work/again"
! cmp -s "$work/samples/0003.png" "$work/again/0003.png" || failed "an expert of other weights gave the same images"
# Prompts from a file, one of them with its own seed and negative prompt: its image does not depend on its place in the
# file.
printf '%s\n' '{"prompt": "方"}' '{"prompt": "a red square", "seed": 5, "negative": "方"}' > "$work/prompts.jsonl"
echo '{"prompt": "a red square", "negative": "方", "seed": 5}' > "$work/one.jsonl"
asked() { "$program" generate --checkpoint "$work/run" --steps 2 --prompts "$work/$1.jsonl" --output "$work/$1" "${@:2}"; }
expect "prompts of a file" 0 "3 images" asked prompts --prompt "a blue square"
expect "one alone" 0 "1 images" asked one
cmp "$work/prompts/0002.png" "$work/one/0000.png" || failed "a prompt with a seed depends on its place"
grep -q '"prompt":"a red square".*"seed":5}' "$work/prompts/samples.jsonl" || failed "samples.jsonl lacks the prompt's own seed"
# A call with fewer images replaces all images of an earlier call and nothing else.
cp "$work/samples/sheet.png" "$work/samples/0007.png"
expect "fewer images" 0 "note: removed 2 images of an earlier call from $work/samples" sample --output "$work/samples"
[[ $(cd "$work/samples" && echo *) == "0000.png 0001.png 0007.png samples.jsonl sheet.png" ]] ||
  failed "what is left of an earlier call: $(ls "$work/samples")"
expect "another negative" 0 "1 images" asked one --guidance 5
! cmp -s "$work/prompts/0002.png" "$work/one/0000.png" || failed "guidance changed nothing"
refused "a negative without guidance" "--guidance: 1 leads away from nothing, wanted another for the negative prompt \"方\"" \
  asked one --guidance 1
refused "two negatives" "--negative-prompt: wanted one for all prompts, got 2; a prompt's own is \"negative\" in a .jsonl" \
  sample --negative-prompt a --negative-prompt b --output "$work/refused"
refused "a negative of no prompt" "--negative-prompt: every prompt has a \"negative\" of its own, wanted none, got \"a\"" \
  asked one --negative-prompt a
sed -i 's/"negative": "方"/"size": "8x8"/' "$work/one.jsonl"
refused "a size of pixels" "\"size\": the checkpoint's model makes images of one size, got 8x8" asked one
refused "experts at once" "--expert: wanted times that do not overlap, got 0-500 and 400-1000" \
  sample --expert "$work/run:400-1000" --expert "$work/run:0-500" --output "$work/refused"
refused "an expert without times" "--expert: wanted DIR:FROM-TO with 0 <= FROM < TO <= 1000, got $work/run" \
  sample --expert "$work/run" --output "$work/refused"
refused "a text's flag" "--tokens: the checkpoint's model makes images" sample --tokens 3 --output "$work/refused"
refused "no folder for images" "--output is missing" sample
# The output is checked before anything that costs time, and before the prompts.
refused "a folder in a file" "$work/prompts.jsonl" sample --guidance 1 --negative-prompt x --output "$work/prompts.jsonl/images"
refused "a folder that is a file" "$work/prompts.jsonl" sample --guidance 1 --negative-prompt x --output "$work/prompts.jsonl"
refused "another sampler" "--sampler: wanted euler, ddpm, ddim or dpm-solver, got \"heun\"" sample --sampler heun --output "$work/refused"
refused "too many steps" "--steps: wanted 1 to 1000, got 2000" sample --steps 2000 --output "$work/refused"
refused "an export of images" "--format: huggingface is for models of model.hunyuan_lm" \
  "$program" export --checkpoint "$work/run" --format huggingface --output "$work/refused"

encode() { "$program" encode --images "$work/data" --autoencoder "$autoencoder" "$@"; }
expect "encode" 0 "2 latents in $work/latents.safetensors, 0 from the cache" \
  encode --output "$work/latents.safetensors" --cache "$work/cache"
expect "encode again" 0 "2 latents in $work/again.safetensors, 2 from the cache" \
  encode --output "$work/again.safetensors" --cache "$work/cache"
cmp "$work/latents.safetensors" "$work/again.safetensors" || failed "the cache gave other latents"
refused "no validation images" "$work/data has no validation images" encode --split validation --output "$work/refused"
refused "another posterior" "--posterior: wanted mean or sample, got \"mode\"" encode --posterior mode --output "$work/refused"
refused "no output" "--output is missing" encode
refused "no autoencoder" "$work/data/config.json" \
  "$program" encode --images "$work/data" --autoencoder "$work/data" --output "$work/refused"
finish "images through the whole program"
