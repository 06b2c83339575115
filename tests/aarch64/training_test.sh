#!/bin/bash
# The program for another processor prepares, trains, is killed and resumed, samples and exports. It reproduces its bits
# and agrees with this machine's program within rounding.
#   training_test.sh <angel-ptm, emulated> <tiny_moe.textproto> <work folder> <angel-ptm of this machine>
native=$4
source "$(dirname -- "${BASH_SOURCE[0]}")/../launch/program_testing.sh" "${@:1:3}"
small=("${common[@]}" --set data.sequence_length=16 --set model.hunyuan_lm.max_position_embeddings=16
       --set batch.global_batch_sequences=2)
# Bytes above 127 show whether char is signed.
for i in $(seq 1 60); do echo "第 $i 页：über $((i * 31 % 17)) naïve façades → ½ ☃ é"; done > "$work/text/e.txt"

expect "version" 0 "CPU kernels for portable" "$program" --version
expect "the code in use" 0 "in use: kernels for portable" "$program" --version
[[ $output =~ OpenBLAS\ [0-9.]+.*,\ core\ [A-Za-z0-9]+ ]] || failed "no matrix library named: $output"
refused "a level of another processor" "--isa: wanted one of portable" "$program" train "${small[@]}" --isa avx512 \
  --set output.directory="$work/refused"
expect "prepare" 0 "unigram entropy" "$program" prepare "${small[@]}"

# run <program> <name> <arguments...>: trains four steps with a checkpoint after every second.
run() {
  local with=$1 name=$2
  shift 2
  "$with" train "${small[@]}" --isa portable --set "output.directory=$work/$name" --set steps=4 \
    --set checkpoint.every_steps=2 "$@"
}
numbers() { grep -oE '"(loss|grad_norm)": [^,}]+' "$work/$1/metrics.jsonl"; }
weights() { cat "$work/$1"/checkpoints/step-00000004/*.safetensors | cksum; }
# same <name> <name>: each run has eight numbers, equal bit for bit.
same() {
  [[ $(numbers "$1" | wc -l) -eq 8 && $(numbers "$1") == "$(numbers "$2")" ]] ||
    failed "$1 and $2 differ: $(numbers "$1" | tail -n 2), $(numbers "$2" | tail -n 2)"
}
# near <name> <name> <relative difference>
near() {
  paste -d' ' <(numbers "$1") <(numbers "$2") | awk -v most="$3" '
    {d = $2 - $4; if (d < 0) d = -d; if (d > worst * $2) worst = d / $2}
    END {print "   relative difference of " NR " numbers: " worst + 0; exit !(NR == 8 && worst <= most)}' ||
    failed "$1 and $2 are farther apart than $3"
}

if [[ -x $native ]]; then
  expect "prepare here" 0 "unigram entropy" "$native" prepare "${small[@]}" --set "data.directory=$work/data-here"
  diff -r "$work/data" "$work/data-here" || failed "the datasets differ"
else
  echo "not compared with this machine's program: there is no $native"
fi

dense=(--set model.hunyuan_lm.num_experts=0 --set model.hunyuan_lm.moe_topk=0 --set model.hunyuan_lm.router_aux_loss_coefficient=0
       --set model.hunyuan_lm.tie_word_embeddings=true)
# check <name> <relative difference to this machine's> <arguments...>: checks one model and type.
check() {
  local name=$1 most=$2
  shift 2
  expect "$name" 0 "kernels for: portable (forced)" run "$program" "$name" "$@"
  expect "$name, two ranks" 0 "saved" run "$program" "$name-2" "$@" --set communication.local_ranks=2
  expect "$name, two ranks again, sharded otherwise" 0 "saved" run "$program" "$name-again" "$@" \
    --set communication.local_ranks=2 --set sharding.zero_stage=1 --set memory.page_bytes=16384
  same "$name-2" "$name-again"
  near "$name" "$name-2" "$most"
  [[ ! -x $native ]] || { expect "$name here" 0 "saved" run "$native" "$name-here" "$@" && near "$name" "$name-here" "$most"; }
}
check moe 1e-4
check dense 1e-4 "${dense[@]}"
check moe-bf16 2e-2 --set numerics.compute=BF16
check dense-bf16 2e-2 "${dense[@]}" --set numerics.compute=BF16
[[ $(numbers moe) != "$(numbers moe-bf16)" ]] || failed "bf16 has the bits of fp32: nothing is compared"

# A run killed after its first checkpoint ends with the bits of one that was not killed.
run "$program" killed --set communication.local_ranks=2 --set output.log_every_steps=1 > "$work/killed.log" 2>&1 &
pid=$!
until grep -q "^step 3/" "$work/killed.log" || ! kill -0 $pid 2> /dev/null; do sleep 0.05; done
kill -KILL $pid 2> /dev/null
wait $pid 2> /dev/null
[[ ! -d $work/killed/checkpoints/step-00000004 ]] || echo "   it was over before it was killed"
expect "resume" 0 "at step 2" run "$program" killed --resume-from 2 --set communication.local_ranks=2
same moe-2 killed
[[ $(weights moe-2) == "$(weights killed)" ]] || failed "the weights differ"
[[ $(weights moe-2) != "$(weights moe)" ]] || failed "the comparison of weights finds nothing"

expect "inspect" 0 "every byte matches its checksum" "$program" inspect "$work/moe-2" --verify
expect "generate" 0 "--- 页 über" "$program" generate --checkpoint "$work/moe-2" --prompt "页 über" --tokens 4
expect "export" 0 "compared every tensor" "$program" export --checkpoint "$work/moe-2" --format huggingface --output "$work/hf"
if [[ -x $native ]]; then
  # Each processor reads what the other has written and continues from it, and says that the last bits differ.
  expect "inspect here" 0 "every byte matches its checksum" "$native" inspect "$work/moe-2" --verify
  expect "resume of this machine's run" 0 "resumed" run "$program" moe-here --resume --set steps=5
  grep -q "^note: the numerics change: .*matrix library OpenBLAS" <<< "$output" || failed "no note of other numerics: $output"
fi
# Little memory, so that pages move to the host and to files; the bits stay the same.
expect "little memory" 0 "file tier: " run "$program" little --set communication.local_ranks=2 \
  --set "memory.nvme.directory=$work" --set memory.nvme.allow_buffered=true --set memory.device_bytes=1000000 \
  --set memory.host_bytes=1000000 --set memory.page_bytes=8192
same moe-2 little
finish "the program of another processor agrees with this one's"
