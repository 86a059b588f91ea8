# SPDX-License-Identifier: Apache-2.0
# holdfast_protos(NAME DIR a b ..): DIR/a.proto .. become the library NAME; include them as "wire/a.pb.h". Generated code is not
# ours: no warnings are asked of it.
find_package(Protobuf REQUIRED)
include(${CMAKE_SOURCE_DIR}/cmake/proto_shapes.cmake)
function(holdfast_protos NAME DIR)
  set(GENERATED ${CMAKE_BINARY_DIR}/generated)
  file(MAKE_DIRECTORY ${GENERATED}/wire)
  foreach(PROTO ${ARGN})
    add_custom_command(OUTPUT ${GENERATED}/wire/${PROTO}.pb.cc ${GENERATED}/wire/${PROTO}.pb.h
      COMMAND protobuf::protoc -I${DIR} --cpp_out=${GENERATED}/wire ${DIR}/${PROTO}.proto
      DEPENDS ${DIR}/${PROTO}.proto VERBATIM)
    list(APPEND SOURCES ${GENERATED}/wire/${PROTO}.pb.cc)
    list(APPEND PROTOS ${DIR}/${PROTO}.proto)
  endforeach()
  holdfast_proto_shapes(${GENERATED}/wire/shapes.inc ${PROTOS})
  add_library(${NAME} STATIC ${SOURCES})
  target_include_directories(${NAME} SYSTEM PUBLIC ${GENERATED})
  target_link_libraries(${NAME} PUBLIC protobuf::libprotobuf-lite)
  target_compile_options(${NAME} PRIVATE -w)
endfunction()
