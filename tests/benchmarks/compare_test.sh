#!/bin/bash
# compare_test.sh <compare> <work directory>: benchmarks/compare, the gate, lets through what it should and nothing
# else.
set -uo pipefail
compare=$1 work=$2
rm -rf -- "$work" && mkdir -p -- "$work" && cd -- "$work" || exit 1
failures=0

# write <file> <case> <better> <value>...
write() {
  local file=$1 name=$2 better=$3
  shift 3
  for value in "$@"; do
    echo "{\"program\":\"p\",\"case\":\"$name\",\"quantity\":\"q\",\"better\":\"$better\",\"value\":$value}" >> "$file"
  done
}
# expect <status> <text of the output> <argument>...
expect() {
  local status=$1 text=$2 output got
  shift 2
  output=$("$compare" "$@" 2>&1)
  got=$?
  if [[ $got != "$status" || $output != *"$text"* ]]; then
    echo "compare $*: wanted status $status and '$text', got $got and:" && echo "$output"
    failures=$((failures + 1))
  fi
}

write base rate more 1.00 1.01 0.99
write base seconds less 2.0
write same rate more 0.95
write same seconds less 2.1
expect 0 "0 of 2 worse" base same
write slow rate more 0.90
write slow seconds less 2.0
expect 1 "1 of 2 worse" base slow
expect 0 "0 of 2 worse" --tolerance 0.12 base slow
write longer rate more 1.2
write longer seconds less 2.21
expect 1 "1 of 2 worse" base longer
# The median over repeats and files decides: one bad value of three is noise.
write noisy rate more 0.5 1.0
write noisy seconds less 2.0
write again rate more 1.0
write again seconds less 9.0 2.0
expect 0 "0 of 2 worse" base noisy again
# A difference within the spread of the baseline's own repeats is allowed.
write wide rate more 1.0 1.3 0.7
expect 0 "0 of 1 worse" wide slow
# A case without measurements does not pass.
write part rate more 1.0
expect 1 "MISSING" base part
expect 0 "new" part base
: > empty
expect 2 "empty: holds no measurement" base empty
expect 2 "nowhere: cannot be read" base nowhere
echo '{"program":"p"}' > other
expect 2 "other:1: wanted what a benchmark writes with --json" base other
write zero rate more 0
expect 2 "zero:1: wanted a value above 0, got 0" base zero
expect 2 "wanted a share" --tolerance much base same
expect 2 "usage" base
[[ $failures -eq 0 ]]
