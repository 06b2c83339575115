#!/bin/bash
# sass_test.sh <cuobjdump> <object>: of the kernels of matmul_sm90a, every one has the instructions it was written for,
# no other matrix instructions, and nothing in local memory.
set -u
tool=$1 object=$2
if [[ ! -x $tool ]]; then
  echo "skipped: there is no cuobjdump beside nvcc, on the path or in build/tools (fetch_cuobjdump)"
  exit 77
fi
sass=$(PATH=$(dirname -- "$tool"):$PATH "$tool" -sass -arch sm_90a "$object") || { echo "cuobjdump could not read $object" >&2; exit 1; }
kernels=$(grep -c 'Function : .*MatmulSm90a' <<<"$sass")
failed=0
expect() { # <what> <wanted at least> <at most> <instruction>
  local count
  count=$(grep -cE "\b$4\b" <<<"$sass")
  (($2 <= count && count <= $3)) && return
  echo "$1: wanted $2 to $3 of $4 in $kernels kernels, got $count" >&2
  failed=1
}
if ((kernels != 4)); then
  echo "wanted 4 kernels in $object, got $kernels" >&2
  exit 1
fi
expect "products of a step of 64 k, two halves" 32 32 'HGMMA\.64x128x16\.F32\.BF16'
expect "other products" 32 32 'HGMMA[.0-9A-Zx]*'
expect "products of single warps" 0 0 'HMMA[.0-9A-Z]*'
expect "copies of boxes" 12 1000 'UTMALDG\.2D'
expect "shares of registers" 8 8 'USETMAXREG[.A-Z_]*'
expect "local memory" 0 0 '(LDL|STL)[.0-9A-Z]*'
exit $failed
