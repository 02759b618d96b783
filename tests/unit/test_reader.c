/* Any sharding to any box: what sw_checkpoint_read() brings is what the whole tensors hold there,
 * cast or dequantized element by element; and requests that cannot be met say why. */
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/path.h"
#include "plan_help.h"
#include "shardweld.h"
#include "tree_help.h"
#include "value/cast.h"
#include "value/dequant.h"

#define FILES 5
#define TENSORS 12
#define BOXES 24
#define MEMORY (1 << 22)
#define UNTOUCHED 0x5a

/* A tensor as it was before it was sharded. */
typedef struct whole {
    const char *name;
    sw_dtype dtype;
    unsigned ndim;
    uint64_t shape[4];
    const char *scales; /* the tensor that has them; NULL = none */
    uint64_t block[2];  /* under one scale; 0 = 128 */
    size_t boxes;       /* at most so many; 0 = any number */
    char *data;
} whole;

typedef struct world {
    char dir[64];
    whole *tensors;
    size_t ntensors;
    test_box boxes[TENSORS * BOXES];
    size_t nboxes;
    sw_checkpoint *cp;
} world;

static uint64_t width(sw_dtype dtype)
{
    return sw_dtype_bits(dtype) / 8;
}

/* ---- writing --------------------------------------------------------------------------------- */

static whole *find_whole(const world *w, const char *name)
{
    for (size_t i = 0; i < w->ntensors; i++)
        if (strcmp(w->tensors[i].name, name) == 0)
            return &w->tensors[i];
    return NULL;
}

static void add_dims(sw_buf *b, const char *key, const uint64_t *dims, unsigned n)
{
    sw_status st = SW_STATUS_INIT;

    sw_buf_addf(b, &st, "%s: [", key);
    for (unsigned d = 0; d < n; d++)
        sw_buf_addf(b, &st, "%s%" PRIu64, d ? ", " : "", dims[d]);
    assert_int_equal(sw_buf_addf(b, &st, "]"), SW_OK);
}

/* The bytes of a box. */
static void add_data(const world *w, const test_box *box, sw_buf *b)
{
    const whole *t = find_whole(w, box->name);
    uint64_t index[4], size = width(box->dtype), n = test_product(box->shape, box->ndim);
    sw_status st = SW_STATUS_INIT;

    for (uint64_t i = 0; i < n; i++) {
        uint64_t flat = 0;

        test_unflatten(i, box->ndim, box->shape, index);
        for (unsigned d = 0; d < box->ndim; d++)
            flat = flat * t->shape[d] + box->offsets[d] + index[d];
        assert_int_equal(sw_buf_add(b, t->data + flat * size, size, &st), SW_OK);
    }
}

/* One file; none when it holds nothing. */
static void write_file(const world *w, uint32_t file, bool sharded)
{
    sw_buf entries = SW_BUF_INIT, info = SW_BUF_INIT, data = SW_BUF_INIT, all = SW_BUF_INIT;
    sw_status st = SW_STATUS_INIT;
    char path[128];
    uint64_t len;

    for (size_t i = 0; i < w->nboxes; i++) {
        const test_box *b = &w->boxes[i];
        uint64_t begin = data.len;

        if (b->file != file)
            continue;
        add_data(w, b, &data);
        sw_buf_addf(&entries, &st, ", \"%s\": {\"dtype\": \"%s\", ", b->name, sw_dtype_name(b->dtype));
        add_dims(&entries, "\"shape\"", b->shape, b->ndim);
        sw_buf_addf(&entries, &st, ", \"data_offsets\": [%" PRIu64 ", %zu]}", begin, data.len);
        sw_buf_addf(&info, &st, "%s\\\"%s\\\": {", info.len ? ", " : "", b->name);
        add_dims(&info, "\\\"saved_offsets\\\"", b->offsets, b->ndim);
        sw_buf_addf(&info, &st, "}");
    }
    if (entries.len) {
        sw_buf_addf(&all, &st, "12345678{\"__metadata__\": {\"format\": \"pt\"");
        if (sharded)
            sw_buf_addf(&all, &st, ", \"DCP_SHARDING_INFO\": \"{%.*s}\"", (int)info.len, info.data);
        sw_buf_addf(&all, &st, "}%.*s}", (int)entries.len, entries.data);
        len = all.len - 8;
        memcpy(all.data, &len, sizeof len);
        sw_buf_add(&all, data.data, data.len, &st);
        snprintf(path, sizeof path,
                 sharded ? "%s/shard-%05u-model-00001-of-00001.safetensors" : "%s/part-%u.safetensors",
                 w->dir, file + 1);
        put_file(path, all.data, all.len);
    }
    sw_buf_release(&entries);
    sw_buf_release(&info);
    sw_buf_release(&data);
    sw_buf_release(&all);
}

/* A file has at most one box of a tensor: boxes go round the files. */
static void shard(world *w, uint64_t *seed, bool sharded)
{
    w->nboxes = 0;
    for (size_t i = 0; i < w->ntensors; i++) {
        const whole *t = &w->tensors[i];
        test_box *b = &w->boxes[w->nboxes];
        size_t want = sharded ? 1 + test_random(seed, t->boxes ? t->boxes : FILES) : 1, n;
        uint32_t first = (uint32_t)test_random(seed, FILES);

        *b = (test_box){ t->name, 0, t->dtype, t->ndim, { 0 }, { 0 } };
        memcpy(b->shape, t->shape, sizeof b->shape);
        n = test_product(t->shape, t->ndim) ? test_cut(seed, b, want) : 1;
        for (size_t k = 0; k < n; k++)
            b[k].file = (first + (uint32_t)k) % FILES;
        w->nboxes += n;
    }
    for (uint32_t f = 0; f < FILES; f++)
        write_file(w, f, sharded);
}

