#!/bin/bash
# killed_rank_test.sh <transport> <ranks> <victims> <program> <mpirun...>: one rank dies from SIGKILL in a loop of
# collectives: before a call, inside it, or while a group without it waits. Or it is stopped by SIGSTOP, in the loop or
# before the ranks have met. The job must fail soon after; one rank must name the victim and its place, once; and every
# other rank's call must end with that reason. Without a victim the job must succeed. victims: "1:before 0:inside", one
# job for each.
set -u
transport=$1 ranks=$2 victims=$3 program=$4
shift 4
run=("$@" -np "$ranks" --oversubscribe --bind-to none "$program" "$transport")
fail() { echo "FAILED: $*"; exit 1; }

"${run[@]}" none || fail "the run without a death ended with $?"

for death in $victims; do
  victim=${death%:*} kind=${death#*:}
  output=$("${run[@]}" "$victim" "$kind" 2>&1)
  code=$?
  end=$(($(date +%s%N) / 1000000))
  echo "$output"
  died=$(echo "$output" | sed -n 's/^dies at \([0-9]*\) ms$/\1/p')
  [ -n "$died" ] || fail "no rank died"
  echo "rank $victim: $kind: exit code $code, $((end - died)) ms after the loss"

  [ $code -ne 0 ] || fail "exit code 0"
  [ $((end - died)) -lt 20000 ] || fail "took more than 20 s"
  place="step 12 in all-gather layer\.2"
  case $kind in
    unmet) sentence="rank $victim did not come to the start within [0-9.]+ s" ;;
    stopped) sentence="rank $victim \(pid [0-9]+ on host .*\) is stopped at $place and gave no sign of life for [0-9.]+ s .*; rank [0-9] waits for it at $place" ;;
    *) sentence="rank $victim \(pid [0-9]+ on host .*\) died at $place, unchanged for [0-9.]+ s; rank [0-9] was at step 1[0-9] in " ;;
  esac
  grep -Eq "^said: $sentence" <<< "$output" || fail "no rank said which was lost and where"
  [ "$(grep -c "^said: " <<< "$output")" -eq 1 ] || fail "not one sentence"
  [ "$kind" = unmet ] && continue
  for ((rank = 0; rank < ranks; ++rank)); do
    [ $rank -ne "$victim" ] || continue
    group=
    [ "$kind $rank" = "outside 2" ] && group=" (a group of 2)"
    grep -q "ended: rank $rank of $ranks$group in all-gather \"layer.2\" (step 1[0-9]): .*rank $victim" <<< "$output" ||
      fail "rank $rank's collective did not end with the reason"
  done
done
