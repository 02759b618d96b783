/* The layout of shard files: numbers of models, which box stands in which file, headers, rules. */
#include "format/header.h"
#include "plan/layout_cut.h"
#include "plan/layout_whole.h"
#include "plan_help.h"

#define NAMES_MAX 40

/* ---- models ---------------------------------------------------------------------------------- */

TEST(models)
{
    static const struct {
        const char *names[4];
        uint64_t models[4], of;
    } cases[] = {
        { { "model-00001-of-00001.safetensors" }, { 1 }, 1 },
        { { "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors" }, { 1, 2 }, 2 },
        { { "model-00001-of-00004.safetensors", "model-00003-of-00004.safetensors" }, { 1, 3 }, 4 },
        { { "model-00002-of-00009.safetensors" }, { 2 }, 9 },
        { { "model-123456-of-123456.safetensors" }, { 123456 }, 123456 },
        { { "diffusion_pytorch_model-00002-of-00003.safetensors" }, { 2 }, 3 },
        /* by order */
        { { "model.safetensors" }, { 1 }, 1 },
        { { "a.safetensors", "b.safetensors", "sub/c.safetensors" }, { 1, 2, 3 }, 3 },
        { { "model-00007-of-00009.safetensors", "other.safetensors" }, { 1, 2 }, 2 },
        { { "other.safetensors", "model-00007-of-00009.safetensors" }, { 1, 2 }, 2 },
        { { "model-00001-of-00002.safetensors", "model-00002-of-00003.safetensors" }, { 1, 2 }, 2 },
        { { "model-00003-of-00003.safetensors", "model-00001-of-00003.safetensors" }, { 1, 2 }, 2 },
        { { "model-00002-of-00003.safetensors", "model-2-of-3.safetensors" }, { 1, 2 }, 2 },
        { { "x/model-00002-of-00002.safetensors" }, { 1 }, 1 },
        { { NULL }, { 0 }, 1 },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[4][64] = { { 0 } };
        sw_layout_file files[4] = { { .name = NULL } };
        sw_layout l = { .files = files };
        sw_status st = SW_STATUS_INIT;
        uint64_t of = 0, *models;

        for (; l.nfiles < 4 && cases[i].names[l.nfiles]; l.nfiles++) {
            snprintf(text[l.nfiles], sizeof text[0], "%s", cases[i].names[l.nfiles]);
            files[l.nfiles].name = text[l.nfiles];
        }
        models = sw_shard_models(&l, &of, &st);
        assert_non_null(models);
        if (of != cases[i].of || memcmp(models, cases[i].models, l.nfiles * sizeof *models) != 0)
            fail_msg("case %zu: %d, %d of %d", i, (int)models[0], (int)models[1], (int)of);
        free(models);
    }
}

/* ---- a layout -------------------------------------------------------------------------------- */

typedef struct fixture {
    sw_catalog c;
    char *names[NAMES_MAX]; /* of the outputs, in the order of the catalogue */
    char renamed[NAMES_MAX][32];
    sw_outputs o;
    sw_map map;
    sw_layout whole, l;
    sw_shard_rules rules;
    sw_buf warnings;
    sw_status st;
} fixture;

/* Tensors, and numbers of their models ({name: j}). prefix: before the names of the outputs, NULL =
 * left out. */
static void make(fixture *f, const test_box *boxes, size_t n, const char *map, const char *prefix)
{
    const sw_value_rule values = { SW_NDTYPES, SW_NDTYPES, NULL, NULL };
    sw_layout_rule rule = { .kind = SW_LAYOUT_NUMBERS, .map = &f->map, .map_file = "map" };

    memset(f, 0, sizeof *f);
    assert_true(n <= NAMES_MAX);
    assert_int_equal(test_catalog(boxes, n, 1, 1, &f->c, &f->st), SW_OK);
    for (uint32_t i = 0; i < f->c.ntensors; i++) {
        snprintf(f->renamed[i], sizeof f->renamed[i], "%s%s", prefix, f->c.tensors[i].name);
        f->names[i] = f->renamed[i];
    }
    assert_int_equal(sw_outputs_build(&f->c, f->names, &values, &f->warnings, &f->o, &f->st), SW_OK);
    if (map)
        assert_int_equal(sw_map_parse_numbers(map, strlen(map), "map", &f->map, &f->st), SW_OK);
    else
        rule = (sw_layout_rule){ .kind = SW_LAYOUT_SINGLE };
    assert_int_equal(sw_layout_build(&f->o.view, &rule, &f->whole, &f->st), SW_OK);
}