static void fill(whole *t, uint64_t *seed)
{
    uint64_t n = test_product(t->shape, t->ndim) * width(t->dtype);

    t->data = malloc(n + 1);
    for (uint64_t i = 0; i < n; i++)
        t->data[i] = (char)test_random(seed, 256);
}

static void open_saved(world *w)
{
    sw_comm comm = sw_comm_self();
    sw_options opt = SW_OPTIONS_INIT;
    sw_status st = SW_STATUS_INIT;
    char block[32];

    for (size_t i = 0; i < w->ntensors; i++) {
        const uint64_t *b = w->tensors[i].block;

        if (!b[0])
            continue;
        snprintf(block, sizeof block, "%dx%d", (int)b[0], (int)b[1]);
        opt.block_size = block;
    }
    if (sw_checkpoint_open(&comm, w->dir, &opt, &w->cp, &st))
        fail_msg("%s: %s: %s: %s", w->dir, st.file, st.tensor, st.reason);
}

static void open_world(world *w, uint64_t *seed, whole *tensors, size_t n, bool sharded)
{
    *w = (world){ .dir = "/tmp/shardweld-unit-XXXXXX", .tensors = tensors, .ntensors = n };
    assert_true(n <= TENSORS);
    assert_non_null(mkdtemp(w->dir));
    for (size_t i = 0; i < n; i++)
        fill(&tensors[i], seed);
    shard(w, seed, sharded);
    open_saved(w);
}

static void close_world(world *w)
{
    sw_status st = SW_STATUS_INIT;

    sw_checkpoint_free(w->cp);
    for (size_t i = 0; i < w->ntensors; i++)
        free(w->tensors[i].data);
    assert_int_equal(remove_tree(w->dir, &st), SW_OK);
}

/* ---- what is expected ------------------------------------------------------------------------ */

static void expect_scaled(const world *w, const whole *t, const uint64_t *at, sw_dtype to, char *out)
{
    const whole *s = find_whole(w, t->scales);
    uint64_t block = at[0] / t->block[0] * s->shape[1] + at[1] / t->block[1];
    float scale;
    sw_scaled_row one = { t->dtype, to, 1, &scale };

    sw_dequant_numbers(s->dtype, s->data + block * width(s->dtype), &scale, 1);
    sw_dequant_row(sw_cast_path_best(), &one, t->data + (at[0] * t->shape[1] + at[1]) * width(t->dtype), 0,
                   out, 1);
}

static void expect_mxfp4(const world *w, const whole *t, const uint64_t *at, sw_dtype to, char *out)
{
    const whole *s = find_whole(w, t->scales);
    uint64_t block = (at[0] * t->shape[1] + at[1]) * t->shape[2] + at[2] / 32;
    sw_mxfp4_run run = { t->data + block * 16, s->data + block, 16, 1, 1, (unsigned)(at[2] % 32), 1, 1, 1 };

    sw_dequant_mxfp4(sw_cast_path_best(), &run, to, out);
}

/* One element as it is read; asked: as a dtype that was named. */
static void expect(const world *w, const whole *t, const uint64_t *at, sw_dtype to, bool asked, char *out)
{
    uint64_t flat = 0;

    asked = asked && t->scales && sw_dtype_is_floating(to);
    if (asked && t->ndim == 2) {
        expect_scaled(w, t, at, to, out);
        return;
    }
    if (asked) {
        expect_mxfp4(w, t, at, to, out);
        return;
    }
    for (unsigned d = 0; d < t->ndim; d++)
        flat = flat * t->shape[d] + at[d];
    if (to == t->dtype)
        memcpy(out, t->data + flat * width(to), width(to));
    else
        sw_cast(t->dtype, to, t->data + flat * width(t->dtype), out, 1);
}

/* ---- requests -------------------------------------------------------------------------------- */

/* A read, and what it is about. */
typedef struct request {
    sw_read read;
    const whole *t;
    sw_dtype to;
    sw_read_shape s;
    uint64_t offsets[4], shape[4];
    int64_t strides[4];
    int64_t origin; /* of the first element in the memory of all requests */
} request;

static sw_dtype choose_dtype(const whole *t, uint64_t *seed)
{
    static const sw_dtype floating[] = { SW_F32, SW_BF16, SW_F16, SW_F64 };

    if (t->scales)
        return test_random(seed, 3) ? floating[test_random(seed, 3)] : t->dtype;
    if (sw_dtype_is_floating(t->dtype) && test_random(seed, 2))
        return floating[test_random(seed, 4)];
    return t->dtype;
}

static void choose_box(request *q, uint64_t *seed)
{
    bool all = test_random(seed, 5) == 0;

    for (unsigned d = 0; d < q->s.ndim; d++) {
        uint64_t n = q->s.shape[d];

        q->offsets[d] = all || !n ? 0 : test_random(seed, n);
        q->shape[d] = all ? n : test_random(seed, n - q->offsets[d] + 1);
        if (q->shape[d] == 0 && n && test_random(seed, 8))
            q->shape[d] = 1;
    }
    q->read.ndim = q->s.ndim;
    q->read.offsets = q->offsets;
    q->read.shape = q->shape;
    if (all && test_random(seed, 2))
        q->read.offsets = q->read.shape = NULL;
}

