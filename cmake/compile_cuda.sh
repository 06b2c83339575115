#!/bin/bash
# compile_cuda.sh <log> <command...>: runs nvcc and keeps what it and ptxas say in <log>, which is shown if they fail.
log=$1
shift
"$@" > "$log" 2>&1 && exit 0
cat "$log" >&2
rm -f "$log"
exit 1