static sw_code cut(fixture *f, const char *mesh, const char *placements, const char *const *rules)
{
    if (!sw_shard_rules_parse(mesh, placements, rules, &f->rules, &f->st))
        sw_shard_layout_build(&f->o, &f->whole, &f->rules, &f->warnings, &f->l, &f->st);
    return f->st.code;
}

/* Ready for the next cut(). */
static void uncut(fixture *f)
{
    sw_layout_release(&f->l);
    sw_shard_rules_release(&f->rules);
    sw_buf_release(&f->warnings);
    f->st = (sw_status)SW_STATUS_INIT;
}

static void release(fixture *f)
{
    uncut(f);
    sw_layout_release(&f->whole);
    sw_map_release(&f->map);
    sw_outputs_release(&f->o);
    sw_catalog_release(&f->c);
}

/* "file: name[offsets+shape] ...;" for each file; a box that is all of its tensor has no
 * brackets. */
static void describe(const fixture *f, sw_buf *text)
{
    sw_status st = SW_STATUS_INIT;

    for (uint32_t i = 0; i < f->l.nfiles; i++) {
        const sw_layout_file *file = &f->l.files[i];

        sw_buf_addf(text, &st, "%s%.*s:", i ? "; " : "", (int)strcspn(file->name, "."), file->name);
        for (uint32_t k = 0; k < file->count; k++) {
            const sw_slot *slot = &f->l.order[file->first + k];
            const sw_tensor *t = &f->o.view.tensors[slot->tensor];
            const uint64_t *box = sw_slot_box(&f->l, slot);

            sw_buf_addf(text, &st, " %s", t->name);
            for (unsigned d = 0; box && d < t->ndim; d++)
                sw_buf_addf(text, &st, "%s%d+%d", d ? "," : "[", (int)box[d], (int)box[t->ndim + d]);
            sw_buf_addf(text, &st, "%s", box ? "]" : "");
        }
    }
    assert_int_equal(st.code, SW_OK);
}

static void assert_boxes(const fixture *f, const char *want)
{
    sw_buf text = SW_BUF_INIT;

    describe(f, &text);
    assert_string_equal(text.data, want);
    sw_buf_release(&text);
}

/* What stands before the data of a file, made of its slots; their bytes follow one another. */
static void make_front(const fixture *f, const sw_layout_file *file, sw_buf *front)
{
    static const uint64_t zeros[4] = { 0 };
    sw_header_box boxes[NAMES_MAX];
    sw_status st = SW_STATUS_INIT;
    uint64_t at = 0;

    for (uint32_t k = 0; k < file->count; k++) {
        const sw_slot *slot = &f->l.order[file->first + k];
        const sw_tensor *t = &f->o.view.tensors[slot->tensor];
        const uint64_t *box = sw_slot_box(&f->l, slot), *all = sw_tensor_shape(&f->o.view, t);
        uint64_t bits = sw_dtype_bits((sw_dtype)t->out_dtype);

        for (unsigned d = 0; d < t->ndim; d++)
            bits *= box ? box[t->ndim + d] : all[d];
        boxes[k] = (sw_header_box){
            t->name, (sw_dtype)t->out_dtype, t->ndim, box ? box : zeros, box ? box + t->ndim : all, all,
            at,      at + bits / 8
        };
        assert_int_equal(slot->begin, at);
        assert_int_equal(slot->end, at += bits / 8);
    }
    sw_buf_add(front, zeros, 8, &st);
    sw_header_head(f->l.set, boxes, file->count, front, &st);
    for (uint32_t k = 0; k < file->count; k++)
        sw_header_entry(&boxes[k], front, &st);
    sw_buf_add(front, SW_HEADER_TAIL, 1, &st);
    while (front->len % 8)
        sw_buf_add(front, " ", 1, &st);
    assert_int_equal(st.code, SW_OK);
    sw_header_put_length(front->len - 8, front->data);
    assert_int_equal(file->size, front->len + at);
}

