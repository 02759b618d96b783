/* Saving from memory: random tensors cut into random boxes, held by random ranks in memory laid out
 * at random; over one process, and over groups of processes without MPI. The oracle is a few lines
 * of serializer. */
#include "base/num.h"
#include "base/path.h"
#include "format/dtype.h"
#include "group_help.h"
#include "top_help.h"
#include "value/cast.h"
#include "value/digest.h"

/* ---- random cases ---------------------------------------------------------------------------- */

#define TENSORS 7
#define BOXES_MAX 24
#define DIMS 4
#define HELD_MAX (TENSORS * BOXES_MAX)

typedef struct cut {
    uint64_t offsets[DIMS], shape[DIMS];
    int rank;    /* who holds it */
    int replica; /* who else does; -1 = nobody */
} cut;

typedef struct tensor {
    char name[24];
    sw_dtype dtype;
    unsigned ndim;
    uint64_t shape[DIMS], bytes;
    char *data; /* all of it */
    cut cuts[BOXES_MAX];
    unsigned ncuts;
} tensor;

typedef struct checkpoint {
    tensor t[TENSORS];
    unsigned seed;
} checkpoint;

static unsigned next_random(unsigned *seed, unsigned below)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (*seed >> 8) % below;
}

static uint64_t elements(const uint64_t *shape, unsigned ndim)
{
    uint64_t n = 1;

    for (unsigned d = 0; d < ndim; d++)
        n *= shape[d];
    return n;
}

/* Cut a region in two, again and again; each part goes to a rank, some to a second one. */
static void cut_region(tensor *t, cut region, unsigned depth, int ranks, unsigned *seed)
{
    unsigned d = t->ndim ? next_random(seed, t->ndim) : 0;
    uint64_t at;

    if (depth > 0 && t->ndim && region.shape[d] > 1 && next_random(seed, 5)) {
        cut first = region, second = region;

        at = 1 + next_random(seed, (unsigned)region.shape[d] - 1);
        first.shape[d] = at;
        second.offsets[d] += at;
        second.shape[d] -= at;
        cut_region(t, first, depth - 1, ranks, seed);
        cut_region(t, second, depth - 1, ranks, seed);
        return;
    }
    region.rank = (int)next_random(seed, (unsigned)ranks);
    region.replica = next_random(seed, 4) ? -1 : (int)next_random(seed, (unsigned)ranks);
    if (region.replica == region.rank)
        region.replica = -1;
    t->cuts[t->ncuts++] = region;
}

static void make_tensor(tensor *t, unsigned i, int ranks, unsigned *seed)
{
    static const sw_dtype dtypes[] = { SW_F32, SW_BF16, SW_U8, SW_F64, SW_I16, SW_F32, SW_F16 };
    cut whole = { { 0 }, { 0 }, 0, -1 };

    snprintf(t->name, sizeof t->name, "%c.%u.weight", 'a' + (char)next_random(seed, 26), i);
    t->dtype = dtypes[next_random(seed, COUNT(dtypes))];
    t->ndim = i == 0 ? 0 : 1 + next_random(seed, DIMS);
    for (unsigned d = 0; d < t->ndim; d++)
        t->shape[d] = next_random(seed, 20) ? 1 + next_random(seed, 9) : 0;
    if (i == 1) { /* long rows */
        t->ndim = 2;
        t->shape[0] = 5;
        t->shape[1] = 3000;
    }
    t->bytes = elements(t->shape, t->ndim) * sw_dtype_bits(t->dtype) / 8;
    t->data = malloc((size_t)t->bytes + 1);
    for (uint64_t k = 0; k < t->bytes; k++)
        t->data[k] = (char)next_random(seed, 256);
    memcpy(whole.shape, t->shape, sizeof whole.shape);
    cut_region(t, whole, 4, ranks, seed);
    /* an empty box, as torch has them */
    if (next_random(seed, 3) == 0 && t->ndim && t->ncuts < BOXES_MAX) {
        cut empty = whole;

        empty.offsets[0] = t->shape[0];
        empty.shape[0] = 0;
        empty.rank = ranks - 1;
        if (t->bytes)
            t->cuts[t->ncuts++] = empty;
    }
}

