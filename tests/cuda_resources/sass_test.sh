#!/bin/bash
# sass_test.sh <cuobjdump> <folder of objects>: the kernels of *_sm90a have the instructions they were written for, no
# other matrix instructions, and nothing in local memory.
set -u
tool=$1 folder=$2
if [[ ! -x $tool ]]; then
  echo "skipped: there is no cuobjdump beside nvcc, on the path or in build/tools (fetch_cuobjdump)"
  exit 77
fi
failed=0
disassemble() { # <source> <kernels>
  object=$folder/$1.cu.o
  sass=$(PATH=$(dirname -- "$tool"):$PATH "$tool" -sass -arch sm_90a "$object") || { echo "cuobjdump could not read $object" >&2; exit 1; }
  sass=$(grep -E 'Function :|MMA|UTMA|LDGSTS|F2FP|USETMAXREG|\b(LDL|STL)\b' <<<"$sass")
  kernels=$(grep -c 'Function : .*Sm90a' <<<"$sass")
  if ((kernels != $2)); then
    echo "wanted $2 kernels in $object, got $kernels" >&2
    exit 1
  fi
  expect "products of single warps" 0 0 'HMMA[.0-9A-Z]*'
  expect "local memory" 0 0 '(LDL|STL)[.0-9A-Z]*'
  expect "shares of registers" $((2 * kernels)) $((2 * kernels)) 'USETMAXREG[.A-Z_]*'
}
expect() { # <what> <wanted at least> <at most> <instruction>
  local count
  count=$(grep -cE "\b$4\b" <<<"$sass")
  (($2 <= count && count <= $3)) && return
  echo "$1 in the $kernels kernels of $object: wanted $2 to $3 of $4, got $count" >&2
  failed=1
}
disassemble matmul_sm90a 4
expect "products of a step of 64 k, two halves" 32 32 'HGMMA\.64x128x16\.F32\.BF16'
expect "all products" 32 32 'HGMMA[.0-9A-Zx]*'
expect "copies of boxes" 12 1000 'UTMALDG\.2D'
expect "pairs of results, stored or added" 512 512 'F2FP\.BF16[.0-9A-Z_]*'

# Two kernels multiply rows, two gathered tokens, and one computes the gradient of weights, whose last step is copied by
# slices.
disassemble grouped_matmul_sm90a 5
expect "products of a step of 64 k, two halves" 40 40 'HGMMA\.64x128x16\.F32\.BF16'
expect "all products" 40 40 'HGMMA[.0-9A-Zx]*'
expect "copies of boxes of rows, and of gradients" 4 1000 'UTMALDG\.2D'
expect "copies of boxes of experts' weights" 4 1000 'UTMALDG\.3D'
expect "pairs of results, stored or added" 640 640 'F2FP\.BF16[.0-9A-Z_]*'
expect "copies of 16 bytes of a step's tokens" 16 16 'LDGSTS[.0-9A-Z]*'

# One step's scores and sums, once in the loop over keys and once outside it: D / 16 and 8 products, of 128 columns,
# except the sums of D = 64.
disassemble attention_sm90a 3
expect "scores, and sums of D above 64" $((2 * (4 + 6 + 8 + 8 + 8))) $((2 * (4 + 6 + 8 + 8 + 8))) 'HGMMA\.64x128x16\.F32\.BF16'
expect "sums of D = 64" 16 16 'HGMMA\.64x64x16\.F32\.BF16'
expect "all products" 84 84 'HGMMA[.0-9A-Zx]*'
expect "copies of boxes to shared memory" 15 1000 'UTMALDG\.4D'
expect "copies of boxes from it" 5 5 'UTMASTG\.4D'

# For gradients of queries and of keys: one step's scores, and products of do and v, D / 16 each; then 4 products for
# dq, and 4 each for dk and dv, of 64 columns or 128.
disassemble attention_grad_sm90a 6
expect "scores, and sums of D = 64" $((2 * 2 * (4 + 6 + 8) + 12)) $((2 * 2 * (4 + 6 + 8) + 12)) 'HGMMA\.64x64x16\.F32\.BF16'
expect "sums of D above 64" 24 24 'HGMMA\.64x128x16\.F32\.BF16'
expect "all products" 108 108 'HGMMA[.0-9A-Zx]*'
expect "copies of boxes to shared memory" 45 1000 'UTMALDG\.[24]D'
expect "copies of boxes from it" 15 15 'UTMASTG\.4D'
exit $failed
