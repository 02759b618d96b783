/* Boxes by rule: what a catalogue says with rules is what it says without them, word by word and
 * box by box; and how little they take. */
#include "plan_help.h"

#define BOXES 2000
#define TENSORS 3

/* ---- random saves ---------------------------------------------------------------------------- */

/* Ranks in a mesh; each tensor is cut along some of its dimensions, and repeated along the
 * others. */
typedef struct mesh {
    unsigned n;
    uint32_t sizes[3], steps[3]; /* steps: files from one rank to the next */
    uint32_t nfiles;
} mesh;

static mesh make_mesh(uint64_t *seed)
{
    mesh m = { .n = 1 + (unsigned)test_random(seed, 3), .nfiles = 1 };
    unsigned left = (1u << m.n) - 1;

    for (unsigned i = 0; i < m.n; i++)
        m.sizes[i] = 1 + (uint32_t)test_random(seed, m.n == 1 ? 60 : m.n == 2 ? 10 : 5);
    while (left) {
        unsigned i = (unsigned)test_random(seed, m.n);

        if (!(left >> i & 1))
            continue;
        m.steps[i] = m.nfiles;
        m.nfiles *= m.sizes[i];
        left &= ~(1u << i);
    }
    return m;
}

/* What is left to a rank when a range is cut as torch.chunk() does: maybe nothing. */
static void chunk(uint64_t *offset, uint64_t *size, uint32_t parts, uint32_t part)
{
    uint64_t each = (*size + parts - 1) / parts, from = each * part < *size ? each * part : *size;

    *offset += from;
    *size = *size - from < each ? *size - from : each;
}

/* The boxes of a tensor on all ranks. */
static size_t save(uint64_t *seed, const mesh *m, const char *name, test_box *boxes)
{
    static const sw_dtype dtypes[] = { SW_U8, SW_BF16, SW_F32, SW_F4 };
    test_box whole = { .name = name, .dtype = dtypes[test_random(seed, 4)] };
    unsigned along[3];
    size_t n = 0;

    whole.ndim = (unsigned)test_random(seed, 4);
    for (unsigned d = 0; d < whole.ndim; d++)
        whole.shape[d] = test_random(seed, 12) ? 2 * (1 + test_random(seed, 40)) : test_random(seed, 2);
    for (unsigned i = 0; i < m->n; i++)
        along[i] = (unsigned)test_random(seed, whole.ndim + 2); /* past the last: copies */
    for (uint32_t r = 0; r < m->nfiles; r++) {
        test_box b = whole;

        b.file = 0;
        for (unsigned i = 0; i < m->n; i++) {
            uint32_t at = r / m->steps[i] % m->sizes[i];

            b.file += at * m->steps[i];
            if (along[i] < b.ndim)
                chunk(&b.offsets[along[i]], &b.shape[along[i]], m->sizes[i], at);
        }
        boxes[n++] = b;
    }
    return n;
}

/* Something that is not as it should be. */
static size_t spoil(uint64_t *seed, test_box *boxes, size_t n)
{
    test_box *b = &boxes[test_random(seed, n)];
    unsigned d = (unsigned)test_random(seed, b->ndim ? b->ndim : 1);

    switch (test_random(seed, 5)) {
    case 0:
        *b = boxes[--n];
        break;
    case 1:
        b->offsets[d] += b->ndim > 0;
        break;
    case 2:
        b->shape[d] += b->ndim > 0 ? 2 : 0;
        break;
    case 3:
        b->dtype = SW_F32;
        break;
    default:
        b->shape[d] /= 2;
    }
    return n;
}

/* ---- the same twice -------------------------------------------------------------------------- */

