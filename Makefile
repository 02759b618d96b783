# shardweld: GNU make. `make help` lists the targets.
#
#   CC=clang             the compiler under the MPI wrapper (default: the wrapper's own)
#   MPICC=mpicc.mpich    the wrapper; give each its own BUILD=
#   SAN=address,undefined, DEVELOPER=1 (warnings are errors), FAULTS=1 (injected failures)

SAN ?=
FAULTS ?=
DEVELOPER ?=
BUILD ?= build$(if $(SAN),-san)$(if $(FAULTS),-faults)
MPICC ?= mpicc
MPIRUN ?= mpirun
PKG_CONFIG ?= pkg-config
CLANG ?= clang
PYTEST_ARGS ?=
E2E ?= $(sort $(wildcard tests/e2e/test_*.py tests/python/test_*.py))
JOBS ?= 4
TORCH_PACKAGES ?= torch==2.13.0 numpy safetensors==0.8.0 huggingface_hub==2.4.0 pytest \
                  transformers==5.23.0 accelerate==1.15.0 diffusers==0.42.1 gguf==0.19.0
PIP_ARGS ?=

# A wrapper compiles everything; CC names the compiler under it.
ifneq ($(filter command environment%,$(origin CC)),)
  ifneq ($(findstring mpicc,$(notdir $(CC))),)
    MPICC := $(CC)
  else
    export OMPI_CC ?= $(CC)
    export MPICH_CC ?= $(CC)
  endif
endif

# The first Python with what the tests need: one in PATH may be without.
ifeq ($(origin PYTHON),undefined)
  PYTHON = $(eval PYTHON := $(or $(shell for p in python3 /usr/bin/python3; do \
      $$p -c 'import numpy, pytest' 2>/dev/null && echo $$p && break; done),python3))$(PYTHON)
endif

WARNINGS = -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wvla \
           -Wcast-qual $(if $(DEVELOPER),-Werror)
SAN_FLAGS = $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer)
JANSSON_CFLAGS := $(shell $(PKG_CONFIG) --cflags jansson 2>/dev/null)
JANSSON_LIBS := $(or $(shell $(PKG_CONFIG) --libs jansson 2>/dev/null),-ljansson)
CMOCKA_LIBS := $(or $(shell $(PKG_CONFIG) --libs cmocka 2>/dev/null),-lcmocka)

CFLAGS ?= -O2 -g
# No path of this machine in what is built.
ALL_CFLAGS = -std=c11 -pthread -fPIC $(WARNINGS) -ffile-prefix-map="$(CURDIR)=." $(SAN_FLAGS) $(CFLAGS)
ALL_CPPFLAGS = -Iinclude -Isrc -D_GNU_SOURCE $(if $(FAULTS),-DSW_FAULTS) $(JANSSON_CFLAGS) $(CPPFLAGS)
ALL_LDFLAGS = -pthread $(SAN_FLAGS) $(LDFLAGS)
LIBS = $(JANSSON_LIBS) -lm

