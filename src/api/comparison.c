/* What is in a directory against what the job would put there: sw_verify(), and consolidate's own
 * look at what it wrote. See job.h. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/job.h"
#include "base/clock.h"
#include "base/num.h"
#include "base/path.h"
#include "base/sort.h"
#include "dir/match.h"
#include "par/compare.h"
#include "par/gather.h"
#include "plan/dims.h"

/* One comparison. */
typedef struct verifier {
    sw_job *j;
    sw_plain target;
    sw_findings *findings;
    bool quiet;         /* progress was told of before */
    uint32_t *partners; /* of each output, as sw_compare takes them */
    sw_memory memory;
    sw_verification *result;
} verifier;

/* Local. */
static sw_code share_memory(verifier *v, sw_status *st)
{
    v->result->assign = sw_job_by_owner(v->j) ? SW_ASSIGN_OWNER : SW_ASSIGN_BAND;
    sw_job_share_memory(v->j, &sw_memory_of_compare, &v->memory, st);
    v->result->buffer_size = v->memory.buffer;
    return st->code;
}

/* ---- values ---------------------------------------------------------------------------------- */

/* The elements that differ in a tensor, or in a box of it. */
typedef struct spot {
    const char *file;
    const sw_tensor *t;
    sw_dtype dtype;
    const uint64_t *offsets, *shape; /* of the box; offsets NULL = it is the tensor */
    const char *used;                /* the file of the copy that is used, NULL = none */
} spot;

/* "element [3, 17] is 1.25 in A, 1.5 in B; 12 of 4096 elements differ, by 0.5 at most (relative
 * 0.2)" */
static sw_code tell_gap(verifier *v, const sw_difference *d, const spot *s, const char *where,
                        uint64_t elements, sw_status *st)
{
    char values[SW_VALUES_TEXT];

    return sw_findings_add(v->findings, NULL, s->t->name, NULL, st,
                           "%s is %s in B; %" PRIu64 " of %" PRIu64 " element%s differ%s, by %.3g at most "
                           "(relative %.3g)",
                           where, sw_values_text(s->dtype, d->want, " in A, ", d->is, values), d->count,
                           elements, elements == 1 ? "" : "s", d->count == 1 ? "s" : "", d->largest,
                           d->relative);
}

/* "element [3, 17] is 1.5, expected 1.25; 12 of 4096 elements differ" */
static sw_code tell_difference(verifier *v, const sw_difference *d, const spot *s, sw_status *st)
{
    char where[SW_DIMS_TEXT + 12] = "its value", values[SW_VALUES_TEXT];
    uint64_t index[SW_MAX_DIMS], elements;
    unsigned ndim = s->t->ndim;

    sw_element_index(d->first, s->shape, ndim, index);
    for (unsigned k = 0; s->offsets && k < ndim; k++)
        index[k] += s->offsets[k];
    if (ndim) {
        strcpy(where, "element ");
        sw_dims_text(index, ndim, where + strlen(where));
    }
    sw_dims_product(s->shape, ndim, &elements);
    if (v->j->with)
        tell_gap(v, d, s, where, elements, st);
    else
        sw_findings_add(v->findings, s->file, s->t->name, NULL, st,
                        "%s is %s; %" PRIu64 " of %" PRIu64 " element%s differ%s%s%s%s", where,
                        sw_values_text(s->dtype, d->is, ", expected ", d->want, values), d->count, elements,
                        elements == 1 ? "" : "s", d->count == 1 ? "s" : "",
                        s->used ? " from the copy in " : "", s->used ? s->used : "",
                        s->used ? ", which is used" : "");
    if (!st->code)
        sw_findings_count(v->findings, d->count, d->largest, d->relative);
    return st->code;
}

/* Each tensor that differs is a finding. */
static sw_code tell_differences(verifier *v, const sw_differences *found, sw_status *st)
{
    const sw_catalog *view = &v->j->values.outputs.view, *there = &v->target.c;

    for (size_t i = 0; i < found->n && !st->code; i++) {
        const sw_tensor *t = &view->tensors[found->items[i].tensor];
        const sw_tensor *u = &there->tensors[v->partners[found->items[i].tensor]];
        const spot s = { sw_file_name(&there->files[sw_box_file(there, u, 0)]),
                         t,
                         (sw_dtype)t->out_dtype,
                         NULL,
                         sw_tensor_shape(view, t),
                         NULL };

        tell_difference(v, &found->items[i], &s, st);
    }
    return st->code;
}

