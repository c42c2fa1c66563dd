# What `cmake --install` puts where: libraries, headers, the CMake package and the pkg-config files (the cadre command and the mpi module
# are installed by their rooms). All of it finds its other parts by relative paths, so an installed tree may be moved.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/cadre)
file(RELATIVE_PATH pc_to_prefix ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" pc_to_prefix ${pc_to_prefix})

# cadre_pc(NAME LIBRARY DESCRIPTION REQUIRES)
function(cadre_pc name library description requires)
    configure_file(${PROJECT_SOURCE_DIR}/cmake/package.pc.in ${PROJECT_BINARY_DIR}/pkgconfig/${name}.pc @ONLY)
    install(FILES ${PROJECT_BINARY_DIR}/pkgconfig/${name}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endfunction()

set(installed_libraries cadre)
install(DIRECTORY include/cadre/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/cadre FILES_MATCHING PATTERN "*.h" PATTERN "ddp.h" EXCLUDE)
cadre_pc(cadre cadre "${PROJECT_DESCRIPTION}" "")
if(CADRE_HAVE_TORCH)
    list(APPEND installed_libraries ctorch cadre_torch)
    set_target_properties(cadre_torch PROPERTIES EXPORT_NAME torch)
    set_target_properties(ctorch PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})
    install(FILES include/ctorch.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
    install(FILES include/cadre/ddp.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/cadre)
    cadre_pc(ctorch ctorch "PyTorch's tensors, modules, gradients and optimisers for C" "")
    cadre_pc(cadre-torch cadre_torch "Data-parallel training of ctorch modules with Cadre" "cadre = ${PROJECT_VERSION}, ctorch = ${PROJECT_VERSION}")
endif()

# libtorch may stand where the loader does not look: its folder is kept in the run path (INSTALL_RPATH_USE_LINK_PATH).
set_target_properties(${installed_libraries} PROPERTIES INSTALL_RPATH "$ORIGIN" INSTALL_RPATH_USE_LINK_PATH ON)
install(TARGETS ${installed_libraries} EXPORT cadre-targets
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT cadre-targets NAMESPACE cadre:: DESTINATION ${package_dir})
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/cadre-config.cmake.in ${PROJECT_BINARY_DIR}/cadre-config.cmake
    INSTALL_DESTINATION ${package_dir})
# Below 1.0 a minor version may change the interface.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/cadre-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/cadre-config.cmake ${PROJECT_BINARY_DIR}/cadre-config-version.cmake DESTINATION ${package_dir})