static void make_checkpoint(checkpoint *c, unsigned seed, int ranks)
{
    memset(c, 0, sizeof *c);
    c->seed = seed;
    for (unsigned i = 0; i < TENSORS; i++)
        make_tensor(&c->t[i], i, ranks, &seed);
}

static void free_checkpoint(checkpoint *c)
{
    for (unsigned i = 0; i < TENSORS; i++)
        free(c->t[i].data);
}

/* ---- what a rank holds ----------------------------------------------------------------------- */

typedef struct memory {
    sw_item items[HELD_MAX];
    int64_t strides[HELD_MAX][DIMS];
    char *blocks[HELD_MAX];
    size_t n;
} memory;

/* Element `index` of a box in the whole tensor. */
static const char *element(const tensor *t, const cut *c, const uint64_t *index)
{
    uint64_t at = 0;

    for (unsigned d = 0; d < t->ndim; d++)
        at = at * t->shape[d] + c->offsets[d] + index[d];
    return t->data + at * (sw_dtype_bits(t->dtype) / 8);
}

/* Visit the box in the order of its elements; place(index) is where strides say. */
static void fill_block(const tensor *t, const cut *c, const int64_t *strides, char *first)
{
    uint64_t index[DIMS] = { 0 }, n = elements(c->shape, t->ndim);
    size_t size = sw_dtype_bits(t->dtype) / 8;

    for (uint64_t k = 0; k < n; k++) {
        char *to = first;

        for (unsigned d = 0; d < t->ndim; d++)
            to += (int64_t)index[d] * strides[d];
        memcpy(to, element(t, c, index), size);
        for (unsigned d = t->ndim; d-- > 0 && ++index[d] == c->shape[d];)
            index[d] = 0;
    }
}

/* Dimensions in a random order, with gaps, some of them backwards. */
static void hold(memory *m, const tensor *t, const cut *c, unsigned *seed)
{
    int64_t *strides = m->strides[m->n], size = sw_dtype_bits(t->dtype) / 8, room = size, first = 0;
    unsigned order[DIMS] = { 0, 1, 2, 3 };
    bool packed = next_random(seed, 3) == 0, wild = next_random(seed, 2);

    for (unsigned d = t->ndim; wild && !packed && d > 1; d--) {
        unsigned other = next_random(seed, d), kept = order[d - 1];

        order[d - 1] = order[other];
        order[other] = kept;
    }
    for (unsigned d = t->ndim; d-- > 0;) {
        bool back = wild && !packed && next_random(seed, 4) == 0;

        strides[order[d]] = back ? -room : room;
        if (back)
            first += room * ((int64_t)c->shape[order[d]] - 1);
        room *= (int64_t)c->shape[order[d]];
        if (!packed && room)
            room += size * next_random(seed, 3);
    }
    m->blocks[m->n] = malloc((size_t)room + 1);
    if (elements(c->shape, t->ndim))
        fill_block(t, c, strides, m->blocks[m->n] + first);
    m->items[m->n] = (sw_item){ t->name,
                                sw_dtype_name(t->dtype),
                                t->ndim,
                                t->shape,
                                c->offsets,
                                c->shape,
                                elements(c->shape, t->ndim) ? m->blocks[m->n] + first : NULL,
                                packed ? NULL : strides };
    m->n++;
}

static void hold_all(memory *m, const checkpoint *c, int rank)
{
    unsigned seed = c->seed + 77u * (unsigned)rank;

    m->n = 0;
    for (unsigned i = 0; i < TENSORS; i++)
        for (unsigned k = 0; k < c->t[i].ncuts; k++)
            if (c->t[i].cuts[k].rank == rank || c->t[i].cuts[k].replica == rank)
                hold(m, &c->t[i], &c->t[i].cuts[k], &seed);
}

