/* A checkpoint against its manifest: sw_check(), and the part of it that needs no data for
 * sw_verify(). See job.h.
 *
 * What is there is laid out as what is written would be, and read by as many ranks, each its own
 * bytes, once: par/proof. Files that hold no tensor are all head. Of shard files heads are read so,
 * and tensors are put together out of their boxes: par/whole. Which file is to blame for one that
 * is another now, the SHA-256 of those that hold it tell. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/job.h"
#include "base/clock.h"
#include "base/num.h"
#include "base/path.h"
#include "base/sort.h"
#include "dir/existing.h"

/* Stays in the cache: of files in memory 512 KiB take 1.1 times as long, 1 MiB 1.7 times. */
#define BAND (UINT64_C(128) << 10)
#define NOT_THERE UINT64_MAX

/* One check. */
typedef struct checker {
    sw_job *j;
    bool quick;  /* sizes, headers and index alone */
    bool shards; /* it is of shard files */
    sw_buf text; /* of the manifest */
    sw_manifest m;
    sw_plain there;
    sw_findings found; /* rank 0: what is wrong with headers, and what comes of that */
    uint64_t *sizes;   /* of the manifest's files, as they are; NOT_THERE */
    sw_layout l;
    uint32_t *said; /* of each file of l the manifest's */
    sw_schedule sched;
    sw_proof proof;
    /* of shard files: what is put together of them; rank 0: of each file of l, is it another
     * now? */
    sw_outputs o;
    sw_whole whole;
    bool *changed;
    sw_findings *findings;
    sw_verification *result;
} checker;

static const char hint_copy[] = "a copy went wrong, or it was changed since: copy it again, or weld again";

/* ---- the manifest ---------------------------------------------------------------------------- */

bool sw_manifest_is_whole(const char *text, size_t len)
{
    char said[SW_MANIFEST_HASH], is[SW_HEX_SIZE(SW_XXH3_BYTES)];
    size_t n = sw_manifest_unseal(text, len, said);
    unsigned char hash[SW_XXH3_BYTES];

    if (n == 0)
        return false;
    sw_xxh3(text, n, hash);
    return strcmp(sw_hex_text(hash, sizeof hash, is), said) == 0;
}

/* Rank 0. A manifest that cannot be made use of here, for who can do without. */
static sw_code leave_out(checker *c, sw_status *st)
{
    sw_status why = SW_STATUS_INIT;

    if (sw_digest_take_xxh3(&why) == SW_OK)
        return st->code;
    c->text.len = 0;
    return sw_buf_add_line(&c->j->warnings, st, SW_MANIFEST_NAME " is not looked at: %s", why.reason);
}

/* Collective. Read by rank 0, understood by all. Where there is none, c->text is empty. */
static sw_code read_manifest(checker *c, bool needed, sw_status *st)
{
    bool missing = false;
    char *path;

    if (sw_job_is_root(c->j)) {
        path = sw_path_join(c->j->out, SW_MANIFEST_NAME, st);
        if (path && !sw_path_read(path, SW_MANIFEST_NAME, SW_MANIFEST_MAX, &c->text, &missing, st) &&
            !missing && c->text.len == 0)
            sw_fail(st, SW_EINPUT, SW_MANIFEST_NAME, NULL, "is empty");
        if (!needed && c->text.len)
            leave_out(c, st);
        free(path);
    }
    if (sw_comm_bcast_buf(c->j->comm, &c->text, 0, st) || c->text.len == 0 || sw_digest_take_xxh3(st))
        return st->code;
    sw_manifest_read(c->text.data, c->text.len, SW_MANIFEST_NAME, &c->m, st);
    /* Nothing outside of the directory is ever looked at. */
    for (size_t i = 0; i < c->m.nfiles && !st->code; i++)
        if (!sw_name_is_below(c->m.files[i].name))
            sw_fail(st, SW_EINPUT, SW_MANIFEST_NAME, NULL, "names a file outside of its directory");
    if (!st->code && sw_job_is_root(c->j) && !sw_manifest_is_whole(c->text.data, c->text.len))
        sw_findings_add(c->findings, SW_MANIFEST_NAME, NULL, hint_copy, st,
                        "is not as it was written: its last line says so");
    c->shards = sw_manifest_is_of_shards(&c->m);
    return st->code;
}

