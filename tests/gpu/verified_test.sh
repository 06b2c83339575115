#!/bin/bash
# kernels/cuda/VERIFIED.md has a row for every op of the CUDA backend, and what it says about the emulator is true: a
# case there launches the kernel.
set -euo pipefail
cd "$(dirname "$0")/../.."
readonly table=kernels/cuda/VERIFIED.md source=kernels/cuda/cuda_kernels.cc
fail() { echo "FAILED: $*" >&2; exit 1; }

ops=$(sed -n '/define APTM_CUDA_OPS/,/clang-format on/p' "$source" | grep -oE 'OP\([A-Za-z0-9]+\)' | sed 's/OP(//; s/)//')
ops+=$'\n'$(grep -ohE 'Launch[A-Za-z0-9]+Sm90a' kernels/cuda/*.h | sed 's/Launch//' | sort -u)$'\nCudaOrderedSum'
rows=$(grep -oE '^\| [A-Za-z0-9]+ +\|' "$table" | tr -d '| ' | grep -v '^kernel$')
[[ $(sort <<<"$ops") == $(sort <<<"$rows") ]] ||
  fail "$table and the list of $source differ: $(diff <(sort <<<"$ops") <(sort <<<"$rows") | grep '^[<>]' | xargs)"
while IFS='|' read -r _ kernel file _ emulated _; do
  kernel=$(xargs <<<"$kernel") file=$(xargs <<<"$file") emulated=$(xargs <<<"$emulated")
  [[ $rows == *"$kernel"* && -n $file ]] || continue
  [[ $kernel != kernel ]] || continue
  grep -qE "Launch$kernel\(" "kernels/cuda/$file" || fail "$table: kernels/cuda/$file does not launch $kernel"
  grep -qE "Launch$kernel\b" "tests/cuda_emulation/$emulated" || fail "$table: tests/cuda_emulation/$emulated has no $kernel"
done < <(grep '^| ' "$table")