static void let_go(memory *m)
{
    for (size_t i = 0; i < m->n; i++)
        free(m->blocks[i]);
}

/* ---- the oracle ------------------------------------------------------------------------------ */

static int by_file_order(const void *a, const void *b)
{
    const tensor *x = *(tensor *const *)a, *y = *(tensor *const *)b;

    return x->dtype != y->dtype ? (x->dtype < y->dtype ? -1 : 1) : strcmp(x->name, y->name);
}

/* The file that holds all of them; cast: floating ones as this dtype, SW_NDTYPES = as they are. */
static size_t serialize(const checkpoint *c, sw_dtype cast, char *out)
{
    static tensor copies[TENSORS];
    tensor *order[TENSORS];
    char text[4096];
    uint64_t at = 0;
    size_t n, end;

    for (unsigned i = 0; i < TENSORS; i++) {
        copies[i] = c->t[i];
        order[i] = &copies[i];
        if (cast != SW_NDTYPES && sw_dtype_is_floating(copies[i].dtype)) {
            copies[i].dtype = cast;
            copies[i].bytes = elements(copies[i].shape, copies[i].ndim) * sw_dtype_bits(cast) / 8;
        }
    }
    qsort(order, TENSORS, sizeof *order, by_file_order);
    n = (size_t)snprintf(text, sizeof text, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (unsigned i = 0; i < TENSORS; i++) {
        n += (size_t)snprintf(text + n, sizeof text - n, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[",
                              order[i]->name, sw_dtype_name(order[i]->dtype));
        for (unsigned d = 0; d < order[i]->ndim; d++)
            n += (size_t)snprintf(text + n, sizeof text - n, d ? ",%llu" : "%llu",
                                  (unsigned long long)order[i]->shape[d]);
        n += (size_t)snprintf(text + n, sizeof text - n, "],\"data_offsets\":[%llu,%llu]}",
                              (unsigned long long)at, (unsigned long long)(at + order[i]->bytes));
        at += order[i]->bytes;
    }
    text[n++] = '}';
    while (n % 8)
        text[n++] = ' ';
    memset(out, 0, 8);
    memcpy(out, &(uint64_t){ n }, 8);
    memcpy(out + 8, text, n);
    end = 8 + n;
    for (unsigned i = 0; i < TENSORS; i++) {
        const tensor *was = &c->t[order[i] - copies];

        if (was->dtype == order[i]->dtype)
            memcpy(out + end, was->data, (size_t)was->bytes);
        else
            sw_cast(was->dtype, order[i]->dtype, was->data, out + end, elements(was->shape, was->ndim));
        end += (size_t)order[i]->bytes;
    }
    return end;
}

static void check_file(const char *path, const checkpoint *c, sw_dtype cast, const char *what)
{
    static char want[1 << 20];
    size_t n = serialize(c, cast, want);
    sw_status st = SW_STATUS_INIT;
    sw_buf got = SW_BUF_INIT;

    if (sw_path_read(path, NULL, sizeof want, &got, NULL, &st))
        fail_msg("%s: %s", path, st.reason);
    if (got.len != n || memcmp(got.data, want, n) != 0)
        fail_msg("%s (seed %u): not the bytes that were expected (%zu, expected %zu)", what, c->seed, got.len,
                 n);
    sw_buf_release(&got);
}

/* ---- running --------------------------------------------------------------------------------- */

typedef struct job {
    const checkpoint *c;
    const char *out;
    sw_options opt;
    int stops; /* the rank that raises its flag, -1 = none */
    bool shards;
    void (*spoil)(memory *m, int rank); /* NULL = nothing is wrong */
    const char *other_out;              /* of rank 1; NULL = the same */
} job;

static void save_rank(const sw_comm *comm, const void *arg, outcome *o)
{
    static const int raised = 1;
    static memory m;
    const job *j = arg;
    const char *out = j->other_out && comm->rank == 1 ? j->other_out : j->out;
    sw_status st = SW_STATUS_INIT;
    sw_options opt = j->opt;
    sw_result result = SW_RESULT_INIT;

    if (j->stops == comm->rank)
        opt.cancel = &raised;
    hold_all(&m, j->c, comm->rank);
    if (j->spoil)
        j->spoil(&m, comm->rank);
    if (j->shards)
        o->code = sw_save_shards(comm, out, m.items, m.n, &opt, &result, &st);
    else
        o->code = sw_save_consolidated(comm, out, m.items, m.n, &opt, &result, &st);
    o->written = result.bytes_written;
    sw_status_message(&st, o->message, sizeof o->message);
    sw_result_release(&result);
    let_go(&m);
}

static void run_well(int size, const job *j)
{
    outcome o[RANKS_MAX];

    group_run(size, save_rank, j, o);
    for (int r = 0; r < size; r++)
        if (o[r].code)
            fail_msg("seed %u, rank %d of %d: %s", j->c->seed, r, size, o[r].message);
}

/* Not where this is the build of another machine; test_prove finds out on one's own. */
static bool proves(void)
{
    sw_status st = SW_STATUS_INIT;

    return sw_digest_take_xxh3(&st) == SW_OK && sw_digest_take_sha256(&st) == SW_OK;
}

/* What has a manifest is what that says. */
static void check_proof(const job *j)
{
    const sw_comm self = sw_comm_self();
    sw_status st;

    if (j->opt.manifest && sw_check(&self, j->out, NULL, NULL, &st))
        fail_msg("seed %u: %s: tensor '%s': %s", j->c->seed, st.file, st.tensor, st.reason);
}

/* No staging is left, in it or beside it. */
static void check_nothing_hidden(const char *dir)
{
    sw_status st = SW_STATUS_INIT;
    sw_dir names;

    assert_int_equal(sw_dir_list(dir, &names, &st), SW_OK);
    for (size_t i = 0; i < names.n; i++)
        if (names.names[i][0] == '.')
            fail_msg("%s is left in %s", names.names[i], dir);
    sw_dir_release(&names);
}

/* All ranks fail in the same way, and nothing is left. */
static void run_badly(int size, const job *j, sw_code code, const char *says)
{
    outcome o[RANKS_MAX];

    group_run(size, save_rank, j, o);
    for (int r = 0; r < size; r++) {
        if (o[r].code != code || !strstr(o[r].message, says))
            fail_msg("rank %d: code %d, '%s'; expected %d, '%s'", r, o[r].code, o[r].message, code, says);
        assert_string_equal(o[r].message, o[0].message);
    }
    assert_int_not_equal(access(j->out, F_OK), 0);
    check_nothing_hidden(top);
}

/* ---- consolidated ---------------------------------------------------------------------------- */

TEST_IN_TOP(one_stops)
{
    char out[64];
    checkpoint c;

    snprintf(out, sizeof out, "%s/stopped", top);
    make_checkpoint(&c, 9, 3);
    for (int stops = 0; stops < 3; stops++)
        for (int shards = 0; shards < 2; shards++) {
            job j = { .c = &c, .out = out, .stops = stops, .shards = shards };

            run_badly(3, &j, SW_ECANCEL, "interrupted");
        }
    free_checkpoint(&c);
}

/* ---- shards ---------------------------------------------------------------------------------- */

static void check_welded(const checkpoint *c, const char *shards, const char *welded)
{
    sw_comm self = sw_comm_self();
    sw_options opt = SW_OPTIONS_INIT;
    sw_status st = SW_STATUS_INIT;
    char file[128];

    opt.single_file = true;
    if (sw_consolidate(&self, shards, welded, &opt, NULL, &st))
        fail_msg("seed %u: %s: %s: %s", c->seed, st.file, st.tensor, st.reason);
    snprintf(file, sizeof file, "%s/model.safetensors", welded);
    check_file(file, c, SW_NDTYPES, "welded");
}

/* What is saved as shards and welded is what was in memory, also where a set replaces another one
 * of more or fewer files. */
TEST_IN_TOP(shards)
{
    char out[64], welded[64];
    checkpoint c;

    snprintf(out, sizeof out, "%s/new/deep/", top);
    for (unsigned seed = 1; seed <= 40; seed++) {
        int size = 1 + (int)(seed * 3) % RANKS_MAX;
        job j = { .c = &c, .out = out, .stops = -1, .shards = true };

        snprintf(welded, sizeof welded, "%s/w%u", top, seed);
        make_checkpoint(&c, seed, size);
        j.opt.buffer_size = seed % 3 ? 0 : SW_BUFFER_SIZE_MIN;
        j.opt.no_sync = seed % 2;
        j.opt.manifest = proves() && seed / 2 % 2;
        j.opt.overwrite = seed > 1;
        run_well(size, &j);
        check_proof(&j);
        check_welded(&c, out, welded);
        check_nothing_hidden(out);
        free_checkpoint(&c);
    }
}

/* Shard files that are there are not replaced unasked; what a killed run left beside goes with the
 * next one. */
TEST_IN_TOP(shards_there)
{
    char out[64], beside[96];
    sw_status st = SW_STATUS_INIT;
    checkpoint c;
    outcome o[RANKS_MAX];
    job j = { .c = &c, .out = out, .stops = -1, .shards = true };

    snprintf(out, sizeof out, "%s/twice", top);
    snprintf(beside, sizeof beside, "%s/.twice.shardweld-new/.shardweld-staging/new/left", top);
    make_checkpoint(&c, 4, 3);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sw_path_mkdirs(beside, NULL, &st), SW_OK);
        run_well(3, &j);
        check_nothing_hidden(top);
        j.opt.overwrite = true;
    }
    j.opt.overwrite = false;
    group_run(3, save_rank, &j, o);
    for (int r = 0; r < 3; r++) {
        assert_int_equal(o[r].code, SW_EUSAGE);
        assert_non_null(strstr(o[r].message, "holds shard files already"));
    }
    j.opt.dry_run = true;
    run_well(3, &j);
    free_checkpoint(&c);
}

