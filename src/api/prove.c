/* The manifest of what is written: asked for, proven while it is written, published before the
 * index; and the numbers that are no numbers. See job.h, docs/manifest.md. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/job.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/num.h"
#include "base/path.h"
#include "base/sort.h"
#include "format/manifest.h"

#define PIECE (UINT64_C(1) << 18) /* of what is read again, where the buffer is as large */
#define NAMED 3                   /* tensors that a message names */

static uint64_t piece_of(const sw_job *j)
{
    return sw_max(sw_min(PIECE, j->work.memory.buffer), SW_BUFFER_SIZE_MIN);
}

/* ---- proving --------------------------------------------------------------------------------- */

sw_code sw_job_prove_begin(sw_job *j, sw_status *st)
{
    bool manifest = sw_job_makes_manifest(j);

    if (!manifest && !j->opt->refuse_nan)
        return st->code;
    j->proven.on = true;
    j->proven.proof = (sw_proof){ .view = &j->values.outputs.view,
                                  .l = &j->laid.layout,
                                  .sched = j->files == SW_FILES_HELD ? NULL : &j->work.sched,
                                  .hashes = manifest && j->files == SW_FILES_WHOLE,
                                  .heads = manifest,
                                  .sha256 = manifest,
                                  .chunk = piece_of(j) };
    return sw_proof_begin(&j->proven.proof, st);
}

sw_code sw_job_whole_of(const sw_job *j, const sw_plain *there, sw_outputs *o, sw_whole *w, sw_status *st)
{
    const sw_catalog *c = &there->c;
    const sw_value_rule as_saved = { SW_NDTYPES, SW_NDTYPES, NULL, NULL };
    sw_memory_need need = { .nranks = (uint32_t)j->comm->size,
                            .by_owner = sw_job_is_storm(j, c),
                            .fuse = j->output.told.fuse };
    char **names = sw_calloc(c->ntensors, sizeof *names, st);
    sw_buf ignored = SW_BUF_INIT;

    for (uint32_t i = 0; names && i < c->ntensors; i++)
        if (!c->tensors[i].broken)
            names[i] = (char *)(uintptr_t)c->tensors[i].name;
    *w = (sw_whole){ .work = { .world = j->comm,
                               .o = o,
                               .input_dir = there->dir,
                               .to = { .drops = j->opt->drop_cache, .cancel = j->opt->cancel } },
                     .by_owner = need.by_owner };
    need.buffer = sw_job_buffer(j, &sw_memory_of_weld, &need);
    if (names && !sw_outputs_build(c, names, &as_saved, &ignored, o, st))
        sw_memory_share(&sw_memory_of_weld, &need, &w->work.memory, st);
    sw_buf_release(&ignored);
    free(names);
    return st->code;
}

/* Collective. The headers of the shard files that the ranks have written. */
static sw_code scan_held(sw_job *j, sw_status *st)
{
    const sw_result *res = j->result;
    sw_findings wrong = SW_FINDINGS_INIT;
    const char **names = sw_calloc(res->nfiles, sizeof *names, st);

    for (uint64_t i = 0; names && i < res->nfiles; i++)
        names[i] = res->files[i].name;
    sw_sort(names, res->nfiles, sizeof *names, sw_by_bytes);
    j->proven.there.dir = j->output.staged;
    j->proven.there.cancel = j->opt->cancel;
    if (!sw_agree(j->comm, st))
        sw_scan_plain_files(j->comm, &j->proven.there, names, res->nfiles, &wrong, st);
    if (!st->code && wrong.n)
        sw_fail(st, SW_EIO, wrong.items[0].file, wrong.items[0].tensor, "is not as it was written: %s",
                wrong.items[0].reason);
    sw_findings_release(&wrong);
    free(names);
    return sw_agree(j->comm, st);
}

/* The files that are there, as a layout of nothing but them. */
static sw_code list_held(sw_job *j, sw_status *st)
{
    const sw_catalog *c = &j->proven.there.c;
    sw_layout *l = &j->laid.layout;

    l->files = sw_calloc(c->nfiles, sizeof *l->files, st);
    for (uint32_t i = 0; !st->code && i < c->nfiles; i++)
        l->files[l->nfiles++] = (sw_layout_file){ .name = sw_strdup(sw_file_name(&c->files[i]), st),
                                                  .header_len = c->files[i].data_start - 8,
                                                  .size = c->files[i].size };
    return st->code;
}

