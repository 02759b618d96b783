# Installing, and what pkg-config is told.

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
LAYERDIR ?= $(LIBDIR)/shardweld
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
DOCDIR ?= $(PREFIX)/share/doc/shardweld
SHAREDIR ?= $(PREFIX)/share/shardweld
COMPLETIONDIR ?= $(PREFIX)/share/bash-completion/completions
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
FISHDIR ?= $(PREFIX)/share/fish/vendor_completions.d
DESTDIR ?=

# shardweld-mpi.pc is for programs that speak MPI themselves, and for who links the archive, which has the layer in it.
MPI_PC = $(if $(LINKED_OBJECTS),$(firstword $(foreach p,$(if $(findstring mpich,$(MPICC)),mpich,ompi-c) mpi-c,$(shell $(PKG_CONFIG) --exists $(p) && echo $(p)))))
PC_SED = 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@INCLUDEDIR@|$(INCLUDEDIR)|; s|@VERSION@|$(VERSION)|; s|@MPI@|$(MPI_PC)|; s|@KINDS@|$(KINDS)|'
# Made anew for other places.
$(BUILD)/%.pc: packaging/%.pc.in FORCE
	@mkdir -p $(@D)
	@sed $(PC_SED) $< | cmp -s - $@ || sed $(PC_SED) $< >$@

# What `module load shardweld` does, in both languages; below /usr there is nothing to be done.
MODULES = $(if $(filter-out /usr,$(PREFIX)),$(BUILD)/modulefile.tcl $(BUILD)/modulefile.lua)
MODULE_SED = 's|@BINDIR@|$(BINDIR)|; s|@LIBDIR@|$(LIBDIR)|; s|@MANDIR@|$(MANDIR)|; s|@VERSION@|$(VERSION)|'
$(BUILD)/modulefile.%: packaging/modulefile.%.in FORCE
	@mkdir -p $(@D)
	@sed $(MODULE_SED) $< >$@

# One list for both ways: see scripts/install. Written out when it is used, for pages that are made by then.
as_it_is = $(foreach f,$(1),$(2):$(f):$(3)/$(notdir $(f)))
INSTALLED = 755:$(PROGRAM):bin/shardweld 644:$(LIBRARY):lib/libshardweld.a 755:$(SHARED):lib/$(notdir $(SHARED)) \
            link:$(notdir $(SHARED)):lib/$(SONAME) link:$(SONAME):lib/libshardweld.so \
            $(call as_it_is,$(LAYER_FILES),644,layer) $(call as_it_is,$(PC_FILES),644,lib/pkgconfig) 644:$(BUILD)/completion.bash:completion/shardweld \
            644:$(BUILD)/completion.zsh:zsh/_shardweld 644:$(BUILD)/completion.fish:fish/shardweld.fish \
            $(call as_it_is,$(PUBLIC_HEADERS),644,include) \
            $(call as_it_is,$(MAN1),644,man/man1) \
            $(call as_it_is,$(shell ls $(dir $(MAN3))*.3),644,man/man3) \
            $(call as_it_is,$(sort $(wildcard slurm/*.sh slurm/*.sbatch)),755,share/slurm) \
            $(foreach f,$(MODULES),644:$(f):share/modulefiles/shardweld/$(VERSION)$(filter .lua,$(suffix $(f)))) \
            $(call as_it_is,README.md,644,doc) $(call as_it_is,$(sort $(wildcard docs/*.md)),644,doc/docs) $(call as_it_is,$(sort $(wildcard docs/pictures/*)),644,doc/docs/pictures) \
            $(call as_it_is,$(sort $(wildcard examples/*.c examples/*.py)),644,doc/examples)
PLACES = DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' VERSION='$(VERSION)' SONAME='$(SONAME)' BINDIR='$(BINDIR)' LIBDIR='$(LIBDIR)' LAYERDIR='$(LAYERDIR)' INCLUDEDIR='$(INCLUDEDIR)' MANDIR='$(MANDIR)' \
         DOCDIR='$(DOCDIR)' SHAREDIR='$(SHAREDIR)' COMPLETIONDIR='$(COMPLETIONDIR)' ZSHDIR='$(ZSHDIR)' FISHDIR='$(FISHDIR)'

#: install       PREFIX=/usr/local LIBDIR=PREFIX/lib MANDIR= DESTDIR= and so on; also: uninstall
.PHONY: install uninstall
install: all pages $(MODULES)
	$(Q)$(PLACES) scripts/install install $(INSTALLED)

uninstall: pages
	$(Q)$(PLACES) scripts/install uninstall $(INSTALLED)

# ---- the site ---------------------------------------------------------------------------------------

SITE_PACKAGES ?= mkdocs-material==9.8.2
SITE_VENV = build/site-venv
SITE_READY = $(SITE_VENV)/ready-$(subst $(space),_,$(SITE_PACKAGES))
$(SITE_READY):
	rm -rf $(SITE_VENV)
	$(PYTHON) -m venv $(SITE_VENV) || /usr/bin/python3 -m venv --clear $(SITE_VENV)
	$(SITE_VENV)/bin/python -m pip install -qq $(PIP_ARGS) $(SITE_PACKAGES)
	touch '$@'

#: docs          the site of docs/, in build/site; every link must lead somewhere
.PHONY: docs
docs: $(SITE_READY)
	NO_MKDOCS_2_WARNING=1 $(SITE_VENV)/bin/mkdocs build --clean -f packaging/site/mkdocs.yml
