/* sw_save_shards(): each rank writes its own boxes, as torch's writer does; rank 0 publishes the
 * set. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/job.h"
#include "api/shardsave.h"
#include "api/writer.h"
#include "base/clock.h"
#include "base/num.h"
#include "base/path.h"
#include "dir/existing.h"
#include "par/gather.h"
#include "par/samedir.h"
#include "par/scan.h"
#include "plan/numbers.h"

#define BUFFER (UINT64_C(8) << 20)

static bool is_root(const sw_shard_save *s)
{
    return s->comm->rank == 0;
}

/* ---- options --------------------------------------------------------------------------------- */

static bool has_map(const sw_options *o)
{
    return o->fqn_map || o->fqn_map_text;
}

/* Collective. */
static sw_code read_map(sw_shard_save *s, sw_status *st)
{
    if (!has_map(s->opt))
        return SW_OK;
    sw_job_read_fqn_map(s->comm, s->opt, &s->map, st);
    return sw_agree(s->comm, st);
}

/* ---- the files of all ranks ------------------------------------------------------------------ */

/* What the others must know of a file. */
typedef struct file_record {
    uint64_t shard, model, tensors, size;
} file_record;

/* From the highest shard number down, and model numbers likewise. */
static int by_publication(const void *a, const void *b)
{
    const file_record *x = a, *y = b;

    if (x->shard != y->shard)
        return x->shard > y->shard ? -1 : 1;
    return (x->model < y->model) - (x->model > y->model);
}

/* The result lists them upwards. */
static sw_code take_records(sw_shard_save *s, file_record *records, size_t n, uint64_t of, sw_status *st)
{
    sw_result *res = s->result;

    if (n > 1)
        qsort(records, n, sizeof *records, by_publication);
    res->files = sw_calloc(n, sizeof *res->files, st);
    s->files = sw_calloc(n, sizeof *s->files, st);
    if (st->code)
        return st->code;
    res->nfiles = n;
    for (size_t i = 0; i < n && !st->code; i++) {
        const file_record *r = &records[i];
        sw_result_file *file = &res->files[n - 1 - i];
        char name[SW_SHARD_NAME_SIZE];

        *file =
            (sw_result_file){ sw_strdup(sw_shard_name_text(&(sw_shard_name){ r->shard, r->model, of }, name),
                                        st),
                              r->tensors, r->size };
        s->files[i] = (sw_publication){ file->name, r->size };
        if (!sw_add(s->total, r->size, &s->total))
            sw_fail(st, SW_EUSAGE, NULL, NULL, "the shard files overflow");
    }
    return st->code;
}

static sw_code add_records(const sw_shards *shards, sw_buf *out, sw_status *st)
{
    for (size_t i = 0; i < shards->nfiles && !st->code; i++) {
        const sw_shard_file *f = &shards->files[i];
        file_record r = { f->number.shard, f->number.model, f->count, f->size };

        sw_buf_add(out, &r, sizeof r, st);
    }
    return st->code;
}

/* Collective. */
static sw_code gather_files(sw_shard_save *s, sw_status *st)
{
    sw_buf mine = SW_BUF_INIT, all = SW_BUF_INIT;

    if (!st->code)
        add_records(&s->shards, &mine, st);
    if (!sw_comm_gather(s->comm, &mine, &all, st)) {
        take_records(s, (void *)all.data, all.len / sizeof(file_record), sw_map_largest(&s->map), st);
        sw_agree(s->comm, st);
    }
    sw_buf_release(&all);
    sw_buf_release(&mine);
    return st->code;
}

/* What each file says of all: role is that of any rank. */
static sw_code list_set(sw_shard_save *s, const sw_buf *choices, const sw_shards_role *role, sw_status *st)
{
    sw_buf numbers = SW_BUF_INIT, text = SW_BUF_INIT;

    for (sw_shards_role k = *role; k.rank < k.nranks && !st->code; k.rank++)
        sw_shards_numbers((const void *)choices[k.rank].data, choices[k.rank].len / sizeof(sw_choice), &k,
                          &numbers, st);
    if (!st->code)
        sw_numbers_list((const void *)numbers.data, numbers.len / sizeof(sw_shard_name), &text, st);
    sw_buf_release(&numbers);
    s->set_text = text.data;
    return st->code;
}