/* Collective, once the files are proven. Of tensors that lie in boxes, as a whole. */
static sw_code prove_whole(sw_job *j, sw_status *st)
{
    bool held = j->files == SW_FILES_HELD;
    sw_whole w = { .work = sw_job_work_of(j), .by_owner = j->work.by_owner };

    if (held)
        sw_job_whole_of(j, &j->proven.there, &j->values.outputs, &w, st);
    /* what is shown is no part of what is written */
    w.work.to.progress = j->opt->phase && !j->by_orders ? sw_job_progress(j) : (sw_progress){ .fn = NULL };
    w.hashes = sw_job_makes_manifest(j);
    w.counts = held;
    if (!j->by_orders)
        sw_job_enter(j, SW_PHASE_VERIFYING);
    sw_whole_prove(&w, st);
    j->proven.tensors = w.tensors;
    return st->code;
}

/* Rank 0. What the slots of files tell of their tensors. */
static sw_code join_slots(sw_job *j, sw_status *st)
{
    const sw_layout *l = &j->laid.layout;
    const sw_proof *p = &j->proven.proof;
    uint32_t n = j->values.outputs.view.ntensors;

    if (!j->proven.tensors && (j->proven.tensors = sw_calloc(n, sizeof *j->proven.tensors, st)))
        for (uint32_t i = 0; i < n; i++)
            sw_proof_slot_init(&j->proven.tensors[i], p->hashes);
    for (uint32_t i = 0; !st->code && i < l->nslots; i++) {
        sw_proof_slot *t = &j->proven.tensors[l->order[i].tensor];

        sw_census_join(&t->census, &p->slots[i].census);
        if (p->hashes)
            memcpy(t->hash, p->slots[i].hash, sizeof t->hash);
    }
    return st->code;
}

/* Rank 0. Nobody wants to find out when training goes on. */
static sw_code refuse_nan(const sw_job *j, sw_status *st)
{
    const sw_catalog *view = &j->values.outputs.view;
    const sw_census *first = NULL;
    char others[600] = "";
    uint32_t n = 0, of = 0;

    for (uint32_t i = 0; i < view->ntensors; i++) {
        const sw_census *c = &j->proven.tensors[i].census;

        if (!c->nan && !c->inf)
            continue;
        if (n++ == 0) {
            first = c;
            of = i;
        } else if (n <= NAMED + 1) {
            sw_text_addf(others, sizeof others, "%s'%s'", n > 2 ? ", " : "", view->tensors[i].name);
        }
    }
    if (n > NAMED + 1)
        sw_text_addf(others, sizeof others, " and %" PRIu32 " more", n - NAMED - 1);
    if (n)
        sw_fail(st, SW_EINPUT, NULL, view->tensors[of].name,
                "%" PRIu64 " of its elements are NaN and %" PRIu64 " infinite%s%s; nothing was published",
                first->nan, first->inf, n > 1 ? "; so are elements of " : "", others);
    return st->code;
}

sw_code sw_job_prove(sw_job *j, sw_status *st)
{
    bool held = j->files == SW_FILES_HELD;

    if (!j->proven.on)
        return st->code;
    if (held && !scan_held(j, st))
        list_held(j, st);
    if (sw_proof_end(&j->proven.proof, j->comm, j->output.staged, j->opt->cancel, st) ||
        ((held || (j->files == SW_FILES_CUT && sw_job_makes_manifest(j))) && prove_whole(j, st)))
        return st->code;
    if (sw_job_makes_manifest(j) && sw_job_hash_headers(j, st))
        return st->code;
    if (held)
        sw_job_note_plan(j);
    if (sw_job_is_root(j) && !join_slots(j, st) && j->opt->refuse_nan)
        refuse_nan(j, st);
    return sw_agree(j->comm, st);
}

/* ---- where it came from ---------------------------------------------------------------------- */

/* The header of a file of the input, by the rank that owns it. It is sent as it lies. */
typedef struct header_record {
    uint64_t file;
    unsigned char hash[SW_XXH3_BYTES];
} header_record;

