/* The layout, on catalogues made by hand. The header's text is that of safetensors 0.8.0, the
 * distribution by size that of huggingface_hub's split_state_dict_into_shards_factory. Files of
 * every dtype, saved and cast, and the index are held against the oracle's in tests/e2e. */
#include "plan/layout_whole.h"
#include "plan/outmaps.h"
#include "unit.h"

#define MAX_TENSORS 128
#define MAX_DIMS 4

typedef struct row {
    const char *name;
    sw_dtype dtype;
    uint8_t ndim;
    uint64_t shape[MAX_DIMS];
    uint32_t model;
} row;

/* A catalogue of tensors only: the layout does not look at boxes. */
typedef struct fixture {
    sw_tensor tensors[MAX_TENSORS];
    uint64_t shapes[MAX_TENSORS * MAX_DIMS];
    sw_catalog catalog;
} fixture;

static const sw_catalog *make(fixture *f, const row *rows, size_t n)
{
    memset(f, 0, sizeof *f);
    assert_true(n <= MAX_TENSORS);
    for (size_t i = 0; i < n; i++) {
        sw_tensor *t = &f->tensors[i];

        assert_true(i == 0 || strcmp(rows[i - 1].name, rows[i].name) < 0);
        t->name = rows[i].name;
        t->dtype = t->out_dtype = (uint8_t)rows[i].dtype;
        t->ndim = rows[i].ndim;
        t->model = rows[i].model;
        t->dims0 = i * MAX_DIMS;
        memcpy(f->shapes + t->dims0, rows[i].shape, sizeof rows[i].shape);
    }
    f->catalog.tensors = f->tensors;
    f->catalog.shapes = f->shapes;
    f->catalog.ntensors = (uint32_t)n;
    return &f->catalog;
}

static void build(const sw_catalog *c, const sw_layout_rule *rule, sw_layout *l)
{
    sw_status st = SW_STATUS_INIT;

    if (sw_layout_build(c, rule, l, &st))
        fail_msg("%s: %s: %s", st.file, st.tensor, st.reason);
}

/* Building fails with a message that holds says. */
static void refuse(const sw_catalog *c, const sw_layout_rule *rule, const char *says)
{
    sw_status st = SW_STATUS_INIT;
    sw_layout l, empty;
    char text[2048];

    memset(&empty, 0, sizeof empty);
    memset(&l, 0x55, sizeof l);
    assert_int_equal(sw_layout_build(c, rule, &l, &st), SW_EINPUT);
    print_message("%s\n", sw_status_message(&st, text, sizeof text));
    assert_non_null(strstr(text, says));
    assert_null(l.files);
    assert_null(l.order);
    assert_null(l.index_name);
    assert_int_equal(l.nfiles, 0);
}

/* The header of file f is json and up to seven spaces. */
static void assert_header(const sw_catalog *c, const sw_layout *l, uint32_t f, const char *json)
{
    sw_status st = SW_STATUS_INIT;
    size_t len = strlen(json);
    uint64_t padded = (len + 7) / 8 * 8, length = 0;
    char text[8 + 2048];

    assert_true(padded <= 2048);
    assert_int_equal(l->files[f].header_len, padded);
    assert_int_equal(sw_layout_header(c, l, f, 0, padded + 8, text, &st), SW_OK);
    for (unsigned i = 0; i < 8; i++)
        length |= (uint64_t)(unsigned char)text[i] << 8 * i;
    assert_int_equal(length, padded);
    assert_memory_equal(text + 8, json, len);
    for (size_t i = len; i < padded; i++)
        assert_int_equal(text[8 + i], ' ');
}

static void assert_index(const sw_catalog *c, const sw_layout *l, const char *want)
{
    sw_status st = SW_STATUS_INIT;
    sw_buf text = SW_BUF_INIT;

    assert_int_equal(sw_layout_index(c, l, &text, &st), SW_OK);
    assert_int_equal(text.len, strlen(want));
    assert_memory_equal(text.data, want, text.len);
    sw_buf_release(&text);
}

/* ---- texts ----------------------------------------------------------------------------------- */