/* Nothing to save: no shard set can say so, but an index can. */
static void hold_nothing(memory *m, int rank)
{
    (void)rank;
    let_go(m);
    m->n = 0;
}

TEST_IN_TOP(nothing)
{
    char out[64];
    checkpoint c;
    job j = { .c = &c, .out = out, .stops = -1, .shards = true, .spoil = hold_nothing };

    snprintf(out, sizeof out, "%s/nothing", top);
    make_checkpoint(&c, 4, 3);
    run_badly(3, &j, SW_EUSAGE, "no rank has anything to save");
    j.shards = false;
    j.opt.single_file = true;
    run_well(3, &j);
    free_checkpoint(&c);
}

/* ---- in steps -------------------------------------------------------------------------------- */

/* One process plays all ranks: what they hold, what the coordinator is told of it, and their
 * orders, as they would be sent. */
typedef struct ensemble {
    memory m[RANKS_MAX];
    const sw_item *items[RANKS_MAX];
    size_t n[RANKS_MAX];
    int size;
} ensemble;

static void hold_everywhere(ensemble *e, const checkpoint *c, int size)
{
    e->size = size;
    for (int r = 0; r < size; r++) {
        hold_all(&e->m[r], c, r);
        e->items[r] = e->m[r].items;
        e->n[r] = e->m[r].n;
    }
}

