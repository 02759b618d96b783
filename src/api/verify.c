/* sw_verify(), and consolidate's own look at what it wrote: what should be there is planned as for
 * writing, what is there is read, and all that differs is listed. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/call.h"
#include "api/job.h"
#include "base/clock.h"
#include "base/num.h"
#include "base/path.h"
#include "base/sort.h"
#include "dir/match.h"
#include "par/compare.h"
#include "par/gather.h"
#include "plan/dims.h"

/* One comparison: the job plans what should be there. */
typedef struct verifier {
    sw_job *r;
    sw_plain target;
    sw_findings findings;
    bool quiet;         /* no progress is told */
    uint32_t *partners; /* of each output, as sw_compare takes them */
    sw_memory memory;
    sw_verification *result;
} verifier;

/* ---- memory ---------------------------------------------------------------------------------- */

/* Collective. How much memory: rank 0 looks at the file system. */
static sw_code decide_memory(verifier *v, sw_status *st)
{
    uint64_t buffer = 0;
    sw_fs fs = { 0 };

    if (sw_job_is_root(v->r)) {
        sw_path_fs_near(v->target.dir, &fs, st);
        buffer = sw_memory_buffer(&sw_memory_of_compare, fs.shared, sw_job_converts(v->r));
    }
    if (sw_agree(v->r->comm, st) || sw_comm_bcast(v->r->comm, &buffer, sizeof buffer, 0, st))
        return st->code;
    sw_job_assign(v->r);
    sw_job_take_memory(v->r, &sw_memory_of_compare, buffer, &v->memory, st);
    v->result->buffer_size = v->memory.buffer;
    v->result->assign = v->r->by_owner ? SW_ASSIGN_OWNER : SW_ASSIGN_BAND;
    return sw_agree(v->r->comm, st);
}

/* ---- values ---------------------------------------------------------------------------------- */

/* "element [3, 17] is 1.5, expected 1.25; 12 of 4096 elements differ" */
static void difference_text(const sw_difference *d, sw_dtype dtype, const uint64_t *index, unsigned ndim,
                            uint64_t elements, sw_buf *text, sw_status *st)
{
    char where[SW_DIMS_TEXT], values[SW_VALUES_TEXT];

    text->len = 0;
    if (ndim)
        sw_buf_addf(text, st, "element %s is ", sw_dims_text(index, ndim, where, sizeof where));
    else
        sw_buf_addf(text, st, "its value is ");
    sw_buf_addf(text, st, "%s; %" PRIu64 " of %" PRIu64 " element%s differ%s",
                sw_values_text(dtype, d->is, d->want, values), d->count, elements, elements == 1 ? "" : "s",
                d->count == 1 ? "s" : "");
}

static sw_code tell_differences(verifier *v, const sw_differences *found, sw_status *st)
{
    const sw_catalog *view = &v->r->outputs.view, *there = &v->target.c;
    sw_buf text = SW_BUF_INIT;

    for (size_t i = 0; i < found->n && !st->code; i++) {
        const sw_difference *d = &found->items[i];
        const sw_tensor *t = &view->tensors[d->tensor];
        const sw_box *box = &there->boxes[there->tensors[v->partners[d->tensor]].box0];
        uint64_t index[SW_MAX_DIMS];

        sw_element_index(d->first, sw_tensor_shape(view, t), t->ndim, index);
        difference_text(d, (sw_dtype)t->out_dtype, index, t->ndim, t->elements, &text, st);
        if (!st->code)
            sw_findings_add(&v->findings, there->files[box->file].name, t->name, text.data, st);
    }
    sw_buf_release(&text);
    return st->code;
}

/* Files that were not the same in the end; the same words on each rank that has met one. */
static sw_code tell_changed(verifier *v, const bool *changed, sw_status *st)
{
    for (uint32_t f = 0; f < v->target.c.nfiles && !st->code; f++)
        if (changed[f])
            sw_findings_add(&v->findings, v->target.c.files[f].name, NULL,
                            "was changed, replaced or removed while it was compared", st);
    return st->code;
}

static sw_code compare_values(verifier *v, sw_status *st)
{
    const sw_job *r = v->r;
    bool *changed = sw_calloc(v->target.c.nfiles, sizeof *changed, st);
    sw_compare k = { .work = sw_job_work(r),
                     .by_owner = r->by_owner,
                     .target = &v->target.c,
                     .target_dir = v->target.dir,
                     .partners = v->partners,
                     .changed = changed };

    k.work.memory = v->memory;
    if (v->quiet)
        k.work.progress = NULL;
    if (sw_agree(r->comm, st))
        goto out;
    sw_compare_tensors(&k, st);
    v->result->bytes = k.compared; /* the others' come on top in the end */
    if (st->code)
        goto out;
    if (sw_job_is_root(r) && !sw_plain_look_again(&v->target, changed, st))
        tell_differences(v, &k.found, st);
    tell_changed(v, changed, st);
out:
    sw_differences_release(&k.found);
    free(changed);
    return sw_agree(r->comm, st);
}

