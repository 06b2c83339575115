#!/bin/bash
# A model whose states take more than six times the device's budget and twice the host's trains on two ranks. Resident
# memory is at most 1.02 x the budgets and 128 MiB for each rank, and the losses are those of a run with all states in
# memory.
#   memory_budget_test.sh <angel-ptm> <tiny_moe.textproto> <work folder>
source "$(dirname -- "${BASH_SOURCE[0]}")/program_testing.sh" "$@"

device=40000000 host=120000000
shape=(--set model.hunyuan_lm.num_experts=0 --set model.hunyuan_lm.moe_topk=0 --set model.hunyuan_lm.router_aux_loss_coefficient=0
       --set model.hunyuan_lm.hidden_size=512
       --set model.hunyuan_lm.intermediate_size=1536 --set model.hunyuan_lm.num_hidden_layers=12
       --set model.hunyuan_lm.num_attention_heads=8 --set model.hunyuan_lm.num_key_value_heads=4
       --set model.hunyuan_lm.head_dim=64 --set communication.local_ranks=2 --set batch.global_batch_sequences=2
       --set sharding.zero_stage=3 --set memory.page_bytes=1048576 --set steps=2 --set checkpoint.every_steps=0)
budgets=(--set "memory.device_bytes=$device" --set "memory.host_bytes=$host" --set "memory.nvme.directory=$work/pages"
         --set memory.nvme.allow_buffered=true)

# peak_of <run> <arguments...>: trains and sets $peak to the process's peak of resident memory.
peak_of() {
  local run=$1 pid now
  shift
  "$program" train "${common[@]}" "${shape[@]}" --set "output.directory=$work/$run" "$@" > "$work/$run.log" 2>&1 &
  pid=$!
  peak=0
  # The kernel records the peak, so only a run's last moments may be missed.
  while now=$(sed -n 's/^VmHWM:[[:space:]]*\([0-9]*\) kB/\1/p' "/proc/$pid/status" 2> /dev/null) && [[ -n $now ]]; do
    peak=$((now * 1024))
    sleep 0.05
  done
  wait "$pid" || { failed "$run ended with an error"; tail -n 5 "$work/$run.log"; }
}
bytes_of() { sed -n "s/^the same in bytes *\([0-9-]*\) *\([0-9-]*\) *\([0-9-]*\)\$/\\$2/p" "$work/$1.log"; }
losses() { grep -o '"loss": [^,]*, "grad_norm": [^,]*' "$work/$1/metrics.jsonl"; }

mkdir -p "$work/pages"
expect "prepare" 0 "unigram entropy" "$program" prepare "${common[@]}"
peak_of budgets "${budgets[@]}"
allowed=$((2 * (102 * (device + host) / 100 + (128 << 20))))
millions=$(sed -n 's/^model: \([0-9]*\)\..*/\1/p' "$work/budgets.log")
states=$((${millions:-0} * 1000000 * 16 / 2))
[[ $states -gt $((6 * device)) && $states -gt $((2 * host)) ]] || failed "only $states bytes of states a rank"
[[ $(bytes_of budgets 1) -le $device && $(bytes_of budgets 2) -le $host ]] || failed "the plan exceeds its budgets"
[[ $peak -gt 0 && $peak -le $allowed ]] || failed "resident memory: wanted at most $allowed bytes, got $peak"
echo "resident memory: $peak bytes of $allowed; states $((2 * states)) bytes"

peak_of resident
[[ $peak -gt $allowed ]] || failed "the run without budgets takes $peak bytes: the test shows nothing"
[[ $(losses budgets | wc -l) -eq 2 && $(losses budgets) == "$(losses resident)" ]] || failed "budgets changed the losses"
finish "a run keeps to its budgets"