/* ---- what is there --------------------------------------------------------------------------- */

/* The catalogue's file of a name that is whole and can be read; NULL = there is none. */
static const sw_file *usable(const checker *c, const char *name, uint64_t size)
{
    const sw_file *f = sw_catalog_find_file(&c->there.c, name);

    return f && !f->broken && f->size == size ? f : NULL;
}

/* Collective. The headers of the weights that the manifest names. */
static sw_code scan(checker *c, sw_status *st)
{
    const char **names = sw_calloc(c->m.nfiles, sizeof *names, st);
    size_t n = 0;

    for (size_t i = 0; names && i < c->m.nfiles; i++)
        if (sw_name_is_weights(c->m.files[i].name))
            names[n++] = c->m.files[i].name;
    sw_scan_plain_files(c->j->comm, &c->there, names, n, &c->found, st);
    /* rank 0 keeps for all what all know alike */
    if (!sw_job_is_root(c->j))
        sw_findings_release(&c->found);
    free(names);
    return st->code;
}

/* Rank 0. Sizes, against those that were written. That weights are missing the scan has told. */
static sw_code look_at_files(checker *c, sw_buf *sizes, sw_status *st)
{
    for (size_t i = 0; i < c->m.nfiles && !st->code; i++) {
        const sw_manifest_file *f = &c->m.files[i];
        uint64_t size = NOT_THERE;
        sw_path_kind kind;
        struct stat s;

        if (!sw_path_stat_in(c->j->out, f->name, &kind, &s, st) && kind == SW_PATH_FILE)
            size = (uint64_t)s.st_size;
        if (!st->code && size == NOT_THERE && !sw_name_is_weights(f->name))
            sw_findings_add(c->findings, f->name, NULL, NULL, st, "is missing");
        else if (size != NOT_THERE && size != f->size)
            sw_findings_add(c->findings, f->name, NULL, hint_copy, st,
                            "has %" PRIu64 " bytes, %" PRIu64 " were written", size, f->size);
        sw_buf_add(sizes, &size, sizeof size, st);
    }
    return st->code;
}

/* Rank 0. Weights and indices that loaders may take instead. Shards and whole tensors may lie
 * beside one another on purpose. */
static sw_code look_for_strange(checker *c, sw_status *st)
{
    sw_dir names = { NULL, 0, 0 };

    if (sw_dir_list(c->j->out, &names, st))
        return st->code;
    for (size_t i = 0; i < names.n && !st->code; i++)
        if ((sw_name_is_weights(names.names[i]) || sw_name_is_index(names.names[i])) &&
            sw_shard_name_parse(names.names[i], NULL) == c->shards &&
            !sw_manifest_file_of(&c->m, names.names[i]))
            sw_findings_add(c->findings, names.names[i], NULL, NULL, st,
                            "is not in the manifest: it was not written with the others");
    sw_dir_release(&names);
    return st->code;
}

/* "F32 [2, 3]" */
static void describe(const char *dtype, const uint64_t *shape, unsigned ndim, char *text, size_t size)
{
    text[0] = '\0';
    sw_text_addf(text, size, "%s [", dtype);
    for (unsigned d = 0; d < ndim; d++)
        sw_text_addf(text, size, "%s%" PRIu64, d ? ", " : "", shape[d]);
    sw_text_addf(text, size, "]");
}

