# autolora: AutoLoRA for CPU clusters. `make demo` and `make check` do everything, `make help` lists the rest.

# ---- what a cluster's administrator may set: make VAR=... (or export VAR), seen with `make info` ----
CC          = mpicc
MPIRUN      = mpirun
PKG_CONFIG  = pkg-config
PYTHON      = python3
# The processor to compile for: a name of gcc's -march. Nodes that differ from the login node want their own.
ARCH        = native
OPT         = -O3
MULTIARCH  := $(shell $(CC) -print-multiarch 2>/dev/null || gcc -print-multiarch 2>/dev/null)

MPI_CFLAGS  ?=
HDF5_CFLAGS ?= $(shell $(PKG_CONFIG) --cflags hdf5-openmpi 2>/dev/null || $(PKG_CONFIG) --cflags hdf5 2>/dev/null)
HDF5_LIBS   ?= $(shell $(PKG_CONFIG) --libs hdf5-openmpi 2>/dev/null || $(PKG_CONFIG) --libs hdf5 2>/dev/null)
CJSON_CFLAGS ?= $(patsubst %/cjson,%,$(shell $(PKG_CONFIG) --cflags libcjson 2>/dev/null))
CJSON_LIBS  ?= $(shell $(PKG_CONFIG) --libs libcjson 2>/dev/null)
UTF8_CFLAGS ?= $(shell $(PKG_CONFIG) --cflags libutf8proc 2>/dev/null)
UTF8_LIBS   ?= $(shell $(PKG_CONFIG) --libs libutf8proc 2>/dev/null)
# The one BLAS. It stands before ScaLAPACK and LAPACK on the link line, so that their products come from it too;
# `autolora info` prints the library that was really loaded.
BLIS_INCLUDE ?= /usr/include/$(MULTIARCH)/blis-openmp
BLIS_LIBDIR ?= /usr/lib/$(MULTIARCH)/blis-openmp
BLIS_CFLAGS ?= -isystem $(BLIS_INCLUDE)
BLIS_LIBS   ?= -L$(BLIS_LIBDIR) -Wl,-rpath,$(BLIS_LIBDIR) -lblis
SCALAPACK_LIBS ?= -lscalapack-openmpi -llapack
CMOCKA_CFLAGS ?= $(shell $(PKG_CONFIG) --cflags cmocka 2>/dev/null)
CMOCKA_LIBS ?= $(shell $(PKG_CONFIG) --libs cmocka 2>/dev/null)

# ---- build ----
V ?= 0
Q  = $(if $(filter 0,$(V)),@)
say = $(if $(filter 0,$(V)),@printf '%-6s %s\n' '$(1)' '$(2)')
SANITIZE ?= 0
ifeq ($(SANITIZE),1)
BUILD    = build/sanitize
BIN      = build/sanitize/bin
override OPT = -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
WARNINGS = -Wall -Wextra
else
BUILD    = build/release
BIN      = bin
endif

WARNINGS ?= -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Werror
VERSION := $(shell git describe --always --dirty --tags 2>/dev/null || echo unknown)
CFLAGS   = -std=c11 -D_GNU_SOURCE $(OPT) -g -march=$(ARCH) -fopenmp -fno-math-errno -fno-trapping-math $(WARNINGS)
CPPFLAGS = -Iinclude $(MPI_CFLAGS) $(HDF5_CFLAGS) $(CJSON_CFLAGS) $(UTF8_CFLAGS) $(BLIS_CFLAGS)
LDLIBS   = $(BLIS_LIBS) $(SCALAPACK_LIBS) $(HDF5_LIBS) $(CJSON_LIBS) $(UTF8_LIBS) -ldl -lm

SOURCES  = $(sort $(wildcard src/*.c src/*/*.c))
OBJECTS  = $(SOURCES:src/%.c=$(BUILD)/%.o)
LIBRARY  = $(BUILD)/libautolora.a
UNIT     = $(sort $(wildcard tests/unit/test_*.c))
UNIT_BIN = $(UNIT:tests/unit/%.c=$(BUILD)/tests/%)

.PHONY: all help setup demo demo-run check check-run check-peers info format format-check lint clean base-model
.DELETE_ON_ERROR:
all: $(BIN)/autolora

help: ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

$(BIN)/autolora: $(BUILD)/main.o $(LIBRARY)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) -o $@ $^ $(LDLIBS)

$(LIBRARY): $(filter-out $(BUILD)/main.o,$(OBJECTS))
	@rm -f $@
	$(call say,AR,$@)
	$(Q)ar rcs $@ $^

# What the objects depend on besides their sources: the flags, kept in a file that changes only when they do.
FLAGS = $(CC) $(CFLAGS) $(CPPFLAGS) $(LDLIBS)
$(BUILD)/flags: force
	@mkdir -p $(@D); printf '%s\n' '$(FLAGS)' | cmp -s - $@ || printf '%s\n' '$(FLAGS)' > $@
$(BUILD)/version: force
	@mkdir -p $(@D); printf '%s\n' '$(VERSION)' | cmp -s - $@ || printf '%s\n' '$(VERSION)' > $@
.PHONY: force
$(BUILD)/cmd_info.o $(BUILD)/train/result.o: $(BUILD)/version
$(BUILD)/%.o: src/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(if $(filter cmd_info.o,$*.o),-DAUTOLORA_VERSION='"$(VERSION)"' -DAUTOLORA_FLAGS='"$(OPT) -march=$(ARCH)"') -MMD -MP -c -o $@ $<

# ---- tests ----
$(BUILD)/tests/%: tests/unit/%.c $(LIBRARY)
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) -Itests/unit $(CMOCKA_CFLAGS) $(CFLAGS) -MMD -MP -o $@ $(filter %.c,$^) $(LIBRARY) $(LDLIBS) $(CMOCKA_LIBS)

-include $(OBJECTS:.o=.d) $(UNIT_BIN:=.d)

# ---- housekeeping ----
print-%: ## the value of a variable: make print-LDLIBS
	@echo '$*=$($*)'
clean: ## remove what make built (models and results stay)
	rm -rf build bin
format: ## clang-format over the C files
	clang-format -i $(wildcard src/*.c src/*/*.c include/*.h include/*/*.h tests/unit/*.c tests/unit/*.h)
format-check:
	clang-format --dry-run -Werror $(wildcard src/*.c src/*/*.c include/*.h include/*/*.h tests/unit/*.c tests/unit/*.h)