/* The same where this process knows what all ranks hold. */
static sw_code list_files(sw_shard_save *s, const sw_memboxes *held, uint32_t n, const sw_buf *choices,
                          sw_status *st)
{
    sw_shards_role role = { 0, n, sw_map_largest(&s->map), NULL };
    sw_buf all = SW_BUF_INIT;

    if (list_set(s, choices, &role, st))
        return st->code;
    role.set = s->set_text;
    for (role.rank = 0; role.rank < n && !st->code; role.rank++) {
        const sw_buf *own = &choices[role.rank];
        sw_shards shards;

        if (!sw_shards_make(&held[role.rank], (const void *)own->data, own->len / sizeof(sw_choice), &role,
                            &shards, st))
            add_records(&shards, &all, st);
        sw_shards_release(&shards);
    }
    if (!st->code)
        take_records(s, (void *)all.data, all.len / sizeof(file_record), role.of, st);
    sw_buf_release(&all);
    return st->code;
}

/* ---- OUTPUT_DIR ------------------------------------------------------------------------------ */

static sw_code warn_of_consolidated(const sw_shard_save *s, sw_status *st)
{
    sw_buf warnings = SW_BUF_INIT;

    if (!sw_warn_of_consolidated(s->out, &warnings, st))
        sw_buf_tell_lines(&warnings, s->opt->warn, s->opt->user);
    sw_buf_release(&warnings);
    return st->code;
}

/* Rank 0. */
static sw_code look_at_output(sw_shard_save *s, sw_status *st)
{
    if (sw_existing_shards(s->out, &s->old, &s->nold, st) || warn_of_consolidated(s, st))
        return st->code;
    if (s->nold && s->opt->dry_run && !s->opt->overwrite && s->opt->warn)
        s->opt->warn(s->opt->user,
                     "the output directory holds shard files already: overwrite will be needed");
    if (s->nold == 0 || s->opt->overwrite || s->opt->dry_run)
        return SW_OK;
    return sw_fail(st, SW_EUSAGE, s->out, NULL, "holds shard files already (%s); --overwrite replaces them",
                   s->old[0]);
}

/* Rank 0. A dry run changes nothing, not even what a dead run left. */
static sw_code open_output(sw_shard_save *s, sw_status *st)
{
    const sw_place_rule rule = { s->out, true, !s->opt->no_sync, s->opt->cancel };
    uint64_t ignored; /* what is in memory may have other values by now */

    if (!s->opt->dry_run && sw_place_open(&rule, &s->set, &ignored, st))
        return st->code;
    return look_at_output(s, st);
}

/* Rank 0. Without tensors there are no files, and nothing that could be told from a lost
 * checkpoint. */
static sw_code prepare_output(sw_shard_save *s, sw_status *st)
{
    if (s->result->nfiles == 0)
        return sw_fail(st, SW_EUSAGE, s->out, NULL, "no rank has anything to save");
    return s->opt->dry_run ? SW_OK : sw_path_check_space(sw_place_fresh(s->set)->path, s->out, s->total, st);
}

/* ---- the steps ------------------------------------------------------------------------------- */

static void count_tensors(sw_shard_save *s)
{
    sw_result *res = s->result;

    res->boxes = s->c.nboxes;
    res->tensors = s->c.ntensors;
    for (uint32_t i = 0; i < s->c.ntensors; i++) {
        res->parameters += s->c.tensors[i].elements;
        res->bytes += s->c.tensors[i].bytes;
    }
}

static const sw_map *map_of(const sw_shard_save *s)
{
    return has_map(s->opt) ? &s->map : NULL;
}

/* Collective. */
static sw_code plan(sw_shard_save *s, sw_status *st)
{
    if (sw_join_held(s->comm, &s->held, &s->c, st) || read_map(s, st))
        return st->code;
    count_tensors(s);
    if (sw_shards_plan(s->comm, &s->c, &s->held, map_of(s), sw_fqn_map_name(s->opt), &s->shards, st))
        return st->code;
    return gather_files(s, st);
}

sw_code sw_shard_save_sync(const sw_shard_save *s, bool *sync, sw_status *st)
{
    sw_fs fs = { 0 };

    sw_path_fs(sw_place_fresh(s->set)->path, &fs, st);
    *sync = !s->opt->no_sync || fs.shared;
    return st->code;
}

