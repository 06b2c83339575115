#!/bin/sh
# killed_rank_test.sh <transport> <ranks> <program> <mpirun...>: one rank dies from SIGKILL in a collective loop; every
# other rank must name it and its place within 10 s and the job must fail. Without the death the job must succeed.
set -u
transport=$1 ranks=$2 program=$3
shift 3
run="$* -np $ranks --oversubscribe --bind-to none $program $transport"

$run none || { echo "FAILED: the run without a death ended with $?"; exit 1; }

output=$($run 2>&1)
code=$?
end=$(($(date +%s%N) / 1000000))
echo "$output"
death=$(echo "$output" | sed -n 's/^dies at \([0-9]*\) ms$/\1/p')
[ -n "$death" ] || { echo "FAILED: no rank died"; exit 1; }
milliseconds=$((end - death))
echo "exit code $code, $milliseconds ms after the death"

[ $code -ne 0 ] || { echo "FAILED: exit code 0"; exit 1; }
[ $milliseconds -lt 10000 ] || { echo "FAILED: took more than 10 s"; exit 1; }
rank=0
while [ $rank -lt "$ranks" ]; do
  if [ $rank -ne 1 ]; then
    echo "$output" |
      grep -Eq "rank 1 \(pid [0-9]+ on host .*\) died at step 12 in all-gather layer\.2; rank $rank was at step 1[0-9] in " ||
      { echo "FAILED: rank $rank did not say which rank died and where"; exit 1; }
    echo "$output" | grep -q "ended: rank $rank of $ranks in all-gather \"layer.2\" (step 1[0-9]): .*rank 1 " ||
      { echo "FAILED: rank $rank's collective did not end with the reason"; exit 1; }
  fi
  rank=$((rank + 1))
done
