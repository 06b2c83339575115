#!/bin/bash
# tests/gpu/run without binaries, without a GPU, and with stand-ins for binaries that pass, fail, crash and are skipped.
set -uo pipefail
readonly run=$(dirname "$0")/run
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

fail() { echo "FAILED: $*" >&2; exit 1; }
# expect CODE TEXT...: the last run ended with this code and its output has these texts.
expect() {
  ((code == $1)) || fail "wanted code $1, got $code: $output"
  shift
  local text
  for text in "$@"; do grep -qF -- "$text" <<<"$output" || fail "wanted '$text' in: $output"; done
}
call() { output=$("$run" "$@" 2>&1) && code=0 || code=$?; }

call --bin "$folder/nowhere"
expect 2 "no $folder/nowhere/gpu_kernels_test: build on a machine with nvcc"
call --fast
expect 2 "unknown argument --fast"

mkdir "$folder/bin"
cat >"$folder/bin/gpu_kernels_test" <<'STAND_IN'
#!/bin/bash
case $1 in
  --name-gpu) echo "GPU 0 (Stand-in)" ;;
  --gtest_list_tests) printf 'GoodTest.\n  A\nSm90aTest.\n  B\n%s' "$(cat "$(dirname "$0")/more" 2>/dev/null)" ;;
  --gtest_filter=BadTest.*) echo "1 FAILED TEST"; exit 1 ;;
  --gtest_filter=CrashTest.*) kill -SEGV $$ ;;
  --gtest_filter=Sm90aTest.*) echo "none of these tests is for this GPU"; exit 77 ;;
  *) echo "[  PASSED  ] 1 test." ;;
esac
STAND_IN
chmod +x "$folder/bin/gpu_kernels_test"
cp "$folder/bin/gpu_kernels_test" "$folder/bin/gpu_trainer_test"

call --bin "$folder/bin" --out "$folder/out"
expect 0 "GPU 0 (Stand-in), commit" "all that was run passed"
grep -qE '^\| gpu_kernels GoodTest +\| passed ' <<<"$output" || fail "no row of what passed: $output"
grep -qE '^\| gpu_trainer Sm90aTest +\| skipped .*none of these tests is for this GPU' <<<"$output" || fail "$output"
[[ $output == "$(cat "$folder/out/table.md")" ]] || fail "table.md is another table"

printf 'BadTest.\n  C\nCrashTest.\n  D\n' >"$folder/bin/more"
call --bin "$folder/bin" --out "$folder/out"
expect 1 "4 rows failed"
grep -qE '^\| gpu_kernels BadTest +\| FAILED .*code 1: ' <<<"$output" || fail "no row of what failed: $output"
grep -qE '^\| gpu_kernels CrashTest +\| FAILED .*code 139: ' <<<"$output" || fail "no row of what crashed: $output"
grep -qE '^\| gpu_kernels GoodTest +\| passed ' <<<"$output" || fail "no row of what passed: $output"

printf '#!/bin/bash\necho "no GPU to test on: a reason"\nexit 77\n' >"$folder/bin/gpu_kernels_test"
call --bin "$folder/bin" --out "$folder/none"
expect 77 "tests/gpu/run: no GPU to test on: a reason; nothing was run"
[[ ! -e $folder/none ]] || fail "a folder was made for nothing"

# The real binary, if it was built and there is no GPU.
if (($# > 0)) && ! ls /dev/nvidia[0-9]* >/dev/null 2>&1; then
  call --bin "$(dirname "$1")" --out "$folder/none"
  expect 77 "tests/gpu/run: no GPU to test on: " "; nothing was run"
fi
