# Sourced by the tests of the program, with the arguments <angel-ptm> <tiny_moe.textproto> <work folder> [mpirun
# words...]. Writes a small text to $work/text and defines functions that run the program and check what it says.
set -uo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/../support/processes.sh"
program=$1 config=$2 work=$3
shift 3
mpirun=("$@")
rm -rf "$work"
mkdir -p "$work/text"
failures=0

failed() { echo "FAILED $*"; failures=$((failures + 1)); }

# expect <name> <exit code> <text that must appear> <command...>: runs the command; its output is in $output.
expect() {
  local name=$1 code=$2 text=$3 got
  shift 3
  output=$("$@" 2>&1 < /dev/null)
  got=$?
  if [[ $got -ne $code || $output != *"$text"* ]]; then
    failed "$name: wanted exit $code and \"$text\", got exit $got and:"
    tail -n 5 <<< "$output"
  else
    echo "ok $name"
  fi
}

# refused <name> <text that must appear> <command...>: expects exit code 1, one sentence, and no output directory.
refused() {
  local name=$1
  expect "$1" 1 "${@:2}"
  [[ $(grep -c "^angel-ptm: " <<< "$output") -eq 1 ]] || { failed "$name: not one sentence:"; echo "$output"; }
  [[ ! -e $work/refused ]] || { failed "$name: left $work/refused behind"; rm -rf "$work/refused"; }
}

# A text that is large enough for a few windows.
for file in a b c d; do
  for i in $(seq 1 400); do
    echo "$file line $i of a text about pages, frames and plans: $((i * 7919 % 1009))"
    [[ $((i % 9)) -eq 0 ]] && echo
  done > "$work/text/$file.txt"
done
common=(--config "$config" --set "data.directory=$work/data" --set "data.prepare.input=$work/text"
        --set model.hunyuan_lm.vocab_size=0 --set data.prepare.validation_fraction=0.1 --set evaluation.every_steps=0
        --set optimizer.schedule.warmup_steps=1 --set memory.page_bytes=4096)
# train_in <run> <arguments...>: trains four steps with a checkpoint after every second, with output in $work/<run>.
train_in() {
  local run=$1
  shift
  "$program" train "${common[@]}" --set "output.directory=$work/$run" --set steps=4 --set checkpoint.every_steps=2 "$@"
}
# with_ranks <n> <command...>: runs it under mpirun.
with_ranks() { "${mpirun[@]}" -np "$1" --oversubscribe --bind-to none "${@:2}"; }

# await_line <pattern> <log> <pid>: waits until a process's log has a matching line. After a minute, kills its job and
# fails.
await_line() {
  local i
  for ((i = 0; i < 600; ++i)); do
    grep -qE "$1" "$2" 2> /dev/null && return 0
    sleep 0.1
  done
  failed "no line like '$1' within a minute:"
  tail -n 5 "$2"
  kill_job "$3"
  return 1
}

# Ends a test with its exit code.
finish() {
  [[ $failures -eq 0 ]] && echo "$1" || echo "$failures cases failed"
  exit $((failures > 0))
}
