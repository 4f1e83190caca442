if(QUAY_SANITIZE)
  target_compile_options(quay_flags INTERFACE -fsanitize=${QUAY_SANITIZE} -fno-omit-frame-pointer
    -fno-sanitize-recover=all)
  target_link_options(quay_flags INTERFACE -fsanitize=${QUAY_SANITIZE})
endif()
if(QUAY_COVERAGE)
  target_compile_options(quay_flags INTERFACE --coverage)
  target_link_options(quay_flags INTERFACE --coverage)
endif()