/* Rank 0. A tensor that was written, against that of its name. */
static sw_code match_tensor(checker *c, const sw_manifest_tensor *said, sw_status *st)
{
    const sw_manifest_file *file = sw_manifest_file_of(&c->m, said->file);
    const sw_tensor *t = sw_catalog_find_tensor(&c->there.c, said->name);
    char is[640], was[640];

    /* of a file that is not as it was all is told already */
    if (!file || !usable(c, file->name, file->size))
        return st->code;
    if (!t)
        return sw_findings_add(c->findings, said->file, said->name, NULL, st, "is missing");
    /* of boxes that do not go together the file is told that is another now */
    if (c->shards && t->broken)
        return st->code;
    if (strcmp(sw_tensor_file(&c->there.c, t), said->file) != 0)
        sw_findings_add(c->findings, sw_tensor_file(&c->there.c, t), said->name, NULL, st,
                        "was written to %s", said->file);
    describe(sw_dtype_name((sw_dtype)t->dtype), sw_tensor_shape(&c->there.c, t), t->ndim, is, sizeof is);
    describe(sw_dtype_name(said->dtype), said->shape, said->ndim, was, sizeof was);
    if (strcmp(is, was) != 0)
        sw_findings_add(c->findings, said->file, said->name, NULL, st, "is %s, was written as %s", is, was);
    return st->code;
}

/* Rank 0. Headers against the manifest. */
static sw_code match_tensors(checker *c, sw_status *st)
{
    for (size_t i = 0; i < c->m.ntensors && !st->code; i++)
        match_tensor(c, &c->m.tensors[i], st);
    for (uint32_t i = 0; i < c->there.c.ntensors && !st->code; i++)
        if (!sw_manifest_tensor_of(&c->m, c->there.c.tensors[i].name))
            sw_findings_add(c->findings, sw_tensor_file(&c->there.c, &c->there.c.tensors[i]),
                            c->there.c.tensors[i].name, NULL, st, "is not in the manifest");
    return st->code;
}

/* Collective. All that is known without reading data; sizes go to all. */
static sw_code look(checker *c, sw_status *st)
{
    sw_buf sizes = SW_BUF_INIT;

    if (sw_job_is_root(c->j) && !st->code && !look_at_files(c, &sizes, st) && !match_tensors(c, st))
        look_for_strange(c, st);
    if (!sw_comm_bcast_buf(c->j->comm, &sizes, 0, st)) {
        c->sizes = (void *)sizes.data;
        sizes.data = NULL;
    }
    sw_buf_release(&sizes);
    return st->code;
}

/* ---- what is read ---------------------------------------------------------------------------- */

/* By file, then place. */
static int by_place(const void *a, const void *b, void *ctx)
{
    const sw_slot *x = a, *y = b;
    const sw_catalog *c = ctx;

    return sw_by_all((const uint64_t[]){ sw_box_file(c, &c->tensors[x->tensor], 0), x->begin },
                     (const uint64_t[]){ sw_box_file(c, &c->tensors[y->tensor], 0), y->begin }, 2);
}

/* All tensors that hold anything and can be read, where they stand. */
static sw_code list_slots(checker *c, sw_status *st)
{
    const sw_catalog *k = &c->there.c;
    sw_layout *l = &c->l;

    l->order = sw_calloc(k->ntensors, sizeof *l->order, st);
    for (uint32_t i = 0; l->order && !c->quick && !c->shards && i < k->ntensors; i++) {
        const sw_tensor *t = &k->tensors[i];
        sw_placed b;

        if (t->broken || t->nboxes == 0)
            continue;
        sw_box_get(k, t, 0, &b);
        l->order[l->nslots++] = (sw_slot){ .tensor = i,
                                           .begin = b.box.at - k->files[b.box.file].data_start,
                                           .end = b.box.at - k->files[b.box.file].data_start + t->bytes };
    }
    if (l->nslots > 1)
        qsort_r(l->order, l->nslots, sizeof *l->order, by_place, (void *)(uintptr_t)k);
    return st->code;
}

