#!/bin/bash
# machines_test.sh <program> <config> <folder> <mpirun...>: four ranks on two machines, which are processes with their
# own host names. Sums go inside machines first and have the bits of a run of threads in nodes of that size; ranks of a
# machine that are not neighbours sum all at once. A checkpoint continues from one arrangement to the other and says so.
# The doctor measures both networks, and plans use the results. Exit code 77: a process may not have its own host name
# here.
set -euo pipefail
program=$1 config=$2 work=$3
shift 3
mpirun=("$@" --oversubscribe --bind-to none -np 4)
fail() { { echo "FAILED: $*"; tail -n 20 "$work"/*.log; } >&2; exit 1; }

unshare -u hostname machine0 2> /dev/null || { echo "no process may have a host name of its own here"; exit 77; }
rm -rf "$work"
mkdir -p "$work/text"
awk 'BEGIN {
  split("what a machine needs crosses the network once and its ranks pass it on to each other", word, " ")
  x = 1
  for (i = 0; i < 20000; i++) { x = (x * 48271) % 2147483647; printf "%s%s", word[x % 17 + 1], x % 11 ? " " : ".\n\n" }
}' > "$work/text/prose.txt"
of_run=("$config" --set "data.directory=$work/data" --set steps=4 --set evaluation.every_steps=0
        --set model.hunyuan_lm.vocab_size=300 --set optimizer.schedule.warmup_steps=1)
"$program" prepare "${of_run[@]}" --set "data.prepare.input=$work/text" --set data.prepare.vocabulary_size=300 > "$work/prepare.log" 2>&1 || fail "prepare"

# on_machine <which, an expression of $OMPI_COMM_WORLD_RANK> <command...>
on_machine() {
  local which=$1
  shift
  "${mpirun[@]}" unshare -u sh -c 'hostname "machine$(('"$which"'))" && exec "$0" "$@"' "$@"
}
# train <name> <launcher...> -- <settings...>: trains; losses and gradient norms go to <name>.numbers.
train() {
  local name=$1 launcher=()
  shift
  while [[ $1 != -- ]]; do launcher+=("$1"); shift; done
  shift
  "${launcher[@]}" "$program" train "${of_run[@]}" --set "output.directory=$work/$name" "$@" > "$work/$name.log" 2>&1 ||
    fail "$name ended with $?"
  grep -oE '"(step|loss|grad_norm)":[^,}]*' "$work/$name/metrics.jsonl" > "$work/$name.numbers"
  [[ $(wc -l < "$work/$name.numbers") -ge 12 ]] || fail "$name has too few numbers"
}
same() { cmp -s "$work/$1.numbers" "$work/$2.numbers" || fail "$1 and $2 differ"; }
says() { grep -qF -- "$2" "$work/$1.log" || fail "$1 does not say: $2"; }

train threads env -- --set communication.local_ranks=4
train nodes env -- --set communication.local_ranks=4 --set communication.ranks_per_node=2
train machines on_machine 'OMPI_COMM_WORLD_RANK / 2' --
train scattered on_machine 'OMPI_COMM_WORLD_RANK % 2' --
same machines nodes
same scattered threads
cmp -s "$work/nodes.numbers" "$work/threads.numbers" && fail "sums of nodes have the bits of all at once"
says machines "transport: messages (the ranks are on 2 machines), direct reads inside a machine"
says machines "sums: over the 2 ranks of a node, then over the nodes"
says scattered "note: the machines have different numbers of ranks, or ranks that are not numbered consecutively"

# Resumes where all four ranks are on one machine; the bits stay those of two machines if ranks_per_node says so.
train nodes env -- --set communication.local_ranks=4 --set communication.ranks_per_node=2 --set steps=6 --resume
cp -r "$work/machines" "$work/moved"
train machines env -- --set communication.local_ranks=4 --set communication.ranks_per_node=2 --set steps=6 --resume
same machines nodes
train moved env -- --set communication.local_ranks=4 --set steps=6 --resume
says moved "the numerics change: ranks of a node 2 -> all"

on_machine 'OMPI_COMM_WORLD_RANK / 2' "$program" doctor --seconds 2 --out "$work/cluster.textproto" > "$work/doctor.log" 2>&1 ||
  fail "doctor ended with $?"
says doctor "network between 2 ranks of a node: "
says doctor "network between 2 nodes: "
"$program" plan "${of_run[@]}" --cluster "$work/cluster.textproto" > "$work/plan.log" 2>&1 || fail "plan ended with $?"
says plan "every rank of 4 (2 a node)"
echo "passed"
