#!/bin/bash
# angel-ptm report: the page of two runs, opened in a browser where there is one, and what a user can get wrong.
#   report_page_test.sh <angel-ptm> <tiny_moe.textproto> <work folder>
source "$(dirname -- "${BASH_SOURCE[0]}")/program_testing.sh" "$@"

expect "prepare" 0 "unigram entropy" "$program" prepare "${common[@]}"
expect "train" 0 "saved" train_in one --set output.report_every_steps=2 --set evaluation.every_steps=2 \
  --set output.tensorboard=true --set output.mllog=true
[[ -s $work/one/report.html ]] || failed "the run wrote no report.html"
compgen -G "$work/one/tensorboard/events.out.tfevents.*" > /dev/null || failed "the run wrote no event file"
grep -q '^:::MLLOG {"namespace": *"", *"time_ms": *[0-9]*, *"event_type": *"INTERVAL_END", *"key": *"run_stop"' \
  "$work/one/mllog.txt" || failed "mllog.txt has no run_stop"
expect "train on pages of the host" 0 "saved" train_in two --set memory.device_bytes=3000000 --set output.report_every_steps=0
[[ ! -e $work/two/report.html ]] || failed "a report that was not asked for"
expect "sample" 0 "--- a line" "$program" generate --checkpoint "$work/one" --prompt "a line" --tokens 8 \
  --output "$work/one/samples.jsonl"
grep -q '"prompt":"a line"' "$work/one/samples.jsonl" || failed "no sample in samples.jsonl"

refused "a report of no run" "$work/text is no run: wanted an output.directory of angel-ptm train" \
  "$program" report "$work/text"
refused "a report of nothing" "report: which RUN?" "$program" report
refused "the same run twice" "$work/one is given twice" "$program" report "$work/one" "$work/one/"
refused "a report that cannot be written" "$work/none/page.html" "$program" report "$work/one" --output "$work/none/page.html"
expect "a report of one run" 0 "wrote $work/two/report.html" "$program" report "$work/two/"
expect "a report of two runs" 0 "finished, 4 of 4 steps" "$program" report "$work/one" "$work/two" --output "$work/page.html"

browser=$(command -v chromium || command -v chromium-browser || true)
if [[ -z $browser ]]; then
  echo "SKIPPED the page in a browser: no chromium is installed"
  finish "reports are written"
fi
# open_page <width in pixels>: writes the page's document after its scripts have run to $work/dom.html, and messages to
# $work/browser.log.
open_page() {
  HOME=$work timeout 120 "$browser" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --window-size="$1,1200" \
    --virtual-time-budget=5000 --enable-logging=stderr --user-data-dir="$work/browser" --dump-dom \
    "file://$work/page.html" > "$work/dom.html" 2> "$work/browser.log"
}
for width in 1200 400; do
  expect "a page $width wide" 0 "" open_page $width
  grep -i 'CONSOLE' "$work/browser.log" && failed "messages on the console"
  ! grep -o '<html[^>]* data-error="[^"]*"' "$work/dom.html" || failed "a script failed"
  plots=$(grep -c '<section id="[^"]*" class="plot"' "$work/dom.html")
  grep -q "data-drawn=\"$plots\"" "$work/dom.html" || failed "not all of $plots plots were drawn: $(head -c 300 "$work/dom.html")"
  [[ $plots -ge 14 ]] || failed "only $plots plots"
  # Every plot has numbers and a picture.
  [[ $(grep -c 'class="plot" data-points="[1-9][0-9]*"' "$work/dom.html") -eq $plots ]] || failed "a plot without data"
  [[ $(grep -o '<canvas' "$work/dom.html" | wc -l) -ge $plots ]] || failed "a plot without a picture"
  # Two runs of 4 steps each, one with 2 evaluations.
  grep -q '<section id="loss" class="plot" data-points="10"' "$work/dom.html" || failed "the loss plot has other points"
done
finish "reports are written and drawn"
