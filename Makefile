# shardweld: GNU make. `make help` lists the targets.
#
#   CC=clang             the compiler under the MPI wrapper (default: the wrapper's own)
#   MPICC=mpicc.mpich    the wrapper; give each its own BUILD=
#   SAN=address,undefined, DEVELOPER=1 (warnings are errors), FAULTS=1 (injected failures)

SAN ?=
FAULTS ?=
DEVELOPER ?=
BUILD ?= build$(if $(SAN),-san)$(if $(FAULTS),-faults)
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
DOCDIR ?= $(PREFIX)/share/doc/shardweld
SHAREDIR ?= $(PREFIX)/share/shardweld
COMPLETIONDIR ?= $(PREFIX)/share/bash-completion/completions
DESTDIR ?=
MPICC ?= mpicc
MPIRUN ?= mpirun
PKG_CONFIG ?= pkg-config
CLANG ?= clang
FUZZ_SECONDS ?= 60
BENCH_ARGS ?=
PYTEST_ARGS ?=
E2E ?= $(sort $(wildcard tests/e2e/test_*.py tests/python/test_*.py))
JOBS ?= 2
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
UNIT_SOURCES := $(sort $(wildcard tests/unit/test_*.c))
PUBLIC_HEADERS := $(sort $(wildcard include/*.h))
EXAMPLES := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard examples/*.c)))

object = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
CMD_OBJECTS := $(call object,$(CMD_SOURCES))
LIB_OBJECTS := $(call object,$(LIB_SOURCES))
UNIT_PROGRAMS := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(UNIT_SOURCES))

PROGRAM = $(BUILD)/shardweld
LIBRARY = $(BUILD)/libshardweld.a
VERSION := $(shell sed -n 's/^\#define SW_VERSION "\(.*\)"/\1/p' include/shardweld.h)
SONAME = libshardweld.so.0
SHARED = $(BUILD)/libshardweld.so.$(VERSION)

# What tests of the program need to know. Leaks inside MPI itself are not ours.
TEST_ENV = SHARDWELD='$(abspath $(PROGRAM))' MPIRUN='$(MPIRUN)' SHARDWELD_BUILD='$(abspath $(BUILD))' \
           $(if $(SAN),ASAN_OPTIONS='detect_leaks=1:fast_unwind_on_malloc=0' UBSAN_OPTIONS='print_stacktrace=1' \
           LSAN_OPTIONS='suppressions=$(abspath tests/lsan.supp):print_suppressions=0')
PYTEST = $(TEST_ENV) $(PYTHON) -m pytest -q -p no:cacheprovider $(PYTEST_ARGS)
# Much of a test is waiting for a launcher: two files at a time.
PYTEST_FILES = $(TEST_ENV) tests/parallel.sh $(JOBS) $(1) -- $(PYTHON) -m pytest -q -p no:cacheprovider $(PYTEST_ARGS)

.PHONY: all help check check-all check-unit check-e2e check-san check-san-clang check-user check-torch check-torch-run check-faults \
        check-faults-run check-slurm check-slurm-run check-mpich check-mpich-run check-tsan check-tsan-run check-valgrind check-valgrind-run fuzz fuzz-header fuzz-dir lint lint-tests bench bench-plan bench-read bench-save bench-cast bench-python demo install uninstall check-install check-reproducible check-deb pages check-pages clean FORCE
.DELETE_ON_ERROR:
.SECONDARY:

all: $(PROGRAM) $(LIBRARY) $(SHARED) $(BUILD)/shardweld.pc $(if $(SAN)$(FAULTS),,pages)

help:
	@sed -n 's/^#: //p' Makefile

#: all           the program and the library (default)
#: check         unit tests, then the program under mpirun; installs what is missing
#: check-san     the same with the address and undefined-behaviour sanitizers
#: check-san-clang  a part of it with clang's
#: check-user    unit tests and one end-to-end file as an ordinary user in a clean environment
#: check-torch   against torch and safetensors, in a virtual environment of its own
#: check-faults  failures injected at every system and MPI-IO call
#: check-tsan    the threads of the reader, with the thread sanitizer
#: check-valgrind  a small weld and a small read under valgrind
#: check-slurm   the scripts of slurm/ in a SLURM of their own, on this machine; as root
#: check-mpich   built with MPICH: unit tests, and welds under its mpiexec
#: check-install build against what is installed, with pkg-config
#: check-deb     build, install, use and remove the Debian packages; as root
#: check-reproducible  two builds give the same files
#: fuzz          the header parser, and the library on whole directories: FUZZ_SECONDS=60 each; also: fuzz-header, fuzz-dir
#: lint          warnings as errors, include order, format, cppcheck, shellcheck
#: bench         timings, BENCH_ARGS=
#: bench-plan    how fast a large header is parsed, and how planning grows with the number of files
#: bench-cast    how fast values are converted, beside memcpy
#: bench-read    reading boxes of another mesh, beside torch's reader
#: bench-save    saving from memory, beside torch's save and consolidation
#: bench-python  the drop-in beside torch's function, in the same torchrun job
#: demo          make a sharded checkpoint, weld it, compare
#: install       PREFIX=/usr/local LIBDIR=PREFIX/lib MANDIR= DESTDIR= and so on; also: uninstall
#: clean         remove the build directory

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

$(SHARED): $(LIB_OBJECTS) $(BUILD)/exports.map
	$(call say,LINK $@)
	$(Q)$(MPICC) $(ALL_LDFLAGS) -shared -Wl,-soname,$(SONAME) -Wl,--version-script=$(BUILD)/exports.map \
	    $(if $(SAN),,-Wl,-z,defs) -o $@ $(LIB_OBJECTS) $(LIBS)
	@ln -sf $(@F) $(BUILD)/$(SONAME)
	@ln -sf $(SONAME) $(BUILD)/libshardweld.so

# Who links the archive needs MPI too; who links the shared library does not.
MPI_PC = $(firstword $(foreach p,$(if $(findstring mpich,$(MPICC)),mpich,ompi-c) mpi-c,$(shell $(PKG_CONFIG) --exists $(p) && echo $(p))))
PC_SED = 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@INCLUDEDIR@|$(INCLUDEDIR)|; s|@VERSION@|$(VERSION)|; s|@MPI@|$(MPI_PC)|'
# Made anew for other places.
$(BUILD)/shardweld.pc: packaging/shardweld.pc.in FORCE
	@mkdir -p $(@D)
	@sed $(PC_SED) $< | cmp -s - $@ || sed $(PC_SED) $< >$@

SAN_OBJECTS = $(if $(SAN),$(BUILD)/obj/tests/keep_modules.o)

$(PROGRAM): $(CMD_OBJECTS) $(LIBRARY) $(SAN_OBJECTS)
	$(call say,LINK $@)
	$(Q)$(MPICC) $(ALL_LDFLAGS) -o $@ $(CMD_OBJECTS) $(SAN_OBJECTS) $(LIBRARY) $(LIBS)

# Man pages and completion, from the table of options and from the public headers.
MAN1 := $(patsubst packaging/man/%,$(BUILD)/man/man1/%,$(sort $(wildcard packaging/man/*.1)))
MAN3 = $(BUILD)/man/man3/shardweld.3
DESCRIBE = $(BUILD)/describe

pages: $(MAN1) $(MAN3) $(BUILD)/completion

$(DESCRIBE): $(BUILD)/obj/packaging/describe.o $(CMD_OBJECTS) $(LIBRARY)
	$(call say,LINK $@)
	$(Q)$(MPICC) $(ALL_LDFLAGS) -o $@ $< $(filter-out %/main.o,$(CMD_OBJECTS)) $(LIBRARY) $(LIBS)

$(BUILD)/man/man1/%.1: packaging/man/%.1 $(DESCRIBE)
	@mkdir -p $(@D)
	$(Q)$(DESCRIBE) man $(patsubst shardweld-%,%,$*) <$< >$@

# One run makes them all; from nothing, for functions that are gone.
$(MAN3): packaging/man3.awk $(PUBLIC_HEADERS)
	@rm -rf $(@D) && mkdir -p $(@D)
	$(Q)LC_ALL=C awk -v out=$(@D) -v version=$(VERSION) -f $< $(PUBLIC_HEADERS)

$(BUILD)/completion: $(DESCRIBE)
	$(Q)$(DESCRIBE) completion >$@

# Tests of the command line also see its objects, but for main.
$(BUILD)/tests/test_cmd_%: $(BUILD)/obj/tests/unit/test_cmd_%.o $(CMD_OBJECTS) $(LIBRARY)
	@mkdir -p $(@D)
	$(call say,LINK $@)
	$(Q)$(MPICC) $(ALL_LDFLAGS) -o $@ $< $(filter-out %/main.o,$(CMD_OBJECTS)) $(LIBRARY) $(CMOCKA_LIBS) $(LIBS)

$(BUILD)/tests/test_%: $(BUILD)/obj/tests/unit/test_%.o $(LIBRARY)
	@mkdir -p $(@D)
	$(call say,LINK $@)
	$(Q)$(MPICC) $(ALL_LDFLAGS) -o $@ $< $(LIBRARY) $(CMOCKA_LIBS) $(LIBS)

$(BUILD)/tests/header_check $(BUILD)/tests/reader_check: $(BUILD)/tests/%: $(BUILD)/obj/tests/torch/%.o $(LIBRARY)
	@mkdir -p $(@D)
	$(call say,LINK $@)
	$(Q)$(MPICC) $(ALL_LDFLAGS) -o $@ $< $(LIBRARY) $(LIBS)

# A program of a few lines that saves what a test says, on any number of ranks.
SAVE_ITEMS = $(BUILD)/tests/save_items
$(SAVE_ITEMS): $(BUILD)/obj/tests/mpi/save_items.o $(LIBRARY) $(SAN_OBJECTS)
	@mkdir -p $(@D)
	$(call say,LINK $@)
	$(Q)$(MPICC) $(ALL_LDFLAGS) -o $@ $< $(SAN_OBJECTS) $(LIBRARY) $(LIBS)

# As users build them: with the public headers and the shared library.
$(BUILD)/examples/%: $(BUILD)/obj/examples/%.o $(SHARED)
	@mkdir -p $(@D)
	$(call say,LINK $@)
	$(Q)$(MPICC) $(ALL_LDFLAGS) -o $@ $< -L$(BUILD) -lshardweld -Wl,-rpath,'$$ORIGIN/..'

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

# ---- test -------------------------------------------------------------------------------------------

# A second make, because setup may bring what the first one looked for in vain.
check:
	@scripts/setup
	@$(MAKE) check-all

# One after the other, with -j too: they share the cores with their own ranks.
check-all: check-unit $(if $(SAN)$(FAULTS),,check-pages)
	@$(MAKE) check-e2e

check-unit: all $(UNIT_PROGRAMS)
	@set -e; for t in $(UNIT_PROGRAMS); do \
	    echo "== $${t##*/}"; \
	    $(TEST_ENV) timeout 300 $$t >$$t.log 2>&1 || { cat $$t.log; echo "$${t##*/} failed"; exit 1; }; \
	    sed -n 's/^\[  PASSED  \] /   passed: /p' $$t.log; \
	done

# Pages and completion: whole, and without faults of form.
check-pages: all
	@$(TEST_ENV) timeout 60 tests/pages.sh

check-e2e: all $(SAVE_ITEMS) $(BUILD)/tests/reader_check $(EXAMPLES)
	$(call PYTEST_FILES,$(E2E))

# A sanitized program takes a second longer to start, so those of the end-to-end tests that move bytes.
check-san: export ROUNDS ?= 8
check-san:
	@scripts/setup
	@$(MAKE) check-all SAN=$(or $(SAN),address,undefined) \
	    E2E='$(addprefix tests/e2e/test_,golden.py node_local.py random.py safe.py)'

VENV = build/venv
VENV_READY = $(VENV)/ready-$(subst $(space),_,$(TORCH_PACKAGES))
space := $(subst ,, )

# Out of the way until it is complete.
$(VENV_READY):
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV) || /usr/bin/python3 -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install -qq $(PIP_ARGS) $(TORCH_PACKAGES)
	touch '$@'

# What only clang's sanitizers see.
check-san-clang: export ROUNDS ?= 4
check-san-clang:
	@scripts/setup --dev
	@$(MAKE) check-all CC=$(CLANG) SAN=$(or $(SAN),address,undefined) BUILD=build-san-clang \
	    E2E='$(addprefix tests/e2e/test_,inspect.py safe.py)' PYTEST_ARGS="-k 'rows or lost or killed or ranks or wide' $(PYTEST_ARGS)"

# As an ordinary user, in a clean environment.
check-user:
	@scripts/setup
	tests/user.sh

check-torch:
	@scripts/setup
	@$(MAKE) check-torch-run

check-torch-run: all $(SAVE_ITEMS) $(BUILD)/tests/header_check $(BUILD)/tests/reader_check $(VENV_READY)
	$(TEST_ENV) HEADER_CHECK='$(abspath $(BUILD)/tests/header_check)' \
	    $(VENV)/bin/python -m pytest -q -p no:cacheprovider $(PYTEST_ARGS) tests/torch

check-faults:
	@scripts/setup
	@$(MAKE) check-faults-run FAULTS=1

check-faults-run: all $(SAVE_ITEMS) $(BUILD)/tests/reader_check
	$(call PYTEST_FILES,$(sort $(wildcard tests/faults/test_*.py)))

# The threads of the reader. The sanitizer of older compilers knows only memory that is not spread too far.
TSAN_PROGRAMS = $(addprefix $(BUILD)/tests/test_,reader rows)

check-tsan:
	@scripts/setup
	@$(MAKE) check-tsan-run SAN=thread BUILD=build-tsan

check-tsan-run: export ROUNDS ?= 15
check-tsan-run: $(TSAN_PROGRAMS)
	@set -e; near=$$(setarch -R true 2>/dev/null && echo setarch -R || true); for t in $(TSAN_PROGRAMS); do \
	    echo "== $${t##*/}"; \
	    timeout 300 $$near $$t >$$t.log 2>&1 || { cat $$t.log; echo "$${t##*/} failed"; exit 1; }; \
	    sed -n 's/^\[  PASSED  \] /   passed: /p' $$t.log; \
	done

check-valgrind:
	@scripts/setup --dev
	@$(MAKE) check-valgrind-run

check-valgrind-run: all $(BUILD)/tests/reader_check
	timeout 300 tests/valgrind.sh '$(abspath $(PROGRAM))' '$(abspath $(BUILD)/tests/reader_check)'

# Faults make a weld stand still in the middle, so that it can be cancelled there.
check-slurm:
	@scripts/setup --dev
	@$(MAKE) check-slurm-run FAULTS=1

check-slurm-run: all
	$(call PYTEST_FILES,$(sort $(wildcard tests/slurm/test_*.py)))

check-mpich:
	@scripts/setup --dev
	@$(MAKE) check-mpich-run MPICC=mpicc.mpich MPIRUN=mpiexec.mpich BUILD=build-mpich

check-mpich-run: check-unit
	$(PYTEST) tests/mpich

# The parser needs neither MPI nor what lies above it. The seeds stay as they are: the fuzzer adds to a copy.
FUZZ_SOURCES := $(sort $(wildcard src/base/*.c src/format/*.c))
FUZZ_FLAGS = -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined

$(BUILD)/fuzz/fuzz_header: tests/fuzz/fuzz_header.c $(FUZZ_SOURCES) $(wildcard src/base/*.h src/format/*.h include/*.h)
	@mkdir -p $(@D)
	$(call say,FUZZ $@)
	$(Q)$(CLANG) $(FUZZ_FLAGS) $(ALL_CPPFLAGS) -o $@ $(filter %.c,$^) $(LIBS)

# Whole directories: the library and what shows them, all but main.
FUZZ_DIR_OBJECTS := $(patsubst %.c,$(BUILD)/fuzz/obj/%.o,tests/fuzz/fuzz_dir.c tests/fuzz/fuzz_make.c \
                    $(LIB_SOURCES) $(filter-out src/cmd/main.c,$(CMD_SOURCES)))

$(BUILD)/fuzz/obj/%.o: export OMPI_CC = $(CLANG)
$(BUILD)/fuzz/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,FUZZ $<)
	$(Q)$(MPICC) $(FUZZ_FLAGS) -pthread $(ALL_CPPFLAGS) -DSW_COMMIT='""' -MMD -MP -c -o $@ $<

$(BUILD)/fuzz/fuzz_dir: export OMPI_CC = $(CLANG)
$(BUILD)/fuzz/fuzz_dir: $(FUZZ_DIR_OBJECTS)
	$(call say,LINK $@)
	$(Q)$(MPICC) $(FUZZ_FLAGS) -pthread -o $@ $^ $(LIBS)

-include $(FUZZ_DIR_OBJECTS:.o=.d)

# fuzz-header, fuzz-dir: each from its seeds, for FUZZ_SECONDS.
FUZZ_OPTIONS_header = -dict='$(abspath tests/fuzz/header.dict)' -rss_limit_mb=2048
FUZZ_OPTIONS_dir = -max_len=512 -len_control=0 -entropic=0
fuzz-dir: export ASAN_OPTIONS = malloc_context_size=5:quarantine_size_mb=2
fuzz-header fuzz-dir: fuzz-%: $(BUILD)/fuzz/fuzz_%
	@mkdir -p $(BUILD)/fuzz/$*
	@[ ! -d tests/fuzz/$*_seeds ] || cp -R tests/fuzz/$*_seeds/. $(BUILD)/fuzz/$*/
	cd $(BUILD)/fuzz && ./fuzz_$* -max_total_time=$(FUZZ_SECONDS) -timeout=10 -print_final_stats=1 -verbosity=1 \
	    $(FUZZ_OPTIONS_$*) -artifact_prefix="$$PWD/" "$$PWD/$*" >$*.log 2>&1 || { tail -n 60 $*.log; exit 1; }
	@tail -n 12 $(BUILD)/fuzz/$*.log

fuzz: fuzz-header fuzz-dir

lint:
	@scripts/lint

# Every C file of the tests, compiled: for warnings.
lint-tests: $(patsubst %.c,$(BUILD)/obj/%.o,$(sort $(wildcard tests/*.c tests/*/*.c bench/*.c examples/*.c)))

bench: all
	$(TEST_ENV) $(PYTHON) bench/run.py $(BENCH_ARGS)

# Reading boxes of a changed mesh, beside torch's reader.
bench-read: all $(BUILD)/bench/bench_reader
	$(TEST_ENV) BENCH_READER='$(abspath $(BUILD))/bench/bench_reader' $(PYTHON) bench/reader.py $(BENCH_ARGS)

# A header of 76 MB, against Python's json, safe_open where check-torch has brought it, and 64 MiB; then 64 to 4,096 files.
bench-plan: all $(BUILD)/bench/bench_header
	$(or $(wildcard $(VENV)/bin/python),$(PYTHON)) bench/header.py '$(abspath $(BUILD))/bench/bench_header'
	$(TEST_ENV) $(PYTHON) bench/scale.py

# Conversions in memory beside memcpy, by each path; F32 to BF16 against 1.5 times memcpy.
bench-cast: $(BUILD)/bench/bench_cast
	$(BUILD)/bench/bench_cast --check

$(BUILD)/bench/bench_%: $(BUILD)/obj/bench/bench_%.o $(LIBRARY)
	@mkdir -p $(@D)
	$(call say,LINK $@)
	$(Q)$(MPICC) $(ALL_LDFLAGS) -o $@ $< $(LIBRARY) $(LIBS)

# From memory, beside torch's save and consolidation.
bench-save: all $(SAVE_ITEMS)
	$(TEST_ENV) $(PYTHON) bench/save.py $(BENCH_ARGS)

# The same call, torch's and ours, in turns in one torchrun job.
bench-python: all $(VENV_READY)
	$(TEST_ENV) $(VENV)/bin/python bench/python.py $(BENCH_ARGS)

demo:
	@scripts/demo

# ---- install ----------------------------------------------------------------------------------------

# One list for both ways: see scripts/install. Written out when it is used, for pages that are made by then.
as_it_is = $(foreach f,$(1),$(2):$(f):$(3)/$(notdir $(f)))
INSTALLED = 755:$(PROGRAM):bin/shardweld 644:$(LIBRARY):lib/libshardweld.a 755:$(SHARED):lib/$(notdir $(SHARED)) \
            link:$(notdir $(SHARED)):lib/$(SONAME) link:$(SONAME):lib/libshardweld.so \
            644:$(BUILD)/shardweld.pc:lib/pkgconfig/shardweld.pc 644:$(BUILD)/completion:completion/shardweld \
            $(call as_it_is,$(PUBLIC_HEADERS),644,include) \
            $(call as_it_is,$(MAN1),644,man/man1) \
            $(call as_it_is,$(shell ls $(dir $(MAN3))*.3),644,man/man3) \
            $(call as_it_is,$(sort $(wildcard slurm/*.sh slurm/*.sbatch)),755,share/slurm) \
            $(call as_it_is,README.md,644,doc) $(call as_it_is,$(sort $(wildcard docs/*.md)),644,doc/docs) \
            $(call as_it_is,$(sort $(wildcard examples/*.c)),644,doc/examples)
PLACES = DESTDIR='$(DESTDIR)' BINDIR='$(BINDIR)' LIBDIR='$(LIBDIR)' INCLUDEDIR='$(INCLUDEDIR)' MANDIR='$(MANDIR)' \
         DOCDIR='$(DOCDIR)' SHAREDIR='$(SHAREDIR)' COMPLETIONDIR='$(COMPLETIONDIR)'

install: all pages
	$(Q)$(PLACES) scripts/install install $(INSTALLED)

uninstall: pages
	$(Q)$(PLACES) scripts/install uninstall $(INSTALLED)

# Two builds of one commit, from other directories: the same bytes.
check-reproducible:
	@scripts/setup
	tests/reproducible.sh

# Install somewhere, build a program against it with pkg-config, uninstall.
check-install:
	@scripts/setup --dev
	tests/install.sh

# The Debian packages: build, install, use, remove. For root.
check-deb:
	@scripts/setup --dev
	tests/deb.sh

clean:
	rm -rf $(BUILD)