/* Any order of the dimensions, room between them, backwards; returns how much memory that takes. */
static uint64_t choose_strides(request *q, uint64_t *seed)
{
    unsigned order[4] = { 0, 1, 2, 3 };
    bool packed = test_random(seed, 3) == 0, row_major = test_random(seed, 2);
    int64_t step = (int64_t)width(q->to), origin = 0;

    for (unsigned i = q->s.ndim; i-- > 0;) {
        unsigned j = packed || row_major ? i : (unsigned)test_random(seed, i + 1), d = order[j];

        order[j] = order[i];
        q->strides[d] = step;
        step *= (int64_t)q->shape[d] + (int64_t)(packed ? 0 : test_random(seed, 3));
        if (!packed && q->shape[d] && test_random(seed, 5) == 0) {
            origin += q->strides[d] * ((int64_t)q->shape[d] - 1);
            q->strides[d] = -q->strides[d];
        }
        if (step == 0)
            step = (int64_t)width(q->to);
    }
    if (!packed)
        q->read.strides = q->strides;
    q->origin += origin;
    return (uint64_t)step;
}

static void begin_request(const world *w, request *q, const whole *t, uint64_t *seed)
{
    sw_status st = SW_STATUS_INIT;

    *q = (request){ .t = t, .to = choose_dtype(t, seed) };
    q->read.name = t->name;
    q->read.dtype = q->to == t->dtype && test_random(seed, 2) ? NULL : sw_dtype_name(q->to);
    assert_int_equal(sw_checkpoint_read_shape(w->cp, t->name, q->read.dtype, &q->s, &st), SW_OK);
    assert_string_equal(q->s.dtype, sw_dtype_name(q->to));
}

/* The box is known: a place in memory. */
static void place_request(request *q, uint64_t *seed, char *memory, uint64_t *used)
{
    q->origin = (int64_t)*used + (int64_t)test_random(seed, 3);
    *used = (uint64_t)q->origin + choose_strides(q, seed);
    assert_true(*used <= MEMORY);
    q->read.data = memory + q->origin;
    q->read.size = q->read.strides ? 0 : test_product(q->shape, q->s.ndim) * width(q->to);
}

static void make_request(const world *w, request *q, uint64_t *seed, char *memory, uint64_t *used)
{
    begin_request(w, q, &w->tensors[test_random(seed, w->ntensors)], seed);
    choose_box(q, seed);
    place_request(q, seed, memory, used);
}

static void check_request(const world *w, const request *q, char *memory, uint64_t seed)
{
    uint64_t index[4], at[4], n = test_product(q->shape, q->s.ndim);
    char want[8];

    for (uint64_t i = 0; i < n; i++) {
        char *got = memory + q->origin;

        test_unflatten(i, q->s.ndim, q->shape, index);
        for (unsigned d = 0; d < q->s.ndim; d++) {
            at[d] = q->offsets[d] + index[d];
            got += (int64_t)index[d] * q->strides[d];
        }
        expect(w, q->t, at, q->to, q->read.dtype != NULL, want);
        if (memcmp(got, want, width(q->to)) != 0)
            fail_msg("seed %d: '%s' as %s: element %d", (int)seed, q->t->name, q->s.dtype, (int)i);
        memset(got, UNTOUCHED, width(q->to));
    }
}

/* All at once, and nothing beside them is touched. */
static void run_requests(const world *w, const request *requests, size_t n, uint64_t *seed, char *memory,
                         uint64_t used, uint64_t name)
{
    static const uint64_t buffers[] = { 0, 4096, 5000, 70000 };
    sw_read_options opt = { .threads = (unsigned)test_random(seed, 5),
                            .buffer_size = buffers[test_random(seed, 4)],
                            .map = (sw_read_map)test_random(seed, 3) };
    sw_read reads[TENSORS] = { { 0 } };
    sw_status st = SW_STATUS_INIT;

    for (size_t i = 0; i < n; i++)
        reads[i] = requests[i].read;
    if (sw_checkpoint_read(w->cp, reads, n, &opt, &st))
        fail_msg("seed %d: %s: '%s': %s", (int)name, st.file, st.tensor, st.reason);
    for (size_t i = 0; i < n; i++)
        check_request(w, &requests[i], memory, name);
    for (uint64_t i = 0; i < used; i++)
        if (memory[i] != UNTOUCHED)
            fail_msg("seed %d: byte %d was touched", (int)name, (int)i);
}

static void check_reads(const world *w, uint64_t *seed, char *memory, uint64_t name)
{
    size_t n = test_random(seed, TENSORS);
    request requests[TENSORS];
    uint64_t used = 0;

    for (size_t i = 0; i < n; i++)
        make_request(w, &requests[i], seed, memory, &used);
    run_requests(w, requests, n, seed, memory, used, name);
}

/* SEED=n: the first one; ROUNDS=n: how many. */
static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 10) : otherwise;
}