static void assert_same_tensor(const sw_catalog *a, const sw_catalog *b, uint32_t i)
{
    const sw_tensor *t = &a->tensors[i], *u = &b->tensors[i];

    assert_string_equal(t->name, u->name);
    assert_true(t->dtype == u->dtype && t->ndim == u->ndim && t->holes == u->holes);
    assert_true(t->overlaps == u->overlaps && t->broken == u->broken && t->strided == u->strided);
    assert_int_equal(t->nboxes, u->nboxes);
    assert_int_equal(t->nreplicas, u->nreplicas);
    assert_int_equal(t->model, u->model);
    assert_int_equal(t->file, u->file);
    assert_int_equal(t->elements, u->elements);
    assert_int_equal(t->bytes, u->bytes);
    assert_memory_equal(sw_tensor_shape(a, t), sw_tensor_shape(b, u), t->ndim * sizeof(uint64_t));
    if (!t->broken) {
        assert_int_equal(t->split_dims, u->split_dims);
        assert_int_equal(t->max_rows, u->max_rows);
    }
    for (uint64_t k = 0; k < t->nboxes + t->nreplicas; k++) {
        sw_placed x, y;

        sw_box_get(a, t, k, &x);
        sw_box_get(b, u, k, &y);
        assert_int_equal(x.box.file, y.box.file);
        assert_int_equal(x.box.at, y.box.at);
        assert_int_equal(sw_box_file(a, t, k), y.box.file);
        assert_memory_equal(x.offsets, y.offsets, 2u * t->ndim * sizeof *x.offsets);
        if (k < t->nboxes && !t->overlaps)
            assert_int_equal(sw_box_find(a, t, x.offsets), k);
    }
}

static void assert_same_findings(const sw_findings *a, const sw_findings *b)
{
    assert_int_equal(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) {
        assert_string_equal(a->items[i].reason, b->items[i].reason);
        assert_true(!a->items[i].file == !b->items[i].file && !a->items[i].tensor == !b->items[i].tensor);
        if (a->items[i].file)
            assert_string_equal(a->items[i].file, b->items[i].file);
        if (a->items[i].tensor)
            assert_string_equal(a->items[i].tensor, b->items[i].tensor);
    }
}

/* Returns how many tensors have rules, in the catalogue that may have some. */
static size_t compare(const test_box *boxes, size_t n, uint32_t nfiles, uint64_t *seed, bool all)
{
    const test_how plain = { 1, false, true, SIZE_MAX, false };
    const test_how ruled = { 1 + (int)test_random(seed, 8), test_random(seed, 3) > 0, false,
                             1 + test_random(seed, 100), test_random(seed, 2) > 0 };
    sw_findings found[2] = { SW_FINDINGS_INIT, SW_FINDINGS_INIT };
    sw_status a = SW_STATUS_INIT, b = SW_STATUS_INIT;
    sw_catalog with, without;
    size_t count = 0;

    test_catalog_how(boxes, n, nfiles, &plain, &without, all ? &found[0] : NULL, &a);
    test_catalog_how(boxes, n, nfiles, &ruled, &with, all ? &found[1] : NULL, &b);
    assert_int_equal(a.code, b.code);
    assert_string_equal(a.file, b.file);
    assert_string_equal(a.tensor, b.tensor);
    assert_string_equal(a.reason, b.reason);
    assert_same_findings(&found[0], &found[1]);
    for (uint32_t i = 0; !a.code && i < with.ntensors; i++) {
        assert_int_equal(with.ntensors, without.ntensors);
        assert_same_tensor(&with, &without, i);
        count += with.tensors[i].nrules > 0;
    }
    for (int i = 0; i < 2; i++)
        sw_findings_release(&found[i]);
    sw_catalog_release(&with);
    sw_catalog_release(&without);
    return count;
}

#define SEEDS (UNIT_SANITIZED ? 1250u : 10000u)

TEST(random_saves)
{
    static const char *const names[TENSORS] = { "a", "b", "c" };
    test_box *boxes = calloc(BOXES, sizeof *boxes);
    size_t ruled = 0, spoilt = 0;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        uint64_t s = seed;
        mesh m = make_mesh(&s);
        size_t n = 0;

        for (unsigned i = 0; i < TENSORS; i++)
            n += save(&s, &m, names[i], boxes + n);
        assert_true(n <= BOXES);
        ruled += compare(boxes, n, m.nfiles, &s, false);
        for (uint64_t times = test_random(&s, 3); times > 0 && n > 1; times--)
            n = spoil(&s, boxes, n);
        spoilt += compare(boxes, n, m.nfiles, &s, true);
        compare(boxes, n, m.nfiles, &s, false);
    }
    /* of three times as many each, most of them too small */
    assert_true(ruled > SEEDS / 2 && spoilt > SEEDS / 5 * 2);

    free(boxes);
}