/* Of a file of the input, from its first byte to where its data begin, read by pieces. */
static sw_code hash_header(const sw_job *j, const sw_file *f, char *piece, unsigned char *hash, sw_status *st)
{
    char *path = sw_path_named(j->in, sw_file_name(f), st);
    sw_digest *d = sw_digest_new_xxh3(st);
    int fd = -1;

    if (path && d)
        sw_fd_open(path, sw_file_name(f), &fd, st);
    for (uint64_t at = 0, n; at < f->data_start && !st->code; at += n) {
        n = sw_min(piece_of(j), f->data_start - at);
        if (!sw_fd_read_at(fd, sw_file_name(f), piece, n, at, st))
            sw_digest_add(d, piece, n, st);
    }
    if (!st->code)
        sw_digest_end(d, hash, st);
    sw_fd_close(fd, path, st);
    sw_digest_free(d);
    free(path);
    return st->code;
}

sw_code sw_job_hash_headers(sw_job *j, sw_status *st)
{
    const sw_catalog *c = &j->input.c;
    sw_buf mine = SW_BUF_INIT, all = SW_BUF_INIT;
    char *piece;

    if (!j->in || j->proven.headers)
        return st->code;
    piece = sw_calloc(1, piece_of(j), st);
    sw_digest_take_xxh3(st);
    for (uint32_t i = 0; i < c->nfiles && !st->code; i++) {
        header_record r = { .file = i };

        if (c->files[i].owner == (uint32_t)j->comm->rank && c->files[i].data_start &&
            !sw_check_cancel(j->opt->cancel, st) && !hash_header(j, &c->files[i], piece, r.hash, st))
            sw_buf_add(&mine, &r, sizeof r, st);
    }
    free(piece);
    if (!sw_comm_gather(j->comm, &mine, &all, st) &&
        (j->proven.headers = sw_calloc(c->nfiles, sizeof *j->proven.headers, st)))
        for (size_t at = 0; at < all.len; at += sizeof(header_record)) {
            header_record r;

            memcpy(&r, all.data + at, sizeof r);
            sw_hex_text(r.hash, sizeof r.hash, j->proven.headers[r.file]);
        }
    sw_buf_release(&all);
    sw_buf_release(&mine);
    return sw_agree(j->comm, st);
}

/* The files of the input, by name; what no header describes has none. */
static sw_code add_shards(const sw_job *j, sw_buf *b, sw_status *st)
{
    const sw_catalog *c = &j->input.c;

    for (uint32_t i = 0; j->in && i < c->nfiles && !st->code; i++) {
        /* one that lies anywhere is told by its last name */
        const char *path = sw_file_name(&c->files[i]), *name = path[0] == '/' ? sw_path_name(path) : path;

        sw_buf_addf(b, st, "%s\n      {\"name\": ", i ? "," : "");
        sw_json_add_serde(b, name, strlen(name), st);
        sw_buf_addf(b, st, ", \"size\": %" PRIu64 ", \"header_xxh3\": ", c->files[i].size);
        if (*j->proven.headers[i])
            sw_buf_addf(b, st, "\"%s\"}", j->proven.headers[i]);
        else
            sw_buf_addf(b, st, "null}");
    }
    return st->code;
}

/* What was asked for of the mesh, as it was written. */
static sw_code add_sharding(const sw_sharding *s, sw_buf *b, sw_status *st)
{
    sw_buf_addf(b, st, ",\n    \"sharding\": {\"mesh\": ");
    sw_json_add_serde(b, s->mesh, strlen(s->mesh), st);
    if (s->placements) {
        sw_buf_addf(b, st, ", \"placements\": ");
        sw_json_add_serde(b, s->placements, strlen(s->placements), st);
    }
    for (const char *const *rule = s->rules; rule && *rule; rule++) {
        sw_buf_addf(b, st, "%s", rule == s->rules ? ", \"rules\": [" : ", ");
        sw_json_add_serde(b, *rule, strlen(*rule), st);
    }
    return sw_buf_addf(b, st, "%s", s->rules && *s->rules ? "]}" : "}");
}

/* Never who, where and when. */
static sw_code add_origin(const sw_job *j, sw_buf *b, sw_status *st)
{
    sw_buf_addf(b, st,
                "{\n    \"program\": \"shardweld\",\n    \"version\": \"%s\",\n    \"command\": \"%s\",\n"
                "    \"options\": ",
                SW_VERSION,
                !j->in                     ? "save"
                : j->files == SW_FILES_CUT ? "reshard"
                                           : "consolidate");
    sw_options_text(j->opt, b, st);
    if (j->sharding)
        add_sharding(j->sharding, b, st);
    sw_buf_addf(b, st, ",\n    \"plan\": \"%016" PRIx64 "\",\n    \"shards\": [", j->proven.plan);
    add_shards(j, b, st);
    return sw_buf_addf(b, st, "]\n  }");
}