static void let_all_go(ensemble *e)
{
    for (int r = 0; r < e->size; r++)
        let_go(&e->m[r]);
}

static sw_code write_rank(const sw_save *s, const ensemble *e, int r, const volatile int *cancel,
                          sw_status *st)
{
    size_t n;
    const void *order = sw_save_order(s, (size_t)r, &n);
    char *sent = malloc(n + 1); /* at an address of no account */
    sw_code code;

    memcpy(sent + 1, order, n);
    code = sw_save_write(sent + 1, n, e->items[r], e->n[r], cancel, st);
    free(sent);
    return code;
}

/* The last rank first: they do not wait for one another. */
static void save_in_steps(const job *j, const char *out, int size)
{
    static ensemble e;
    sw_status st = SW_STATUS_INIT;
    sw_save *s;

    hold_everywhere(&e, j->c, size);
    sw_save_begin(out, j->shards, e.items, e.n, (size_t)size, &j->opt, &s, &st);
    for (int r = size; r-- > 0 && !st.code;)
        write_rank(s, &e, r, NULL, &st);
    if (!st.code)
        sw_save_publish(s, &st);
    if (st.code || sw_save_free(s, &st))
        fail_msg("seed %u, %d ranks: %s: %s: %s", j->c->seed, size, st.file, st.tensor, st.reason);
    let_all_go(&e);
}