TEST(random_cuts)
{
    test_box boxes[60];

    for (uint64_t seed = 1; seed <= 1000; seed++) {
        uint64_t s = seed;
        size_t n;

        boxes[0] =
            (test_box){ "t", 0, SW_U8, 2, { 0 }, { 1 + test_random(&s, 30), 1 + test_random(&s, 30) } };
        n = test_cut(&s, boxes, 2 + test_random(&s, 58));
        for (size_t i = 0; i < n; i++)
            boxes[i].file = (uint32_t)i;
        compare(boxes, n, (uint32_t)n, &s, false);
        compare(boxes, n - 1, (uint32_t)n, &s, true);
    }
}

/* ---- how little ------------------------------------------------------------------------------ */

/* ROWS x COLUMNS boxes of 4 x 4, the last row and the last column of height and width; files run
 * along rows, or along columns. */
typedef struct size_case {
    uint32_t rows, columns, last_height, last_width;
    bool down;
    size_t most; /* rules */
} size_case;

TEST(size)
{
    static const size_case cases[] = {
        { 200, 1, 4, 4, false, 1 }, { 1, 200, 4, 4, false, 1 }, { 16, 16, 4, 4, false, 1 },
        { 201, 1, 4, 4, false, 1 }, /* of two ranks: 100, one that waits, 100 */
        { 16, 16, 4, 4, true, 1 },  { 2, 100, 4, 4, true, 1 },  { 100, 2, 4, 4, false, 1 },
        { 200, 1, 3, 4, false, 2 }, { 1, 200, 4, 1, false, 2 }, { 16, 16, 3, 4, false, 2 },
        { 2, 200, 4, 3, false, 4 },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const size_case *k = &cases[i];
        uint32_t n = k->rows * k->columns;
        test_box *boxes = calloc(n, sizeof *boxes);

        for (uint32_t f = 0; f < n; f++) {
            uint32_t r = k->down ? f % k->rows : f / k->columns, c = k->down ? f / k->rows : f % k->columns;

            boxes[f] = (test_box){ "t",
                                   f,
                                   SW_U8,
                                   2,
                                   { r * UINT64_C(4), c * UINT64_C(4) },
                                   { r + 1 == k->rows ? k->last_height : 4,
                                     c + 1 == k->columns ? k->last_width : 4 } };
        }
        for (int ranks = 2; ranks <= 17; ranks++) {
            const test_how how = { ranks / 2, true, false, 50, ranks % 2 > 0 };
            sw_status st = SW_STATUS_INIT;
            sw_catalog c;

            assert_int_equal(test_catalog_how(boxes, n, n, &how, &c, NULL, &st), SW_OK);
            assert_int_equal(c.nplain, 0);
            assert_in_range(c.tensors[0].nrules, 1, k->most);
            assert_int_equal(c.tensors[0].nboxes, n);
            sw_catalog_release(&c);
        }
        free(boxes);
    }
}

/* Rules are hashed as they lie: of a box nothing stands in one but what is said of it. */
TEST(nothing_of_before)
{
    const struct {
        sw_box_record record;
        uint64_t dims[2];
    } box = { { 4096, 0, 7 }, { 3, 5 } };
    const sw_file file = { .data_start = 96 };
    sw_rule want;
    sw_taken is;

    memset(&is, 0xff, sizeof is);
    memset(&want, 0, sizeof want);
    want.at = 4000;
    sw_box_record_take(&box.record, 1, &file, &is);
    assert_memory_equal(&is.rule, &want, sizeof want);
}
