#!/bin/bash
# killed_rank_test.sh <transport> <ranks> <victims> <program> <mpirun...>: one rank dies from SIGKILL in a collective
# loop, before a call or inside it; every other rank must name it and its place within 10 s and the job must fail.
# Without the death the job must succeed. victims: "1:before 0:inside", one job for each.
set -u
transport=$1 ranks=$2 victims=$3 program=$4
shift 4
run=("$@" -np "$ranks" --oversubscribe --bind-to none "$program" "$transport")
fail() { echo "FAILED: $*"; exit 1; }

"${run[@]}" none || fail "the run without a death ended with $?"

for death in $victims; do
  victim=${death%:*}
  output=$("${run[@]}" "$victim" "${death#*:}" 2>&1)
  code=$?
  end=$(($(date +%s%N) / 1000000))
  echo "$output"
  died=$(echo "$output" | sed -n 's/^dies at \([0-9]*\) ms$/\1/p')
  [ -n "$died" ] || fail "no rank died"
  echo "rank $victim died ${death#*:} the call: exit code $code, $((end - died)) ms after the death"

  [ $code -ne 0 ] || fail "exit code 0"
  [ $((end - died)) -lt 10000 ] || fail "took more than 10 s"
  for ((rank = 0; rank < ranks; ++rank)); do
    [ $rank -ne "$victim" ] || continue
    grep -Eq "rank $victim \(pid [0-9]+ on host .*\) died at step 12 in all-gather layer\.2, unchanged for [0-9.]+ s; rank $rank was at step 1[0-9] in " <<< "$output" ||
      fail "rank $rank did not say which rank died and where"
    grep -q "ended: rank $rank of $ranks in all-gather \"layer.2\" (step 1[0-9]): .*rank $victim" <<< "$output" ||
      fail "rank $rank's collective did not end with the reason"
  done
done