static const row hostile_rows[] = {
    { "", SW_U8, 1, { 1 }, 1 },
    { "\001\037", SW_U8, 1, { 1 }, 1 },
    { "\010\011\012\014\015", SW_U8, 1, { 1 }, 1 },
    { "a.10", SW_U8, 1, { 1 }, 1 },
    { "a.9", SW_U8, 1, { 1 }, 1 },
    { "back\\slash", SW_U8, 1, { 1 }, 1 },
    { "quote\"", SW_U8, 1, { 1 }, 1 },
    { "slash/", SW_U8, 1, { 1 }, 1 },
    { "\177", SW_U8, 1, { 1 }, 1 },
    { "\303\251", SW_U8, 1, { 1 }, 1 },
    { "\342\200\250", SW_U8, 1, { 1 }, 1 },
    { "\346\227\245\346\234\254", SW_U8, 1, { 1 }, 1 },
    { "\357\277\277", SW_U8, 1, { 1 }, 1 },
    { "\360\237\230\200", SW_U8, 1, { 1 }, 1 },
};

static const char hostile_header[] =
    "{\"__metadata__\":{\"format\":\"pt\"},"
    "\"\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
    "\"\\u0001\\u001f\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]},"
    "\"\\b\\t\\n\\f\\r\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]},"
    "\"a.10\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[3,4]},"
    "\"a.9\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[4,5]},"
    "\"back\\\\slash\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[5,6]},"
    "\"quote\\\"\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[6,7]},"
    "\"slash/\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[7,8]},"
    "\"\177\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[8,9]},"
    "\"\303\251\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[9,10]},"
    "\"\342\200\250\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[10,11]},"
    "\"\346\227\245\346\234\254\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[11,12]},"
    "\"\357\277\277\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[12,13]},"
    "\"\360\237\230\200\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[13,14]}}     ";

static const char empty_header[] = "{\"__metadata__\":{\"format\":\"pt\"}}";

static const char empty_index[] =
    "{\n  \"metadata\": {\n    \"total_parameters\": 0,\n    \"total_size\": 0\n  },\n"
    "  \"weight_map\": {}\n}\n";

TEST(hostile_names)
{
    const sw_layout_rule rule = { .kind = SW_LAYOUT_MODELS };
    fixture f;
    const sw_catalog *c = make(&f, hostile_rows, COUNT(hostile_rows));
    sw_layout l;

    build(c, &rule, &l);
    assert_int_equal(l.nfiles, 1);
    assert_int_equal(l.files[0].size, 854);
    assert_header(c, &l, 0, hostile_header);
    sw_layout_release(&l);
}

/* Any range of a header is that part of the whole. */
TEST(windows)
{
    static const uint64_t sizes[] = { 0, 1, 2, 7, 8, 9, 31, 32, 100, 333, 1000 };
    const sw_layout_rule rule = { .kind = SW_LAYOUT_SINGLE };
    sw_status st = SW_STATUS_INIT;
    fixture f;
    const sw_catalog *c = make(&f, hostile_rows, COUNT(hostile_rows));
    char whole[2048], part[2048];
    uint64_t total;
    sw_layout l;

    build(c, &rule, &l);
    total = 8 + l.files[0].header_len;
    assert_int_equal(sw_layout_header(c, &l, 0, 0, total, whole, &st), SW_OK);
    for (uint64_t from = 0; from <= total; from++)
        for (size_t i = 0; i < COUNT(sizes) && from + sizes[i] <= total; i++) {
            memset(part, '#', sizeof part);
            assert_int_equal(sw_layout_header(c, &l, 0, from, sizes[i], part, &st), SW_OK);
            assert_memory_equal(part, whole + from, sizes[i]);
            assert_int_equal(part[sizes[i]], '#');
        }
    sw_layout_release(&l);
}

TEST(no_tensors)
{
    static const struct {
        sw_layout_kind kind;
        uint32_t nfiles;
    } cases[] = {
        { SW_LAYOUT_SINGLE, 1 },  { SW_LAYOUT_SIZE, 1 },  { SW_LAYOUT_MODELS, 0 },
        { SW_LAYOUT_NUMBERS, 0 }, { SW_LAYOUT_NAMES, 0 },
    };
    const sw_map map = SW_MAP_INIT;
    fixture f;
    const sw_catalog *c = make(&f, NULL, 0);

    for (size_t i = 0; i < COUNT(cases); i++) {
        const sw_layout_rule rule = { .kind = cases[i].kind, .map = &map, .map_file = "m" };
        sw_layout l;

        build(c, &rule, &l);
        assert_int_equal(l.nfiles, cases[i].nfiles);
        if (l.nfiles) {
            assert_null(l.index_name);
            assert_string_equal(l.files[0].name, "model.safetensors");
            assert_header(c, &l, 0, empty_header);
        } else {
            assert_index(c, &l, empty_index);
        }
        sw_layout_release(&l);
    }
}

