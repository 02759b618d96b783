/* Bands by the schedule, put together; see bands.h. */
#include "par/bands.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/num.h"
#include "value/difference.h"

#define BAND_ALIGN 4096
#define BAND_MAX (UINT64_C(512) << 20) /* below what MPI-IO components can take in one call */

/* Rounds that stay in the processor's cache win on a local file system; a parallel one wants
 * stripes, but by FUSE short rounds let the client send what was written while the next are read:
 * on CephFS 64 MiB took 1.74 times as long as cp, 8 MiB 1.13 times. What is streamed goes through
 * pipes of some 100 KiB, and is read there at once: bands of 1 MiB took two thirds of the time of
 * bands of 32 MiB. */
const sw_memory_rule sw_memory_of_weld = { .local = (UINT64_C(4) << 20) + (UINT64_C(256) << 10),
                                           .shared = UINT64_C(64) << 20,
                                           .fuse = UINT64_C(8) << 20,
                                           .stream = (UINT64_C(2) << 20) + (UINT64_C(256) << 10),
                                           .scratch = UINT64_C(256) << 10,
                                           .scratch_divisor = 4,
                                           .input = UINT64_C(512) << 10,
                                           .unit = 1 };

/* Both copies of a band stay in a processor's cache; on a parallel file system long reads win. */
const sw_memory_rule sw_memory_of_compare = { .local = UINT64_C(3) << 20,
                                              .shared = UINT64_C(32) << 20,
                                              .fuse = UINT64_C(32) << 20,
                                              .chunk = SW_ELEMENTS_UNIT * UINT64_C(8192),
                                              .scratch = UINT64_C(128) << 10,
                                              .scratch_divisor = 8,
                                              .input = UINT64_C(256) << 10,
                                              .unit = SW_ELEMENTS_UNIT };

/* ---- memory ---------------------------------------------------------------------------------- */

uint64_t sw_memory_buffer(const sw_memory_rule *rule, bool shared, const sw_memory_need *need)
{
    uint64_t input = need->converts ? rule->input : 0;

    return need->stream && !need->by_owner ? rule->stream + input
           : !shared                       ? rule->local + input
           : need->fuse && !need->by_owner ? rule->fuse
                                           : rule->shared;
}

/* By owner as much as a band goes to what is sent, and to what is converted. */
sw_code sw_memory_share(const sw_memory_rule *rule, const sw_memory_need *need, sw_memory *out, sw_status *st)
{
    uint64_t chunk = sw_round_down(sw_min(need->buffer / 4, rule->chunk), rule->unit), left;
    uint64_t nbands = need->behind ? 2 : 1;
    sw_memory m = { .buffer = need->buffer,
                    .chunk = chunk,
                    .scratch = sw_min(need->buffer / rule->scratch_divisor, rule->scratch) };

    left = need->buffer - m.chunk - m.scratch;
    if (need->by_owner) {
        m.send = m.band = sw_round_down(sw_min(left / (nbands + 1 + need->converts), BAND_MAX), rule->unit);
        m.input = need->converts ? m.band : 0;
    } else {
        m.input = need->converts ? sw_min(need->buffer / 4, rule->input) : 0;
        m.band = sw_round_down(sw_min((left - m.input) / nbands, BAND_MAX), rule->unit);
    }
    *out = m;
    if (need->by_owner && m.send < sw_exchange_least(need->nranks, need->converts))
        return sw_fail(st, SW_EUSAGE, NULL, NULL,
                       "a buffer of %" PRIu64 " bytes is too small for %" PRIu32 " ranks that exchange",
                       need->buffer, need->nranks);
    return SW_OK;
}

/* ---- bands ----------------------------------------------------------------------------------- */

/* A small one is not rounded up: memory was given to the byte. */
static sw_code take_memory(sw_bands *b, sw_status *st)
{
    const sw_work *w = b->w;
    uint64_t bands = w->sched->band * (w->behind ? 2 : 1), size = bands + w->memory.input;

    b->memory = size % BAND_ALIGN == 0 ? aligned_alloc(BAND_ALIGN, (size_t)size) : malloc((size_t)size);
    if (!b->memory)
        return sw_fail_nomem(st, size);
    b->band = b->memory;
    b->filler = (sw_filler){ .maker.room = w->memory.input, .o = w->o, .l = w->l };
    if (w->memory.input)
        b->filler.maker.memory = b->memory + bands;
    return SW_OK;
}

sw_code sw_bands_init(sw_bands *b, const sw_work *w, const sw_comm *group, sw_status *st)
{
    *b = (sw_bands){ .w = w, .progress = w->to.progress };
    if (take_memory(b, st))
        return st->code;
    if (w->held ? sw_source_init_memory(&b->source, w->o->c, w->held, w->memory.scratch, st)
                : sw_source_init(&b->source, w->o->c, w->input_dir, w->memory.scratch, st))
        return st->code;
    b->source.drops = w->to.drops;
    b->filler.maker.pull = sw_pull_of(&b->source);
    if (w->sched->shared)
        b->exchange = sw_exchange_new(group, &b->filler, w->sched, w->memory.send, st);
    for (uint32_t f = 0; f < w->l->nfiles; f++) {
        sw_region r = sw_schedule_region(w->sched, w->l, f, (uint32_t)w->world->rank);

        b->progress.todo += r.end - r.begin;
        b->progress.total += w->l->files[f].size;
    }
    return st->code;
}

void sw_bands_release(sw_bands *b)
{
    sw_exchange_free(b->exchange);
    sw_source_release(&b->source);
    sw_buf_release(&b->filler.header);
    free(b->memory);
}

bool sw_bands_next(sw_bands *b, sw_band *out)
{
    const sw_work *w = b->w;
    const sw_layout_file *file;

    if (b->exchange ? !sw_exchange_next(b->exchange, &b->at)
                    : !sw_cursor_next(w->sched, w->l, (uint32_t)w->world->rank, &b->at))
        return false;
    *out = (sw_band){ .file = b->at.file };
    if (b->at.rounds) {
        file = &w->l->files[b->at.file];
        *out = (sw_band){ b->at.file, file->name, file->size,
                          sw_schedule_band(w->sched, b->at.mine, b->at.round) };
    }
    return true;
}

void sw_bands_advise(const sw_bands *b)
{
    sw_fill_advise(&b->filler, b->at.file, sw_schedule_band(b->w->sched, b->at.mine, b->at.round + 1));
}

bool sw_bands_fill(sw_bands *b, sw_status *st)
{
    const sw_schedule *s = b->w->sched;
    uint32_t f = b->at.file;
    sw_region band = sw_schedule_band(s, b->at.mine, b->at.round);

    if (b->w->behind)
        b->band = b->memory + (b->band == b->memory ? s->band : 0);
    /* What is only compared has no names, and no headers. */
    if (!st->code && b->at.rounds && b->w->l->files[f].name)
        sw_fill_header(&b->filler, f, band, b->band, st);
    if (b->exchange)
        return sw_exchange_fill(b->exchange, b->band, st) == SW_OK;
    if (!st->code) {
        sw_bands_advise(b);
        sw_fill_band(&b->filler, f, band, b->band, st);
    }
    return true;
}
