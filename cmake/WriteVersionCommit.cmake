# cmake -D SOURCE_DIR=... -D OUTPUT=... -P WriteVersionCommit.cmake: writes the commit as a C string, e.g.
# "1a2b3c4d5e6f-dirty" when tracked files were changed, "unknown" outside a git checkout.
set(commit "unknown")
find_program(git git)
if(git AND EXISTS ${SOURCE_DIR}/.git)
  # Without locks: a build must not get in the way of a `git commit` beside it.
  execute_process(
    COMMAND ${git} --no-optional-locks -C ${SOURCE_DIR} rev-parse --short=12 HEAD
    RESULT_VARIABLE failed OUTPUT_VARIABLE head ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  execute_process(
    COMMAND ${git} --no-optional-locks -C ${SOURCE_DIR} status --porcelain --untracked-files=no
    OUTPUT_VARIABLE changes ERROR_QUIET)
  if(NOT failed)
    set(commit ${head})
    if(changes)
      string(APPEND commit "-dirty")
    endif()
  endif()
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "\"${commit}\"\n")
