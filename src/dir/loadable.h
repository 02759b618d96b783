/* What loaders (transformers, vLLM, llama.cpp's converter) ask of a consolidated checkpoint besides
 * valid files. */
#ifndef SW_DIR_LOADABLE_H
#define SW_DIR_LOADABLE_H

#include "base/path.h"
#include "format/maps.h"
#include "plan/catalog.h"

/* A consolidated checkpoint as it was found. All borrowed. */
typedef struct sw_loadable_view {
    const sw_catalog *c;
    const char *index_name; /* NULL = there is none */
    /* of the index; NULL or empty = there is none, or it cannot be used */
    const sw_map *weight_map;
    const sw_index_totals *totals; /* of the index; NULL = there is none, or it cannot be read */
    /* what is in the directory; NULL = this rank has not looked: no word on other files */
    const sw_dir *names;
} sw_loadable_view;

/* Local. Add what loaders would trip over:
 *   hard  an index that names tensors which their files do not hold, or lacks tensors that files
 *         hold; weights in the directory that a loader of models would take instead of those of the
 *         index, or besides; without an index: numbered files that lack numbers
 *   soft  what only some loaders mind: data that does not begin at a multiple of its elements'
 *         size, a file whose metadata does not say format: pt; numbered files without an index; an
 *         index that names nothing, or whose totals are wrong or missing; other safetensors files
 *         in the directory. May be the same list as hard; NULL = not wanted
 * Missing files are for the one who looked for them to tell. Errors: SW_ENOMEM. */
sw_code sw_loadable_check(const sw_loadable_view *v, sw_findings *hard, sw_findings *soft, sw_status *st);

#endif
