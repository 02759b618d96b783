/* A band of an output file, from the shards; see fill.h. */
#include "read/fill.h"

#include <string.h>

#include "base/num.h"

/* Shorter rows are left to the system's own reading ahead. */
#define ROW_ADVISED (UINT64_C(64) << 10)

/* ---- headers --------------------------------------------------------------------------------- */

/* The header of a shard file, all of it, if it is not there from the last time. */
static sw_code keep_header(sw_filler *f, uint32_t file, sw_status *st)
{
    uint64_t size = 8 + f->l->files[file].header_len;

    if (f->header_file == file + 1)
        return SW_OK;
    f->header_file = 0;
    f->header.len = 0;
    if (sw_buf_reserve(&f->header, (size_t)size, st) ||
        sw_layout_header(&f->o->view, f->l, file, 0, size, f->header.data, st))
        return st->code;
    f->header_file = file + 1;
    return SW_OK;
}

sw_code sw_fill_header(sw_filler *f, uint32_t file, sw_region at, char *band, sw_status *st)
{
    uint64_t data = 8 + f->l->files[file].header_len, n;

    if (at.begin >= data || at.begin >= at.end)
        return SW_OK;
    n = sw_min(at.end, data) - at.begin;
    if (!f->l->shards)
        return sw_layout_header(&f->o->view, f->l, file, at.begin, n, band, st);
    if (!keep_header(f, file, st))
        memcpy(band, f->header.data + at.begin, (size_t)n);
    return st->code;
}

/* ---- data ------------------------------------------------------------------------------------ */

typedef struct filling {
    const sw_filler *f;
    char *band;
    sw_status *st;
} filling;

/* One box of a band. */
static bool fill_box(void *ctx, const sw_making *g)
{
    const filling *c = ctx;

    return sw_make(&c->f->maker, g, c->band, c->st) == SW_OK;
}

sw_code sw_fill_band(const sw_filler *f, uint32_t file, sw_region at, char *band, sw_status *st)
{
    filling c = { f, band, st };

    sw_band_boxes_each(f->o, f->l, file, at, fill_box, &c);
    return st->code;
}

/* ---- reading ahead --------------------------------------------------------------------------- */

/* What of a run is worth a word to the system. Bytes that lie together on a disk of this machine
 * are not: reading in their order, the system reads ahead of us by itself, in large folios, and
 * asked to (WILLNEED) it takes single pages. 8 files of 48 MiB, 512 KiB of each in turn, from a
 * cold disk, the best of 6, seconds: by itself 0.15, asked for the next 512 KiB 0.42, for the next
 * 4 MiB 0.28; where it may read ahead by 128 KiB alone 0.31, 0.47 and 0.98. */
static bool advise_run(void *ctx, const sw_run *s)
{
    sw_source *source = ctx;
    uint64_t at;
    int64_t to;

    if (sw_run_is_together(s)) {
        if (!source->local)
            source->body->advise(source, s->file, s->at, s->n);
    } else if (s->row >= ROW_ADVISED) {
        for (uint64_t i = 0; i < s->n / s->row; i++) {
            sw_run_row(s, i, &at, &to);
            source->body->advise(source, s->file, at, s->row);
        }
    }
    return true;
}

/* Blocks of MXFP4 are left to the system's own reading ahead: their rows are read in order. */
static bool advise_box(void *ctx, const sw_making *g)
{
    const sw_filler *f = ctx;
    sw_ingredient in[2];
    unsigned n = g->how->op == SW_OP_MXFP4 ? 0 : sw_ingredients(g, in);

    for (unsigned i = 0; i < n; i++)
        sw_ingredient_runs_each(&in[i], advise_run, f->maker.pull.source);
    return true;
}

void sw_fill_advise(const sw_filler *f, uint32_t file, sw_region at)
{
    sw_filler mine = *f;

    if (at.begin < at.end && f->maker.pull.source->body->advise)
        sw_band_boxes_each(f->o, f->l, file, at, advise_box, &mine);
}