/* Tensors of all kinds, in sizes that the seed chooses. Returns how many. */
static size_t make_tensors(whole *out, uint64_t *s)
{
    static const sw_dtype scale_dtypes[] = { SW_F32, SW_BF16, SW_F8_E8M0, SW_F64 };
    static const sw_dtype weights[] = { SW_F8_E4M3, SW_F8_E5M2, SW_I8, SW_BF16, SW_F32, SW_I32 };
    static const uint64_t blocks[][2] = { { 128, 128 }, { 128, 128 }, { 64, 64 },
                                          { 1, 32 },    { 500, 7 },   { 1, 1 } };
    const uint64_t *b = blocks[test_random(s, 6)];
    uint64_t r = 1 + test_random(s, 300), c = 1 + test_random(s, 300);
    uint64_t e = 1 + test_random(s, 3), m = 1 + test_random(s, 9), g = 1 + test_random(s, 5);
    const whole tensors[] = {
        { .name = "a",
          .dtype = SW_F32,
          .ndim = 2,
          .shape = { 1 + test_random(s, 90), 1 + test_random(s, 90) } },
        { .name = "b",
          .dtype = SW_BF16,
          .ndim = 3,
          .shape = { 1 + test_random(s, 9), 7, 1 + test_random(s, 900) } },
        { .name = "c", .dtype = SW_F64, .ndim = 1, .shape = { 1 + test_random(s, 4000) } },
        { .name = "d",
          .dtype = SW_U8,
          .ndim = 4,
          .shape = { 3, 1 + test_random(s, 5), 5, 1 + test_random(s, 7) } },
        { .name = "e", .dtype = SW_I64, .ndim = 0 },
        { .name = "f", .dtype = SW_F16, .ndim = 2, .shape = { test_random(s, 2), 5 } },
        { .name = "q.weight",
          .dtype = weights[test_random(s, 6)],
          .ndim = 2,
          .shape = { r, c },
          .scales = "q.weight_scale_inv",
          .block = { b[0], b[1] } },
        { .name = "q.weight_scale_inv",
          .dtype = scale_dtypes[test_random(s, 4)],
          .ndim = 2,
          .shape = { (r + b[0] - 1) / b[0], (c + b[1] - 1) / b[1] } },
        { .name = "x_blocks", .dtype = SW_U8, .ndim = 4, .shape = { e, m, g, 16 }, .scales = "x_scales" },
        { .name = "x_scales", .dtype = SW_U8, .ndim = 3, .shape = { e, m, g } },
    };

    memcpy(out, tensors, sizeof tensors);
    return COUNT(tensors);
}

TEST(random_reads)
{
    uint64_t first = from_environment("SEED", 1), rounds = from_environment("ROUNDS", 40);
    char *memory = malloc(MEMORY);

    memset(memory, UNTOUCHED, MEMORY);
    for (uint64_t seed = first; seed < first + rounds; seed++) {
        uint64_t s = seed;
        whole tensors[TENSORS];
        size_t n = make_tensors(tensors, &s);
        world w;

        open_world(&w, &s, tensors, n, test_random(&s, 4) != 0);
        for (int i = 0; i < 10; i++)
            check_reads(&w, &s, memory, seed);
        close_world(&w);
    }
    free(memory);
}

/* ---- long rows ------------------------------------------------------------------------------- */

