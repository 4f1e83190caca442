# quay_flags: what every target of ours is compiled with.
add_library(quay_flags INTERFACE)
target_compile_options(quay_flags INTERFACE
  -Wall -Wextra -Wshadow -Wcast-qual -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef
  -Wwrite-strings -Wpointer-arith -Wformat=2 -Wconversion -Wno-sign-conversion
  -Wno-missing-field-initializers -fno-strict-aliasing -fno-common -fstack-protector-strong
  "SHELL:-include ${PROJECT_SOURCE_DIR}/base/banned.h")
target_compile_definitions(quay_flags INTERFACE _GNU_SOURCE _FILE_OFFSET_BITS=64
  QUAY_VERSION="${PROJECT_VERSION}")
target_include_directories(quay_flags INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
if(QUAY_WERROR)
  target_compile_options(quay_flags INTERFACE -Werror)
endif()

# quay_library(NAME SOURCES... ): one static library with our flags.
function(quay_library name)
  add_library(${name} STATIC ${ARGN})
  target_link_libraries(${name} PUBLIC quay_flags)
endfunction()
