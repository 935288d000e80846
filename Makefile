# make demo: environment, build, a real network compiled and compared.  make test: everything CI checks.
# The environment lives in .venv; PYTHON chooses the interpreter (3.11 or 3.12).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SANITIZED := build/sanitized
# Versions of onnxruntime that the operator library must load in: the oldest supported, one between, the newest.
ORT_VERSIONS := 1.18.1 1.24.4 newest
# Instruction sets that the kernels are compiled for; a machine that lacks one runs the baseline in its place.
ISAS := $(if $(filter aarch64 arm64,$(shell uname -m)),neon,baseline avx2 avx512)
ISA_TESTS := $(patsubst %,python-test-%,$(filter-out avx512 neon,$(ISAS)))
# These tests are not of what the operators compute, or of CUDA: they know no instruction sets.
OTHER_TESTS := $(patsubst %,tests/custom_ops/test_%.py,binding cuda_host includes instruction_sets malformed_nodes plugin)

# Tests that are done take the rest of those that are not: neighbours share what they have built, and no core idles.
PYTEST = $(BIN)/python -m pytest -n 2 --dist worksteal
# Where the machine has CMake and Ninja, compiling the kernels' tests needs no environment.
CPP_NEEDS := $(if $(and $(shell command -v cmake),$(shell command -v ninja)),,$(VENV)/.installed)

# Where the machine has ccache, what one build of a run has compiled is not compiled again by the others.
CMAKE_CXX_COMPILER_LAUNCHER ?= $(shell command -v ccache)
CMAKE_CUDA_COMPILER_LAUNCHER ?= $(CMAKE_CXX_COMPILER_LAUNCHER)
export CMAKE_CXX_COMPILER_LAUNCHER CMAKE_CUDA_COMPILER_LAUNCHER

# Tests start hundreds of Python processes, which would compile the modules that they import each time, PyTorch's too.
unexport PYTHONDONTWRITEBYTECODE

CPP_SOURCES := $(shell find custom_ops -name '*.cc' -o -name '*.cu' -o -name '*.h' -o -name CMakeLists.txt -o -name '*.cmake' -o -name '*.map') reuse_compiler/_version.py
CPP_FORMATTED := $(filter %.cc %.cu %.h,$(CPP_SOURCES))
# clang-tidy reads what the C++ compiler does: the CUDA kernels through their tests on the host.
CPP_TIDIED := $(filter-out %ort_abi_test.cc %cuda_kernel.cc %cuda_kernels.cc %cuda_reuse_conv.cc,$(filter %.cc,$(CPP_SOURCES)))

# The GPU check runs in the environment that the machine has for it: nothing is downloaded.
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
# `make gpu-check --dry` (make's --dry-run) says what the check would do.
GPU_FLAGS := $(if $(findstring n,$(firstword -$(MAKEFLAGS))),--dry)

.PHONY: $(ISA_TESTS) demo test build lint format cpp-test test-aarch64 kernel-bench python-test fuzz compatibility tidy wheel \
	wheel-cuda gpu-check gpu-rehearsal site clean help

help:  ## this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/  /'

demo: $(VENV)/.built  ## compile a real trained network, run it on real images, print the table
	$(BIN)/python -m tools.demo

# Parts that leave a core idle run beside each other, each with its output in one piece; pytest's summary comes last.
# What waits for no environment comes first, and is compiled while pip fetches one.
test:  ## all that CI checks
	$(MAKE) --jobs=2 --output-sync=target cpp-test lint tidy compatibility gpu-rehearsal $(ISA_TESTS)
	$(PYTEST)

build: $(VENV)/.built  ## environment with the operator library (editable install)

# Modules are compiled when they are first imported: pip would compile all of PyTorch and SymPy, on one core.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --no-compile

# PyPI's PyTorch is for CUDA, 3 GB with what it needs: the tests take one for the CPU where pip knows a folder with it.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --upgrade pip
	$(PIP_INSTALL) --editable '.[cpu,images,models,report,docs,test,lint]'
	$(PIP_INSTALL) --no-index --no-deps 'torch>=2.2' 2>/dev/null && \
		$(PIP_INSTALL) --upgrade filelock fsspec jinja2 networkx setuptools sympy typing-extensions || \
		echo "no PyTorch for the CPU among pip's own wheels (PIP_FIND_LINKS): tests of the training companion skip"
	touch $@ $(VENV)/.new

# An editable install does not notice changed C++ sources; installing again (without dependencies) rebuilds them. A new
# environment has just built them.
$(VENV)/.built: $(VENV)/.installed $(CPP_SOURCES)
	[ -e $(VENV)/.new ] && [ -z "$$(find $(CPP_SOURCES) -newer $(VENV)/.new)" ] || \
		$(PIP_INSTALL) --no-deps --editable .
	rm -f $(VENV)/.new
	touch $@

lint: $(VENV)/.built  ## ruff, mypy, clang-format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CPP_FORMATTED)

format: $(VENV)/.built  ## format all sources
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $(CPP_FORMATTED)

