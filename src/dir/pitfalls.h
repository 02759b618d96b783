/* What loaders (transformers, vLLM, llama.cpp's converter) trip over in a consolidated checkpoint
 * whose files are valid. */
#ifndef SW_DIR_PITFALLS_H
#define SW_DIR_PITFALLS_H

#include "dir/find.h"

/* Local. Add what loaders would trip over in a checkpoint as it was found (f: its index):
 *   names  what is in the directory; NULL = this rank has not looked: no word on other files
 *   hard   an index that names tensors which their files do not hold, or lacks tensors that files
 *          hold; weights in the directory that a loader of models would take instead of those of
 *          the index, or besides; without an index: numbered files that lack numbers
 *   soft   what only some loaders mind: data that does not begin at a multiple of its elements'
 *          size, a file whose metadata does not say format: pt; numbered files without an index; an
 *          index that names nothing, or whose totals are wrong or missing; other safetensors files
 *          in the directory. May be the same list as hard
 * Missing files are for the one who looked for them to tell. Errors: SW_ENOMEM. */
sw_code sw_pitfalls_find(const sw_catalog *c, const sw_find *f, const sw_dir *names, sw_findings *hard,
                         sw_findings *soft, sw_status *st);

#endif