/* Descriptors of this process. */
static unsigned count_open(void)
{
    unsigned n = 0;

    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* Whoever wants to write need not wait for anybody. */
static void check_no_lease(const char *dir)
{
    sw_status st = SW_STATUS_INIT;
    sw_dir names = { 0 };
    char path[1024];

    assert_int_equal(sw_dir_list(dir, &names, &st), SW_OK);
    for (size_t i = 0; i < names.n; i++) {
        int fd;

        snprintf(path, sizeof path, "%s/%s", dir, names.names[i]);
        fd = open(path, O_WRONLY | O_NONBLOCK);
        assert_true(fd >= 0);
        close(fd);
    }
    sw_dir_release(&names);
}

/* Rows that are read straight, with gaps of every kind, and parts of several MiB. Nothing is left
 * open. */
TEST(long_rows)
{
    whole tensors[] = { { .name = "t", .dtype = SW_F32, .ndim = 2, .shape = { 700, 6000 } } };
    char *memory = malloc(700 * 6000 * 4);
    uint64_t seed = 3;
    unsigned nopen;
    world w;

    open_world(&w, &seed, tensors, 1, true);
    nopen = count_open();
    for (uint64_t columns = 100; columns <= 6000; columns = columns * 3 + 1) {
        uint64_t offsets[2] = { 3, 6000 - columns }, shape[2] = { 690, columns };
        sw_read read = { "t", 2, offsets, shape, memory, NULL, 690 * columns * 4, NULL };
        sw_read_options opt = { .threads = 3 };
        sw_status st;

        for (int how = 0; how < 6; how++) {
            bool cast = how & 1;

            opt.map = (sw_read_map)(how / 2);
            read.dtype = cast ? "bfloat16" : NULL;
            assert_int_equal(sw_checkpoint_read(w.cp, &read, 1, &opt, &st), SW_OK);
            for (uint64_t r = 0; r < 690; r++) {
                const char *from = tensors[0].data + ((r + 3) * 6000 + 6000 - columns) * 4;
                char row[6000 * 2];

                if (cast)
                    sw_cast(SW_F32, SW_BF16, from, row, columns);
                assert_memory_equal(memory + r * columns * (cast ? 2 : 4), cast ? row : from,
                                    columns * (cast ? 2 : 4));
            }
        }
    }
    assert_int_equal(count_open(), nopen);
    check_no_lease(w.dir);
    close_world(&w);
    free(memory);
}

/* ---- threads of the caller's ----------------------------------------------------------------- */

typedef struct user {
    const sw_checkpoint *cp;
    const whole *t;
    unsigned threads;
    pthread_t thread;
    bool good;
    const char *dir;
} user;

/* Reads each row of a tensor, backwards, again and again. */
static void *use(void *arg)
{
    user *u = arg;
    uint64_t rows = u->t->shape[0], size = u->t->shape[1] * 4;
    sw_read_options opt = { .threads = u->threads };
    char *memory = calloc(rows, size);
    sw_read *reads = calloc(rows, sizeof *reads);
    uint64_t *dims = calloc(rows, 4 * sizeof *dims);
    sw_status st;

    u->good = true;
    for (uint64_t r = 0; r < rows; r++) {
        dims[4 * r] = rows - 1 - r;
        dims[4 * r + 2] = 1;
        dims[4 * r + 3] = u->t->shape[1];
        reads[r] = (sw_read){ "t",  2,    dims + 4 * r, dims + 4 * r + 2, memory + (rows - 1 - r) * size,
                              NULL, size, NULL };
    }
    for (int i = 0; i < 5; i++) {
        memset(memory, 0, rows * size);
        u->good = u->good && sw_checkpoint_read(u->cp, reads, rows, &opt, &st) == SW_OK &&
                  memcmp(memory, u->t->data, rows * size) == 0;
    }
    free(dims);
    free(reads);
    free(memory);
    return NULL;
}

/* Opens a handle of its own. */
static void *use_alone(void *arg)
{
    user *u = arg;
    const sw_checkpoint *shared = u->cp;
    sw_comm comm = sw_comm_self();
    sw_checkpoint *cp = NULL;
    sw_status st;
    bool good = true;

    for (int i = 0; i < 5 && good; i++) {
        good = sw_checkpoint_open(&comm, u->dir, NULL, &cp, &st) == SW_OK;
        u->cp = cp;
        if (good)
            use(u);
        good = good && u->good;
        sw_checkpoint_free(cp);
    }
    u->cp = shared;
    u->good = good;
    return NULL;
}

/* Threads that each open the same checkpoint, and others that share a handle at the same time. */
TEST(handles)
{
    whole tensors[] = { { .name = "t", .dtype = SW_F32, .ndim = 2, .shape = { 20, 100 } } };
    user users[6];
    uint64_t seed = 9;
    world w;

    open_world(&w, &seed, tensors, 1, true);
    for (unsigned i = 0; i < 6; i++) {
        users[i] = (user){ .cp = w.cp, .t = tensors, .threads = 1 + i % 2, .dir = w.dir };
        assert_int_equal(pthread_create(&users[i].thread, NULL, i % 3 ? use_alone : use, &users[i]), 0);
    }
    for (unsigned i = 0; i < 6; i++) {
        pthread_join(users[i].thread, NULL);
        assert_true(users[i].good);
    }
    close_world(&w);
}

/* ---- less than a byte ------------------------------------------------------------------------ */

TEST(narrow)
{
    const char text[] = "{\"t\": {\"dtype\": \"F4\", \"shape\": [4, 6], \"data_offsets\": [0, 12]}}",
               data[] = "abcdefghijkl";
    char dir[] = "/tmp/shardweld-unit-XXXXXX", path[64], bytes[128], out[12];
    static const struct {
        uint64_t offsets[2], shape[2];
        const char *want; /* NULL = refused */
        bool strides;
    } cases[] = {
        { { 0, 0 }, { 4, 6 }, "abcdefghijkl", false },
        { { 1, 0 }, { 2, 6 }, "defghi", false },
        { { 0, 2 }, { 4, 2 }, "behk", false },
        { { 0, 1 }, { 4, 2 }, NULL, false },
        { { 0, 0 }, { 4, 3 }, NULL, false },
        { { 0, 0 }, { 1, 1 }, NULL, false },
        { { 1, 0 }, { 2, 6 }, NULL, true },
    };
    const int64_t strides[2] = { 3, 1 };
    sw_comm comm = sw_comm_self();
    sw_checkpoint *cp = NULL;
    uint64_t len = sizeof text - 1;
    sw_status st = SW_STATUS_INIT;

    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/m.safetensors", dir);
    memcpy(bytes, &len, 8);
    memcpy(bytes + 8, text, len);
    memcpy(bytes + 8 + len, data, 12);
    put_file(path, bytes, 8 + len + 12);
    assert_int_equal(sw_checkpoint_open(&comm, path, NULL, &cp, &st), SW_OK);
    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_read read = { "t", 2,   cases[i].offsets, cases[i].shape, out, cases[i].strides ? strides : NULL,
                         12,  NULL };

        assert_int_equal(sw_checkpoint_read(cp, &read, 1, NULL, &st), cases[i].want ? SW_OK : SW_EUSAGE);
        if (cases[i].want)
            assert_memory_equal(out, cases[i].want, strlen(cases[i].want));
        else
            assert_non_null(strstr(st.reason, cases[i].strides ? "packed" : "whole byte"));
    }
    sw_checkpoint_free(cp);
    assert_int_equal(remove_tree(dir, &st), SW_OK);
}

/* ---- requests that cannot be met ------------------------------------------------------------- */