cpp-test: $(CPP_NEEDS)  ## the kernels' own tests under AddressSanitizer and UBSan; CUDA's know no instruction sets
	$(if $(CPP_NEEDS),$(BIN)/python,$(PYTHON)) -m tools.cpp_build $(SANITIZED) --target=kernel_tests --target=symbols -DREUSE_BUILD_TESTS=ON -DREUSE_SANITIZE=ON
	# Two at a time, each with its output in one piece; those on the host of CUDA's kernels take longest.
	printf '%s\n' '$(firstword $(ISAS)) cuda_' $(patsubst %,'% -cuda_',$(ISAS)) | xargs -P 2 -L 1 sh -c ' \
		REUSE_CUDA_CASES=60 REUSE_ISA=$$0 $(SANITIZED)/tests/kernel_tests $$1 > $(SANITIZED)/$$0$$1.log 2>&1 || { cat $(SANITIZED)/$$0$$1.log; exit 255; }; \
		echo "$$0 $$1: $$(tail -1 $(SANITIZED)/$$0$$1.log)"'

# Debian's cross compiler and QEMU's emulation of one process; nothing of it says how fast the kernels are.
test-aarch64: $(VENV)/.installed  ## the operator library for 64-bit ARM, its kernels' tests in an emulator; not in `test`
	@for tool in aarch64-linux-gnu-g++ qemu-aarch64; do command -v $$tool > /dev/null || { \
		echo "$$tool is missing: on Debian and Ubuntu, apt-get install g++-aarch64-linux-gnu qemu-user" >&2; exit 1; }; done
	$(BIN)/python -m tools.cpp_build build/aarch64 --target=reuse_ops --target=kernel_tests --target=symbols \
		-DCMAKE_TOOLCHAIN_FILE=aarch64-toolchain.cmake -DREUSE_BUILD_TESTS=ON -DREUSE_CUDA=OFF
	cd build/aarch64 && REUSE_CUDA_CASES=5 ctest --output-on-failure

kernel-bench: $(VENV)/.installed  ## time of every innermost loop alone
	$(BIN)/python -m tools.cpp_build build/bench -DREUSE_BUILD_BENCH=ON -DREUSE_CUDA=OFF
	build/bench/kernel_bench

tidy: $(VENV)/.installed  ## clang-tidy's bug checks
	$(BIN)/python -m tools.cpp_build build/tidy --configure-only -DREUSE_BUILD_TESTS=ON -DREUSE_BUILD_BENCH=ON -DREUSE_CUDA=OFF
	# The analyzer leaves tests alone, but sees the CUDA kernels through one of them.
	printf '%s\n' '--checks=clang-analyzer-* custom_ops/tests/cuda_host.cc' $(CPP_TIDIED) | \
		xargs -P 2 -L 1 $(BIN)/clang-tidy --quiet -p build/tidy 2>/dev/null

compatibility: $(VENV)/.installed  ## the wheel in the oldest, a middle and the newest onnxruntime
	$(BIN)/python -m tools.compatibility $(ORT_VERSIONS)

python-test: $(VENV)/.built $(ISA_TESTS)  ## the Python tests; those of the kernels also for every instruction set but the best
	$(PYTEST)

$(ISA_TESTS): $(VENV)/.built
	REUSE_ISA=$(@:python-test-%=%) $(BIN)/python -m pytest -q tests/custom_ops $(OTHER_TESTS:%=--ignore=%) -k 'not cuda'

# Both runs are made whatever the first one finds. FUZZ='files --seconds 60' is a part of it.
fuzz: $(VENV)/.built  ## 10 minutes of random nodes, geometries, models, files and threads, and nodes under sanitizers
	$(BIN)/python -m tools.cpp_build build/sanitized-ops --target=reuse_ops -DREUSE_SANITIZE=ON -DREUSE_CUDA=OFF
	failed=0; for run in "$(FUZZ)" 'nodes --sanitized --rounds 5000'; do $(BIN)/python -m tools.fuzz $$run || failed=1; done; exit $$failed

site: $(VENV)/.installed  ## the documentation as a site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

wheel: $(VENV)/.installed  ## what is published: the sources and the wheel for the CPU, built, tried and put into dist/
	$(BIN)/python -m tools.wheels

wheel-cuda: $(VENV)/.installed  ## the same with the CUDA kernels: a wheel alone, of version X.Y.Z+cu13
	$(BIN)/python -m tools.wheels --cuda

gpu-check:  ## prove and measure the CUDA operators on this machine's GPU, within 5 minutes
	+$(GPU_PYTHON) -m tools.gpu_check $(GPU_FLAGS)

gpu-rehearsal: $(VENV)/.built  ## the GPU check's plan, and all of it that needs no GPU
	$(BIN)/python -m tools.gpu_check --dry

clean:  ## remove everything that was built
	rm -rf $(VENV) .venvs build dist demo reuse_compiler/lib .mypy_cache .pytest_cache .ruff_cache .hypothesis
