/* A band of an output file, from the shards; see fill.h. */
#include "par/fill.h"

#include "base/num.h"

/* The first tensor of the file whose data ends behind byte at of the data. */
static uint32_t first_slot(const sw_layout *l, const sw_layout_file *file, uint64_t at)
{
    uint32_t a = file->first, b = file->first + file->count;

    while (a < b) {
        uint32_t mid = a + (b - a) / 2;

        if (l->order[mid].end <= at)
            a = mid + 1;
        else
            b = mid;
    }
    return a;
}

bool sw_parts_each(const sw_catalog *c, const sw_layout *l, uint32_t f, uint64_t begin, uint64_t end,
                   sw_part_fn fn, void *ctx)
{
    const sw_layout_file *file = &l->files[f];
    uint64_t data = 8 + file->header_len, lo, hi;

    if (end <= data)
        return true;
    lo = begin > data ? begin - data : 0;
    hi = end - data;
    for (uint32_t i = first_slot(l, file, lo); i < file->first + file->count && l->order[i].begin < hi; i++) {
        const sw_slot *slot = &l->order[i];
        uint64_t from = sw_max(slot->begin, lo), to = sw_min(slot->end, hi);
        sw_part part = { &c->tensors[slot->tensor], from - slot->begin, to - from, data + from - begin };

        if (part.n && !fn(ctx, &part))
            return false;
    }
    return true;
}

sw_code sw_fill_header(const sw_catalog *c, const sw_layout *l, uint32_t f, uint64_t begin, uint64_t end,
                       char *band, sw_status *st)
{
    uint64_t data = 8 + l->files[f].header_len;

    if (begin >= data || begin >= end)
        return SW_OK;
    return sw_layout_header(c, l, f, begin, sw_min(end, data) - begin, band, st);
}

/* ---- reading all of it -------------------------------------------------------------------------- */

typedef struct fill_ctx {
    sw_source *s;
    char *to;
    sw_status *st;
} fill_ctx;

static bool read_piece(void *ctx, const sw_piece *p)
{
    fill_ctx *f = ctx;

    return sw_source_read(f->s, p, f->to, f->st) == SW_OK;
}

/* Values go out as they were saved; a conversion would read its source range into scratch and convert here. */
static bool read_part(void *ctx, const sw_part *part)
{
    fill_ctx *f = ctx;
    fill_ctx inner = { f->s, f->to + part->at, f->st };

    return sw_pieces_each(f->s->c, part->tensor, part->from, part->n, read_piece, &inner);
}

sw_code sw_fill_band(sw_source *s, const sw_layout *l, uint32_t f, uint64_t begin, uint64_t end, char *band,
                     sw_status *st)
{
    fill_ctx ctx = { s, band, st };

    if (!sw_fill_header(s->c, l, f, begin, end, band, st))
        sw_parts_each(s->c, l, f, begin, end, read_part, &ctx);
    return st->code;
}

/* ---- reading ahead ------------------------------------------------------------------------------ */

static bool advise_piece(void *ctx, const sw_piece *p)
{
    sw_source_advise(ctx, p);
    return true;
}

static bool advise_part(void *ctx, const sw_part *part)
{
    sw_source *s = ctx;

    return sw_pieces_each(s->c, part->tensor, part->from, part->n, advise_piece, s);
}

void sw_fill_advise(sw_source *s, const sw_layout *l, uint32_t f, uint64_t begin, uint64_t end)
{
    if (begin < end)
        sw_parts_each(s->c, l, f, begin, end, advise_part, s);
}