/* ---- the text -------------------------------------------------------------------------------- */

/* A file that is small, or in memory: all of it is its head. */
static sw_code add_side(const sw_job *j, const char *name, const sw_buf *text, sw_manifest *m, sw_status *st)
{
    sw_manifest_file *f = &m->files[m->nfiles++];
    char *path = sw_path_join(sw_place_fresh(j->output.place)->path, name, st);
    unsigned char head[SW_XXH3_BYTES], sha256[SW_SHA256_BYTES];
    sw_digest *x = sw_digest_new_xxh3(st), *s = sw_digest_new_sha256(st);
    sw_buf read = SW_BUF_INIT;

    if (!st->code && !text && !sw_path_read(path, name, UINT64_MAX, &read, NULL, st))
        text = &read;
    if (!st->code && !sw_digest_add(x, text->data, text->len, st) &&
        !sw_digest_add(s, text->data, text->len, st) && !sw_digest_end(x, head, st) &&
        !sw_digest_end(s, sha256, st)) {
        *f = (sw_manifest_file){ .name = name, .size = text->len, .head = text->len };
        sw_hex_text(head, sizeof head, f->head_xxh3);
        sw_hex_text(sha256, sizeof sha256, f->sha256);
    }
    sw_buf_release(&read);
    sw_digest_free(s);
    sw_digest_free(x);
    free(path);
    return st->code;
}

/* Weights, side files, the index. */
static sw_code list_files(const sw_job *j, sw_manifest *m, sw_status *st)
{
    const sw_layout *l = &j->laid.layout;
    const sw_assets *a = &j->output.assets;

    m->files = sw_calloc(l->nfiles + a->n + 1, sizeof *m->files, st);
    for (uint32_t i = 0; m->files && i < l->nfiles; i++) {
        const sw_proof_file *proof = &j->proven.proof.of_files[i];
        sw_manifest_file *f = &m->files[m->nfiles++];

        *f = (sw_manifest_file){ l->files[i].name, l->files[i].size, 8 + l->files[i].header_len, "", "" };
        sw_hex_text(proof->head, sizeof proof->head, f->head_xxh3);
        sw_hex_text(proof->sha256, sizeof proof->sha256, f->sha256);
    }
    for (size_t i = 0; i < a->n && !st->code; i++)
        add_side(j, a->items[i].name, NULL, m, st);
    if (l->index_name && !st->code)
        add_side(j, l->index_name, &j->output.index, m, st);
    if (!st->code)
        sw_sort(m->files, m->nfiles, sizeof *m->files, sw_by_bytes); /* names stand first */
    return st->code;
}

/* The file that holds the first element of each output: of those of a mesh the first by name. NULL
 * where none holds anything of it. */
static const char **list_places(const sw_job *j, sw_status *st)
{
    const sw_layout *l = &j->laid.layout;
    const sw_outputs *o = &j->values.outputs;
    const char **places = sw_calloc(o->view.ntensors, sizeof *places, st);

    for (uint32_t i = 0; places && j->files == SW_FILES_HELD && i < o->view.ntensors; i++)
        places[i] = sw_tensor_file(o->c, &o->c->tensors[o->how[i].source]);
    for (uint32_t f = 0; places && f < l->nfiles; f++)
        for (uint32_t i = l->files[f].first; i < l->files[f].first + l->files[f].count; i++) {
            const char **place = &places[l->order[i].tensor];

            if (!*place || strcmp(l->files[f].name, *place) < 0)
                *place = l->files[f].name;
        }
    return places;
}

/* A tensor, and what is known of it. */
static void fill_tensor(const sw_catalog *view, const sw_tensor *of, const sw_proof_slot *proof,
                        sw_manifest_tensor *t)
{
    const sw_census *c = &proof->census;

    t->name = of->name;
    t->dtype = (sw_dtype)of->out_dtype;
    t->ndim = of->ndim;
    t->shape = sw_tensor_shape(view, of);
    sw_hex_text(proof->hash, sizeof proof->hash, t->xxh3);
    t->counted = sw_census_counts(t->dtype);
    t->nan = c->nan;
    t->inf = c->inf;
    t->ranged = t->counted && sw_census_has_range(c);
    if (t->ranged) {
        t->least = sw_census_value(t->dtype, c->least);
        t->most = sw_census_value(t->dtype, c->most);
    }
}