/* ---- maps ------------------------------------------------------------------------------------ */

static const row abc[] = {
    { "a", SW_F32, 1, { 2 }, 1 },
    { "b", SW_BF16, 2, { 3, 1 }, 3 },
    { "c", SW_F32, 1, { 1 }, 1 },
};

static void parse_map(const char *json, bool names, sw_map *map)
{
    sw_status st = SW_STATUS_INIT;

    assert_int_equal((names ? sw_map_parse_texts : sw_map_parse_numbers)(json, strlen(json), "m", map, &st),
                     SW_OK);
}

/* "FILE: tensors in the order of the data; ... | INDEX", without .safetensors. */
static void describe(const sw_catalog *c, const sw_layout *l, char *text, size_t size)
{
    *text = '\0';
    for (uint32_t k = 0; k < l->nfiles; k++) {
        const sw_layout_file *file = &l->files[k];

        assert_true(sw_name_ends_with(file->name, ".safetensors"));
        sw_text_addf(text, size, "%s%.*s:", k ? "; " : "", (int)strlen(file->name) - 12, file->name);
        for (uint32_t i = 0; i < file->count; i++)
            sw_text_addf(text, size, " %s", c->tensors[l->order[file->first + i].tensor].name);
    }
    sw_text_addf(text, size, "%s%s", l->index_name ? " | " : "", l->index_name ? l->index_name : "");
}

#define USUAL " | model.safetensors.index.json"
#define DIFFUSERS " | diffusion_pytorch_model.safetensors.index.json"