/* The first slot of a file with that number, or of a later one. */
static uint32_t first_slot(const checker *c, uint32_t number)
{
    sw_search s = { .end = c->l.nslots };

    while (sw_search_on(&s))
        sw_search_tell(&s,
                       sw_box_file(&c->there.c, &c->there.c.tensors[c->l.order[s.mid].tensor], 0) < number);
    return (uint32_t)s.at;
}

/* The files that are as large as they were written: those that hold no tensor are all head. */
static sw_code lay_out(checker *c, sw_status *st)
{
    sw_layout *l = &c->l;

    list_slots(c, st);
    l->files = sw_calloc(c->m.nfiles, sizeof *l->files, st);
    c->said = sw_calloc(c->m.nfiles, sizeof *c->said, st);
    for (uint32_t i = 0; i < c->m.nfiles && !st->code; i++) {
        const sw_manifest_file *said = &c->m.files[i];
        bool weights = sw_name_is_weights(said->name);
        const sw_file *f = weights ? usable(c, said->name, said->size) : NULL;
        sw_layout_file *file = &l->files[l->nfiles];

        if ((weights && !f) || c->sizes[i] != said->size ||
            (c->quick && !weights && !sw_name_is_index(said->name)))
            continue;
        *file = (sw_layout_file){ .name = sw_strdup(said->name, st), .size = said->size };
        file->header_len = (f ? f->data_start : said->size) - 8;
        if (f) {
            uint32_t number = (uint32_t)(f - c->there.c.files);

            file->first = first_slot(c, number);
            file->count = first_slot(c, number + 1) - file->first;
            c->result->tensors += file->count;
        }
        c->said[l->nfiles++] = i;
    }
    return st->code;
}

/* Who has no other rank beside it reads by two threads: one copies while the other hashes. */
static bool is_alone(const checker *c)
{
    return c->j->comm->size == 1;
}

/* Who reads what. Nothing but heads where it is to be quick. */
static sw_code schedule(checker *c, sw_status *st)
{
    const uint32_t threads = is_alone(c) ? 2 : 1; /* each with a band */
    const uint64_t buffer = c->j->opt->buffer_size / threads;
    const uint64_t band = buffer ? sw_min(buffer, BAND) : BAND;
    const sw_schedule_rule rule = { (uint32_t)c->j->comm->size * threads, band, BAND, false, false };

    c->result->buffer_size = band * threads;
    c->result->files = c->l.nfiles;
    c->proof = (sw_proof){ .l = &c->l, .hashes = !c->shards, .heads = true, .chunk = band };
    if (!c->quick && !c->shards) {
        if (sw_schedule_build(&c->l, &rule, &c->sched, st))
            return st->code;
        c->proof.sched = &c->sched;
    }
    for (uint32_t f = 0; c->proof.sched && f < c->l.nfiles; f++) {
        sw_region r = sw_schedule_region(&c->sched, &c->l, f, (uint32_t)c->j->comm->rank);

        c->result->bytes += is_alone(c) ? c->l.files[f].size : r.end - r.begin;
    }
    return sw_proof_begin(&c->proof, st);
}

/* The manifest's word on a tensor that was read and is another now; NULL = it is the same, or not
 * in the manifest. is: its hash. */
static const sw_manifest_tensor *changed_tensor(const checker *c, const char *name, const sw_proof_slot *slot,
                                                char is[SW_HEX_SIZE(SW_XXH3_BYTES)])
{
    const sw_manifest_tensor *said = sw_manifest_tensor_of(&c->m, name);

    return said && strcmp(sw_hex_text(slot->hash, SW_XXH3_BYTES, is), said->xxh3) != 0 ? said : NULL;
}

/* Rank 0. Such a tensor, in a file. */
static sw_code add_changed(checker *c, const char *file, const sw_manifest_tensor *said, const char *is,
                           sw_status *st)
{
    return sw_findings_add(c->findings, file, said->name, hint_copy, st,
                           "is not what was written: its hash is %s, was %s", is, said->xxh3);
}

