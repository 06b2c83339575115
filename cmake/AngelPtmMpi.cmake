# ANGEL_PTM_MPIRUN: the command that starts the ranks of a test. Open MPI refuses to run as root unless told twice;
# Debian's PMIx warns about a compression library it was built without.
set(ANGEL_PTM_MPIRUN
    ${CMAKE_COMMAND} -E env
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PMIX_MCA_pcompress_base_silence_warning=1
    ${MPIEXEC_EXECUTABLE})