/* Each header is that of its boxes; any range of it is the same. */
static void assert_headers(const fixture *f, uint64_t step)
{
    for (uint32_t i = 0; i < f->l.nfiles; i++) {
        sw_status st = SW_STATUS_INIT;
        sw_buf want = SW_BUF_INIT;
        char *got;

        make_front(f, &f->l.files[i], &want);
        assert_int_equal(f->l.files[i].header_len + 8, want.len);
        got = malloc(want.len);
        for (uint64_t from = 0; from < want.len; from += step)
            for (uint64_t n = 0; n <= want.len - from; n += n < 20 ? 1 : 7 * step) {
                memset(got, '#', want.len);
                assert_int_equal(sw_layout_header(&f->o.view, &f->l, i, from, n, got, &st), SW_OK);
                assert_memory_equal(got, want.data + from, n);
                assert_true(n == want.len || got[n] == '#');
            }
        free(got);
        sw_buf_release(&want);
    }
}

static const test_box many[] = {
    { "big", 0, SW_F32, 2, { 0 }, { 5, 4 } },  { "bias", 0, SW_BF16, 1, { 0 }, { 4 } },
    { "none", 0, SW_I64, 2, { 0 }, { 0, 3 } }, { "one", 0, SW_F64, 0, { 0 }, { 0 } },
    { "tiny", 0, SW_U8, 2, { 0 }, { 1, 2 } },
};

TEST(files)
{
    static const char two[] = "{\"big\": 2, \"bias\": 1, \"none\": 2, \"one\": 2, \"tiny\": 1}";
    static const char gap[] = "{\"big\": 4, \"bias\": 2, \"none\": 2, \"one\": 2, \"tiny\": 4, \"tied\": 7}";
    static const struct {
        const char *map, *mesh, *placements, *want;
    } cases[] = {
        { NULL, "1", NULL, "shard-00001-model-00001-of-00001: none one big bias tiny" },
        { NULL, "3", "replicate", "shard-00001-model-00001-of-00001: none one big bias tiny" },
        { NULL, "3", NULL,
          "shard-00001-model-00001-of-00001: none one big[0+2,0+4] bias[0+2] tiny; "
          "shard-00002-model-00001-of-00001: big[2+2,0+4] bias[2+2]; "
          "shard-00003-model-00001-of-00001: big[4+1,0+4]" },
        { two, "2x2", "replicate,shard0",
          "shard-00001-model-00001-of-00002: bias[0+2] tiny; "
          "shard-00001-model-00002-of-00002: none one big[0+3,0+4]; "
          "shard-00002-model-00001-of-00002: bias[2+2]; "
          "shard-00002-model-00002-of-00002: big[3+2,0+4]" },
        { two, "2x2", "shard1,replicate",
          "shard-00001-model-00001-of-00002: bias tiny[0+1,0+1]; "
          "shard-00001-model-00002-of-00002: none one big[0+5,0+2]; "
          "shard-00003-model-00001-of-00002: tiny[0+1,1+1]; "
          "shard-00003-model-00002-of-00002: big[0+5,2+2]" },
        { gap, "2", "shard1",
          "shard-00001-model-00002-of-00007: none one bias; "
          "shard-00001-model-00004-of-00007: big[0+5,0+2] tiny[0+1,0+1]; "
          "shard-00002-model-00004-of-00007: big[0+5,2+2] tiny[0+1,1+1]" },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        fixture f;

        make(&f, many, COUNT(many), cases[i].map, "");
        if (cut(&f, cases[i].mesh, cases[i].placements, NULL))
            fail_msg("%s", f.st.reason);
        assert_boxes(&f, cases[i].want);
        assert_headers(&f, 7);
        assert_true(f.l.shards);
        assert_null(f.l.index_name);
        assert_int_equal(f.l.parameters, f.whole.parameters);
        assert_int_equal(f.l.bytes, f.whole.bytes);
        assert_int_equal(f.warnings.len, 0);
        release(&f);
    }
}

