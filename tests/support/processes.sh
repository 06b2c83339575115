# Sourced by tests that kill parts of a run: finds the processes of $program, the path of angel-ptm.

# Prints the program's processes at or below process $1.
program_processes() {
  [[ $(readlink "/proc/$1/exe") == $(readlink -f "$program") ]] && echo "$1"
  local child
  for child in $(cat "/proc/$1/task/$1/children" 2> /dev/null); do program_processes "$child"; done
}
# Prints the mpirun at or below process $1, which may be a wrapper of it.
mpirun_process() {
  [[ $(cat "/proc/$1/comm") =~ ^(mpirun|mpiexec|orterun|prterun)$ ]] && { echo "$1"; return; }
  local child
  for child in $(cat "/proc/$1/task/$1/children" 2> /dev/null); do mpirun_process "$child"; done
}
# process_of_rank <rank> <pid of mpirun>
process_of_rank() {
  local process
  for process in $(program_processes "$2"); do
    # Not a pipe: grep exits at the match, and under pipefail the still writing tr would turn that into a failure.
    grep -qzx "OMPI_COMM_WORLD_RANK=$1" "/proc/$process/environ" && echo "$process"
  done
}
# kill_job <pid>: kills the process and what runs below it.
kill_job() { kill -KILL $(program_processes "$1") $(mpirun_process "$1") "$1" 2> /dev/null; }
