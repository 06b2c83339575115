#!/bin/bash
# The quick start's script, with stand-ins for everything it calls: which stage it reports as failed, and what it runs.
#   quickstart_test.sh <launch/quickstart> <work folder>
set -uo pipefail
script=$1 work=$2
rm -rf "$work"
mkdir -p "$work"/{bin,launch,build/release/bin}
cp "$script" "$work/launch/quickstart"
failures=0
# stand_in <file> <line...>: writes an executable script of these lines.
stand_in() {
  printf '%s\n' '#!/bin/bash' "${@:2}" > "$work/$1"
  chmod +x "$work/$1"
}
# says <name> <exit code> <text that must appear> [<argument>...]: runs the script and checks both.
says() {
  local output got
  output=$(PATH="$work/bin:$PATH" "$work/launch/quickstart" "${@:4}" 2>&1 < /dev/null)
  got=$?
  if [[ $got -eq $2 && $output == *"$3"* ]]; then
    echo "ok $1"
  else
    echo "FAILED $1: wanted exit $2 and \"$3\", got exit $got and:"
    echo "$output"
    failures=$((failures + 1))
  fi
}

stand_in launch/install_dependencies 'exit 3'
says "a stage that fails" 3 "quickstart: stage 1 (Install what is missing) failed after"
stand_in launch/install_dependencies
stand_in launch/quickstart_text
stand_in bin/cmake
stand_in build/release/bin/angel-ptm 'echo "runs $*"'
stand_in bin/mpirun 'echo "ranks do ${*: -2}"'
says "all stages" 0 "All done in"
says "the run" 0 "ranks do launch/configs/quickstart.textproto --resume-or-start"

says "the other model" 0 "ranks do launch/configs/quickstart_diffusion.textproto --resume-or-start" diffusion
says "the other model's samples" 0 "--prompt 猪" diffusion
says "a model that is none" 2 "launch/quickstart diffusion" audio

# Ctrl-C does not reach mpirun, which would kill its ranks. The ranks are asked to save, and no samples are made.
stand_in bin/mpirun 'trap "echo saved; exit 0" USR1' 'trap "echo killed; exit 9" INT TERM' \
  'kill -s INT "$PPID"' 'while :; do sleep 0.1; done'
says "Ctrl-C" 130 "saved
quickstart: stopped as asked"
stand_in bin/mpirun 'trap "kill -s INT $PPID" USR1' 'trap "echo killed; exit 9" TERM' 'kill -s INT "$PPID"' \
  'while :; do sleep 0.1; done'
says "a second Ctrl-C" 9 "killed
quickstart: stage 5 (Train on two ranks) failed"

[[ $failures -eq 0 ]] || exit 1