/* Collective. */
static sw_code write_files(sw_shard_save *s, sw_status *st)
{
    sw_buf dir = SW_BUF_INIT;
    sw_shards_write w = {
        .buffer = s->result->buffer_size,
        .cancel = s->opt->cancel,
        .progress = { .fn = is_root(s) ? s->opt->progress : NULL, .user = s->opt->user, .total = s->total }
    };

    if (is_root(s) && !sw_shard_save_sync(s, &w.sync, st))
        sw_buf_add(&dir, sw_place_fresh(s->set)->path, strlen(sw_place_fresh(s->set)->path) + 1, st);
    if (!sw_agree_share(s->comm, &w.sync, sizeof w.sync, st) && !sw_comm_bcast_buf(s->comm, &dir, 0, st)) {
        w.dir = dir.data;
        sw_shards_write_files(s->comm, &s->shards, &w, st);
    }
    s->written = w.written;
    sw_buf_release(&dir);
    return st->code;
}

sw_code sw_shard_save_publish(sw_shard_save *s, sw_status *st)
{
    if (sw_check_cancel(s->opt->cancel, st))
        return st->code;
    return sw_place_publish(s->set, &(sw_change){ s->files, (size_t)s->result->nfiles, s->old, s->nold, 1 },
                            st);
}

static sw_code steps(sw_shard_save *s, sw_status *st)
{
    if (is_root(s))
        open_output(s, st);
    if (sw_check_same_dir(s->comm, s->set ? sw_place_fresh(s->set)->path : NULL, s->out, NULL, 0, st) ||
        plan(s, st))
        return st->code;
    if (is_root(s))
        prepare_output(s, st);
    s->result->seconds_plan = sw_now() - s->started;
    if (sw_agree(s->comm, st) || s->opt->dry_run || write_files(s, st))
        return st->code;
    s->result->seconds_write = sw_now() - s->started - s->result->seconds_plan;
    if (is_root(s))
        sw_shard_save_publish(s, st);
    return sw_agree(s->comm, st);
}

void sw_shard_save_init(sw_shard_save *s)
{
    *s->result = (sw_result){ .ranks = s->comm->size, .io = "posix" };
    s->result->buffer_size = s->opt->buffer_size ? s->opt->buffer_size : BUFFER;
}

sw_code sw_shard_save_begin(sw_shard_save *s, const sw_memboxes *held, uint32_t n, sw_buf *choices,
                            sw_status *st)
{
    if (open_output(s, st) || sw_join_described(held, n, &s->c, st) || read_map(s, st))
        return st->code;
    count_tensors(s);
    if (sw_shards_choose(&s->c, held, n, map_of(s), sw_fqn_map_name(s->opt), choices, st) ||
        list_files(s, held, n, choices, st))
        return st->code;
    return prepare_output(s, st);
}

static void release(sw_shard_save *s)
{
    sw_shards_release(&s->shards);
    sw_map_release(&s->map);
    sw_catalog_release(&s->c);
    sw_memboxes_release(&s->held);
    sw_names_free(s->old, s->nold);
    free(s->set_text);
    free(s->files);
}

void sw_shard_save_end(sw_shard_save *s, sw_status *st)
{
    sw_place_close(s->set, &s->result->staging, st);
    sw_tell_staging(s->opt, s->result);
    release(s);
}

sw_code sw_save_shards(const sw_comm *comm, const char *output_dir, const sw_item *items, size_t n,
                       const sw_options *opt, sw_result *result, sw_status *st)
{
    sw_result unwanted = { 0 };
    sw_shard_save s = { .comm = comm, .started = sw_now() };
    sw_given g;

    sw_given_take(&g, SW_CALL_SAVE_SHARDS, comm, NULL, output_dir, opt);
    s.out = g.out;
    s.opt = &g.opt;
    s.result = result ? result : &unwanted;
    sw_shard_save_init(&s);
    if (sw_writer_begin(comm, &g, items, n, &s.held, st))
        goto out;
    steps(&s, st);
    sw_place_close(s.set, &s.result->staging, st);
    sw_tell_staging(s.opt, s.result);
    if (st->code != SW_ECOMM) {
        sw_agree(comm, st);
        s.result->bytes_written = s.written;
        sw_comm_totals(s.comm, &s.result->bytes_written, &s.result->peak_memory);
    }
    if (s.result->seconds_write > 0)
        s.result->seconds_publish = sw_now() - s.started - s.result->seconds_plan - s.result->seconds_write;
out:
    release(&s);
    sw_given_release(&g);
    if (!result)
        sw_result_release(&unwanted);
    return st->code;
}
