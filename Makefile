# autolora: AutoLoRA for CPU clusters. `make demo` and `make check` do everything, `make help` lists the rest.

# ---- settings: make VAR=..., kept with make configure VAR=..., seen with make info ----
-include build/config.mk
# VAR from the command line, from build/config.mk or from the environment, else what the command prints.
found = $(if $(filter undefined,$(origin $1)),$(eval $1 := $$(shell ($2) 2>/dev/null)))

# From the environment CC would be anything; the MPI wrapper is meant.
ifneq ($(filter default environment,$(origin CC)),)
CC = mpicc
endif
MPIRUN       ?= mpirun
MPIRUN_FLAGS ?= --oversubscribe --bind-to none
PKG_CONFIG   ?= pkg-config
PYTHON       ?= python3
# The processor to compile for: a name of gcc's -march. Nodes that differ from the login node want their own.
ARCH         ?= native
OPT          ?= -O3
# Compilers other than MPI's wrapper.
MPI_CFLAGS   ?=
MPI_LIBS     ?=
$(call found,HDF5_CFLAGS,$(PKG_CONFIG) --cflags hdf5-openmpi || $(PKG_CONFIG) --cflags hdf5)
$(call found,HDF5_LIBS,$(PKG_CONFIG) --libs hdf5-openmpi || $(PKG_CONFIG) --libs hdf5)
$(call found,CJSON_CFLAGS,$(PKG_CONFIG) --cflags libcjson | sed 's:/cjson *$$::')
$(call found,CJSON_LIBS,$(PKG_CONFIG) --libs libcjson)
$(call found,UTF8_CFLAGS,$(PKG_CONFIG) --cflags libutf8proc)
$(call found,UTF8_LIBS,$(PKG_CONFIG) --libs libutf8proc)
$(call found,ZLIB_CFLAGS,$(PKG_CONFIG) --cflags zlib)
$(call found,ZLIB_LIBS,$(PKG_CONFIG) --libs zlib)
$(call found,CMOCKA_CFLAGS,$(PKG_CONFIG) --cflags cmocka)
$(call found,CMOCKA_LIBS,$(PKG_CONFIG) --libs cmocka)
# The one BLAS. It stands before ScaLAPACK and LAPACK on the link line, so that their products come from it too;
# `autolora info` prints the library that was really loaded.
$(call found,MULTIARCH,$(CC) -print-multiarch || gcc -print-multiarch)
BLIS_INCLUDE ?= /usr/include/$(MULTIARCH)/blis-openmp
BLIS_LIBDIR  ?= /usr/lib/$(MULTIARCH)/blis-openmp
BLIS_CFLAGS  ?= -isystem $(BLIS_INCLUDE)
BLIS_LIBS    ?= -L$(BLIS_LIBDIR) -lblis
SCALAPACK_LIBS ?= -lscalapack-openmpi -llapack
# Folder with glue/, ner/ and nlg/, for `make check-peers`.
DATA         ?= ../shared/data
# More for both runs of the demonstration: make demo DEMO_ARGS='--set task.limit_train=500'
DEMO_ARGS    ?=
SECONDS      ?= 60
HOURS        ?= 2
# make install: below DESTDIR, for what is to be found in PREFIX.
PREFIX       ?= /usr/local
DESTDIR      ?=

SETTINGS = CC MPIRUN MPIRUN_FLAGS PYTHON ARCH OPT MPI_CFLAGS MPI_LIBS HDF5_CFLAGS HDF5_LIBS CJSON_CFLAGS CJSON_LIBS \
           UTF8_CFLAGS UTF8_LIBS ZLIB_CFLAGS ZLIB_LIBS BLIS_CFLAGS BLIS_LIBS SCALAPACK_LIBS CMOCKA_CFLAGS CMOCKA_LIBS DATA
MODEL    = inputs/models/all-MiniLM-L6-v2

# ---- build ----
SANITIZE ?= 0
FUZZ     ?= 0
COVERAGE ?= 0
THREADS  ?= 0
ifneq ($(filter 1,$(FUZZ) $(THREADS)),)
MPI_CFLAGS := $(shell $(CC) --showme:compile)
MPI_LIBS   := $(shell $(CC) --showme:link)
override CC = clang
endif
ifeq ($(SANITIZE),1)
BUILD    = build/sanitize
BIN      = build/sanitize/bin
override OPT = -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
WARNINGS = -Wall -Wextra
else ifeq ($(FUZZ),1)
# clang's: gcc has no libFuzzer. What a harness is linked with stands in place of its parts of the library.
BUILD    = build/fuzz
BIN      = build/fuzz/bin
override OPT = -O2 -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined,float-cast-overflow -fno-sanitize-recover=all \
    -fno-sanitize-coverage=trace-cmp