/* Of a F32 [2], b BF16 [3, 1] and c F32 [1]: F32 comes before BF16. */
TEST(files)
{
    static const struct {
        sw_layout_rule rule;
        const char *map, *want, *unused;
        uint64_t nunused;
    } cases[] = {
        /* 3 is used by nobody and 7 only by a tensor that no shard holds: numbers stay, and 7 is
         * the n of all names. */
        { { .kind = SW_LAYOUT_NUMBERS },
          "{\"lm_head\": 7, \"c\": 1, \"a\": 4, \"b\": 1, \"zz\": 3}",
          "model-00001-of-00007: c b; model-00004-of-00007: a" USUAL,
          "lm_head, zz",
          2 },
        { { .kind = SW_LAYOUT_NUMBERS },
          "{\"c\": 99999999, \"a\": 100000, \"b\": 9}",
          .want = "model-00009-of-99999999: b; model-100000-of-99999999: a; model-99999999-of-99999999: "
                  "c" USUAL },
        { { .kind = SW_LAYOUT_NUMBERS },
          "{\"a\":1,\"b\":1,\"c\":1,\"0\":1,\"1\":1,\"2\":1,\"3\":1,\"4\":1,\"5\":1,\"6\":1,\"7\":1,\"8\":1,"
          "\"9\":1,\"x\":1,\"y\":1}",
          "model-00001-of-00001: a c b" USUAL,
          "0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
          12 },
        /* a map may have held larger numbers, of tensors that are not written */
        { { .kind = SW_LAYOUT_NUMBERS, .largest = 1 },
          "{\"a\": 2, \"b\": 2, \"c\": 2}",
          .want = "model-00002-of-00002: a c b" USUAL },
        { { .kind = SW_LAYOUT_NUMBERS, .largest = 2 },
          "{\"a\": 2, \"b\": 2, \"c\": 2}",
          .want = "model-00002-of-00002: a c b" USUAL },
        { { .kind = SW_LAYOUT_NUMBERS, .largest = 7 },
          "{\"a\": 2, \"b\": 2, \"c\": 2}",
          .want = "model-00002-of-00007: a c b" USUAL },
        { { .kind = SW_LAYOUT_NUMBERS, .largest = 99999999 },
          "{\"a\": 2, \"b\": 2, \"c\": 2}",
          .want = "model-00002-of-99999999: a c b" USUAL },
        { { .kind = SW_LAYOUT_NAMES, .index_name = "x.index.json" },
          "{\"c\": \"a.safetensors\", \"a\": \"b/c.safetensors\", \"b\": \"a.safetensors\", \"d\": \"../e\"}",
          "a: c b; b/c: a | x.index.json",
          "d",
          1 },
        /* names that look alike but can stand side by side */
        { { .kind = SW_LAYOUT_NAMES },
          "{\"a\": \"x.safetensors\", \"b\": \"x.safetensors-y/z.safetensors\", \"c\": \"x/x.safetensors\"}",
          .want = "x: a; x.safetensors-y/z: b; x/x: c" USUAL },
        /* diffusers' names are the usual ones with another stem; file names that a map gives are
         * the map's */
        { { .kind = SW_LAYOUT_NUMBERS, .diffusers = true },
          "{\"a\": 3, \"b\": 2, \"c\": 3}",
          .want = "diffusion_pytorch_model-00002-of-00003: b; diffusion_pytorch_model-00003-of-00003: a "
                  "c" DIFFUSERS },
        { { .kind = SW_LAYOUT_MODELS, .diffusers = true },
          "{}",
          .want = "diffusion_pytorch_model-00001-of-00003: a c; diffusion_pytorch_model-00003-of-00003: "
                  "b" DIFFUSERS },
        { { .kind = SW_LAYOUT_SIZE, .max_size = 14, .diffusers = true },
          "{}",
          .want = "diffusion_pytorch_model-00001-of-00002: a b; diffusion_pytorch_model-00002-of-00002: "
                  "c" DIFFUSERS },
        { { .kind = SW_LAYOUT_SIZE, .max_size = 100, .diffusers = true },
          "{}",
          .want = "diffusion_pytorch_model: a c b" },
        { { .kind = SW_LAYOUT_SINGLE, .diffusers = true }, "{}", .want = "diffusion_pytorch_model: a c b" },
        { { .kind = SW_LAYOUT_NAMES, .diffusers = true },
          "{\"a\": \"model-00001-of-00002.safetensors\", \"b\": \"x.safetensors\", \"c\": \"x.safetensors\"}",
          .want = "model-00001-of-00002: a; x: c b" DIFFUSERS },
        { { .kind = SW_LAYOUT_NAMES, .index_name = "x.index.json", .diffusers = true },
          "{\"a\": \"x.safetensors\", \"b\": \"x.safetensors\", \"c\": \"x.safetensors\"}",
          .want = "x: a c b | x.index.json" },
    };
    fixture f;
    const sw_catalog *c = make(&f, abc, COUNT(abc));

    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_layout_rule rule = cases[i].rule;
        char text[512];
        sw_map map;
        sw_layout l;

        parse_map(cases[i].map, rule.kind == SW_LAYOUT_NAMES, &map);
        rule.map = &map;
        rule.map_file = "m";
        build(c, &rule, &l);
        describe(c, &l, text, sizeof text);
        assert_string_equal(text, cases[i].want);
        assert_int_equal(l.unused, cases[i].nunused);
        if (cases[i].unused)
            assert_string_equal(l.unused_names.data, cases[i].unused);
        sw_layout_release(&l);
        sw_map_release(&map);
    }
}

TEST(missing_in_map)
{
    static const struct {
        const char *map, *says;
    } cases[] = { { "{}", "m: tensor 'a': " },
                  { "{\"a\": 1}", "m: tensor 'b': " },
                  { "{\"a\": 1, \"bb\": 1, \"c\": 1}", "m: tensor 'b': " },
                  { "{\"a\": 1, \"c\": 1}", "m: tensor 'b': " } };
    sw_map map;
    sw_layout_rule rule = { .kind = SW_LAYOUT_NUMBERS, .map = &map, .map_file = "m" };
    fixture f;
    const sw_catalog *c = make(&f, abc, COUNT(abc));

    for (size_t i = 0; i < COUNT(cases); i++) {
        parse_map(cases[i].map, false, &map);
        refuse(c, &rule, cases[i].says);
        sw_map_release(&map);
    }
}

