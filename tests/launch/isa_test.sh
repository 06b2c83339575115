#!/bin/bash
# The program at every instruction level that this machine runs: each level reproduces its bits, all agree within
# rounding, --isa is refused where it must be, ranks agree on a level, and it is recorded.
#   isa_test.sh <angel-ptm> <tiny_moe.textproto> <work folder> [mpirun words...]
source "$(dirname -- "${BASH_SOURCE[0]}")/program_testing.sh" "$@"

expect "prepare" 0 "entropy" "$program" prepare "${common[@]}"
expect "version" 0 "CPU kernels for portable" "$program" --version
levels=$(sed -n 's/.*CPU kernels for \([^;]*\)$/\1/p' <<< "$output" | sed 's/, sanitizers.*//; s/,//g')
highest=$(sed -n 's/^in use: kernels for \([^ ]*\) .*/\1/p' <<< "$output")
refused "unknown level" "--isa: wanted one of portable" "$program" train "${common[@]}" --isa sse9 \
  --set output.directory="$work/refused"

losses() { grep -o '"loss": [^,]*\|"grad_norm": [^,]*' "$work/$1/metrics.jsonl"; }
runnable=()
for level in $levels; do
  if "$program" plan "${common[@]}" --isa "$level" > /dev/null 2> "$work/why"; then
    runnable+=("$level")
    expect "train at $level" 0 "kernels for: $level (forced)" train_in "$level" --isa "$level"
  else
    refused "train at $level, which is not of this machine" "--isa: wanted $level, but the processor" \
      "$program" train "${common[@]}" --isa "$level" --set output.directory="$work/refused"
  fi
done
[[ ${runnable[-1]} == "$highest" ]] || failed "in use is $highest, the highest that runs ${runnable[-1]}"
expect "train at the default" 0 "kernels for: $highest (the highest that runs here)" train_in default
for pair in "default $highest" "portable portable-again"; do
  read -r a b <<< "$pair"
  [[ $b != *again ]] || expect "train at portable again" 0 "saved" train_in "$b" --isa portable
  [[ $(losses "$a") == "$(losses "$b")" ]] || failed "$a and $b have other bits"
done
for level in "${runnable[@]}"; do
  paste -d' ' <(losses portable) <(losses "$level") | awk '
    {d = $2 - $4; if (d < 0) d = -d; if (d > 1e-4 * $2) bad = 1; if ($2 != $4) other = 1}
    END {exit !(NR == 8 && !bad)}' || failed "$level and portable disagree: $(losses "$level" | tail -n 2)"
done
if [[ ${#runnable[@]} -gt 1 ]]; then
  [[ $(losses portable) != "$(losses "$highest")" ]] || failed "portable and $highest have the same bits: --isa does nothing"
  expect "the level is recorded" 0 "kernels for $highest -> portable" train_in default --isa portable --resume --set steps=5
fi
expect "generate" 0 "--- a" "$program" generate --checkpoint "$work/portable" --prompt a --tokens 2 --isa portable
refused "generate at an unknown level" "--isa: wanted one of" "$program" generate --checkpoint "$work/portable" \
  --prompt a --isa sse9
if [[ ${#mpirun[@]} -gt 0 ]]; then
  expect "ranks agree" 0 "kernels for: $highest (the highest that runs here)" with_ranks 2 "$program" train "${common[@]}" \
    --set "output.directory=$work/ranks" --set steps=2
  expect "ranks are forced" 0 "kernels for: portable (forced)" with_ranks 2 "$program" train "${common[@]}" \
    --set "output.directory=$work/ranks-portable" --set steps=2 --isa portable
fi
finish "one program, every level"