/* Collective. Every byte of every tensor that both have. */
static sw_code compare_values(verifier *v, sw_status *st)
{
    const sw_job *j = v->j;
    bool *changed = sw_calloc(v->target.c.nfiles, sizeof *changed, st);
    sw_compare k = { .work = sw_job_work_of(j),
                     .by_owner = sw_job_by_owner(j),
                     .target = &v->target.c,
                     .target_dir = v->target.dir,
                     .partners = v->partners,
                     .changed = changed };

    if (j->allowed)
        k.found.allowed = *j->allowed;
    k.work.memory = v->memory;
    /* Who is not told of phases takes what is told for one. */
    if (v->quiet && !j->opt->phase)
        k.work.to.progress.fn = NULL;
    if (sw_agree(j->comm, st))
        goto out;
    sw_compare_tensors(&k, st);
    v->result->bytes = k.compared; /* the others' come on top in the end */
    if (st->code)
        goto out;
    if (sw_job_is_root(j) && !sw_plain_look_again(&v->target, changed, st))
        tell_differences(v, &k.found, st);
    /* the same words on each rank that has met one */
    for (uint32_t f = 0; f < v->target.c.nfiles && !st->code; f++)
        if (changed[f])
            sw_findings_add(v->findings, sw_file_name(&v->target.c.files[f]), NULL, NULL, st,
                            "was changed, replaced or removed while it was compared");
out:
    sw_differences_release(&k.found);
    free(changed);
    return sw_agree(j->comm, st);
}

/* ---- replicas -------------------------------------------------------------------------------- */

/* Each replica that differs is a finding. */
static sw_code tell_replicas(verifier *v, const sw_differences *found, sw_status *st)
{
    const sw_catalog *c = &v->j->input.c;

    for (size_t i = 0; i < found->n && !st->code; i++) {
        const sw_difference *d = &found->items[i];
        const sw_tensor *t = &c->tensors[d->tensor];
        sw_placed b;
        const uint64_t used = sw_box_find(c, t, sw_box_get(c, t, d->box, &b)->offsets);
        const spot s = { sw_file_name(&c->files[b.box.file]),
                         t,
                         (sw_dtype)t->dtype,
                         b.offsets,
                         b.shape,
                         sw_file_name(&c->files[sw_box_file(c, t, used)]) };

        tell_difference(v, d, &s, st);
    }
    return st->code;
}

/* Collective. Those of the tensors that outputs are made of. */
static sw_code compare_replicas(verifier *v, sw_status *st)
{
    const sw_job *j = v->j;
    bool *wanted = sw_calloc(j->input.c.ntensors, sizeof *wanted, st);
    sw_replicas k = { .world = j->comm,
                      .c = &j->input.c,
                      .dir = j->in,
                      .wanted = wanted,
                      .chunk = v->memory.chunk,
                      .by_owner = sw_job_by_owner(j),
                      .cancel = j->opt->cancel };

    for (uint32_t i = 0; wanted && i < j->values.outputs.view.ntensors; i++) {
        const sw_output *how = &j->values.outputs.how[i];

        wanted[how->source] = true;
        if (how->op == SW_OP_SCALED || how->op == SW_OP_MXFP4)
            wanted[how->scale] = true;
    }
    if (!sw_agree(j->comm, st) && !sw_replicas_compare(&k, st) && sw_job_is_root(j))
        tell_replicas(v, &k.found, st);
    v->result->replicas = k.replicas;
    sw_differences_release(&k.found);
    free(wanted);
    return sw_agree(j->comm, st);
}

/* ---- what is there --------------------------------------------------------------------------- */

/* Rank 0, for all. Welded beside its shards, a checkpoint has them as neighbours on purpose. */
static sw_code look_at_dirs(sw_job *j, sw_status *st)
{
    sw_job_told *told = &j->output.told;
    sw_path_kind in_kind, out_kind;
    struct stat in, out;
    sw_fs fs = { 0 };

    if (sw_job_check_swapped(j, st) || sw_path_stat(j->in, &in_kind, &in, st) ||
        sw_path_stat(j->out, &out_kind, &out, st) || sw_path_fs_near(j->out, &fs, st))
        return st->code;
    told->same_dir = in_kind == SW_PATH_DIR && out_kind == SW_PATH_DIR && sw_path_same(&in, &out);
    told->shared = fs.shared;
    return SW_OK;
}

/* Rank 0. Names of the target's directory that are not the input's own; the texts stay the
 * target's. */
