#!/bin/bash
# One program serves every machine only if no code for a newer one is reached without a check.
#   isa_objects_test.sh <nm> <objdump> <compiler> <angel-ptm> <work folder> <object of a level>...
# Proves that a level's object shows the linker one symbol, and that the program has no AVX, AVX-512 or AMX code outside
# the levels' section. So no such code runs before main or was chosen by the linker for a function of the same name.
# Both checks are then run on a library function compiled for AVX-512 and left visible, and must find it.
set -uo pipefail
export LC_ALL=C
nm=$1 objdump=$2 compiler=$3 program=$4 work=$5
shift 5
failures=0
failed() { echo "FAILED $*"; failures=$((failures + 1)); }

visible() { "$nm" --demangle --extern-only --defined-only "$1" | cut -d' ' -f3-; }
# Counts instructions with registers that x86-64's baseline lacks, in all code sections except cpu_kernels.
beyond_baseline() {
  local sections
  sections=$("$objdump" -h "$1" | awk '/^ *[0-9]/ {name = $2} /CODE/ && name != "cpu_kernels" {print "-j", name}')
  # shellcheck disable=SC2086  # words
  "$objdump" -d --no-show-raw-insn $sections "$1" | grep -cE '%[yz]mm[0-9]|%tmm[0-7]|%k[1-7]'
}

for object in "$@"; do
  isa=$(basename "$object" .o)
  [[ $(visible "$object") == "angel_ptm::angel_ptm_cpu_kernels_${isa#cpu_}()" ]] ||
    failed "$isa shows more than its entry: $(visible "$object" | head -n 5)"
done
if [[ $(uname -m) == x86_64 ]]; then
  [[ $(beyond_baseline "$program") -eq 0 ]] || failed "$(beyond_baseline "$program") instructions beyond the baseline"
  [[ $("$objdump" -d --no-show-raw-insn -j cpu_kernels "$program" | grep -c '%zmm') -gt 0 ]] ||
    failed "no AVX-512 in cpu_kernels"

  mkdir -p "$work"
  cat > "$work/planted.cc" << 'CODE'
#include <vector>
float Sum(const std::vector<float>& x);
void Twice(std::vector<float>& x) { for (float& v : x) v *= 2; x.resize(2 * x.size()); }
int main() { return 0; }
CODE
  if "$compiler" -O3 -march=x86-64-v4 "$work/planted.cc" -o "$work/planted" && "$nm" "$work/planted" > /dev/null; then
    [[ $(beyond_baseline "$work/planted") -gt 0 ]] || failed "planted AVX code was not found"
    "$compiler" -O3 -march=x86-64-v4 -c "$work/planted.cc" -o "$work/planted.o"
    [[ $(visible "$work/planted.o" | wc -l) -gt 1 ]] || failed "planted symbols were not found"
  else
    failed "the planted program does not build"
  fi
fi
[[ $failures -eq 0 ]] && echo "each level shows its entry alone; the rest of the program is baseline"
exit $((failures > 0))