/* ---- replicas -------------------------------------------------------------------------------- */

static sw_code tell_replicas(verifier *v, const sw_differences *found, sw_status *st)
{
    const sw_catalog *c = &v->r->c;
    sw_buf text = SW_BUF_INIT;

    for (size_t i = 0; i < found->n && !st->code; i++) {
        const sw_difference *d = &found->items[i];
        const sw_tensor *t = &c->tensors[d->tensor];
        const uint64_t *offsets = sw_box_offsets(c, t, d->box), *shape = sw_box_shape(c, t, d->box);
        const sw_box *boxes = &c->boxes[t->box0];
        uint64_t index[SW_MAX_DIMS], elements;

        sw_element_index(d->first, shape, t->ndim, index);
        for (unsigned n = 0; n < t->ndim; n++)
            index[n] += offsets[n];
        sw_dims_product(shape, t->ndim, &elements);
        difference_text(d, (sw_dtype)t->dtype, index, t->ndim, elements, &text, st);
        sw_buf_addf(&text, st, " from the copy in %s, which is used",
                    c->files[boxes[sw_replica_used(c, t, d->box)].file].name);
        if (!st->code)
            sw_findings_add(&v->findings, c->files[boxes[d->box].file].name, t->name, text.data, st);
    }
    sw_buf_release(&text);
    return st->code;
}

static sw_code compare_replicas(verifier *v, sw_status *st)
{
    const sw_job *r = v->r;
    bool *wanted = sw_calloc(r->c.ntensors, sizeof *wanted, st);
    sw_replicas k = { .world = r->comm,
                      .c = &r->c,
                      .dir = r->in,
                      .wanted = wanted,
                      .chunk = v->memory.chunk,
                      .by_owner = r->by_owner,
                      .cancel = r->opt->cancel };

    for (uint32_t i = 0; wanted && i < r->outputs.view.ntensors; i++) {
        const sw_output *how = &r->outputs.how[i];

        wanted[how->source] = true;
        if (how->op == SW_OP_SCALED || how->op == SW_OP_MXFP4)
            wanted[how->scale] = true;
    }
    if (!sw_agree(r->comm, st) && !sw_replicas_compare(&k, st) && sw_job_is_root(r))
        tell_replicas(v, &k.found, st);
    v->result->replicas = k.replicas;
    sw_differences_release(&k.found);
    free(wanted);
    return sw_agree(r->comm, st);
}

/* ---- the steps ------------------------------------------------------------------------------- */

static bool asks_for_layout(const sw_options *o)
{
    return sw_options_given(o, SW_CHANGES_LAYOUT | SW_CHANGES_STYLE);
}

/* Collective. What should be there. */
static sw_code plan(sw_job *r, sw_status *st)
{
    double seconds;

    if (sw_scan_dir(r->comm, &(sw_where){ r->in, r->opt->node_local }, &r->c, &r->scan, NULL, st))
        return st->code;
    if (sw_job_read_headers(r, &seconds, st))
        return st->code;
    sw_job_decide(r, st);
    if (sw_agree(r->comm, st))
        return st->code;
    if (asks_for_layout(r->opt))
        sw_job_lay_out(r, st);
    return sw_agree(r->comm, st);
}

/* Rank 0. Welded beside its shards, a checkpoint has them as neighbours on purpose. */
static sw_code compare_dirs(verifier *v, sw_status *st)
{
    sw_path_kind in_kind, out_kind;
    struct stat in, out;

    if (sw_path_stat(v->r->in, &in_kind, &in, st) || sw_path_stat(v->target.dir, &out_kind, &out, st))
        return st->code;
    v->r->same_dir = in_kind == SW_PATH_DIR && out_kind == SW_PATH_DIR && sw_path_same(&in, &out);
    return SW_OK;
}

static bool is_input(const sw_job *r, const char *name)
{
    return r->same_dir && sw_catalog_find_file(&r->c, name) != NULL;
}

/* Names of the target's directory that are not the input's own; the texts stay the target's. */
static sw_code list_others(const verifier *v, sw_dir *names, sw_status *st)
{
    const sw_dir *all = &v->target.found.names;

    names->names = sw_calloc(all->n, sizeof *names->names, st);
    for (size_t i = 0; names->names && i < all->n; i++)
        if (!is_input(v->r, all->names[i]))
            names->names[names->n++] = all->names[i];
    return st->code;
}

/* What headers and index tell, all ranks know alike: rank 0 keeps it for all until the end. */
static void forget_doubles(verifier *v)
{
    if (!sw_job_is_root(v->r))
        sw_findings_release(&v->findings);
}

