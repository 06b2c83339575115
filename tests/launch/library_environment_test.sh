#!/bin/bash
# Waiting teams of threads sleep soon, and OpenBLAS takes the processor for one it knows, unless the environment says
# otherwise.
#   library_environment_test.sh <angel-ptm> <tiny_moe.textproto> <work folder>
source "$(dirname -- "${BASH_SOURCE[0]}")/program_testing.sh" "$@"
unset GOMP_SPINCOUNT OMP_WAIT_POLICY OPENBLAS_CORETYPE

# The spin count that libgomp printed when it was last loaded.
spins() { grep "GOMP_SPINCOUNT" <<< "$output" | tail -n 1 | tr -dc 0-9; }
expect "prepare" 0 "entropy" "$program" prepare "${common[@]}"
export OMP_DISPLAY_ENV=verbose
expect "train" 0 "saved" train_in run --set numerics.threads_per_rank=2
[[ $(spins) == 1000 ]] || failed "train's teams spin $(spins) times"
expect "generate" 0 "--- a" "$program" generate --checkpoint "$work/run" --prompt a --tokens 2
[[ $(spins) == 1000 ]] || failed "generate's teams spin $(spins) times"
expect "asked otherwise" 0 "--- a" env GOMP_SPINCOUNT=77 "$program" generate --checkpoint "$work/run" --prompt a --tokens 2
[[ $(spins) == 77 ]] || failed "teams spin $(spins) times, asked for 77"
expect "asked to be active" 0 "--- a" env OMP_WAIT_POLICY=active "$program" generate --checkpoint "$work/run" --prompt a \
  --tokens 2
[[ $(spins) != 1000 ]] || failed "OMP_WAIT_POLICY is overruled"
# The process keeps its id and name, by which launchers and tools know it.
expect "the process" 0 "same" bash -c '
  "$0" train "$@" > /dev/null 2>&1 & child=$!
  for ((i = 0; i < 100; ++i)); do
    grep -qz GOMP_SPINCOUNT=1000 /proc/$child/environ && [[ $(< /proc/$child/comm) == "$(basename "$0")" ]] &&
      { echo same; kill -9 $child; exit 0; }
    sleep 0.05
  done
  kill -9 $child; exit 1' "$program" "${common[@]}" --set "output.directory=$work/process" --set steps=2000
if grep -qw avx2 /proc/cpuinfo; then
  expect "the core" 0 ", core " "$program" --version
  grep -qE ", core (Haswell|Zen|Excavator|SkylakeX|Cooperlake|Sapphirerapids)," <<< "$output" || failed "the core: $output"
  expect "another core" 0 "core Nehalem," env OPENBLAS_CORETYPE=Nehalem "$program" --version
fi
finish "teams sleep while they wait, OpenBLAS knows the processor"