/* Rank 0. All that are written somewhere, with what the proof has come to. */
static sw_code list_tensors(const sw_job *j, sw_manifest *m, sw_status *st)
{
    const sw_catalog *view = &j->values.outputs.view;
    const char **places = list_places(j, st);

    m->tensors = sw_calloc(view->ntensors, sizeof *m->tensors, st);
    for (uint32_t i = 0; !st->code && i < view->ntensors; i++) {
        if (!places[i])
            continue;
        m->tensors[m->ntensors].file = places[i];
        fill_tensor(view, &view->tensors[i], &j->proven.tensors[i], &m->tensors[m->ntensors++]);
    }
    free(places);
    sw_sort(m->tensors, m->ntensors, sizeof *m->tensors, sw_by_bytes);
    return st->code;
}

/* What decides the bytes, and is the same wherever the input lies: tensors, values, files, of those
 * that ranks made by themselves the headers, and which side files came along. */
void sw_job_note_plan(sw_job *j)
{
    uint64_t h;

    if (!sw_job_makes_manifest(j) || !j->values.outputs.c)
        return;
    h = sw_outcome_hash(&j->values.outputs, &j->laid.layout);
    for (uint32_t i = 0; i < j->proven.there.c.nfiles; i++)
        h = sw_hash_word(h, j->proven.there.c.files[i].hash);
    for (size_t i = 0; i < j->output.assets.n; i++)
        h = sw_hash_word(sw_hash_text(h, j->output.assets.items[i].name), j->output.assets.items[i].size);
    j->proven.plan = h;
}

/* Are all its files there, as large as they were? */
static sw_code are_there(const sw_job *j, const sw_manifest *m, bool *there, sw_status *st)
{
    *there = true;
    for (size_t i = 0; i < m->nfiles && *there && !st->code; i++) {
        const sw_manifest_file *f = &m->files[i];
        sw_path_kind kind;
        struct stat s;

        *there = sw_name_is_below(f->name) && !sw_path_stat_in(j->out, f->name, &kind, &s, st) &&
                 kind == SW_PATH_FILE && (uint64_t)s.st_size == f->size;
    }
    return st->code;
}

sw_code sw_job_is_made(const sw_job *j, bool *made, sw_status *st)
{
    sw_buf text = SW_BUF_INIT, origin = SW_BUF_INIT;
    sw_manifest m = SW_MANIFEST_INIT;
    sw_status why = SW_STATUS_INIT;
    char *path = sw_path_join(j->out, SW_MANIFEST_NAME, st);
    bool missing = false;

    *made = false;
    add_origin(j, &origin, st);
    sw_buf_add(&origin, "", 1, st);
    if (st->code || sw_path_read(path, SW_MANIFEST_NAME, SW_MANIFEST_MAX, &text, &missing, st) || missing)
        goto out;
    /* one that is none is no reason to fail, but to weld */
    if (!sw_manifest_read(text.data ? text.data : "", text.len, SW_MANIFEST_NAME, &m, &why) &&
        sw_manifest_same_origin(m.origin, origin.data))
        are_there(j, &m, made, st);
out:
    sw_manifest_release(&m);
    sw_buf_release(&origin);
    sw_buf_release(&text);
    free(path);
    return st->code;
}

sw_code sw_job_write_manifest(sw_job *j, sw_status *st)
{
    sw_manifest m = SW_MANIFEST_INIT;
    sw_buf origin = SW_BUF_INIT, *text = &j->output.manifest;
    unsigned char hash[SW_XXH3_BYTES];
    char self[SW_HEX_SIZE(SW_XXH3_BYTES)];

    if (!sw_job_makes_manifest(j))
        return st->code;
    add_origin(j, &origin, st);
    sw_buf_add(&origin, "", 1, st);
    m.origin = origin.data;
    if (st->code || list_files(j, &m, st) || list_tensors(j, &m, st) || sw_manifest_write(&m, text, st))
        goto out;
    sw_xxh3(text->data, text->len, hash);
    if (!sw_manifest_seal(text, sw_hex_text(hash, sizeof hash, self), st))
        sw_below_write(sw_place_fresh(j->output.place), SW_MANIFEST_NAME, text->data, text->len,
                       !j->opt->no_sync, st);
out:
    sw_buf_release(&origin);
    sw_manifest_release(&m);
    return st->code;
}