/* Is the head of file f of l another now? */
static bool head_changed(const checker *c, uint32_t f)
{
    const sw_manifest_file *said = &c->m.files[c->said[f]];
    char is[SW_HEX_SIZE(SW_XXH3_BYTES)];

    return strcmp(sw_hex_text(c->proof.of_files[f].head, SW_XXH3_BYTES, is), said->head_xxh3) != 0 ||
           8 + c->l.files[f].header_len != said->head;
}

/* Rank 0. What the scan has found. Where shard files have gone, or are others now, the tensors in
 * them have gaps and the like: these need not be told one by one. */
static sw_code tell_found(checker *c, sw_status *st)
{
    bool whole = true;

    for (size_t i = 0; i < c->m.nfiles && whole; i++)
        whole = !sw_name_is_weights(c->m.files[i].name) || usable(c, c->m.files[i].name, c->m.files[i].size);
    for (uint32_t f = 0; f < c->l.nfiles && whole; f++)
        whole = !head_changed(c, f);
    for (size_t i = 0; i < c->found.n && !st->code; i++) {
        const sw_finding *f = &c->found.items[i];
        const sw_manifest_file *of = sw_manifest_file_of(&c->m, f->file);

        if (whole || !c->shards || !f->tensor[0] || (of && !usable(c, of->name, of->size)))
            sw_findings_add(c->findings, f->file, f->tensor, f->hint, st, "%s", f->reason);
    }
    return st->code;
}

/* Rank 0. The same of all files. */
static sw_code tell(checker *c, sw_status *st)
{
    char is[SW_HEX_SIZE(SW_XXH3_BYTES)];

    tell_found(c, st);
    for (uint32_t f = 0; f < c->l.nfiles && !st->code; f++) {
        const sw_manifest_file *said = &c->m.files[c->said[f]];

        if (head_changed(c, f))
            sw_findings_add(c->findings, said->name, NULL, hint_copy, st, "%s is not what was written",
                            said->head < said->size ? "its header" : "it");
        for (uint32_t i = c->l.files[f].first; i < c->l.files[f].first + c->l.files[f].count; i++) {
            const char *name = c->there.c.tensors[c->l.order[i].tensor].name;
            const sw_manifest_tensor *was = changed_tensor(c, name, &c->proof.slots[i], is);

            if (was)
                add_changed(c, was->file, was, is, st);
        }
    }
    return st->code;
}

/* ---- out of shard files ---------------------------------------------------------------------- */

/* The number in l of a file of the catalogue; l->nfiles = it is not looked at. */
static uint32_t number_in_layout(const checker *c, uint32_t file)
{
    const char *name = sw_file_name(&c->there.c.files[file]);
    sw_search s = { .end = c->l.nfiles };

    while (sw_search_on(&s))
        sw_search_tell(&s, strcmp(c->l.files[s.mid].name, name) < 0);
    return s.at < c->l.nfiles && strcmp(c->l.files[s.at].name, name) == 0 ? (uint32_t)s.at : c->l.nfiles;
}

/* The files of l that hold boxes of a tensor: mark them. */
static void mark_files(const checker *c, const sw_tensor *t, char *marks)
{
    for (uint64_t k = 0; k < t->nboxes + t->nreplicas; k++) {
        uint32_t f = number_in_layout(c, sw_box_file(&c->there.c, t, k));

        if (f < c->l.nfiles)
            marks[f] = 1;
    }
}

/* What an output is. */
static const sw_tensor *tensor_of(const checker *c, uint32_t output)
{
    return &c->there.c.tensors[c->o.how[output].source];
}

/* Rank 0. Of each file of l: does it hold a part of a tensor that is another now, or that could not
 * be put together? */
