# `cmake --install build/release --prefix <folder>`: the program, the example configurations and the notices.
# The libraries are internal and not installed.
if(TARGET angel-ptm)
  install(TARGETS angel-ptm RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(DIRECTORY ${CMAKE_SOURCE_DIR}/launch/configs ${CMAKE_SOURCE_DIR}/launch/clusters DESTINATION ${CMAKE_INSTALL_DATADIR}/angel-ptm
        FILES_MATCHING PATTERN *.textproto)
install(FILES ${CMAKE_SOURCE_DIR}/LICENSE ${CMAKE_SOURCE_DIR}/THIRD_PARTY.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