CMD_SOURCES := $(sort $(wildcard src/cmd/*.c))
LIB_SOURCES := $(sort $(filter-out src/cmd/%,$(wildcard src/*/*.c)))
PUBLIC_HEADERS := $(sort $(wildcard include/*.h))

object = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
CMD_OBJECTS := $(call object,$(CMD_SOURCES))
LIB_OBJECTS := $(call object,$(LIB_SOURCES))
# What tests of the command line see of it: all but main.
CMD_PARTS := $(filter-out %/main.o,$(CMD_OBJECTS))
SAN_OBJECTS = $(if $(SAN),$(BUILD)/obj/tests/keep_modules.o)
UNIT_PROGRAMS := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(sort $(wildcard tests/unit/test_*.c)))
EXAMPLES := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard examples/*.c)))

PROGRAM = $(BUILD)/shardweld
LIBRARY = $(BUILD)/libshardweld.a
VERSION := $(shell sed -n 's/^\#define SW_VERSION "\(.*\)"/\1/p' include/shardweld.h)
SONAME = libshardweld.so.0
SHARED = $(BUILD)/libshardweld.so.$(VERSION)
# Programs of the tests: one saves what a test says, the others tell what a header or a reader says.
SAVE_ITEMS = $(BUILD)/tests/save_items
COLLECTIVES = $(BUILD)/tests/collectives.so
HEADER_CHECK = $(BUILD)/tests/header_check
READER_CHECK = $(BUILD)/tests/reader_check
PICKLE_CHECK = $(BUILD)/tests/pickle_check

.PHONY: all help lint lint-tests demo clean FORCE
.DELETE_ON_ERROR:
.SECONDARY:

all: $(PROGRAM) $(LIBRARY) $(SHARED) $(BUILD)/shardweld.pc $(if $(SAN)$(FAULTS),,pages)

help:
	@sed -n 's/^#: //p' Makefile mk/*.mk

#: all           the program and the library (default)

# V=1 shows the commands, -s nothing.
Q = $(if $(V),,@)
QUIET := $(findstring s,$(firstword -$(MAKEFLAGS)))
say = $(if $(V)$(QUIET),,@echo '  $(1)')

# ---- build ------------------------------------------------------------------------------------------

# Objects depend on how they are compiled, not only on their text.
FLAGS_TEXT = $(MPICC) $(OMPI_CC) $(MPICH_CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(LIBS)
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(FLAGS_TEXT)' | cmp -s - $@ || printf '%s\n' '$(FLAGS_TEXT)' >$@

$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC   $<)
	$(Q)$(MPICC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# From nothing: an archive keeps members whose sources are gone.
$(LIBRARY): $(LIB_OBJECTS)
	@rm -f $@
	$(call say,AR   $@)
	$(Q)$(AR) rcsD $@ $^

# What --version says of the history; looked up once.
ifeq ($(origin COMMIT),undefined)
  COMMIT = $(eval COMMIT := $(shell scripts/commit))$(COMMIT)
endif
$(BUILD)/commit: FORCE
	@mkdir -p $(@D)
	@echo '$(COMMIT)' | cmp -s - $@ || echo '$(COMMIT)' >$@

$(BUILD)/obj/src/cmd/version.o: $(BUILD)/commit
$(BUILD)/obj/src/cmd/version.o: private ALL_CPPFLAGS += -DSW_COMMIT='"$(COMMIT)"'

# Only what the public headers declare can be seen.
$(BUILD)/exports.map: $(PUBLIC_HEADERS)
	@mkdir -p $(@D)
	@{ echo 'SHARDWELD_0 {'; echo 'global:'; sed 's/^[ /]\*.*//' $^ | grep -oE '\bsw_[a-z0-9_]+\(' | LC_ALL=C sort -u | tr '(' ';'; \
	   echo 'local: *;'; echo '};'; } >$@

# Everything that is linked, of the objects and archives it depends on, in that order.
define link
@mkdir -p $(@D)
$(call say,LINK $@)
$(Q)$(MPICC) $(ALL_LDFLAGS) $(LINK_FLAGS) -o $@ $(filter %.o %.a,$^) $(LINK_LIBS) $(LIBS)
endef

$(SHARED): private LINK_FLAGS = -shared -Wl,-soname,$(SONAME) -Wl,--version-script=$(BUILD)/exports.map \
                                $(if $(SAN),,-Wl,-z,defs)
$(SHARED): $(LIB_OBJECTS) $(BUILD)/exports.map
	$(link)
	@ln -sf $(@F) $(BUILD)/$(SONAME)
	@ln -sf $(SONAME) $(BUILD)/libshardweld.so

$(PROGRAM): $(CMD_OBJECTS) $(SAN_OBJECTS) $(LIBRARY)
	$(link)

# Tests; those of the command line also see its objects.
$(BUILD)/tests/test_%: private LINK_LIBS = $(CMOCKA_LIBS)
$(BUILD)/tests/test_cmd_%: $(BUILD)/obj/tests/unit/test_cmd_%.o $(CMD_PARTS) $(LIBRARY)
	$(link)

$(BUILD)/tests/test_%: $(BUILD)/obj/tests/unit/test_%.o $(LIBRARY)
	$(link)

$(HEADER_CHECK) $(READER_CHECK) $(PICKLE_CHECK): $(BUILD)/tests/%: $(BUILD)/obj/tests/torch/%.o $(LIBRARY)
	$(link)

$(SAVE_ITEMS): $(BUILD)/obj/tests/mpi/save_items.o $(SAN_OBJECTS) $(LIBRARY)
	$(link)

# To be preloaded: counts what all ranks do together.
$(COLLECTIVES): private LINK_FLAGS = -shared
$(COLLECTIVES): $(BUILD)/obj/tests/mpi/collectives.o
	$(link)

# As users build them: with the public headers and the shared library.
$(BUILD)/examples/%: private LIBS = -L$(BUILD) -lshardweld -Wl,-rpath,'$$ORIGIN/..'
$(BUILD)/examples/%: $(BUILD)/obj/examples/%.o $(SHARED)
	$(link)

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

# ---- pages ------------------------------------------------------------------------------------------

# Man pages and completion, from the table of options and from the public headers.
MAN1 := $(patsubst packaging/man/%,$(BUILD)/man/man1/%,$(sort $(wildcard packaging/man/*.1)))
MAN3 = $(BUILD)/man/man3/shardweld.3
DESCRIBE = $(BUILD)/describe

.PHONY: pages
pages: $(MAN1) $(MAN3) $(BUILD)/completion

$(DESCRIBE): $(BUILD)/obj/packaging/describe.o $(CMD_PARTS) $(LIBRARY)
	$(link)

$(BUILD)/man/man1/%.1: packaging/man/%.1 $(DESCRIBE)
	@mkdir -p $(@D)
	$(Q)$(DESCRIBE) man $(patsubst shardweld-%,%,$*) <$< >$@

# One run makes them all; from nothing, for functions that are gone.
$(MAN3): packaging/man3.awk $(PUBLIC_HEADERS)
	@rm -rf $(@D) && mkdir -p $(@D)
	$(Q)LC_ALL=C awk -v out=$(@D) -v version=$(VERSION) -f $< $(PUBLIC_HEADERS)

$(BUILD)/completion: $(DESCRIBE)
	$(Q)$(DESCRIBE) completion >$@

# ---- the rest ---------------------------------------------------------------------------------------

include mk/check.mk mk/fuzz.mk mk/bench.mk mk/install.mk

#: lint          warnings as errors, include order, format, cppcheck, shellcheck
lint:
	@scripts/lint

# Every C file of the tests, compiled: for warnings.
lint-tests: $(call object,$(sort $(wildcard tests/*.c tests/*/*.c bench/*.c examples/*.c)))

#: demo          make a sharded checkpoint, weld it, compare
demo:
	@scripts/demo

#: clean         remove the build directory
clean:
	rm -rf $(BUILD)
