#!/bin/bash
# One program for every x86-64 processor: it trains on emulated processors without AVX, and with AVX2 alone.
#   old_cpu_test.sh <angel-ptm> <tiny_moe.textproto> <work folder>
# Exit code 77, skipped: no qemu-x86_64 on this machine, or another architecture.
command -v qemu-x86_64 > /dev/null || { echo "skipped: no qemu-x86_64 (Debian's qemu-user)"; exit 77; }
[[ $(uname -m) == x86_64 ]] || { echo "skipped: not an x86-64 machine"; exit 77; }
source "$(dirname -- "${BASH_SOURCE[0]}")/program_testing.sh" "$@"

expect "prepare" 0 "entropy" "$program" prepare "${common[@]}" --set data.sequence_length=16
# Without this, the program would start itself again, on the real processor.
export GOMP_SPINCOUNT=1000
# train_on <processor> <arguments...>: trains two steps of one sample.
train_on() {
  local processor=$1
  shift
  qemu-x86_64 -cpu "$processor" "$program" train "${common[@]}" --set data.sequence_length=16 \
    --set model.hunyuan_lm.max_position_embeddings=16 --set batch.global_batch_sequences=1 --set steps=2 \
    --set "output.directory=$work/$processor" "$@"
}
expect "a processor of 2006" 0 "kernels for: portable (the highest that runs here)" train_on core2duo
expect "a processor of 2013" 0 "kernels for: x86-64-v3 (the highest that runs here)" train_on Haswell
expect "what it does not run" 1 "this machine run portable, x86-64-v3 only" train_on Haswell --isa avx512
# Control: an emulated processor refuses newer instructions, so the cases above could have failed.
cat > "$work/wide.c" << 'CODE'
int main(void) { __asm__ volatile("vpxord %zmm0, %zmm0, %zmm0"); return 0; }
CODE
if cc "$work/wide.c" -o "$work/wide" 2> /dev/null; then
  (qemu-x86_64 -cpu Haswell "$work/wide") > /dev/null 2>&1 && failed "the emulated processor runs AVX-512"
fi
finish "one program, old processors"