/* The bytes of the oracle, from ranks that talk and from ranks that only know their orders; and
 * once more over what is there, with other values. */
TEST_IN_TOP(steps)
{
    static const sw_dtype casts[] = { SW_NDTYPES, SW_NDTYPES, SW_BF16, SW_F64 };
    char together[64], apart[64];
    checkpoint c;

    for (unsigned seed = 1; seed <= 90; seed++) {
        unsigned r = seed;
        int size = 1 + (int)next_random(&r, RANKS_MAX);
        bool shards = next_random(&r, 3) == 0, single = next_random(&r, 3) == 0;
        sw_dtype cast = shards ? SW_NDTYPES : casts[next_random(&r, 4)];
        job j = { .c = &c, .out = together, .stops = -1, .shards = shards };

        snprintf(together, sizeof together, "%s/together%u", top, seed);
        snprintf(apart, sizeof apart, "%s/apart%u", top, seed);
        make_checkpoint(&c, seed, size);
        j.opt.buffer_size = next_random(&r, 3) ? 0 : SW_BUFFER_SIZE_MIN;
        j.opt.cast_dtype = cast == SW_NDTYPES ? NULL : sw_dtype_name(cast);
        j.opt.single_file = !shards && single;
        j.opt.max_shard_size = !shards && !single && next_random(&r, 2) ? 500 : 0;
        j.opt.manifest = proves() && next_random(&r, 2);
        for (int over = 0; over < 2; over++) {
            run_well(size, &j);
            check_proof(&j);
            if (!shards && !j.opt.max_shard_size)
                check_file(
                    path_at(together, single ? "model.safetensors" : "model-00001-of-00001.safetensors"), &c,
                    cast, "consolidated");
            save_in_steps(&j, apart, size);
            same_tree(together, apart);
            check_nothing_hidden(top);
            check_nothing_hidden(apart);
            j.opt.overwrite = true;
            for (unsigned i = 0; i < TENSORS; i++)
                for (uint64_t k = 0; k < c.t[i].bytes; k++)
                    c.t[i].data[k] ^= 0x55;
        }
        free_checkpoint(&c);
    }
}

/* A save that was begun and not published leaves nothing; in the meantime nobody else can begin
 * one. A dry run has orders that ask for nothing. */