TEST(refused)
{
    static const uint64_t zero[4] = { 0 }, one[4] = { 1, 1, 1, 1 }, far[4] = { 4, 0 }, wide[4] = { 1, 7 };
    static const uint64_t huge[4] = { UINT64_MAX, 1 };
    static const int64_t counted[2] = { 24, -3 }, still[2] = { 0, 4 }, leap[2] = { INT64_MAX, 4 },
                         back[2] = { INT64_MIN, 4 };
    static char memory[4 * 6 * 8];
    static const struct {
        const char *what;
        sw_read read;
        const char *says;
    } cases[] = {
        { "name", { "nobody", 2, NULL, NULL, memory, NULL, 96, NULL }, "no such tensor" },
        { "no name", { NULL, 2, NULL, NULL, memory, NULL, 96, NULL }, "without the name" },
        { "offset",
          { "t", 2, far, one, memory, NULL, 96, NULL },
          "a box of [1, 1] at [4, 0] is not inside its shape [4, 6]" },
        { "size", { "t", 2, zero, wide, memory, NULL, 96, NULL }, "is not inside its shape [4, 6]" },
        { "overflow", { "t", 2, huge, one, memory, NULL, 96, NULL }, "is not inside" },
        { "too few dimensions",
          { "t", 1, zero, one, memory, NULL, 96, NULL },
          "ndim is 1, expected 2 dimensions" },
        { "too many", { "t", 3, NULL, NULL, memory, counted, 96, NULL }, "ndim is 3" },
        { "half a box", { "t", 2, zero, NULL, memory, NULL, 96, NULL }, "both offsets and shape" },
        { "other half", { "t", 2, NULL, one, memory, NULL, 96, NULL }, "both offsets and shape" },
        { "room", { "t", 2, NULL, NULL, memory, NULL, 95, NULL }, "room for 95 bytes, but the box has 96" },
        { "room when cast",
          { "t", 2, NULL, NULL, memory, NULL, 96, "F64" },
          "room for 96 bytes, but the box has 192" },
        { "memory", { "t", 2, NULL, NULL, NULL, NULL, 96, NULL }, "no memory is given for its 96 bytes" },
        { "no dtype", { "t", 2, NULL, NULL, memory, NULL, 96, "float3" }, "'float3' is not a dtype" },
        { "integers", { "t", 2, NULL, NULL, memory, NULL, 192, "I32" }, "F32 cannot be read as I32" },
        { "from integers", { "i", 2, NULL, NULL, memory, NULL, 96, "F32" }, "I32 cannot be read as F32" },
        { "no scales",
          { "u.weight", 2, NULL, NULL, memory, NULL, 96, "F32" },
          "F8_E4M3 cannot be read as F32: it has no scales" },
        { "quantized to F64",
          { "q.weight", 2, NULL, NULL, memory, NULL, 192, "F64" },
          "F8_E4M3 cannot be read as F64" },
        { "wrong scales",
          { "p.weight", 2, NULL, NULL, memory, NULL, 96, "F32" },
          "F32 of shape [2, 2] does not scale 'p.weight', F8_E4M3 of shape [2, 2]" },
        { "scales of rows",
          { "r.weight", 2, NULL, NULL, memory, NULL, 96, "F32" },
          "I8 of shape [2, 2]: it cannot be dequantized by 'r.weight_scale', F32 of shape [2, 1]" },
        { "scaled to F64",
          { "s.weight", 2, NULL, NULL, memory, NULL, 96, "F64" },
          "F64 cannot be read as F64: by its scales it becomes F32, BF16 or F16" },
        { "scaled to integers",
          { "s.weight", 2, NULL, NULL, memory, NULL, 96, "I8" },
          "F64 cannot be read as I8: by its scales" },
        { "stride 0", { "t", 2, NULL, NULL, memory, still, 96, NULL }, "a stride of 0 bytes" },
        { "elements",
          { "t", 2, NULL, NULL, memory, counted, 96, NULL },
          "a stride of -3 bytes puts its elements, of 4 bytes" },
        { "two in one place",
          { "t", 2, NULL, NULL, memory + 95, NULL, 96, NULL },
          "it goes to the same memory as a read of 't'" },
        { "one within another",
          { "t", 2, one, one, memory + 120, NULL, 96, "F64" },
          "it goes to the same memory as a read of 'i'" },
        { "stride too large", { "t", 2, NULL, NULL, memory, leap, 96, NULL }, "is too large" },
        { "stride too small", { "t", 2, NULL, NULL, memory, back, 96, NULL }, "is too large" },
    };
    whole tensors[] = {
        { .name = "t", .dtype = SW_F32, .ndim = 2, .shape = { 4, 6 } },
        { .name = "i", .dtype = SW_I32, .ndim = 2, .shape = { 4, 6 } },
        { .name = "u.weight", .dtype = SW_F8_E4M3, .ndim = 2, .shape = { 2, 2 } },
        { .name = "q.weight", .dtype = SW_F8_E4M3, .ndim = 2, .shape = { 2, 2 } },
        { .name = "q.weight_scale_inv", .dtype = SW_F32, .ndim = 2, .shape = { 1, 1 } },
        { .name = "p.weight", .dtype = SW_F8_E4M3, .ndim = 2, .shape = { 2, 2 } },
        { .name = "p.weight_scale_inv", .dtype = SW_F32, .ndim = 2, .shape = { 2, 2 } },
        { .name = "r.weight", .dtype = SW_I8, .ndim = 2, .shape = { 2, 2 } },
        { .name = "r.weight_scale", .dtype = SW_F32, .ndim = 2, .shape = { 2, 1 } },
        { .name = "s.weight", .dtype = SW_F64, .ndim = 2, .shape = { 2, 2 } },
        { .name = "s.weight_scale_inv", .dtype = SW_F32, .ndim = 2, .shape = { 1, 1 } },
    };
    sw_comm comm = sw_comm_self();
    uint64_t seed = 9;
    sw_status st;
    world w;

    open_world(&w, &seed, tensors, COUNT(tensors), true);
    for (size_t i = 0; i < COUNT(cases); i++) {
        /* a good read before it does not hide it, and is not begun */
        sw_read reads[2] = { { "i", 2, NULL, NULL, memory + 96, NULL, 96, NULL }, cases[i].read };
        bool scales = strstr(cases[i].says, "does not scale") || strstr(cases[i].says, "dequantized by");
        sw_code code = scales ? SW_EINPUT : SW_EUSAGE;

        memset(memory, UNTOUCHED, sizeof memory);
        if (sw_checkpoint_read_all(&comm, w.cp, reads, 2, NULL, &st) != code ||
            !strstr(st.reason, cases[i].says))
            fail_msg("%s: code %d, '%s'", cases[i].what, (int)st.code, st.reason);
        assert_true(!cases[i].read.name || st.tensor[0]);
        for (size_t b = 0; b < sizeof memory; b++)
            assert_int_equal(memory[b], UNTOUCHED);
    }
    /* NULL and a number */
    assert_int_equal(sw_checkpoint_read(w.cp, NULL, 2, NULL, &st), SW_EUSAGE);
    assert_non_null(strstr(st.reason, "2 reads, but no list"));
    close_world(&w);
}

