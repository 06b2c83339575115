# Sourced by tests that kill parts of a run: finds the processes of $program, the path of angel-ptm.

# The processes of the program below process $1, itself included.
program_processes() {
  [[ $(readlink "/proc/$1/exe") == $(readlink -f "$program") ]] && echo "$1"
  local child
  for child in $(cat "/proc/$1/task/$1/children" 2> /dev/null); do program_processes "$child"; done
}
# The mpirun at or below process $1, which may be a wrapper of it.
mpirun_process() {
  [[ $(cat "/proc/$1/comm") =~ ^(mpirun|mpiexec|orterun|prterun)$ ]] && { echo "$1"; return; }
  local child
  for child in $(cat "/proc/$1/task/$1/children" 2> /dev/null); do mpirun_process "$child"; done
}
# process_of_rank <rank> <pid of mpirun>
process_of_rank() {
  local process
  for process in $(program_processes "$2"); do
    # No pipe: grep leaves at the match, and under pipefail the tr that is still writing would make it none.
    grep -qzx "OMPI_COMM_WORLD_RANK=$1" "/proc/$process/environ" && echo "$process"
  done
}
# kill_job <pid>: what runs at or below the process, and it.
kill_job() { kill -KILL $(program_processes "$1") $(mpirun_process "$1") "$1" 2> /dev/null; }