WARNINGS = -Wall -Wextra -Werror -Wno-pass-failed -Wno-missing-field-initializers
else ifeq ($(THREADS),1)
# clang's: of gcc's OpenMP the thread sanitizer knows no barrier, of LLVM's it does (archer).
BUILD    = build/threads
BIN      = build/threads/bin
override OPT = -O1 -ffp-contract=off -fno-omit-frame-pointer -fsanitize=thread
WARNINGS = -Wall -Wextra -Wno-pass-failed -Wno-missing-field-initializers
else ifeq ($(COVERAGE),1)
BUILD    = build/coverage
BIN      = build/coverage/bin
override OPT = -Og --coverage
else
BUILD    = build/release
BIN      = bin
endif
WARNINGS ?= -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Werror

comma   := ,
CFLAGS   = -std=c11 -D_GNU_SOURCE $(OPT) -g $(if $(filter 1,$(COVERAGE)),,$(call quoted,-ffile-prefix-map=$(CURDIR)=.)) -march=$(ARCH) -fopenmp \
           -fno-math-errno -fno-trapping-math $(WARNINGS)
CPPFLAGS = -Iinclude $(MPI_CFLAGS) $(HDF5_CFLAGS) $(CJSON_CFLAGS) $(UTF8_CFLAGS) $(ZLIB_CFLAGS) $(BLIS_CFLAGS)
LIBS     = $(BLIS_LIBS) $(SCALAPACK_LIBS) $(HDF5_LIBS) $(CJSON_LIBS) $(UTF8_LIBS) $(ZLIB_LIBS) $(MPI_LIBS) -ldl -lm
# A library is loaded from where it was linked.
LDLIBS   = $(LIBS) $(patsubst -L%,-Wl$(comma)-rpath$(comma)%,$(filter -L%,$(LIBS)))
# A release (make dist) has it in a file. The length of git's is fixed: its own choice depends on how much a clone holds.
VERSION := $(shell cat VERSION 2>/dev/null || git describe --always --dirty --tags --abbrev=12 2>/dev/null || echo unknown)

