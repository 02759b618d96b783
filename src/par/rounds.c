/* Bands into files, round by round; see rounds.h. */
#include "par/rounds.h"

#include "dir/publish.h"
#include "par/behind.h"

/* One rank's means while it writes. */
typedef struct writer {
    sw_rounds *w;
    sw_below dir;
    sw_out out;
    sw_behind behind;
    bool open;
    uint32_t file; /* the one that is open */
    sw_watch watch;
    uint64_t turns; /* apart: so many agreements are still to come */
    uint64_t end;   /* apart: bytes written when the next is due */
    bool left;      /* apart: all ranks know of an error */
} writer;

/* ---- files ----------------------------------------------------------------------------------- */

/* Together it is the point where all of the group learn of an error in the rounds of the file. */
static sw_code close_file(writer *k, sw_status *st)
{
    const sw_rounds *w = k->w;

    if (!k->open)
        return st->code;
    k->open = false;
    if (w->behind)
        sw_behind_settle(&k->behind, st);
    if (!w->apart) {
        sw_watch_end(&k->watch, true, st);
        sw_agree(w->comm, st);
    }
    if (!st->code && w->to.sync)
        sw_out_sync(&k->out, st);
    sw_out_close(&k->out, st);
    return w->apart ? st->code : sw_agree(w->comm, st);
}

/* A file that is this rank's alone. */
static sw_code open_apart(writer *k, sw_status *st)
{
    if (k->w->to.stream)
        return sw_out_open_stream(&k->out, &k->dir, st);
    if (k->w->make && sw_out_create_alone(&k->out, &k->dir, st))
        return st->code;
    return sw_out_open_alone(&k->out, &k->dir, st);
}

/* Open the file of a band, if it is not the one that is open. */
static sw_code open_file(writer *k, const sw_band *b, sw_status *st)
{
    const sw_rounds *w = k->w;

    if (!b->name || (k->open && k->file == b->file))
        return SW_OK; /* one that has failed comes along */
    if (close_file(k, st))
        return st->code;
    if (k->dir.fd < 0)
        sw_staged_open(w->to.dir, &k->dir, st);
    k->out = (sw_out){ .group = w->comm,
                       .show = b->name,
                       .size = b->size,
                       .stripes = w->to.stripes,
                       .durable = w->to.sync,
                       .drops = w->to.drops };
    if (!w->apart)
        sw_out_open(&k->out, &k->dir, w->how, st);
    else if (!st->code)
        open_apart(k, st);
    k->open = !st->code;
    k->file = b->file;
    return st->code;
}

/* ---- agreeing -------------------------------------------------------------------------------- */

/* Apart: one more agreement. */
static bool end_turn(writer *k, sw_status *st)
{
    k->turns--;
    k->end = k->w->written + SW_TURN;
    k->left = sw_agree(k->w->comm, st) != SW_OK;
    return k->left;
}

/* Before a band is written: do the ranks leave? Together one that has failed comes along with
 * nothing to write until all know. */
static bool leaves(writer *k, sw_status *st)
{
    if (k->w->behind)
        sw_behind_settle(&k->behind, st);
    return k->w->apart ? st->code != SW_OK && !k->w->joint : sw_watch_end(&k->watch, false, st);
}

/* After it. */
static bool end_round(writer *k, sw_status *st)
{
    if (!k->w->apart)
        sw_watch_begin(&k->watch, st);
    else if (!k->w->joint && (st->code || k->w->written < k->end))
        return st->code != SW_OK;
    sw_progress_tell(&k->w->to.progress, k->w->written);
    return k->w->apart && !k->w->joint && end_turn(k, st);
}

/* ---- the loop -------------------------------------------------------------------------------- */

/* Or hand it over. */
static sw_code write_band(writer *k, const sw_band *b, const char *data, sw_status *st)
{
    if (!k->w->behind)
        sw_out_write_all(&k->out, b->at, data, st);
    else if (!st->code && b->name)
        sw_behind_write(&k->behind, &k->out, b->at, data);
    return st->code;
}

/* Until there are no more, or the ranks leave. */
static void write_bands(writer *k, sw_status *st)
{
    sw_rounds *w = k->w;
    sw_band b;

    while (w->next(w->ctx, &b) && (!open_file(k, &b, st) || w->joint)) {
        const char *data;

        sw_check_cancel(w->to.cancel, st);
        if ((w->apart && !w->joint && st->code) || !(data = w->fill(w->ctx, &b, st)) || leaves(k, st))
            break;
        if (!write_band(k, &b, data, st))
            w->written += b.at.end - b.at.begin;
        if (end_round(k, st))
            break;
    }
}

sw_code sw_rounds_write(sw_rounds *w, sw_status *st)
{
    writer k = { .w = w, .dir = SW_BELOW_INIT, .end = SW_TURN };
    uint64_t most = w->to.progress.todo;

    w->written = 0;
    sw_watch_init(&k.watch, w->comm);
    if (w->behind)
        sw_behind_start(&k.behind);
    if (w->apart && sw_agree_most(w->comm, &most, 1, st))
        goto out;
    k.turns = w->joint ? 0 : most / SW_TURN + 1;
    write_bands(&k, st);
    if (w->apart) {
        sw_progress_tell(&w->to.progress, w->written);
        while (!k.left && k.turns)
            end_turn(&k, st);
    }
    if (w->to.sync)
        sw_progress_enter(&w->to.progress, SW_PHASE_SYNCING);
    close_file(&k, st);
    sw_below_close(&k.dir);
    if (w->apart)
        sw_agree(w->comm, st);
out:
    if (w->behind)
        sw_behind_stop(&k.behind);
    return st->code;
}