static sw_code list_others(const verifier *v, sw_dir *names, sw_status *st)
{
    const sw_dir *all = &v->target.found.names;

    names->names = sw_calloc(all->n, sizeof *names->names, st);
    for (size_t i = 0; names->names && i < all->n; i++)
        if (!v->j->output.told.same_dir || !sw_catalog_find_file(&v->j->input.c, all->names[i]))
            names->names[names->n++] = all->names[i];
    return st->code;
}

/* Local. What headers and index tell, all ranks know alike: rank 0 keeps it for all until the
 * end.
 *   layout  where each tensor should be; NULL = anywhere
 *   staged  this job's own files, of which loaders are not asked */
static sw_code match(verifier *v, const sw_layout *layout, bool staged, sw_status *st)
{
    const sw_outputs *o = &v->j->values.outputs;
    sw_match m = { .o = o, .there = &v->target.c, .found = &v->target.found, .layout = layout };
    sw_dir names = { 0 };

    m.partners = v->partners = sw_calloc(o->view.ntensors, sizeof *v->partners, st);
    if (m.partners && !sw_match_tensors(&m, v->findings, st) && !staged && sw_job_is_root(v->j) &&
        !list_others(v, &names, st))
        sw_match_loaders(&m, &names, v->findings, st);
    free(names.names);
    v->result->files = v->target.c.nfiles;
    v->result->tensors = m.matched;
    if (!sw_job_is_root(v->j))
        sw_findings_release(v->findings);
    return st->code;
}

/* ---- sw_verify() ----------------------------------------------------------------------------- */

/* All but the findings, which are the caller's. */
static void release(verifier *v)
{
    sw_plain_release(&v->target);
    free(v->partners);
}

sw_code sw_job_compare(sw_job *j, sw_findings *findings, sw_verification *result, sw_status *st)
{
    verifier v = {
        .j = j, .target = { .dir = j->out, .cancel = j->opt->cancel }, .findings = findings, .result = result
    };
    const char *like = j->opt->like;
    const sw_plain_rule rule = { like ? sw_path_name(like) : NULL, j->opt->single_file, j->opt->diffusers };
    bool laid_out = sw_options_given(j->opt, SW_CHANGES_LAYOUT | SW_CHANGES_STYLE);
    sw_verification ignored = { 0 };
    double begin;

    if (sw_job_is_root(j))
        look_at_dirs(j, st);
    if (sw_agree_share(j->comm, &j->output.told, sizeof j->output.told, st) ||
        sw_scan_plain(j->comm, &v.target, &rule, findings, st))
        goto out;
    result->shard_files = j->input.c.nfiles;
    match(&v, laid_out ? &j->laid.layout : NULL, false, st);
    if (!st->code && sw_job_is_root(j))
        sw_job_compare_sidefiles(j, &v.target, findings, st);
    /* what it says of data the shards say, too */
    sw_job_check(j, true, false, findings, &ignored, st);
    share_memory(&v, st);
    if (sw_agree(j->comm, st))
        goto out;
    begin = sw_now();
    result->seconds_plan = begin - j->started;
    sw_job_tell_warnings(j);
    if (!compare_values(&v, st))
        compare_replicas(&v, st);
    result->seconds_compare = sw_now() - begin;
    if (!st->code)
        sw_findings_gather(j->comm, findings, st);
out:
    release(&v);
    return st->code;
}

/* ---- two checkpoints of any kind ------------------------------------------------------------- */

/* Local. Which tensors are which; rank 0 keeps what is wrong. */
static sw_code match_any(verifier *v, sw_status *st)
{
    const sw_outputs *o = &v->j->values.outputs;
    sw_match m = { .o = o, .there = &v->target.c };

    m.partners = v->partners = sw_calloc(o->view.ntensors, sizeof *v->partners, st);
    if (m.partners)
        sw_match_any(&m, v->j->with->values.naming.names, v->findings, st);
    v->result->files = v->target.c.nfiles;
    v->result->tensors = m.matched;
    if (!sw_job_is_root(v->j))
        sw_findings_release(v->findings);
    return st->code;
}

sw_code sw_job_compare_with(sw_job *j, sw_findings *findings, sw_verification *result, sw_status *st)
{
    sw_job_told *told = &j->output.told;
    verifier v = { .j = j,
                   .target = { .dir = j->with->in, .cancel = j->opt->cancel, .c = j->with->input.c },
                   .findings = findings,
                   .result = result };
    sw_fs fs = { 0 }; /* what the other one lies on */
    double begin;

    result->shard_files = j->input.c.nfiles;
    if (sw_job_is_root(j))
        sw_path_fs_near(v.target.dir, &fs, st);
    told->shared = fs.shared;
    if (sw_agree_share(j->comm, told, sizeof *told, st))
        return st->code;
    match_any(&v, st);
    sw_job_leave_alike(j, v.partners, &result->unread, st);
    share_memory(&v, st);
    if (!sw_agree(j->comm, st)) {
        begin = sw_now();
        result->seconds_plan = begin - j->started;
        sw_job_tell_warnings(j);
        compare_values(&v, st);
        result->seconds_compare = sw_now() - begin;
    }
    free(v.partners);
    return st->code ? st->code : sw_findings_gather(j->comm, findings, st);
}

