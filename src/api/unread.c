/* What manifests tell need not be read: that tensors of two checkpoints are alike, sw_diff(); how
 * many of their numbers are none, sw_checkpoint_open(). See job.h.
 *
 * A manifest speaks of what was written. It is believed where it is whole and all files are as
 * large as it says; sw_check() finds out whether they hold that still. */
#include <stdlib.h>
#include <string.h>

#include "api/job.h"
#include "dir/existing.h"
#include "dir/match.h"

/* Are the files that were found as large as they were written? */
static bool is_of(const sw_manifest *m, const sw_catalog *c)
{
    for (uint32_t i = 0; i < c->nfiles; i++) {
        const sw_manifest_file *f = sw_manifest_file_of(m, sw_file_name(&c->files[i]));

        if (!f || f->size != c->files[i].size)
            return false;
    }
    return true;
}

/* The manifest beside the files of a catalogue; false: there is none that is of use. That it cannot
 * be read is no error here. */
static bool take(const char *dir, const sw_catalog *c, sw_buf *text, sw_manifest *m)
{
    sw_status ignored = SW_STATUS_INIT;
    bool missing = false;

    return sw_existing_manifest(dir, &missing, text, m, &ignored) == SW_OK && !missing &&
           sw_digest_take_xxh3(&ignored) == SW_OK && sw_manifest_is_whole(text->data, text->len) &&
           is_of(m, c);
}

/* What it says of a tensor, if it is of the tensor that was found; NULL. */
static const sw_manifest_tensor *said_of(const sw_manifest *m, const sw_catalog *c, const sw_tensor *t)
{
    const sw_manifest_tensor *said = sw_manifest_tensor_of(m, t->name);

    return said && said->dtype == (sw_dtype)t->dtype && said->ndim == t->ndim &&
                   memcmp(said->shape, sw_tensor_shape(c, t), t->ndim * sizeof *said->shape) == 0
               ? said
               : NULL;
}

/* Rank 0. A byte for each output: 1 = both manifests tell the same of it. */
static sw_code list_alike(const sw_job *j, const uint32_t *partners, sw_buf *alike, sw_status *st)
{
    const sw_outputs *o = &j->values.outputs;
    const sw_catalog *b = &j->with->input.c;
    sw_buf texts[2] = { SW_BUF_INIT, SW_BUF_INIT };
    sw_manifest m[2] = { SW_MANIFEST_INIT, SW_MANIFEST_INIT };

    if (take(j->in, o->c, &texts[0], &m[0]) && take(j->with->in, b, &texts[1], &m[1]))
        for (uint32_t i = 0; i < o->view.ntensors && !st->code; i++) {
            bool asked = partners[i] != SW_NO_PARTNER && o->how[i].op == SW_OP_COPY;
            const sw_manifest_tensor *x =
                asked ? said_of(&m[0], o->c, &o->c->tensors[o->how[i].source]) : NULL;
            const sw_manifest_tensor *y = x ? said_of(&m[1], b, &b->tensors[partners[i]]) : NULL;
            char is = y && strcmp(x->xxh3, y->xxh3) == 0;

            sw_buf_add(alike, &is, 1, st);
        }
    for (unsigned k = 0; k < 2; k++) {
        sw_manifest_release(&m[k]);
        sw_buf_release(&texts[k]);
    }
    return st->code;
}

sw_code sw_job_leave_alike(const sw_job *j, uint32_t *partners, uint64_t *left, sw_status *st)
{
    sw_buf alike = SW_BUF_INIT;

    if (sw_job_is_root(j) && !st->code)
        list_alike(j, partners, &alike, st);
    if (!sw_comm_bcast_buf(j->comm, &alike, 0, st))
        for (size_t i = 0; i < alike.len; i++)
            if (alike.data[i]) {
                partners[i] = SW_NO_PARTNER;
                ++*left;
            }
    sw_buf_release(&alike);
    return st->code;
}

/* Rank 0. For each tensor. */
static sw_code list_counts(const char *dir, const sw_catalog *c, sw_buf *counts, sw_status *st)
{
    sw_buf text = SW_BUF_INIT;
    sw_manifest m = SW_MANIFEST_INIT;
    bool there = take(dir, c, &text, &m);

    for (uint32_t i = 0; there && i < c->ntensors && !st->code; i++) {
        const sw_manifest_tensor *said = said_of(&m, c, &c->tensors[i]);
        sw_counts is = { .counted = said && said->counted };

        if (is.counted) {
            is.nan = said->nan;
            is.inf = said->inf;
        }
        sw_buf_add(counts, &is, sizeof is, st);
    }
    sw_manifest_release(&m);
    sw_buf_release(&text);
    return st->code;
}

sw_code sw_told_counts(const sw_comm *comm, const char *dir, const sw_catalog *c, sw_buf *counts,
                       sw_status *st)
{
    if (comm->rank == 0 && !st->code)
        list_counts(dir, c, counts, st);
    return sw_comm_bcast_buf(comm, counts, 0, st);
}