TEST_IN_TOP(steps_given_up)
{
    static const int raised = 1;
    static ensemble e;
    char out[64], damaged[4096];
    sw_status st = SW_STATUS_INIT;
    sw_save *s, *other;
    const void *order;
    checkpoint c;
    size_t n;

    snprintf(out, sizeof out, "%s/given up", top);
    make_checkpoint(&c, 9, 3);
    hold_everywhere(&e, &c, 3);
    for (int shards = 0; shards < 2; shards++) {
        assert_int_equal(sw_save_begin(out, shards, e.items, e.n, 3, NULL, &s, &st), SW_OK);
        assert_int_equal(sw_save_begin(out, shards, e.items, e.n, 3, NULL, &other, &st), SW_EUSAGE);
        assert_null(other);
        assert_int_equal(write_rank(s, &e, 0, NULL, &st), SW_OK);
        assert_int_equal(write_rank(s, &e, 1, &raised, &st), SW_ECANCEL);
        e.n[2]--; /* without its last box */
        assert_int_equal(write_rank(s, &e, 2, NULL, &st), SW_EUSAGE);
        e.n[2]++;
        order = sw_save_order(s, 2, &n);
        assert_true(n > 100 && n < sizeof damaged);
        memcpy(damaged, order, n);
        assert_int_equal(sw_save_write(damaged, n - 1, e.items[2], e.n[2], NULL, &st), SW_EUSAGE);
        damaged[0] ^= 1;
        assert_int_equal(sw_save_write(damaged, n, e.items[2], e.n[2], NULL, &st), SW_EUSAGE);
        assert_int_equal(sw_save_write(NULL, 0, e.items[2], e.n[2], NULL, &st), SW_EUSAGE);
        sw_status_clear(&st);
        assert_int_equal(sw_save_free(s, &st), SW_OK);
        assert_int_not_equal(access(out, F_OK), 0);
        check_nothing_hidden(top);
    }
    for (int shards = 0; shards < 2; shards++) {
        job j = { .c = &c, .shards = shards, .opt = { .dry_run = true } };

        save_in_steps(&j, out, 3);
        assert_int_not_equal(access(out, F_OK), 0);
    }
    let_all_go(&e);
    free_checkpoint(&c);
}

/* ---- errors ---------------------------------------------------------------------------------- */

/* Tensor 1 is cut in rows of [5, 3000]: rank 0 holds the upper two, rank 1 the others. */
static void make_plain(checkpoint *c)
{
    make_checkpoint(c, 3, 1);
    for (unsigned i = 0; i < TENSORS; i++) {
        c->t[i].ncuts = 1;
        c->t[i].cuts[0] = (cut){ { 0 }, { 0 }, 0, -1 };
        memcpy(c->t[i].cuts[0].shape, c->t[i].shape, sizeof c->t[i].shape);
    }
    c->t[1].ncuts = 2;
    c->t[1].cuts[0].shape[0] = 2;
    c->t[1].cuts[1] = (cut){ { 2, 0 }, { 3, 3000 }, 1, -1 };
}

/* One member of rank 1's first item is another. */
typedef struct change {
    size_t at, size;
    const void *value;
} change;