static const struct {
    const char *a, *b, *index; /* names of two files, and of the index */
    const char *says;
} bad_names[] = {
    { "../a.safetensors", "b.safetensors", NULL,
      "m: file name '../a.safetensors' would leave the output directory" },
    { "/a.safetensors", "b.safetensors", NULL, "'/a.safetensors' would leave the output directory" },
    { ".a.safetensors", "b.safetensors", NULL, "'.a.safetensors' has a part that begins with a dot" },
    { "a/.b/c.safetensors", "b.safetensors", NULL, "'a/.b/c.safetensors' has a part that begins with a dot" },
    { ".shardweld-staging/new/c.safetensors", "b.safetensors", NULL, "begins with a dot" },
    { "a.bin", "b.safetensors", NULL, "'a.bin' does not end in .safetensors" },
    { "a.safetensors", "a.safetensors/b.safetensors", NULL,
      "file names 'a.safetensors' and 'a.safetensors/b.safetensors' exclude each other" },
    { "x/a.safetensors", "x/a.safetensors/b/c.safetensors", NULL, "exclude each other" },
    { "i.safetensors", "b.safetensors", "i.safetensors",
      "'i.safetensors' and 'i.safetensors' exclude each other" },
    { "i.json/a.safetensors", "b.safetensors", "i.json",
      "'i.json' and 'i.json/a.safetensors' exclude each other" },
    { "i.safetensors", "b.safetensors", "i.safetensors/i.json", "exclude each other" },
    { "a.safetensors", "b.safetensors", ".i.json", "'.i.json' has a part that begins with a dot" },
    { "a.safetensors", "b.safetensors", "../i.json", "'../i.json' would leave the output directory" },
};

TEST(bad_names)
{
    fixture f;
    const sw_catalog *c = make(&f, abc, 2);

    for (size_t i = 0; i < COUNT(bad_names); i++) {
        /* Texts are borrowed here: the map is not released. */
        union {
            const char *given;
            char *text;
        } a = { bad_names[i].a }, b = { bad_names[i].b };
        char keys[2][2] = { "a", "b" };
        sw_map_item items[] = { { keys[0], a.text, 0 }, { keys[1], b.text, 0 } };
        const sw_map map = { items, 2 };
        const sw_layout_rule rule = {
            .kind = SW_LAYOUT_NAMES, .map = &map, .map_file = "m", .index_name = bad_names[i].index
        };

        refuse(c, &rule, bad_names[i].says);
    }
}

/* ---- models, sizes --------------------------------------------------------------------------- */

TEST(models)
{
    const sw_layout_rule rule = { .kind = SW_LAYOUT_MODELS };
    sw_file files[2] = { { .number = { 1, 1, 5 } }, { .number = { 1, 3, 5 } } };
    fixture f;
    sw_layout l;

    make(&f, abc, COUNT(abc));
    build(&f.catalog, &rule, &l);
    assert_string_equal(l.files[1].name, "model-00003-of-00003.safetensors");
    sw_layout_release(&l);

    f.catalog.files = files;
    f.catalog.nfiles = 2;
    build(&f.catalog, &rule, &l);
    assert_int_equal(l.nfiles, 2);
    assert_string_equal(l.files[0].name, "model-00001-of-00005.safetensors");
    assert_string_equal(l.files[1].name, "model-00003-of-00005.safetensors");
    assert_string_equal(l.index_name, "model.safetensors.index.json");
    sw_layout_release(&l);

    f.tensors[1].model = 0;
    refuse(&f.catalog, &rule, "tensor 'b': ");
}

