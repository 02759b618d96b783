# A release: the sources, the wheels, the sdist, what checks them, and the recipes of packagers that name the sources' checksum.
# packaging/README.md says where they go.

# Where the files of a release will lie: what the recipes name. As it is, they can be tried here.
RELEASE_URL ?= file://$(abspath $(DIST))
# The sdist is called .tar.gz. This one is what git has, with the commit in it, but without the recipes, which are told its checksum.
RELEASE = $(DIST)/shardweld-$(VERSION).tar.xz
RECIPES = $(addprefix $(DIST)/recipes/,spack/packages/shardweld/package.py spack/repo.yaml conda/recipe.yaml conda/variants.yaml)
RECIPE_SED = "s|@VERSION@|$(VERSION)|; s|@URL@|$(RELEASE_URL)|; s|@SHA256@|$$(sha256sum <'$(RELEASE)' | cut -d' ' -f1)|; /\# clone$$/d; s|^\( *\)\# release: |\1|"

#: dist          all of a release, to build/dist: sources, wheels, sdist, SHA256SUMS, recipes; of what is committed (RELEASE_URL=)
#: dist-source   of it the sources and the recipes alone: needs nothing but git
.PHONY: dist dist-all dist-source
dist:
	@scripts/setup --dev
	@$(MAKE) dist-all

dist-all: dist-source wheel-all
	@cd '$(DIST)' && sha256sum $(notdir $(RELEASE) $(SDIST) $(foreach a,$(WHEEL_ARCHS),$(call wheel_of,$(a)))) >SHA256SUMS

dist-source: $(RECIPES)

# The same bytes whoever packs the commit: its date, its order, one thread.
$(RELEASE): FORCE
	@[ -e .git ] || { echo 'make dist packs what git has: this is no clone' >&2; exit 1; }
	@case $$(scripts/commit) in \
	  *-dirty) echo 'make dist packs what is committed: these files were changed since' >&2; git status --short --untracked-files=no >&2; exit 1 ;; \
	esac
	@mkdir -p $(@D)
	$(call say,DIST $@)
	$(Q)git archive --format=tar --prefix='shardweld-$(VERSION)/' HEAD | xz -9 --threads=1 >$@

$(RECIPES): $(DIST)/recipes/%: packaging/% $(RELEASE)
	@mkdir -p $(@D)
	@sed $(RECIPE_SED) $< >$@