#define CHANGE(member, ...)                                                                                  \
    {                                                                                                        \
        offsetof(sw_item, member), sizeof((sw_item *)0)->member, &(const __typeof__(((sw_item *)0)->member)) \
        {                                                                                                    \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    }

static const change *changed;

static void spoil_item(memory *m, int rank)
{
    if (rank == 1)
        memcpy((char *)&m->items[0] + changed->at, changed->value, changed->size);
}

static void gap(memory *m, int rank)
{
    static const uint64_t offsets[] = { 3, 0 }, shape[] = { 2, 3000 };

    if (rank == 1) {
        m->items[0].offsets = offsets;
        m->items[0].shape = shape;
    }
}

static void other_dtype(memory *m, int rank)
{
    if (rank == 1)
        m->items[0].dtype = strcmp(m->items[0].dtype, "BF16") == 0 ? "F16" : "BF16";
}

static void twice(memory *m, int rank)
{
    static char block[1];

    if (rank == 1) {
        m->items[1] = m->items[0];
        m->blocks[m->n++] = memcpy(malloc(1), block, 1);
    }
}

static const uint64_t row_3[] = { 3, 0 }, row_1[] = { 1, 0 }, row_huge[] = { UINT64_MAX, 0 },
                      six_rows[] = { 6, 3000 };

static const struct {
    change with;
    void (*spoil)(memory *m, int rank); /* NULL = by that change */
    sw_code want;
    const char *says;
} error_cases[] = {
    { CHANGE(name, ""), NULL, SW_EUSAGE, "has no name" },
    { CHANGE(name, "__metadata__"), NULL, SW_EUSAGE, "no tensor can have this name" },
    { CHANGE(name, "a\xff"), NULL, SW_EUSAGE, "is not UTF-8" },
    { CHANGE(dtype, "F31"), NULL, SW_EUSAGE, "'F31' is no dtype" },
    { CHANGE(data, NULL), NULL, SW_EUSAGE, "without data" },
    { CHANGE(shape, NULL), NULL, SW_EUSAGE, "shape is missing" },
    { CHANGE(ndim, 33), NULL, SW_EUSAGE, "33 dimensions, at most 32" },
    { CHANGE(offsets, row_3), NULL, SW_EUSAGE,
      "the box of shape [3, 3000] at [3, 0] lies outside the tensor's shape [5, 3000]" },
    { CHANGE(offsets, row_huge), NULL, SW_EUSAGE, "lies outside" },
    { CHANGE(offsets, row_1), NULL, SW_EINPUT, "overlaps, but does not repeat" },
    { CHANGE(global_shape, six_rows), NULL, SW_EINPUT, "global_shape is not that of rank-0000000000" },
    { CHANGE(ndim, 1), NULL, SW_EINPUT, "1 dimensions here but 2 in rank-0000000000" },
    { { 0 }, gap, SW_EINPUT, "no rank holds the elements from offsets [2, 0] on (shape [5, 3000])" },
    { { 0 }, other_dtype, SW_EINPUT, "dtype is" },
    { { 0 }, twice, SW_EUSAGE, "is given twice" },
};

TEST_IN_TOP(errors)
{
    char out[64];
    checkpoint c;

    snprintf(out, sizeof out, "%s/bad", top);
    make_plain(&c);
    for (size_t i = 0; i < COUNT(error_cases); i++)
        for (int shards = 0; shards < 2; shards++) {
            job j = { .c = &c, .out = out, .stops = -1, .shards = shards, .spoil = error_cases[i].spoil };

            changed = &error_cases[i].with;
            j.spoil = j.spoil ? j.spoil : spoil_item;
            run_badly(3, &j, error_cases[i].want, error_cases[i].says);
        }
    free_checkpoint(&c);
}

/* Calls and options that cannot be. */
TEST_IN_TOP(usage)
{
    char out[64], other[64];
    checkpoint c;

    snprintf(out, sizeof out, "%s/usage", top);
    snprintf(other, sizeof other, "%s/other", top);
    make_plain(&c);
    for (int shards = 0; shards < 2; shards++) {
        job j = { .c = &c, .out = out, .stops = -1, .shards = shards };

        j.other_out = other;
        run_badly(3, &j, SW_EUSAGE, "different");
        j.other_out = NULL;
        j.opt.verify = true; /* and what else there is: test_options.c */
        run_badly(2, &j, SW_EUSAGE, "verify");
        j.opt = (sw_options)SW_OPTIONS_INIT;
        j.opt.dequantize = "bf16";
        run_badly(2, &j, SW_EUSAGE, "dequantize");
        j.opt = (sw_options)SW_OPTIONS_INIT;
        j.opt.buffer_size = 12;
        run_badly(2, &j, SW_EUSAGE, "too small");
        j.opt = (sw_options)SW_OPTIONS_INIT;
        j.opt.fqn_map = "/nonexistent/map.json";
        run_badly(2, &j, SW_EUSAGE, "no such file");
    }
    free_checkpoint(&c);
}