sw_code sw_fail_by_findings(const sw_findings *f, sw_status *st)
{
    if (f->n == 0 || st->code)
        return st->code;
    if (f->n == 1)
        return sw_fail(st, SW_DIFF, f->items[0].file, f->items[0].tensor, "%s", f->items[0].reason);
    return sw_fail(st, SW_DIFF, f->items[0].file, f->items[0].tensor, "%s; %zu more finding%s",
                   f->items[0].reason, f->n - 1, f->n == 2 ? "" : "s");
}

/* ---- what this job has staged ---------------------------------------------------------------- */

/* The front of a file against what the layout says, chunk by chunk; both: memory of two chunks. */
static sw_code compare_front(verifier *v, uint32_t f, int fd, char *both, sw_status *st)
{
    const sw_layout_file *file = &v->j->laid.layout.files[f];
    char *is = both, *want = both + v->memory.chunk;

    for (uint64_t at = 0, n; at < 8 + file->header_len; at += n) {
        uint64_t same = 0;

        n = sw_min(8 + file->header_len - at, v->memory.chunk);
        if (sw_layout_header(&v->j->values.outputs.view, &v->j->laid.layout, f, at, n, want, st) ||
            sw_fd_read_at(fd, file->name, is, n, at, st))
            break;
        if (memcmp(is, want, (size_t)n) == 0)
            continue;
        while (is[same] == want[same])
            same++;
        sw_findings_add(v->findings, file->name, NULL, NULL, st,
                        "the header differs from what was written, from byte %" PRIu64 " on", at + same);
        break;
    }
    /* Too short a file is a finding as well. */
    return sw_findings_take(v->findings, NULL, st);
}

/* Local. The headers of this rank's share of the files. */
static sw_code compare_fronts(verifier *v, sw_status *st)
{
    const sw_comm *comm = v->j->comm;
    char *both = sw_calloc(2, v->memory.chunk, st);

    for (uint32_t f = (uint32_t)comm->rank; both && f < v->j->laid.layout.nfiles && !st->code;
         f += (uint32_t)comm->size) {
        const char *name = v->j->laid.layout.files[f].name;
        char *path = sw_path_join(v->target.dir, name, st);
        int fd = -1;

        /* One that was not there from the beginning is told of. */
        if (path && sw_catalog_find_file(&v->target.c, name)) {
            if (!sw_fd_open(path, name, &fd, st))
                compare_front(v, f, fd, both, st);
            else if (sw_path_gone(path, name, st) == SW_EINPUT)
                sw_findings_take(v->findings, NULL, st);
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
    const sw_layout *l = &v->j->laid.layout;
    const char **names = sw_calloc(l->nfiles, sizeof *names, st);

    for (uint32_t f = 0; names && f < l->nfiles; f++)
        names[f] = l->files[f].name;
    sw_sort(names, l->nfiles, sizeof *names, sw_by_bytes);
    if (!sw_agree(v->j->comm, st) &&
        !sw_scan_plain_files(v->j->comm, &v->target, names, l->nfiles, v->findings, st))
        match(v, l, true, st);
    free(names);
    return st->code;
}

sw_code sw_job_compare_staged(sw_job *j, sw_status *st)
{
    sw_findings findings = SW_FINDINGS_INIT;
    sw_verification ignored = { 0 };
    verifier v = { .j = j,
                   .target = { .dir = j->output.staged, .cancel = j->opt->cancel },
                   .findings = &findings,
                   .quiet = true,
                   .result = &ignored };

    if (!match_staged(&v, st) && !share_memory(&v, st))
        compare_fronts(&v, st);
    if (sw_agree(j->comm, st) || compare_values(&v, st) || compare_replicas(&v, st) ||
        sw_findings_gather(j->comm, &findings, st))
        goto out;
    for (size_t i = 1; i < findings.n; i++)
        sw_finding_add_line(&findings.items[i], &j->warnings, st);
    sw_fail_by_findings(&findings, st);
out:
    release(&v);
    sw_findings_release(&findings);
    return sw_agree(j->comm, st);
}
