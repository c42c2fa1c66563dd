# What every room's CMakeLists.txt uses.

find_package(PkgConfig REQUIRED)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

add_library(cadre_warnings INTERFACE)
target_compile_options(cadre_warnings INTERFACE -Wall -Wextra -Wpedantic -Werror
                       $<$<COMPILE_LANG_AND_ID:C,GNU>:-Wno-format-truncation>) # cutting long text is meant

add_library(cadre_options INTERFACE)
target_compile_definitions(cadre_options INTERFACE _GNU_SOURCE)
target_include_directories(cadre_options INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include)
target_link_libraries(cadre_options INTERFACE cadre_warnings)
if(CADRE_SANITIZE)
    target_compile_options(cadre_options INTERFACE -fsanitize=${CADRE_SANITIZE} -fno-omit-frame-pointer
                                                   -fno-sanitize-recover=all)
    target_link_options(cadre_options INTERFACE -fsanitize=${CADRE_SANITIZE})
endif()

# A required system library by its pkg-config name, as the target PkgConfig::<upper name>.
function(cadre_require module package)
    string(TOUPPER ${module} name)
    string(REGEX REPLACE "[^A-Z0-9]" "_" name ${name})
    pkg_check_modules(${name} IMPORTED_TARGET GLOBAL ${module})
    if(NOT ${name}_FOUND)
        message(FATAL_ERROR "${module} is missing: apt-get install ${package}")
    endif()
endfunction()

# cadre_room(NAME SOURCES... LINK libs...): one room as a static library. libcadre.so takes all rooms whole; tests link
# the rooms they need and so see what is hidden from users.
function(cadre_room name)
    cmake_parse_arguments(room "" "" "SOURCES;LINK" ${ARGN})
    add_library(cadre_${name} STATIC ${room_SOURCES})
    target_link_libraries(cadre_${name} PUBLIC cadre_options ${room_LINK})
endfunction()

# cadre_test(NAME SOURCES... LINK libs... [LABELS ...] [TIMEOUT s] [ENV VAR=value ...]): a cmocka program and its ctest entry.
function(cadre_test name)
    cmake_parse_arguments(test "" "TIMEOUT" "SOURCES;LINK;LABELS;ENV" ${ARGN})
    add_executable(test_${name} ${test_SOURCES})
    target_link_libraries(test_${name} PRIVATE ${test_LINK} PkgConfig::CMOCKA)
    set_target_properties(test_${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
    add_test(NAME ${name} COMMAND test_${name})
    if(NOT test_TIMEOUT)
        set(test_TIMEOUT 120)
    endif()
    set_tests_properties(${name} PROPERTIES TIMEOUT ${test_TIMEOUT} LABELS "${test_LABELS}" ENVIRONMENT "${test_ENV}")
endfunction()

# ctorch and what stands on it, when libtorch is there.
macro(cadre_torch)
    set(CADRE_HAVE_TORCH OFF)
    if(NOT CADRE_WITH_TORCH STREQUAL "OFF")
        enable_language(CXX)
        set(CMAKE_CXX_STANDARD 17)
        set(CMAKE_CXX_STANDARD_REQUIRED ON)
        find_package(Torch QUIET)
        if(Torch_FOUND)
            set(CADRE_HAVE_TORCH ON)
            message(STATUS "libtorch ${Torch_VERSION}: ctorch and ddp are built")
            add_subdirectory(ctorch)
            add_subdirectory(trainer/torch)
        elseif(CADRE_WITH_TORCH STREQUAL "ON")
            message(FATAL_ERROR "libtorch is missing: apt-get install libtorch-dev, or -DCADRE_WITH_TORCH=OFF")
        else()
            message(STATUS "libtorch is not there: ctorch, ddp and the torch examples are left out (apt-get install libtorch-dev)")
        endif()
    endif()
endmacro()
