#!/bin/bash
# The program with closed, full or unread streams, and under limits and signals of the system. A run ends with its
# checkpoint or with a sentence, and its files are the same.
#   process_test.sh <angel-ptm> <tiny_moe.textproto> <work folder> [mpirun words...]
source "$(dirname -- "${BASH_SOURCE[0]}")/program_testing.sh"
expect "prepare" 0 "unigram entropy" "$program" prepare "${common[@]}"

# With closed descriptors, printed text does not end up in a file of the run.
files() {
  sed -E 's/"(tokens_per_second|peak_fraction|seconds|tflops|busy_[a-z_]+)": [^,}]*//g' "$work/$1/metrics.jsonl"
  cat "$work/$1"/checkpoints/*/*.safetensors | md5sum
}
combination=0
for closed in "" "0<&-" "1>&-" "2>&-" "0<&- 1>&-" "0<&- 2>&-" "1>&- 2>&-" "0<&- 1>&- 2>&-"; do
  combination=$((combination + 1))
  (eval "train_in streams$combination $closed") > /dev/null 2>&1 || failed "train $closed: exit $?"
  cmp <(files streams1) <(files streams$combination) && echo "ok train $closed" || failed "train $closed: other files"
done

# A run whose output cannot be written trains to its end; a command that only prints fails.
expect "train to a full device" 0 "of standard output could be written" \
  bash -c '"$@" > /dev/full' - "$program" train "${common[@]}" --set "output.directory=$work/full" --set steps=1
set +m
train_in left 2> "$work/left.log" | head -n 1 > /dev/null
[[ ${PIPESTATUS[0]} -eq 0 && ! -s $work/left.log ]] || failed "train | head: $(cat "$work/left.log")"
[[ -e $work/left/checkpoints/step-00000004/manifest.json ]] || failed "train | head left no checkpoint"
for words in "help" "help fields" "--version" "plan ${common[*]}" "inspect $work/left"; do
  # shellcheck disable=SC2086  # words of a command
  for target in "> /dev/full" ">&-"; do
    expect "${words%% *} $target" 1 "standard output" eval '"$program"' "$words" "$target"
    [[ $(grep -c "^angel-ptm: " <<< "$output") -eq 1 ]] || failed "$words $target: not one sentence: $output"
  done
  # shellcheck disable=SC2086
  "$program" $words 2> "$work/left.log" | true
  [[ ${PIPESTATUS[0]} -eq 141 && ! -s $work/left.log ]] || echo "note: '$words' had written before its reader left"
done

# A file that may not grow is an error of the call, not a signal.
expect "a limit on file sizes" 1 "File too large" bash -c 'ulimit -f 16; exec "$@"' - "$program" train "${common[@]}" \
  --set "output.directory=$work/limited" --set steps=1

# Closing the terminal saves, as SIGTERM does.
"$program" train "${common[@]}" --set steps=100000 --set checkpoint.every_steps=0 --set output.log_every_steps=1 \
  --set "output.directory=$work/hangup" > "$work/hangup.log" 2>&1 &
pid=$!
if await_line "^step 1/" "$work/hangup.log" $pid; then
  kill -HUP $pid
  wait $pid || failed "SIGHUP: exit code $?"
  expect "SIGHUP left a checkpoint" 0 "every byte matches" "$program" inspect "$work/hangup" --verify
fi

# Limits on address space: one sentence, whatever they stop first. OpenBLAS by itself would retry forever.
sentence() { [[ $(grep -c "^angel-ptm: " <<< "$output") -eq 1 ]] || failed "$1: not one sentence: $output"; }
if [[ -z ${SANITIZED:-} ]]; then
  for kib in 150000 300000 360000 450000 600000; do
    expect "$kib KiB of address space" 1 "address space (ulimit -v)" timeout -k 1 60 bash -c "ulimit -v $kib; exec \"\$@\"" - \
      "$program" train "${common[@]}" --set "output.directory=$work/space" --set numerics.threads_per_rank=4
    sentence "$kib KiB of address space"
  done
  # Limits between refusal and enough: the program runs or prints a sentence (libgomp's own if it is threads that are
  # missing), and is never silent.
  for limit in "v 700000 2" "v 760000 2" "v 950000 4" "v 1050000 4" "d 100000 2" "d 400000 2" "d 500000 2"; do
    read -r kind kib threads <<< "$limit"
    code=0
    output=$(timeout -k 1 60 bash -c "ulimit -$kind $kib; exec \"\$@\"" - "$program" train "${common[@]}" \
      --set "output.directory=$work/space" --set "numerics.threads_per_rank=$threads" 2>&1) || code=$?
    rm -rf "$work/space"
    if [[ $code -eq 0 || ( $code -eq 1 && $(grep -cE "^(angel-ptm|libgomp): " <<< "$output") -eq 1 ) ]]; then
      echo "ok ulimit -$kind $kib with $threads threads: exit $code"
    else
      failed "ulimit -$kind $kib with $threads threads: exit $code and: $output"
    fi
  done
  expect "too many threads for the address space" 1 "address space (ulimit -v)" timeout -k 1 60 bash -c \
    'ulimit -v 1500000; exec "$@"' - "$program" train "${common[@]}" --set "output.directory=$work/space" \
    --set numerics.threads_per_rank=16
fi

# A limit on threads. It does not apply to root, so root becomes another user, who needs readable copies.
user=()
[[ $(id -u) -ne 0 ]] || user=(setpriv --reuid 64123 --regid 64123 --clear-groups)
public=$(mktemp -d)
trap 'rm -rf "$public"' EXIT
cp -r "$program" "$work/data" "$config" "$public/" && mkdir "$public/out" && chmod -R a+rwX "$public"
expect "no threads allowed" 1 "cannot start" bash -c 'ulimit -u 1; exec "$@"' - "${user[@]}" \
  "$public/${program##*/}" train --config "$public/${config##*/}" --set "data.directory=$public/data" \
  --set "output.directory=$public/out/run" --set model.hunyuan_lm.vocab_size=0
[[ $output == *"(ulimit -u)"* ]] || failed "no threads allowed: no limit named: $output"
sentence "no threads allowed"

finish "the process ends with a word"
