# Finds nvcc, on the path or in the PyPI packages of extra [cuda], and sets REUSE_HAVE_CUDA.
set(REUSE_HAVE_CUDA OFF)

# The folder of the PyPI packages of CUDA in the Python that builds, or "".
function(find_cuda_wheels result)
  set(${result} "" PARENT_SCOPE)
  find_package(Python QUIET COMPONENTS Interpreter)
  if(NOT Python_FOUND)
    return()
  endif()
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -c
      "import glob, sys; print(next((f for p in sys.path for f in glob.glob(p + '/nvidia/cu13') if glob.glob(f + '/bin/nvcc')), ''))"
    OUTPUT_VARIABLE folder OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  set(${result} "${folder}" PARENT_SCOPE)
endfunction()

# Sets REUSE_NVCC, and what nvcc of the packages needs to be told.
macro(find_nvcc)
  set(wheels "")
  if(NOT REUSE_CUDA STREQUAL "AUTO")
    # The packages first: who installs them where the library is built wants them.
    find_cuda_wheels(wheels)
  endif()
  if(wheels)
    set(REUSE_NVCC "${wheels}/bin/nvcc")
    # The packages keep the libraries in lib, where nvcc does not look.
    set(CMAKE_CUDA_FLAGS_INIT "-L${wheels}/lib")
  else()
    find_program(REUSE_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
  endif()
endmacro()

if(REUSE_CUDA STREQUAL "AUTO" AND REUSE_SANITIZE)
  message(STATUS "CUDA kernels: left out of a build for sanitizers")
elseif(REUSE_CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    find_nvcc()
    if(REUSE_NVCC AND REUSE_CUDA STREQUAL "AUTO")
      # An nvcc that does not work with this host compiler must not fail a build that nobody asked CUDA of.
      set(ENV{CUDACXX} "${REUSE_NVCC}")
      include(CheckLanguage)
      check_language(CUDA)
    elseif(REUSE_NVCC)
      set(CMAKE_CUDA_COMPILER "${REUSE_NVCC}")
    endif()
  endif()
  if(CMAKE_CUDA_COMPILER)
    if(NOT CMAKE_CUDA_ARCHITECTURES)
      # Machine code for A100 and H100/H200, and PTX for what comes between and after them.
      set(CMAKE_CUDA_ARCHITECTURES "80;90a-real")
    endif()
    set(CMAKE_CUDA_STANDARD 17)
    set(CMAKE_CUDA_STANDARD_REQUIRED ON)
    # The library must load where no driver is: the runtime is linked in and finds the driver when it is first called.
    set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
    enable_language(CUDA)
    string(APPEND CMAKE_CUDA_FLAGS " -Xcompiler -Wno-unknown-pragmas")
    if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.0)
      set(REUSE_HAVE_CUDA ON)
    endif()
  endif()
  if(REUSE_HAVE_CUDA)
    message(STATUS "CUDA kernels: ${CMAKE_CUDA_COMPILER} ${CMAKE_CUDA_COMPILER_VERSION}, ${CMAKE_CUDA_ARCHITECTURES}")
  elseif(REUSE_CUDA STREQUAL "AUTO")
    message(STATUS "CUDA kernels: none, as no nvcc of CUDA 12 or later works here")
  else()
    message(FATAL_ERROR "REUSE_CUDA is ON, but no nvcc of CUDA 12 or later was found: install the CUDA toolkit, or build "
                        "with REUSE_CUDA=ON pip install '.[gpu]', which brings its PyPI packages, or with REUSE_CUDA=AUTO")
  endif()
endif()
