#!/bin/bash
# gate_test.sh <benchmarks/gate> <compare> <work folder>: the gate's script with stand-ins for cmake and the benchmarks.
set -uo pipefail
script=$1 compare=$2 work=$3
rm -rf -- "$work" && mkdir -p -- "$work"/{bin,benchmarks,build/release/bin} || exit 1
cp -- "$script" "$work/benchmarks/gate"
cp -- "${script%/*}/instructions" "$work/benchmarks/instructions"
cp -- "$compare" "$work/build/release/bin/compare"
failures=0
# stand_in <file> <line...>: writes an executable script of these lines.
stand_in() {
  printf '%s\n' '#!/bin/bash' "${@:2}" > "$work/$1"
  chmod +x "$work/$1"
}
# says <exit code> <text of the output> <argument>...
says() {
  local status=$1 text=$2 output got
  shift 2
  output=$(cd -- "$work" && PATH="$work/bin:$PATH" benchmarks/gate "$@" 2>&1 < /dev/null)
  got=$?
  if [[ $got != "$status" || $output != *"$text"* ]]; then
    echo "gate $*: wanted status $status and '$text', got $got and:" && echo "$output"
    failures=$((failures + 1))
  fi
}
# measures <value>: sets what every benchmark measures from now on.
measures() {
  local name
  for name in kernels products plan; do
    stand_in "build/release/bin/${name}_bench" \
      "echo '{\"program\":\"$name\",\"case\":\"c\",\"quantity\":\"q\",\"better\":\"more\",\"value\":$1}' >> \"\$2\""
  done
}

stand_in bin/cmake
measures 1.0
says 0 "== 3 of 3" --write base
[[ $(wc -l < "$work/base") -eq 9 ]] || { echo "three programs, three times: wanted 9 lines"; failures=$((failures + 1)); }
says 0 "0 of 3 worse" base --repeat 1
measures 0.8
says 1 "3 of 3 worse" base --repeat 1
says 0 "0 of 3 worse" base --repeat 1 --tolerance 0.3
says 2 "nowhere cannot be read" nowhere
says 2 "wanted a baseline's file"
says 2 "unknown option --fast" --fast base
says 2 "wanted whole numbers" base --repeat many
# counts <value>: sets what valgrind counts from now on, for a program that is never started.
counts() {
  stand_in bin/valgrind "times=1; [[ \$* != *steps=3* ]] || times=2" "echo \"==1== I   refs:      \$((times * $1))\" >&2"
}
stand_in build/release/bin/angel-ptm 'exit 9'
counts 1000000
says 0 "" --instructions --write counted
[[ $(wc -l < "$work/counted") -eq 7 ]] || { echo "seven counts: wanted 7 lines"; failures=$((failures + 1)); }
counts 1015000
says 0 "0 of 7 worse" --instructions counted
counts 1030000
says 1 "7 of 7 worse" --instructions counted
says 0 "0 of 7 worse" --instructions counted --tolerance 0.05
counts 0
says 2 "counted '0'" --instructions counted
stand_in build/release/bin/plan_bench 'exit 3'
says 3 "" base --repeat 1
[[ $failures -eq 0 ]]