/* Columns of one matrix, side by side, are no two reads of the same memory; nor are empty ones, nor
 * neighbours. */
TEST(apart)
{
    whole tensors[] = { { .name = "t", .dtype = SW_F32, .ndim = 2, .shape = { 8, 2 } } };
    const uint64_t offsets[2][2] = { { 0, 0 }, { 0, 1 } }, column[2] = { 8, 1 }, none[2] = { 0, 2 };
    const uint64_t upper[2] = { 4, 2 }, lower_at[2] = { 4, 0 };
    const int64_t strides[2] = { 8, 4 }, back[2] = { -8, 4 };
    char memory[64];
    uint64_t seed = 1;
    sw_status st;
    world w;
    sw_read columns[3] = { { "t", 2, offsets[0], column, memory, strides, 0, NULL },
                           { "t", 2, offsets[1], column, memory + 4, strides, 0, NULL },
                           { "t", 2, offsets[0], none, memory + 8, NULL, 0, NULL } };
    sw_read halves[2] = { { "t", 2, lower_at, upper, memory + 32, NULL, 32, NULL },
                          { "t", 2, offsets[0], upper, memory, NULL, 32, NULL } };

    open_world(&w, &seed, tensors, 1, true);
    assert_int_equal(sw_checkpoint_read(w.cp, columns, 3, NULL, &st), SW_OK);
    assert_memory_equal(memory, tensors[0].data, 64);
    memset(memory, 0, sizeof memory);
    assert_int_equal(sw_checkpoint_read(w.cp, halves, 2, NULL, &st), SW_OK);
    assert_memory_equal(memory, tensors[0].data, 64);
    halves[1].data = memory + 1;
    assert_int_equal(sw_checkpoint_read(w.cp, halves, 2, NULL, &st), SW_EUSAGE);
    halves[1].data = memory + 24; /* upwards it fills what packed it would */
    halves[1].strides = back;
    assert_int_equal(sw_checkpoint_read(w.cp, halves, 2, NULL, &st), SW_OK);
    halves[1].data = memory + 32;
    assert_int_equal(sw_checkpoint_read(w.cp, halves, 2, NULL, &st), SW_EUSAGE);
    close_world(&w);
}

TEST(options)
{
    whole tensors[] = { { .name = "t", .dtype = SW_F32, .ndim = 1, .shape = { 4 } } };
    char memory[16];
    sw_read read = { "t", 2, NULL, NULL, memory, NULL, 16, NULL };
    sw_read_options small = { .buffer_size = 4095 }, many = { .threads = 1025 },
                    fine = { .threads = 1024, .buffer_size = 4096 }, unknown = { .map = (sw_read_map)3 };
    volatile int yes = 1;
    sw_read_options cancel = { .threads = 2, .cancel = &yes };
    uint64_t seed = 1;
    sw_status st;
    world w;

    open_world(&w, &seed, tensors, 1, false);
    assert_int_equal(sw_checkpoint_read(w.cp, &read, 1, &small, &st), SW_EUSAGE);
    assert_int_equal(sw_checkpoint_read(w.cp, &read, 1, &many, &st), SW_EUSAGE);
    assert_int_equal(sw_checkpoint_read(w.cp, &read, 1, &unknown, &st), SW_EUSAGE);
    assert_int_equal(sw_checkpoint_read(w.cp, &read, 1, &cancel, &st), SW_ECANCEL);
    assert_int_equal(sw_checkpoint_read(w.cp, &read, 1, &fine, &st), SW_OK);
    assert_memory_equal(memory, tensors[0].data, 16);
    assert_int_equal(sw_checkpoint_read(w.cp, NULL, 0, NULL, &st), SW_OK);
    close_world(&w);
}

/* ---- files that change ----------------------------------------------------------------------- */