/* Names that JSON, and JSON within JSON, spells in its own way. */
TEST(odd_names)
{
    static const test_box odd[] = {
        { "a\"b\\c", 0, SW_U8, 2, { 0 }, { 4, 3 } },
        { "\xc3\xa4\xf0\x9f\x98\x80", 0, SW_U8, 2, { 0 }, { 4, 3 } },
        { "tab\there", 0, SW_F16, 1, { 0 }, { 9 } },
        { "\x7f/", 0, SW_F16, 1, { 0 }, { 9 } },
    };
    fixture f;

    make(&f, odd, COUNT(odd), NULL, "");
    assert_int_equal(cut(&f, "2x2", "shard0,shard1", NULL), SW_OK);
    assert_int_equal(f.l.nfiles, 4);
    assert_headers(&f, 7);
    release(&f);
}

TEST(no_tensors)
{
    fixture f;

    make(&f, NULL, 0, "{}", "");
    assert_int_equal(cut(&f, "4", NULL, NULL), SW_OK);
    assert_int_equal(f.l.nfiles, 0);
    release(&f);
}

/* ---- rules ----------------------------------------------------------------------------------- */

TEST(rules)
{
    static const test_box three[] = {
        { "a.w", 0, SW_U8, 2, { 0 }, { 2, 2 } },
        { "b.w", 0, SW_U8, 2, { 0 }, { 2, 2 } },
        { "c=d", 0, SW_U8, 2, { 0 }, { 2, 2 } },
    };
    static const struct {
        const char *rules[4], *want, *warning;
    } cases[] = {
        { { NULL },
          "shard-00001-model-00001-of-00001: a.w[0+1,0+2] b.w[0+1,0+2] c=d[0+1,0+2]; "
          "shard-00002-model-00001-of-00001: a.w[1+1,0+2] b.w[1+1,0+2] c=d[1+1,0+2]",
          NULL },
        { { "*=replicate" }, "shard-00001-model-00001-of-00001: a.w b.w c=d", NULL },
        { { "a*=replicate", "*.w=shard1" },
          "shard-00001-model-00001-of-00001: a.w b.w[0+2,0+1] c=d[0+1,0+2]; "
          "shard-00002-model-00001-of-00001: b.w[0+2,1+1] c=d[1+1,0+2]",
          NULL },
        { { "c=*=shard1", "[ab].w=Replicate" },
          "shard-00001-model-00001-of-00001: a.w b.w c=d[0+2,0+1]; "
          "shard-00002-model-00001-of-00001: c=d[0+2,1+1]",
          NULL },
        { { "*=replicate", "a.w=shard1" },
          "shard-00001-model-00001-of-00001: a.w b.w c=d",
          "sw_sharding.rules 'a.w=shard1' matches no tensor that is left to it" },
        { { "*=replicate", "A.W=shard1", "new.*=shard1" },
          "shard-00001-model-00001-of-00001: a.w b.w c=d",
          "sw_sharding.rules 'A.W=shard1' matches no tensor that is left to it; the nearest name is "
          "'a.w'\n"
          "sw_sharding.rules 'new.*=shard1' matches no tensor that is left to it" },
    };

    for (size_t prefix = 0; prefix < 2; prefix++)
        for (size_t i = 0; i < COUNT(cases); i++) {
            fixture f;

            /* The input's names count, whatever the outputs are called. */
            make(&f, three, COUNT(three), NULL, prefix ? "new." : "");
            if (cut(&f, "2", NULL, cases[i].rules))
                fail_msg("%s", f.st.reason);
            if (!prefix)
                assert_boxes(&f, cases[i].want);
            assert_int_equal(f.l.nfiles, strstr(cases[i].want, "shard-00002") ? 2 : 1);
            if (!cases[i].warning)
                assert_int_equal(f.warnings.len, 0);
            else if (!f.warnings.len || !strstr(f.warnings.data, cases[i].warning))
                fail_msg("case %zu: '%s'", i, f.warnings.len ? f.warnings.data : "");
            release(&f);
        }
}