/* One byte each and a limit of one byte: the files show the natural order. */
TEST(natural_order)
{
    static const char *const natural[] = {
        "",
        "-",
        "0",
        "00",
        "1",
        "01a",
        "1a",
        "a-1",
        "a.b",
        "a0",
        "a00",
        "a1.b",
        "a01.b2",
        "a1.b10",
        "a2",
        "a9",
        "a10",
        "a18446744073709551616",
        "a18446744073709551617",
        "ab",
        "l.9.w",
        "l.10.w",
        "l.10.x",
        "\xc3\xa9",
    };
    const sw_layout_rule rule = { .kind = SW_LAYOUT_SIZE, .max_size = 1 };
    const char *bytewise[COUNT(natural)];
    row rows[COUNT(natural)];
    fixture f;
    sw_layout l;

    memcpy(bytewise, natural, sizeof natural);
    for (size_t i = 0; i < COUNT(natural); i++) /* insertion sort */
        for (size_t k = i; k > 0 && strcmp(bytewise[k - 1], bytewise[k]) > 0; k--) {
            const char *swap = bytewise[k];

            bytewise[k] = bytewise[k - 1];
            bytewise[k - 1] = swap;
        }
    for (size_t i = 0; i < COUNT(natural); i++)
        rows[i] = (row){ bytewise[i], SW_U8, 1, { 1 }, 0 };
    build(make(&f, rows, COUNT(rows)), &rule, &l);
    assert_int_equal(l.nfiles, COUNT(natural));
    for (uint32_t i = 0; i < l.nfiles; i++)
        assert_string_equal(rows[l.order[i].tensor].name, natural[i]);
    sw_layout_release(&l);
}

/* ---- limits ---------------------------------------------------------------------------------- */

/* A header of exactly the largest size is made, one byte more is refused. Names share one long
 * text. */
TEST(header_limit)
{
    enum { N = 100, OVERHEAD = sizeof ",\"\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}" - 1 };
    const size_t json = sizeof empty_header - 1;
    const size_t names = SW_HEADER_MAX - json - (size_t)N * OVERHEAD, each = names / N;
    const size_t longest = names - each * (N - 1) + N * N;
    const sw_layout_rule rule = { .kind = SW_LAYOUT_SINGLE };
    char *text = malloc(longest + 1);
    size_t used = 0;
    row rows[N];
    fixture f;
    sw_layout l;

    assert_non_null(text);
    memset(text, 'x', longest);
    text[longest] = '\0';
    for (size_t i = 0; i < N - 1; i++) { /* each a byte longer than the one before */
        rows[i] = (row){ text + longest - (each - N + i), SW_U8, 1, { 0 }, 0 };
        used += each - N + i;
    }
    rows[N - 1] = (row){ text + longest - (names - used), SW_U8, 1, { 0 }, 0 };
    build(make(&f, rows, N), &rule, &l);
    assert_int_equal(l.files[0].header_len, SW_HEADER_MAX);
    sw_layout_release(&l);
    rows[N - 1].name--;
    refuse(make(&f, rows, N), &rule, "sw_options.max_shard_size");
    free(text);
}

TEST(sizes_overflow)
{
    static const row whole[] = { { "a", SW_F64, 2, { UINT64_C(1) << 40, UINT64_C(1) << 40 }, 1 } };
    static const row sum[] = { { "a", SW_U8, 1, { UINT64_C(1) << 62 }, 1 },
                               { "b", SW_U8, 1, { UINT64_C(1) << 62 }, 1 } };
    static const row large[] = { { "a", SW_U8, 1, { UINT64_C(1) << 62 }, 1 } };
    static const row empty[] = { { "a", SW_F64, 3, { UINT64_C(1) << 40, UINT64_C(1) << 40, 0 }, 1 } };
    const sw_layout_rule rule = { .kind = SW_LAYOUT_SINGLE }, two = { .kind = SW_LAYOUT_SIZE, .max_size = 1 };
    fixture f;
    sw_layout l;

    refuse(make(&f, whole, 1), &rule, "model.safetensors: tensor 'a': sizes add up to more");
    assert_int_equal(sw_tensor_out_bytes(&f.catalog, f.tensors), UINT64_MAX);
    refuse(make(&f, sum, 2), &rule, "model.safetensors: tensor 'b': sizes add up to more");
    build(make(&f, sum, 2), &two, &l);
    assert_int_equal(l.nfiles, 2);
    assert_int_equal(l.bytes, UINT64_C(1) << 63);
    sw_layout_release(&l);
    build(make(&f, empty, 1), &rule, &l);
    assert_int_equal(l.bytes, 0);
    sw_layout_release(&l);
    build(make(&f, large, 1), &rule, &l);
    assert_int_equal(l.files[0].size, (UINT64_C(1) << 62) + 8 + l.files[0].header_len);
    sw_layout_release(&l);
}