TEST(changed_file)
{
    whole tensors[] = { { .name = "t", .dtype = SW_F32, .ndim = 1, .shape = { 400 } } };
    char memory[1600], path[128];
    sw_read read = { "t", 2, NULL, NULL, memory, NULL, sizeof memory, NULL };
    sw_read_options opt = { .threads = 2 };
    uint64_t seed = 1;
    sw_dir names = { 0 };
    sw_status st = SW_STATUS_INIT;
    world w;

    open_world(&w, &seed, tensors, 1, false);
    assert_int_equal(sw_dir_list(w.dir, &names, &st), SW_OK);
    snprintf(path, sizeof path, "%s/%s", w.dir, names.names[0]);
    assert_int_equal(truncate(path, 1000), 0);
    assert_int_equal(sw_checkpoint_read(w.cp, &read, 1, &opt, &st), SW_EINPUT);
    assert_non_null(strstr(st.reason, "1000 bytes now"));
    assert_string_equal(st.file, names.names[0]);
    assert_string_equal(st.tensor, "t");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(sw_checkpoint_read(w.cp, &read, 1, &opt, &st), SW_EINPUT);
    assert_non_null(strstr(st.reason, "removed meanwhile"));
    sw_dir_release(&names);
    close_world(&w);
}

/* ---- part of a checkpoint -------------------------------------------------------------------- */

/* One shard by itself, and a checkpoint that lacks one, looked at with tolerance. */
TEST(lost_shards)
{
    whole tensors[] = { { .name = "t", .dtype = SW_F32, .ndim = 2, .shape = { 2, 6 } } };
    const uint64_t first[2] = { 0, 0 }, second[2] = { 1, 0 }, row[2] = { 1, 6 };
    char memory[48], path[128];
    sw_read read = { "t", 2, second, row, memory, NULL, sizeof memory, NULL };
    sw_options tolerant = SW_OPTIONS_INIT;
    sw_comm comm = sw_comm_self();
    sw_checkpoint *cp = NULL;
    uint64_t seed = 1;
    sw_status st;
    world w;

    open_world(&w, &seed, tensors, 1, false);
    snprintf(path, sizeof path, "%s", w.dir);
    w.nboxes = 2;
    w.boxes[0] = (test_box){ "t", 0, SW_F32, 2, { 0, 0 }, { 1, 6 } };
    w.boxes[1] = (test_box){ "t", 1, SW_F32, 2, { 1, 0 }, { 1, 6 } };
    write_file(&w, 0, true);
    write_file(&w, 1, true);

    snprintf(path, sizeof path, "%s/shard-00002-model-00001-of-00001.safetensors", w.dir);
    assert_int_equal(sw_checkpoint_open(&comm, path, NULL, &cp, &st), SW_OK);
    assert_int_equal(sw_checkpoint_read(cp, &read, 1, NULL, &st), SW_OK);
    assert_memory_equal(memory, tensors[0].data + 24, 24);
    read.offsets = first;
    assert_int_equal(sw_checkpoint_read(cp, &read, 1, NULL, &st), SW_EINPUT);
    assert_non_null(strstr(st.reason, "not in this file"));
    sw_checkpoint_free(cp);

    snprintf(path, sizeof path, "%s/shard-00001-model-00001-of-00001.safetensors", w.dir);
    assert_int_equal(unlink(path), 0);
    tolerant.tolerant = true;
    assert_int_equal(sw_checkpoint_open(&comm, w.dir, &tolerant, &cp, &st), SW_OK);
    assert_int_equal(sw_checkpoint_read(cp, &read, 1, NULL, &st), SW_EINPUT);
    assert_non_null(strstr(st.reason, "broken"));
    assert_string_equal(st.tensor, "t");
    sw_checkpoint_free(cp);
    close_world(&w);
}

/* ---- what a tensor becomes ------------------------------------------------------------------- */

TEST(shapes)
{
    whole tensors[] = {
        { .name = "x_blocks", .dtype = SW_U8, .ndim = 4, .shape = { 2, 3, 4, 16 } },
        { .name = "x_scales", .dtype = SW_U8, .ndim = 3, .shape = { 2, 3, 4 } },
        { .name = "y", .dtype = SW_BF16, .ndim = 1, .shape = { 5 } },
    };
    sw_read_shape s;
    uint64_t seed = 1;
    sw_status st;
    world w;

    open_world(&w, &seed, tensors, 3, true);
    assert_int_equal(sw_checkpoint_read_shape(w.cp, "x_blocks", NULL, &s, &st), SW_OK);
    assert_int_equal(s.ndim, 4);
    assert_int_equal(s.bytes, 2 * 3 * 4 * 16);
    assert_int_equal(sw_checkpoint_read_shape(w.cp, "x_blocks", "torch.bfloat16", &s, &st), SW_OK);
    assert_string_equal(s.dtype, "BF16");
    assert_int_equal(s.ndim, 3);
    assert_int_equal(s.shape[2], 128);
    assert_int_equal(s.bytes, 2 * 3 * 128 * 2);
    assert_int_equal(sw_checkpoint_read_shape(w.cp, "y", "float", &s, &st), SW_OK);
    assert_int_equal(s.bytes, 20);
    assert_int_equal(sw_checkpoint_read_shape(w.cp, "x_scales", "F32", &s, &st), SW_EUSAGE);
    assert_int_equal(sw_checkpoint_read_shape(w.cp, "z", NULL, &s, &st), SW_EUSAGE);
    close_world(&w);
}