SOURCES  = $(sort $(wildcard src/*.c src/*/*.c))
OBJECTS  = $(SOURCES:src/%.c=$(BUILD)/%.o)
LIBRARY  = $(BUILD)/libautolora.$(if $(filter 1,$(SHARED)),so,a)
UNITS    = $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(sort $(wildcard tests/unit/test_*.c)))
TOOLS    = $(patsubst tests/tools/%.c,$(BUILD)/tools/%,$(sort $(wildcard tests/tools/*.c)))
BENCH    = $(addprefix $(BUILD)/bench/,autolora kernels distributed)

HARNESSES = $(patsubst tests/fuzz/fuzz_%.c,$(BUILD)/fuzz/%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))

V ?= 0
Q  = $(if $(filter 0,$(V)),@)
say = $(if $(filter 0,$(V)),@printf '%-5s %s\n' '$(1)' '$(2)')
quoted = '$(subst ','\'',$1)'
# A make that starts anew sees what the set-up has installed; it builds on all cores unless told otherwise.
AGAIN = +@$(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))

.PHONY: all tests help setup probe configure base-model analysis-setup demo check check-long check-run coverage check-threads \
        check-valgrind check-scheduler scheduler-setup endurance check-peers bench bench-peers bench-check fuzz fuzzers dist install uninstall info clean format format-check lint force
.DELETE_ON_ERROR:
.SECONDARY:
all: $(BIN)/autolora ## the program
tests: all $(UNITS) $(TOOLS) $(HARNESSES)

$(BIN)/autolora: $(BUILD)/main.o $(LIBRARY)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) -o $@ $^ $(LDLIBS)

$(LIBRARY): $(filter-out $(BUILD)/main.o,$(OBJECTS))
	@rm -f $@
	$(call say,AR,$@)
	$(Q)$(if $(filter 1,$(SHARED)),$(CC) -shared -o $@ $^ $(LDLIBS),ar rcsD $@ $^)

$(BUILD)/%.o: src/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(DEFINES) -MMD -MP -c -o $@ $<

$(BUILD)/tests/%: tests/unit/%.c $(LIBRARY) $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) -Itests/unit $(CMOCKA_CFLAGS) $(CFLAGS) -MMD -MP -MF $@.d -o $@ $< $(LIBRARY) $(LDLIBS) $(CMOCKA_LIBS)

$(BUILD)/tools/%: tests/tools/%.c $(LIBRARY) $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -MF $@.d -o $@ $< $(LIBRARY) $(LDLIBS)

# A fuzzing harness: with libFuzzer, or else with a main function that gives it the inputs that are kept.
HARNESS = tests/fuzz/fuzz.c tests/fuzz/exact_memory.c $(if $(filter 1,$(FUZZ)),,tests/fuzz/replay.c)
$(BUILD)/fuzz/%: tests/fuzz/fuzz_%.c $(HARNESS) $(wildcard tests/fuzz/*.h) $(LIBRARY) $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) -Itests/fuzz $(CFLAGS) $(if $(filter 1,$(FUZZ)),-fsanitize=fuzzer) -Wl,--wrap=report_abort \
	    -o $@ $< $(HARNESS) $(LIBRARY) $(LDLIBS)

# Programs of tests/bench: rates of kernels; the program with a probe around what probe.c wraps.
$(BUILD)/bench/%.o: tests/bench/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<
$(BUILD)/bench/kernels $(BUILD)/bench/distributed: %: %.o $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) -o $@ $^ $(LDLIBS)
WRAPPED  = $(shell grep -ohE '(__wrap_|^TIMED.)[a-z_0-9]+' tests/bench/probe.c | sed -E 's/__wrap_|TIMED.//' | sort -u)
$(BUILD)/bench/autolora: $(BUILD)/bench/probe.o $(BUILD)/main.o $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(WRAPPED:%=-Wl$(comma)--wrap=%) -o $@ $^ $(LDLIBS)

# What objects depend on besides their sources, in files that change only when the text does.
define keep
@mkdir -p $(@D)
@printf '%s\n' $(call quoted,$1) | cmp -s - $@ || printf '%s\n' $(call quoted,$1) > $@
endef
$(BUILD)/flags: force
	$(call keep,$(CC) $(CPPFLAGS) $(CFLAGS) $(LDLIBS))
$(BUILD)/version: force
	$(call keep,$(VERSION))
$(BUILD)/cmd_info.o: $(BUILD)/version
$(BUILD)/cmd_info.o: DEFINES = -DAUTOLORA_VERSION='"$(VERSION)"' -DAUTOLORA_FLAGS='"$(OPT) -march=$(ARCH)"'

-include $(OBJECTS:.o=.d) $(UNITS:=.d) $(TOOLS:=.d) $(wildcard $(BUILD)/bench/*.d)

# ---- set-up ----
setup: ## install what is missing (Debian, as root or with sudo), else say what is missing
	+@MAKE='$(MAKE)' sh jobs/setup/packages.sh
scheduler-setup: ## what make check-scheduler needs: Slurm, its qsub, ip
	$(AGAIN) setup NEEDS='h5dump slurm qsub ip'
probe: # names what is missing, for packages.sh
	@$(foreach v,$(SETTINGS) CPPFLAGS LDLIBS MODEL,$v=$(call quoted,$($v))) sh jobs/setup/probe.sh $(NEEDS)
configure: ## keep this command line's settings in build/config.mk: make configure HDF5_LIBS=...
	@mkdir -p build
	@printf '%s\n' $(foreach v,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $v))),$(call quoted,$v = $(value $v)))) > build/config.mk
	@cat build/config.mk
base-model: ## fetch the default base model into inputs/models
	@PYTHON='$(PYTHON)' sh jobs/setup/base-model.sh '$(MODEL)'

analysis-setup: ## the Python packages of analysis/, in build/analysis where PYTHON lacks them
	$(AGAIN) setup NEEDS=venv
	@PYTHON='$(PYTHON)' sh jobs/setup/analysis.sh

# ---- the two commands ----
demo: setup ## search and retrain on the demonstration data, beside uniform LoRA, on 2 MPI ranks
	$(AGAIN) all
	$(AGAIN) base-model
	@AUTOLORA='$(BIN)/autolora' PYTHON='$(PYTHON)' MPIRUN='$(MPIRUN)' MPIRUN_FLAGS='$(MPIRUN_FLAGS)' bash jobs/demo.sh $(DEMO_ARGS)
check: ## every test; SANITIZE=1: under address and undefined-behaviour sanitizers
	$(AGAIN) setup NEEDS=h5dump
	$(AGAIN) tests
	$(AGAIN) base-model
	$(AGAIN) check-run
check-long: ## the same, with 50 runs killed at random moments in place of 10, a release that is built, and endurance
	+@AUTOLORA_KILLS=50 AUTOLORA_WHOLE_BUILD=1 $(MAKE) --no-print-directory check
	$(AGAIN) endurance
endurance: ## two runs of a million iterations, one of them killed again and again: make endurance HOURS=2
	$(AGAIN) setup NEEDS=h5dump
	$(AGAIN) all
	@AUTOLORA_BIN='$(CURDIR)/$(BIN)/autolora' AUTOLORA_MPIRUN='$(MPIRUN) $(MPIRUN_FLAGS)' $(PYTHON) tests/endurance.py --hours $(HOURS) $(TEST_ARGS)
check-run:
	@MPIRUN='$(MPIRUN)' MPIRUN_FLAGS='$(MPIRUN_FLAGS)' $(PYTHON) tests/run.py --build $(BUILD) --bin $(BIN) $(TEST_ARGS)
check-scheduler: ## the job scripts under a Slurm of its own (as root; it is installed first)
	$(AGAIN) setup NEEDS=h5dump
	-$(AGAIN) scheduler-setup
	$(AGAIN) all
	@MPIRUN='$(MPIRUN)' MPIRUN_FLAGS='$(MPIRUN_FLAGS)' $(PYTHON) tests/run.py --build $(BUILD) --bin $(BIN) \
	    --runs tests/scheduler -k runs/ --timeout 240 $(TEST_ARGS)
check-peers: ## make the reference data again and compare with PyTorch and transformers (downloads about 3 GB)
	$(AGAIN) setup NEEDS=venv
	$(AGAIN) tests
	$(AGAIN) base-model
	@PYTHON='$(PYTHON)' MODEL='$(MODEL)' DATA='$(DATA)' bash jobs/setup/check-peers.sh $(BUILD)/tools $(BIN)/autolora

bench: ## how fast: kernels, steps, iterations, pipeline as ratios, into outputs/bench (a quiet machine, half an hour)
	$(AGAIN) setup
	$(AGAIN) $(BENCH)
	@MPIRUN='$(MPIRUN)' MPIRUN_FLAGS='$(MPIRUN_FLAGS)' $(PYTHON) tests/bench/run.py --build $(BUILD) $(BENCH_ARGS)
bench-peers: ## the same beside PyTorch, transformers and PEFT on the same batches
	$(AGAIN) setup NEEDS=venv
	$(AGAIN) tests $(BENCH)
	@PYTHON='$(PYTHON)' bash jobs/setup/peers.sh
	@MPIRUN='$(MPIRUN)' MPIRUN_FLAGS='$(MPIRUN_FLAGS)' $(PYTHON) tests/bench/run.py --build $(BUILD) \
	    --peer build/peers/bin/python --data '$(DATA)' $(BENCH_ARGS)
# Valgrind knows no AVX-512, and its processor is the same everywhere.
bench-check: ## products, bytes, allocations and instructions of an iteration against stored counts
	$(AGAIN) setup NEEDS=valgrind
	$(AGAIN) $(BENCH)
	$(AGAIN) BUILD=build/bench-check BIN=build/bench-check/bin ARCH=x86-64-v3 all
	@MPIRUN='$(MPIRUN)' MPIRUN_FLAGS='$(MPIRUN_FLAGS)' $(PYTHON) tests/bench/check.py --program $(BUILD)/bench/autolora \
	    --plain build/bench-check/bin/autolora $(BENCH_ARGS)
check-valgrind: ## small runs on 2 ranks under valgrind's memcheck
	$(AGAIN) setup NEEDS=valgrind
	$(AGAIN) BUILD=build/bench-check BIN=build/bench-check/bin ARCH=x86-64-v3 all
	@AUTOLORA_BIN='$(CURDIR)/build/bench-check/bin/autolora' AUTOLORA_MPIRUN='$(MPIRUN) $(MPIRUN_FLAGS)' $(PYTHON) tests/valgrind.py
# Units with OpenMP regions; BLIS, which is not instrumented, is left out.
THREADED = activation attention dropout elementary full generate hypergradient kernels linear low_rank model operations products trainer
check-threads: ## races in OpenMP regions: unit tests on 3 threads under clang's thread sanitizer
	$(AGAIN) setup NEEDS=fuzzer
	$(AGAIN) THREADS=1 $(THREADED:%=build/threads/tests/test_%)
	@failed=0; for name in $(THREADED); do \
	    OMP_NUM_THREADS=3 OMP_TOOL_LIBRARIES=$$(clang -print-resource-dir)/../../libarcher.so TSAN_OPTIONS='ignore_noninstrumented_modules=1' \
	        build/threads/tests/test_$$name > build/threads/$$name.log 2>&1 || { failed=$$((failed + 1)); cat build/threads/$$name.log; }; \
	done; echo "$$(($(words $(THREADED)) - failed)) passed, $$failed failed, 0 skipped"; [ $$failed -eq 0 ]
coverage: ## lines and branches of src/ that unit and run tests reach, by file, into build/coverage
	$(AGAIN) setup NEEDS='h5dump gcovr'
	$(AGAIN) COVERAGE=1 tests
	$(AGAIN) base-model
	@find build/coverage -name '*.gcda' -delete
	-$(AGAIN) COVERAGE=1 check-run
	gcovr -r . --filter src/ -s --txt build/coverage/lines.txt --csv build/coverage/files.csv --fail-under-line 90 build/coverage
fuzz: ## bytes from outside under libFuzzer and sanitizers: make fuzz SECONDS=60 (for each harness)
	$(AGAIN) setup NEEDS=fuzzer
	$(AGAIN) FUZZ=1 fuzzers
	@$(PYTHON) tests/fuzz/run.py --seconds $(SECONDS) --data '$(DATA)' $(FUZZ_ARGS)
fuzzers: $(HARNESSES)

# ---- releases ----
dist: ## the committed files and their version as build/autolora-VERSION.tar.gz, which builds without git
	@git diff --quiet HEAD || { echo 'commit first: a release holds what its version names' >&2; exit 1; }
	@mkdir -p build/dist
	@printf '%s\n' '$(VERSION)' > build/dist/VERSION
	@git -c tar.umask=0022 archive --prefix=autolora-$(VERSION)/ --add-file=build/dist/VERSION -o build/dist/all.tar HEAD
	@gzip -9nc build/dist/all.tar > build/autolora-$(VERSION).tar.gz
	@echo build/autolora-$(VERSION).tar.gz
install: all ## the program, its manual page, jobs, inputs and analysis, in DESTDIR PREFIX (/usr/local)
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' sh jobs/setup/install.sh install '$(BIN)/autolora'
uninstall: ## remove what make install installed
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' sh jobs/setup/install.sh uninstall

# ---- housekeeping ----
help: ## this list
	@sed -nE 's/^([a-z-]+|print-%):.*## /\1\t/p' Makefile | sed 's/print-%/print-VAR/' | expand -t 16
info: ## what was found: settings, versions, libraries really loaded
	@$(foreach v,$(SETTINGS) SANITIZE BUILD BIN VERSION,printf '%-15s %s\n' '$v' $(call quoted,$($v));)
	@echo; $(CC) --version 2>&1 | head -1; $(MPIRUN) --version 2>&1 | head -1; $(PYTHON) --version 2>&1; $(MAKE) --version | head -1
	@echo; if test -x $(BIN)/autolora; then $(BIN)/autolora info; else echo "$(BIN)/autolora is not built (make)"; fi
print-%: ## the value of a variable: make print-LDLIBS
	@printf '%s\n' $(call quoted,$* = $($*))
clean: ## remove what make built; models, results, settings and the environment of check-peers stay
	rm -rf build/release build/sanitize build/coverage build/threads build/bench-check build/bench build/fuzz build/probe build/dist bin
C_FILES = $(sort $(wildcard src/*.c src/*/*.c include/*.h include/*/*.h tests/*/*.c tests/*/*.h))
format: ## clang-format over the C files
	clang-format -i $(C_FILES)
format-check: ## fail where make format would change something
	clang-format --dry-run -Werror $(C_FILES)
# Headers of libraries are system headers to both; each suppression is explained in .clang-tidy or beside the line.
LINT_FLAGS = $(patsubst -I/%,-isystem/%,$(CPPFLAGS) $(shell $(CC) --showme:compile 2> /dev/null)) -Itests/fuzz -Itests/unit
lint: ## cppcheck and clang-tidy over the sources, fuzzing harnesses and tools; gcc's warnings are on in every build
	$(AGAIN) setup NEEDS='clang-tidy cppcheck'
	cppcheck -q -j$$(nproc) --std=c11 --error-exitcode=1 --inline-suppr --enable=warning,performance,portability \
	    --suppress=missingIncludeSystem --suppress=arrayIndexThenCheck -Iinclude -Itests/fuzz src tests/fuzz tests/tools
	@printf '%s\n' $(SOURCES) $(wildcard tests/fuzz/*.c tests/tools/*.c) | xargs -P $$(nproc) -n 1 \
	    sh -c 'said=$$(clang-tidy --quiet "$$1" -- $(LINT_FLAGS) -std=c11 -D_GNU_SOURCE -fopenmp 2>&1) || { echo "$$1: $$said"; exit 1; }' lint
	@echo 'nothing found'