/* Collective. What is there, and what can be said of it by its headers alone. */
static sw_code match(verifier *v, sw_status *st)
{
    const sw_job *r = v->r;
    sw_match m = { .o = &r->outputs,
                   .there = &v->target.c,
                   .found = &v->target.found,
                   .layout = asks_for_layout(r->opt) ? &r->layout : NULL };
    sw_dir names = { 0 };

    v->partners = sw_calloc(r->outputs.view.ntensors, sizeof *v->partners, st);
    if (v->partners && (!sw_job_is_root(r) || !compare_dirs(v, st)) && !list_others(v, &names, st)) {
        m.partners = v->partners;
        if (!sw_match_tensors(&m, &v->findings, st) && sw_job_is_root(r))
            sw_match_loaders(&m, &names, &v->findings, st);
    }
    free(names.names);
    v->result->files = v->target.c.nfiles;
    v->result->tensors = m.matched;
    forget_doubles(v);
    return sw_agree(r->comm, st);
}

/* Collective. What stands beside the weights; rank 0 looks at it. */
static sw_code compare_around(verifier *v, sw_status *st)
{
    if (sw_job_is_root(v->r) && !sw_job_compare_index(v->r, &v->target, &v->findings, st))
        sw_job_compare_assets(v->r, &v->target, &v->findings, st);
    return sw_agree(v->r->comm, st);
}

static sw_code compare(verifier *v, sw_status *st)
{
    double begin = sw_now();

    if (!decide_memory(v, st) && !compare_values(v, st))
        compare_replicas(v, st);
    v->result->seconds_compare = sw_now() - begin;
    return st->code;
}

static sw_code verify_steps(verifier *v, sw_status *st)
{
    sw_job *r = v->r;
    const char *like = r->opt->like;
    sw_plain_rule rule = { like ? sw_path_name(like) : NULL, r->opt->single_file, r->opt->diffusers };

    if (plan(r, st))
        return st->code;
    if (sw_job_is_root(r))
        sw_job_check_swapped(r, st);
    if (sw_agree(r->comm, st) || sw_scan_plain(r->comm, &v->target, &rule, &v->findings, st))
        return st->code;
    v->result->shard_files = r->c.nfiles;
    if (match(v, st) || compare_around(v, st))
        return st->code;
    v->result->seconds_plan = sw_now() - r->started;
    sw_job_tell_warnings(r);
    if (compare(v, st))
        return st->code;
    return sw_findings_gather(r->comm, &v->findings, st);
}

/* ---- the end --------------------------------------------------------------------------------- */

/* The first finding becomes the status, with the number of the others. */
static sw_code fail_by_findings(const sw_findings *f, sw_status *st)
{
    if (f->n == 0 || st->code)
        return st->code;
    if (f->n == 1)
        return sw_fail(st, SW_DIFF, f->items[0].file, f->items[0].tensor, "%s", f->items[0].reason);
    return sw_fail(st, SW_DIFF, f->items[0].file, f->items[0].tensor, "%s; %zu more finding%s",
                   f->items[0].reason, f->n - 1, f->n == 2 ? "" : "s");
}

/* After an error: what was found until then, on every rank; of no consequence when it fails. */
static void share_findings(verifier *v)
{
    sw_status st = SW_STATUS_INIT;

    sw_findings_gather(v->r->comm, &v->findings, &st);
}

static void release(verifier *v)
{
    sw_plain_release(&v->target);
    sw_findings_release(&v->findings);
    free(v->partners);
}

sw_code sw_verify(const sw_comm *comm, const char *input_dir, const char *output_dir, const sw_options *opt,
                  sw_verification *result, sw_status *st)
{
    sw_verification unwanted = { 0 };
    sw_result none = { 0 };
    sw_job r = { .comm = comm, .result = &none };
    verifier v = { .r = &r, .result = result ? result : &unwanted };
    sw_given g;

    *v.result = (sw_verification){ .ranks = comm->size };
    sw_given_take(&g, SW_CALL_VERIFY, comm, input_dir, output_dir, opt);
    r.in = g.in;
    r.out = v.target.dir = g.out;
    r.opt = &g.opt;
    v.target.cancel = g.opt.cancel;
    r.started = sw_now();
    if (!sw_call_begin(comm, &g, 0, st))
        verify_steps(&v, st);
    if (st->code && st->code != SW_ECOMM)
        share_findings(&v);
    if (st->code != SW_ECOMM)
        sw_comm_totals(r.comm, &v.result->bytes, &v.result->peak_memory);
    sw_job_tell_warnings(&r);
    fail_by_findings(&v.findings, st);
    if (result) {
        result->findings = sw_findings_hand_over(&v.findings, &result->nfindings);
        result->shards = none.shards;
        none.shards = NULL;
    }
    release(&v);
    sw_given_release(&g);
    sw_job_release(&r);
    sw_result_release(&none);
    return st->code;
}