TEST(no_rules)
{
    static const struct {
        const char *mesh, *placements, *rules[3], *says;
    } cases[] = {
        { NULL, NULL, { NULL }, "no mesh was given: sw_sharding.mesh tells it" },
        { "0", NULL, { NULL }, "sw_sharding.mesh '0' is no mesh" },
        { "2", "shard", { NULL }, "sw_sharding.placements 'shard': 'shard' is no placement" },
        { "2", NULL, { "abc" }, "sw_sharding.rules 'abc' is not of the form GLOB=P1,P2" },
        { "2", NULL, { "=shard0" }, "sw_sharding.rules '=shard0' is not of the form" },
        { "2", NULL, { "a=" }, "sw_sharding.rules '': '' is no placement" },
        { "2", NULL, { "ok=shard0", "a=shard0,shard0" }, "has 2 placements, the mesh 1 dimension" },
        { "2x2", NULL, { "a=shard0" }, "has 1 placement, the mesh 2 dimensions" },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_status st = SW_STATUS_INIT;
        sw_shard_rules r;

        if (sw_shard_rules_parse(cases[i].mesh, cases[i].placements, cases[i].rules, &r, &st) != SW_EUSAGE ||
            !strstr(st.reason, cases[i].says))
            fail_msg("case %zu: %d '%s'", i, (int)st.code, st.reason);
        sw_shard_rules_release(&r);
    }
}

/* ---- elements of less than a byte ------------------------------------------------------------ */

TEST(narrow)
{
    static const struct {
        test_box t;
        const char *mesh, *placements;
        bool refused;
    } cases[] = {
        { { "t", 0, SW_F4, 2, { 0 }, { 4, 4 } }, "2", "shard0", false },
        { { "t", 0, SW_F4, 2, { 0 }, { 4, 4 } }, "2", "shard1", true },
        { { "t", 0, SW_F4, 1, { 0 }, { 8 } }, "2", "shard0", true },
        { { "t", 0, SW_F4, 1, { 0 }, { 8 } }, "1", "shard0", false },
        { { "t", 0, SW_F4, 1, { 0 }, { 8 } }, "2", "replicate", false },
        { { "t", 0, SW_F4, 1, { 0 }, { 8 } }, "2", "shard1", false },   /* it has none */
        { { "t", 0, SW_F4, 2, { 0 }, { 4, 3 } }, "4", "shard0", true }, /* 12 bits a row */
        { { "t", 0, SW_F4, 2, { 0 }, { 4, 3 } }, "4", "replicate", false },
        { { "t", 0, SW_F4, 3, { 0 }, { 2, 2, 3 } }, "2", "shard0", false },
        { { "t", 0, SW_F4, 3, { 0 }, { 2, 2, 3 } }, "2", "shard1", true },
        { { "t", 0, SW_F4, 3, { 0 }, { 2, 2, 2 } }, "2x2", "shard0,shard1", false },
        { { "t", 0, SW_F4, 3, { 0 }, { 2, 2, 2 } }, "2x2", "shard0,shard2", true },
        { { "t", 0, SW_F4, 2, { 0 }, { 4, 1 } }, "2", "shard1", false }, /* one rank has it all */
        { { "t", 0, SW_F4, 2, { 0 }, { 0, 3 } }, "2", "shard1", false },
        { { "t", 0, SW_F6_E2M3, 2, { 0 }, { 4, 4 } }, "4", "shard0", false },
        { { "t", 0, SW_F6_E3M2, 2, { 0 }, { 4, 2 } }, "4", "shard0", true },
        { { "t", 0, SW_F6_E3M2, 3, { 0 }, { 4, 2, 2 } }, "4", "shard0", false },
        { { "t", 0, SW_F6_E2M3, 2, { 0 }, { 4, 4 } }, "4", "shard1", true },
        { { "t", 0, SW_F8_E4M3, 2, { 0 }, { 3, 3 } }, "3", "shard1", false },
        { { "t", 0, SW_BOOL, 1, { 0 }, { 3 } }, "3", "shard0", false },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        fixture f;

        make(&f, &cases[i].t, 1, NULL, "");
        cut(&f, cases[i].mesh, cases[i].placements, NULL);
        if (f.st.code != (cases[i].refused ? SW_EUSAGE : SW_OK))
            fail_msg("case %zu: %d '%s'", i, (int)f.st.code, f.st.reason);
        if (cases[i].refused) {
            assert_string_equal(f.st.tensor, "t");
            assert_non_null(strstr(f.st.reason, "cannot be cut along its last dimension, or within a byte"));
            assert_null(f.l.files);
            assert_null(f.l.order);
        } else {
            assert_headers(&f, 7);
        }
        release(&f);
    }
}