static sw_code list_suspects(const checker *c, sw_buf *suspects, sw_status *st)
{
    char is[SW_HEX_SIZE(SW_XXH3_BYTES)];

    if (sw_buf_reserve(suspects, c->l.nfiles, st))
        return st->code;
    memset(suspects->data, 0, c->l.nfiles);
    suspects->len = c->l.nfiles;
    for (uint32_t i = 0; i < c->o.view.ntensors; i++)
        if (changed_tensor(c, c->o.view.tensors[i].name, &c->whole.tensors[i], is))
            mark_files(c, tensor_of(c, i), suspects->data);
    for (uint32_t i = 0; i < c->there.c.ntensors; i++)
        if (c->there.c.tensors[i].broken)
            mark_files(c, &c->there.c.tensors[i], suspects->data);
    return st->code;
}

/* Collective. Which of these files are not what was written: their SHA-256 tell. Without the
 * library for it that is not known of any. */
static sw_code find_changed(checker *c, const sw_buf *suspects, sw_status *st)
{
    sw_layout l = { .files = sw_calloc(c->l.nfiles, sizeof *l.files, st) };
    uint32_t *number = sw_calloc(c->l.nfiles, sizeof *number, st), n = 0;
    sw_proof p = { .l = &l, .heads = true, .sha256 = true, .chunk = c->proof.chunk };
    char is[SW_HEX_SIZE(SW_SHA256_BYTES)];

    c->changed = sw_calloc(c->l.nfiles, sizeof *c->changed, st);
    for (uint32_t f = 0; !st->code && f < c->l.nfiles; f++)
        if (suspects->data[f]) {
            number[n] = f;
            l.files[n++] = c->l.files[f]; /* its name is borrowed */
        }
    l.nfiles = n;
    if (sw_agree(c->j->comm, st))
        goto out;
    if (n)
        sw_proof_begin(&p, st);
    if (n && sw_proof_end(&p, c->j->comm, c->j->out, c->j->opt->cancel, st) == SW_EUSAGE)
        sw_status_clear(st);
    for (uint32_t i = 0; p.of_files && i < n; i++)
        c->changed[number[i]] = strcmp(sw_hex_text(p.of_files[i].sha256, SW_SHA256_BYTES, is),
                                       c->m.files[c->said[number[i]]].sha256) != 0;
out:
    sw_proof_release(&p);
    free(number);
    free(l.files);
    return sw_agree(c->j->comm, st);
}

/* Rank 0. Each tensor that is another now, in each file that is and holds a part of it; each file
 * of which no tensor tells. */
static sw_code tell_whole(checker *c, sw_status *st)
{
    uint32_t n = c->l.nfiles;
    char is[SW_HEX_SIZE(SW_XXH3_BYTES)], *marks = sw_calloc(n, 1, st), *told = sw_calloc(n, 1, st);

    for (uint32_t i = 0; i < c->o.view.ntensors && !st->code; i++) {
        const sw_manifest_tensor *said =
            changed_tensor(c, c->o.view.tensors[i].name, &c->whole.tensors[i], is);
        bool named = false;

        if (!said)
            continue;
        memset(marks, 0, n);
        mark_files(c, tensor_of(c, i), marks);
        for (uint32_t f = 0; f < n; f++)
            if (marks[f] && c->changed[f]) {
                add_changed(c, c->l.files[f].name, said, is, st);
                told[f] = 1;
                named = true;
            }
        /* nothing tells in which one, or it has been put right since */
        if (!named)
            add_changed(c, said->file, said, is, st);
    }
    for (uint32_t f = 0; f < n && !st->code; f++)
        if (c->changed[f] && !told[f])
            sw_findings_add(c->findings, c->l.files[f].name, NULL, hint_copy, st, "is not what was written");
    free(told);
    free(marks);
    return st->code;
}