void sw_verification_release(sw_verification *result)
{
    sw_findings_free(result->findings, result->nfindings);
    free(result->shards);
    *result = (sw_verification){ 0 };
}

/* ---- what consolidate has staged ------------------------------------------------------------- */

static size_t first_mismatch(const char *a, const char *b)
{
    size_t i = 0;

    while (a[i] == b[i])
        i++;
    return i;
}

/* The front of a file against what the layout says, chunk by chunk; both: memory of two chunks. */
static sw_code compare_front(verifier *v, uint32_t f, int fd, char *both, sw_status *st)
{
    const sw_layout_file *file = &v->r->layout.files[f];
    char *is = both, *want = both + v->memory.chunk, reason[128];

    for (uint64_t at = 0, n; at < 8 + file->header_len; at += n) {
        n = sw_min(8 + file->header_len - at, v->memory.chunk);
        if (sw_layout_header(&v->r->outputs.view, &v->r->layout, f, at, n, want, st) ||
            sw_fd_read_at(fd, file->name, is, n, at, st))
            break;
        if (memcmp(is, want, (size_t)n) == 0)
            continue;
        snprintf(reason, sizeof reason, "the header differs from what was written, from byte %" PRIu64 " on",
                 at + first_mismatch(is, want));
        sw_findings_add(&v->findings, file->name, NULL, reason, st);
        break;
    }
    /* Too short a file is a finding as well. */
    return sw_findings_take(&v->findings, st);
}

/* Local. The headers of this rank's share of the files. */
static sw_code compare_fronts(verifier *v, sw_status *st)
{
    const sw_comm *comm = v->r->comm;
    char *both = sw_calloc(2, v->memory.chunk, st);

    for (uint32_t f = (uint32_t)comm->rank; both && f < v->r->layout.nfiles && !st->code;
         f += (uint32_t)comm->size) {
        const char *name = v->r->layout.files[f].name;
        char *path = sw_path_join(v->target.dir, name, st);
        int fd = -1;

        /* One that was not there from the beginning is told of. */
        if (path && sw_catalog_find_file(&v->target.c, name)) {
            if (!sw_fd_open(path, name, &fd, st))
                compare_front(v, f, fd, both, st);
            else if (sw_path_gone(path, name, st) == SW_EINPUT)
                sw_findings_take(&v->findings, st);
        }
        sw_fd_close(fd, path, st);
        free(path);
    }
    free(both);
    return st->code;
}

/* Collective. The catalogue of the staged files, and which of its tensors are which. */
static sw_code match_staged(verifier *v, sw_status *st)
{
    sw_job *r = v->r;
    const char **names = sw_calloc(r->layout.nfiles, sizeof *names, st);
    sw_match m = { .o = &r->outputs, .there = &v->target.c, .found = &v->target.found, .layout = &r->layout };

    v->partners = sw_calloc(r->outputs.view.ntensors, sizeof *v->partners, st);
    for (uint32_t f = 0; names && f < r->layout.nfiles; f++)
        names[f] = r->layout.files[f].name;
    if (names && r->layout.nfiles > 1)
        qsort(names, r->layout.nfiles, sizeof *names, sw_by_bytes);
    if (!sw_agree(r->comm, st) &&
        !sw_scan_plain_files(r->comm, &v->target, names, r->layout.nfiles, &v->findings, st)) {
        m.partners = v->partners;
        sw_match_tensors(&m, &v->findings, st);
    }
    free(names);
    forget_doubles(v);
    return sw_agree(r->comm, st);
}

/* Findings but for the first, which is the error. */
static void warn_of_findings(verifier *v, sw_status *st)
{
    for (size_t i = 1; i < v->findings.n; i++)
        sw_finding_add_line(&v->findings.items[i], &v->r->warnings, st);
}

sw_code sw_job_verify(sw_job *r, sw_status *st)
{
    sw_verification ignored = { 0 };
    char *dir = sw_path_join(r->out, SW_STAGING_NAME "/new", st);
    verifier v = {
        .r = r, .target = { .dir = dir, .cancel = r->opt->cancel }, .quiet = true, .result = &ignored
    };

    if (sw_agree(r->comm, st) || match_staged(&v, st) || decide_memory(&v, st))
        goto out;
    compare_fronts(&v, st);
    if (sw_agree(r->comm, st) || compare_values(&v, st) || compare_replicas(&v, st) ||
        sw_findings_gather(r->comm, &v.findings, st))
        goto out;
    warn_of_findings(&v, st);
    fail_by_findings(&v.findings, st);
out:
    release(&v);
    free(dir);
    return sw_agree(r->comm, st);
}