/* Collective. All tensors, as they are there. */
static sw_code check_whole(checker *c, sw_status *st)
{
    sw_buf suspects = SW_BUF_INIT;

    sw_job_whole_of(c->j, &c->there, &c->o, &c->whole, st);
    c->result->buffer_size = c->whole.work.memory.buffer;
    c->whole.hashes = true;
    sw_whole_prove(&c->whole, st);
    c->result->tensors = c->o.view.ntensors;
    c->result->bytes += c->whole.bytes;
    if (sw_job_is_root(c->j) && !st->code)
        list_suspects(c, &suspects, st);
    if (!sw_comm_bcast_buf(c->j->comm, &suspects, 0, st) && !find_changed(c, &suspects, st) &&
        sw_job_is_root(c->j))
        tell_whole(c, st);
    sw_buf_release(&suspects);
    return sw_agree(c->j->comm, st);
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* Collective. */
static sw_code check(checker *c, sw_status *st)
{
    const sw_comm *comm = c->j->comm;
    double begin;

    scan(c, st);
    if (look(c, st))
        return st->code;
    if (!lay_out(c, st))
        schedule(c, st);
    if (sw_agree(comm, st))
        return st->code;
    begin = sw_now();
    c->result->seconds_plan = begin - c->j->started;
    if (!c->quick && !c->shards)
        sw_proof_read(&c->proof, (uint32_t)comm->rank, is_alone(c), c->j->out, c->j->opt->cancel, st);
    if (!sw_proof_end(&c->proof, comm, c->j->out, c->j->opt->cancel, st) && sw_job_is_root(c->j))
        tell(c, st);
    if (!sw_agree(comm, st) && !c->quick && c->shards)
        check_whole(c, st);
    c->result->seconds_compare = sw_now() - begin;
    return sw_agree(comm, st);
}

/* All that the check has made. */
static void release(checker *c)
{
    sw_findings_release(&c->found);
    sw_outputs_release(&c->o);
    free(c->whole.tensors);
    free(c->changed);
    sw_proof_release(&c->proof);
    sw_schedule_release(&c->sched);
    sw_layout_release(&c->l);
    sw_plain_release(&c->there);
    sw_manifest_release(&c->m);
    sw_buf_release(&c->text);
    free(c->sizes);
    free(c->said);
}

sw_code sw_job_check(sw_job *j, bool quick, bool needed, sw_findings *findings, sw_verification *result,
                     sw_status *st)
{
    checker c = { .j = j,
                  .quick = quick,
                  .there = { .dir = j->out, .cancel = j->opt->cancel },
                  .findings = findings,
                  .result = result };

    if (!read_manifest(&c, needed, st) && c.text.len == 0 && needed)
        sw_fail(st, SW_EINPUT, j->out, NULL,
                "holds no " SW_MANIFEST_NAME
                ": nothing tells what was written (sw_options.manifest makes one)");
    if (!sw_agree(j->comm, st) && c.text.len)
        check(&c, st);
    release(&c);
    return st->code;
}

/* ---- a list for sha256sum -------------------------------------------------------------------- */

/* A line as sha256sum prints it; it escapes what would break a line. */
static sw_code add_sum(sw_buf *out, const sw_manifest_file *f, sw_status *st)
{
    sw_buf_addf(out, st, "%s%s  ", strpbrk(f->name, "\\\n\r") ? "\\" : "", f->sha256);
    for (const char *at = f->name; *at && !st->code; at++) {
        const char *word = *at == '\\' ? "\\\\" : *at == '\n' ? "\\n" : *at == '\r' ? "\\r" : NULL;

        sw_buf_add(out, word ? word : at, word ? 2 : 1, st);
    }
    return sw_buf_addf(out, st, "\n");
}

sw_code sw_manifest_sums(const char *dir, char **text, sw_status *st)
{
    sw_buf is = SW_BUF_INIT, out = SW_BUF_INIT;
    sw_manifest m = SW_MANIFEST_INIT;

    *text = NULL;
    sw_status_clear(st);
    if (!sw_existing_manifest(dir, NULL, &is, &m, st)) {
        for (size_t i = 0; i < m.nfiles && !st->code; i++)
            add_sum(&out, &m.files[i], st);
        sw_buf_add(&out, "", 1, st);
    }
    if (!st->code) {
        *text = out.data;
        out.data = NULL;
    }
    sw_manifest_release(&m);
    sw_buf_release(&out);
    sw_buf_release(&is);
    return st->code;
}
