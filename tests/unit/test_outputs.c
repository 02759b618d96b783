/* What is written: dtypes by mapping and cast, quantized tensors and their scales, names and
 * shapes. Each case is a list of tensors, and all that comes of them as one text. */
#include "plan/outputs.h"
#include "plan_help.h"

#define MAX 8
#define NO SW_NDTYPES
#define OUT "-" /* as what a tensor that is left out is written */

/* A whole tensor, and its name in the output: NULL = its own. */
typedef struct saved {
    const char *name;
    sw_dtype dtype;
    unsigned ndim;
    uint64_t shape[4];
    const char *as;
} saved;

typedef struct fixture {
    sw_catalog c;
    char *names[MAX];
    char text[MAX][32];
} fixture;

static void make(fixture *f, const saved *tensors, int nranks)
{
    sw_status st = SW_STATUS_INIT;
    test_box boxes[MAX];
    size_t n = 0;

    for (; n < MAX && tensors[n].name; n++) {
        boxes[n] = (test_box){ tensors[n].name, 0, tensors[n].dtype, tensors[n].ndim, { 0 }, { 0 } };
        memcpy(boxes[n].shape, tensors[n].shape, sizeof boxes[n].shape);
    }
    memset(f, 0, sizeof *f);
    if (test_catalog(boxes, n, 1, nranks, &f->c, &st))
        fail_msg("'%s': %s", st.tensor, st.reason);
    for (uint32_t i = 0; i < f->c.ntensors; i++)
        for (size_t k = 0; k < n; k++) {
            const char *as = tensors[k].as ? tensors[k].as : tensors[k].name;

            if (strcmp(f->c.tensors[i].name, tensors[k].name) != 0 || strcmp(as, OUT) == 0)
                continue;
            snprintf(f->text[i], sizeof f->text[i], "%s", as);
            f->names[i] = f->text[i];
        }
}

/* "name DTYPE [shape]", and how it is made, for each output. */
static void describe(const sw_outputs *o, sw_buf *text)
{
    static const char *const ops[] = { "", " cast", " scaled", " mxfp4" };
    sw_status st = SW_STATUS_INIT;

    sw_buf_addf(text, &st, "%s", "");
    for (uint32_t i = 0; i < o->view.ntensors; i++) {
        const sw_tensor *t = &o->view.tensors[i], *source = &o->c->tensors[o->how[i].source];

        sw_buf_addf(text, &st, "%s%s %s [", i ? "; " : "", t->name, sw_dtype_name((sw_dtype)t->out_dtype));
        for (unsigned d = 0; d < t->ndim; d++)
            sw_buf_addf(text, &st, "%s%d", d ? "," : "", (int)sw_tensor_shape(&o->view, t)[d]);
        sw_buf_addf(text, &st, "]%s", ops[o->how[i].op]);
        if (strcmp(source->name, t->name) != 0)
            sw_buf_addf(text, &st, " of %s", source->name);
        if (o->how[i].op == SW_OP_SCALED || o->how[i].op == SW_OP_MXFP4)
            sw_buf_addf(text, &st, " by %s", o->c->tensors[o->how[i].scale].name);
    }
    assert_int_equal(st.code, SW_OK);
}

/* What must hold of any outputs. */
static void check_view(const sw_outputs *o)
{
    for (uint32_t i = 0; i < o->view.ntensors; i++) {
        const sw_tensor *t = &o->view.tensors[i];
        uint64_t elements = 1;

        for (unsigned d = 0; d < t->ndim; d++)
            elements *= sw_tensor_shape(&o->view, t)[d];
        assert_true(t->elements == elements);
        assert_true(t->bytes == elements * sw_dtype_bits((sw_dtype)t->out_dtype) / 8);
        assert_int_equal(t->dtype, t->out_dtype);
        assert_int_equal(t->nboxes, 0);
        assert_true(i == 0 || strcmp(o->view.tensors[i - 1].name, t->name) < 0);
        assert_ptr_equal(sw_catalog_find_tensor(&o->view, t->name), t);
        assert_int_equal(t->model, o->c->tensors[o->how[i].source].model);
    }
}

typedef struct test_case {
    const char *what;
    sw_dtype cast, dequantize;
    const char *map; /* JSON; NULL = none */
    saved tensors[MAX];
    const char *want;     /* the outputs, or what the error says */
    const char *warnings; /* all of them */
    const char *blame;    /* the tensor of the error; NULL = there is none */
    sw_code code;
} test_case;

static void run_case(const test_case *k, int nranks)
{
    sw_value_rule rule = { k->cast, k->dequantize, NULL, "map" };
    sw_buf warnings = SW_BUF_INIT, text = SW_BUF_INIT;
    sw_status st = SW_STATUS_INIT, also = SW_STATUS_INIT;
    sw_map map = SW_MAP_INIT;
    sw_outputs o;
    fixture f;

    make(&f, k->tensors, nranks);
    if (k->map) {
        assert_int_equal(sw_map_parse_texts(k->map, strlen(k->map), "map", &map, &st), SW_OK);
        rule.map = &map;
    }
    memset(&o, 0x55, sizeof o);
    if (sw_outputs_build(&f.c, f.names, &rule, &warnings, &o, &st) == SW_OK) {
        assert_ptr_equal(o.c, &f.c);
        describe(&o, &text);
        check_view(&o);
    } else {
        assert_null(o.view.tensors);
        assert_null(o.how);
        assert_int_equal(o.view.ntensors, 0);
    }
    assert_int_equal(sw_buf_add(&warnings, "", 1, &also), SW_OK);
    if (st.code != k->code || strcmp(st.tensor, k->blame ? k->blame : "") != 0 ||
        (st.code ? !strstr(st.reason, k->want) : strcmp(text.data, k->want) != 0) ||
        (!st.code && strcmp(warnings.data, k->warnings) != 0))
        fail_msg("%s: %d '%s': %s\n%s\n%s", k->what, (int)st.code, st.tensor, st.reason,
                 text.data ? text.data : "", warnings.data);
    sw_outputs_release(&o);
    sw_outputs_release(&o);
    sw_buf_release(&text);
    sw_buf_release(&warnings);
    sw_map_release(&map);
    sw_catalog_release(&f.c);
}

static void run_cases(const test_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (int nranks = 1; nranks <= 2; nranks++)
            run_case(&cases[i], nranks);
}

/* ---- casts ----------------------------------------------------------------------------------- */

#define KEPT(n)                                                                                              \
    n " tensors are saved in another dtype than map names (quantized or integer): they stay as they are\n"

static const test_case cast_cases[] = {
    { .what = "as saved",
      .cast = NO,
      .dequantize = NO,
      .tensors = { { "z", SW_F32, 2, { 2, 3 }, NULL },
                   { "a", SW_I64, 0, { 0 }, NULL },
                   { "f", SW_F8_E4M3, 1, { 0 }, NULL },
                   { "q", SW_F4, 2, { 3, 2 }, NULL } },
      .want = "a I64 []; f F8_E4M3 [0]; q F4 [3,2]; z F32 [2,3]",
      .warnings = "" },
    { .what = "restored to what the map names, in either spelling",
      .cast = NO,
      .dequantize = NO,
      .map = "{\"a\":\"BF16\",\"b\":\"torch.float32\",\"c\":\"half\",\"d\":\"F64\",\"gone\":\"F16\"}",
      .tensors = { { "a", SW_F32, 1, { 4 }, NULL },
                   { "b", SW_BF16, 1, { 4 }, NULL },
                   { "c", SW_F16, 1, { 4 }, NULL },
                   { "d", SW_F16, 0, { 0 }, NULL },
                   { "e", SW_F64, 1, { 4 }, NULL } },
      .want = "a BF16 [4] cast; b F32 [4] cast; c F16 [4]; d F64 [] cast; e F64 [4]",
      .warnings = "" },
    { .what = "what is named quantized or integer stays, and is counted once each",
      .cast = NO,
      .dequantize = NO,
      .map = "{\"a\":\"F8_E4M3\",\"b\":\"I64\",\"c\":\"bool\",\"d\":\"F4\",\"e\":\"F8_E5M2\",\"f\":\"U8\"}",
      .tensors = { { "a", SW_BF16, 1, { 4 }, NULL },
                   { "b", SW_F32, 1, { 4 }, NULL },
                   { "c", SW_U8, 1, { 4 }, NULL },
                   { "d", SW_F4, 1, { 4 }, NULL },
                   { "e", SW_F8_E4M3, 1, { 4 }, NULL },
                   { "f", SW_U8, 1, { 4 }, NULL } },
      .want = "a BF16 [4]; b F32 [4]; c U8 [4]; d F4 [4]; e F8_E4M3 [4]; f U8 [4]",
      .warnings = KEPT("4") },
    { .what = "what is no number with a point is never cast to one, and not counted",
      .cast = NO,
      .dequantize = NO,
      .map = "{\"a\":\"F32\",\"b\":\"BF16\"}",
      .tensors = { { "a", SW_I32, 1, { 4 }, NULL }, { "b", SW_F8_E4M3, 1, { 4 }, NULL } },
      .want = "a I32 [4]; b F8_E4M3 [4]",
      .warnings = "" },
    { .what = "what is left out is not counted",
      .cast = NO,
      .dequantize = NO,
      .map = "{\"a\":\"I64\",\"b\":\"I64\"}",
      .tensors = { { "a", SW_I32, 1, { 4 }, OUT }, { "b", SW_I32, 1, { 4 }, NULL } },
      .want = "b I32 [4]",
      .warnings = KEPT("1") },
    { .what = "the map speaks of the input's names",
      .cast = NO,
      .dequantize = NO,
      .map = "{\"m.a\":\"BF16\",\"b\":\"F16\"}",
      .tensors = { { "m.a", SW_F32, 1, { 4 }, "b" }, { "m.b", SW_F32, 1, { 4 }, "a" } },
      .want = "a F32 [4] of m.b; b BF16 [4] cast of m.a",
      .warnings = "" },
    { .what = "a cast",
      .cast = SW_BF16,
      .dequantize = NO,
      .tensors = { { "a", SW_F64, 1, { 4 }, NULL },
                   { "b", SW_F32, 1, { 0 }, NULL },
                   { "c", SW_BF16, 1, { 4 }, NULL },
                   { "d", SW_F16, 0, { 0 }, NULL },
                   { "e", SW_I64, 1, { 4 }, NULL },
                   { "f", SW_F8_E5M2, 1, { 4 }, NULL },
                   { "g", SW_C64, 1, { 4 }, NULL } },
      .want =
          "a BF16 [4] cast; b BF16 [0] cast; c BF16 [4]; d BF16 [] cast; e I64 [4]; f F8_E5M2 [4]; g C64 [4]",
      .warnings = "" },
    { .what = "to a wider one",
      .cast = SW_F64,
      .dequantize = NO,
      .tensors = { { "a", SW_F64, 1, { 4 }, NULL }, { "b", SW_F16, 2, { 3, 5 }, NULL } },
      .want = "a F64 [4]; b F64 [3,5] cast",
      .warnings = "" },
    { .what = "F32 by nature stays or becomes F32",
      .cast = SW_BF16,
      .dequantize = NO,
      .map = "{\"a\":\"F32\",\"b\":\"float\",\"c\":\"BF16\",\"d\":\"F64\"}",
      .tensors = { { "a", SW_F32, 1, { 4 }, NULL },
                   { "b", SW_F64, 1, { 4 }, NULL },
                   { "c", SW_F32, 1, { 4 }, NULL },
                   { "d", SW_F16, 1, { 4 }, NULL } },
      .want = "a F32 [4]; b F32 [4] cast; c BF16 [4] cast; d BF16 [4] cast",
      .warnings = "" },
    { .what = "a floating tensor that the map lacks makes the others F32 by nature",
      .cast = SW_F16,
      .dequantize = NO,
      .map = "{\"a\":\"F32\"}",
      .tensors = { { "a", SW_BF16, 1, { 4 }, NULL }, { "b", SW_BF16, 1, { 4 }, NULL } },
      .want = "a F32 [4] cast; b F16 [4] cast",
      .warnings = "" },
    { .what = "all F32 says nothing; integers and what no shard holds do not matter",
      .cast = SW_BF16,
      .dequantize = NO,
      .map = "{\"a\":\"F32\",\"b\":\"torch.float32\",\"i\":\"I64\",\"j\":\"BF16\",\"gone\":\"BF16\"}",
      .tensors = { { "a", SW_F32, 1, { 4 }, NULL },
                   { "b", SW_F64, 1, { 4 }, NULL },
                   { "i", SW_I64, 1, { 4 }, NULL },
                   { "j", SW_U8, 1, { 4 }, NULL } },
      .want = "a BF16 [4] cast; b BF16 [4] cast; i I64 [4]; j U8 [4]",
      .warnings = "" },
    { .what = "what the shards hold counts, whether it is written or not",
      .cast = SW_BF16,
      .dequantize = NO,
      .map = "{\"a\":\"F32\",\"b\":\"BF16\"}",
      .tensors = { { "a", SW_F32, 1, { 4 }, NULL }, { "b", SW_F32, 1, { 4 }, OUT } },
      .want = "a F32 [4]",
      .warnings = "" },
    { .what = "a cast does not mind a map that names something quantized",
      .cast = SW_F16,
      .dequantize = NO,
      .map = "{\"a\":\"F8_E4M3\",\"b\":\"I8\"}",
      .tensors = { { "a", SW_BF16, 1, { 4 }, NULL }, { "b", SW_U8, 1, { 4 }, NULL } },
      .want = "a F16 [4] cast; b U8 [4]",
      .warnings = KEPT("1") },
    { .what = "no dtype",
      .cast = NO,
      .dequantize = NO,
      .map = "{\"a\":\"F32\",\"b\":\"float33\"}",
      .tensors = { { "a", SW_F32, 1, { 4 }, NULL }, { "b", SW_F32, 1, { 4 }, NULL } },
      .want = "'float33' is not a dtype",
      .blame = "b",
      .code = SW_EINPUT },
    { .what = "no dtype, of an integer tensor",
      .cast = SW_BF16,
      .dequantize = NO,
      .map = "{\"b\":\"\"}",
      .tensors = { { "a", SW_F32, 1, { 4 }, NULL }, { "b", SW_I8, 1, { 4 }, NULL } },
      .want = "'' is not a dtype",
      .blame = "b",
      .code = SW_EINPUT },
    { .what = "no dtype, of a tensor that no shard holds",
      .cast = NO,
      .dequantize = NO,
      .map = "{\"b\":\"float33\"}",
      .tensors = { { "a", SW_F32, 1, { 4 }, NULL } },
      .want = "a F32 [4]",
      .warnings = "" },
    { .what = "nothing at all", .cast = SW_BF16, .dequantize = NO, .want = "", .warnings = "" },
    { .what = "all left out",
      .cast = SW_BF16,
      .dequantize = NO,
      .tensors = { { "a", SW_F32, 1, { 4 }, OUT } },
      .want = "",
      .warnings = "" },
    { .what = "it becomes too large",
      .cast = SW_F64,
      .dequantize = NO,
      .tensors = { { "a", SW_BF16, 1, { UINT64_C(1) << 59 }, NULL } },
      .want = "its size as F64 overflows",
      .blame = "a",
      .code = SW_EINPUT },
};

TEST(casts)
{
    run_cases(cast_cases, COUNT(cast_cases));
}

/* ---- FP8 ------------------------------------------------------------------------------------- */

#define NOTHING "there is nothing to dequantize\n"
#define BARE(n, name)                                                                                        \
    n " FP8 tensors have no scale (X.weight_scale_inv for X.weight) and stay as they are, the first is "     \
      "'" name "'\n"

static const test_case fp8_cases[] = {
    { .what = "weights and their scales",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a.weight", SW_F8_E4M3, 2, { 300, 128 }, NULL },
                   { "a.weight_scale_inv", SW_F32, 2, { 3, 1 }, NULL },
                   { "b.weight", SW_F8_E5M2, 2, { 1, 129 }, NULL },
                   { "b.weight_scale_inv", SW_BF16, 2, { 1, 2 }, NULL },
                   { "c.weight", SW_F8_E4M3, 2, { 128, 1 }, NULL },
                   { "c.weight_scale_inv", SW_F8_E8M0, 2, { 1, 1 }, NULL },
                   { "n", SW_F32, 1, { 2 }, NULL } },
      .want = "a.weight BF16 [300,128] scaled by a.weight_scale_inv; b.weight BF16 [1,129] scaled by "
              "b.weight_scale_inv; c.weight BF16 [128,1] scaled by c.weight_scale_inv; n F32 [2]",
      .warnings = "" },
    { .what = "empty ones",
      .cast = NO,
      .dequantize = SW_F32,
      .tensors = { { "a.weight", SW_F8_E4M3, 2, { 0, 300 }, NULL },
                   { "a.weight_scale_inv", SW_F32, 2, { 0, 3 }, NULL },
                   { "b.weight", SW_F8_E4M3, 2, { 300, 0 }, NULL },
                   { "b.weight_scale_inv", SW_F32, 2, { 3, 0 }, NULL } },
      .want = "a.weight F32 [0,300] scaled by a.weight_scale_inv; b.weight F32 [300,0] scaled by "
              "b.weight_scale_inv",
      .warnings = "" },
    { .what = "the cast is for the others; the map does not hinder",
      .cast = SW_F16,
      .dequantize = SW_F32,
      .map = "{\"a.weight\":\"F8_E4M3\",\"a.weight_scale_inv\":\"F32\",\"n\":\"BF16\",\"o\":\"F32\"}",
      .tensors = { { "a.weight", SW_F8_E4M3, 2, { 2, 2 }, NULL },
                   { "a.weight_scale_inv", SW_F32, 2, { 1, 1 }, NULL },
                   { "n", SW_BF16, 1, { 2 }, NULL },
                   { "o", SW_BF16, 1, { 2 }, NULL } },
      .want = "a.weight F32 [2,2] scaled by a.weight_scale_inv; n F16 [2] cast; o F32 [2] cast",
      .warnings = "" },
    { .what = "not asked for",
      .cast = SW_BF16,
      .dequantize = NO,
      .tensors = { { "a.weight", SW_F8_E4M3, 2, { 2, 2 }, NULL },
                   { "a.weight_scale_inv", SW_F32, 2, { 1, 1 }, NULL } },
      .want = "a.weight F8_E4M3 [2,2]; a.weight_scale_inv BF16 [1,1] cast",
      .warnings = "" },
    { .what = "a cast is of scales too; a word where numbers have some",
      .cast = SW_BF16,
      .dequantize = NO,
      .map = "{\"d.weight_scale_inv\":\"F16\"}",
      .tensors = { { "a.weight", SW_F32, 2, { 2, 2 }, NULL },
                   { "a.weight_scale_inv", SW_F32, 1, { 7 }, NULL },
                   { "b.weight", SW_I8, 2, { 2, 2 }, NULL },
                   { "b.weight_scale", SW_F32, 2, { 2, 1 }, NULL },
                   { "d.weight", SW_BF16, 2, { 2, 2 }, NULL },
                   { "d.weight_scale_inv", SW_F32, 2, { 1, 1 }, NULL },
                   { "n_scale", SW_F32, 1, { 2 }, NULL } },
      .want = "a.weight BF16 [2,2] cast; a.weight_scale_inv BF16 [7] cast; b.weight I8 [2,2]; b.weight_scale "
              "BF16 [2,1] "
              "cast; d.weight BF16 [2,2]; d.weight_scale_inv BF16 [1,1] cast; n_scale BF16 [2] cast",
      .warnings = "2 floating-point tensors have scales and are only cast, the first is 'a.weight' with "
                  "'a.weight_scale_inv': dequantize makes plain ones of them\n" },
    { .what = "weights of other dtypes",
      .cast = SW_F16,
      .dequantize = SW_BF16,
      .tensors = { { "a.weight", SW_I8, 2, { 300, 128 }, NULL },
                   { "a.weight_scale_inv", SW_F16, 2, { 3, 1 }, NULL },
                   { "b.weight", SW_BF16, 2, { 1, 129 }, NULL },
                   { "b.weight_scale_inv", SW_F64, 2, { 1, 2 }, NULL },
                   { "c.weight", SW_F32, 2, { 128, 1 }, NULL },
                   { "c.weight_scale_inv", SW_F8_E4M3, 2, { 1, 1 }, NULL } },
      .want = "a.weight BF16 [300,128] scaled by a.weight_scale_inv; b.weight BF16 [1,129] scaled by "
              "b.weight_scale_inv; c.weight BF16 [128,1] scaled by c.weight_scale_inv",
      .warnings = "" },
    { .what = "renamed",
      .cast = NO,
      .dequantize = SW_F16,
      .tensors = { { "m.a.weight", SW_F8_E4M3, 2, { 2, 2 }, "z.weight" },
                   { "m.a.weight_scale_inv", SW_F32, 2, { 1, 1 }, "z.weight_scale_inv" },
                   { "n", SW_F32, 1, { 2 }, NULL } },
      .want = "n F32 [2]; z.weight F16 [2,2] scaled of m.a.weight by m.a.weight_scale_inv",
      .warnings = "" },
    { .what = "a scale that is left out scales all the same",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a.weight", SW_F8_E4M3, 2, { 2, 2 }, NULL },
                   { "a.weight_scale_inv", SW_F32, 2, { 1, 1 }, OUT } },
      .want = "a.weight BF16 [2,2] scaled by a.weight_scale_inv",
      .warnings = "" },
    { .what = "a scale of a weight that is left out goes too",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a.weight", SW_F8_E4M3, 2, { 2, 2 }, OUT },
                   { "a.weight_scale_inv", SW_F32, 2, { 1, 1 }, NULL },
                   { "n", SW_F32, 1, { 2 }, NULL } },
      .want = "n F32 [2]",
      .warnings = NOTHING },
    { .what = "without scales",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a.weight", SW_F8_E4M3, 2, { 2, 2 }, OUT },
                   { "b.weight", SW_F8_E4M3, 2, { 2, 2 }, NULL },
                   { "c", SW_F8_E5M2, 1, { 2 }, NULL },
                   { "e8", SW_F8_E8M0, 1, { 2 }, NULL } },
      .want = "b.weight F8_E4M3 [2,2]; c F8_E5M2 [2]; e8 F8_E8M0 [2]",
      .warnings = BARE("2", "b.weight") },
    { .what = "some without scales",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a.weight", SW_F8_E4M3, 2, { 2, 2 }, NULL },
                   { "a.weight_scale_inv", SW_F32, 2, { 1, 1 }, NULL },
                   { "b.weight", SW_F8_E4M3, 2, { 2, 2 }, NULL } },
      .want = "a.weight BF16 [2,2] scaled by a.weight_scale_inv; b.weight F8_E4M3 [2,2]",
      .warnings = BARE("1", "b.weight") },
    { .what = "nothing to do",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a.weight", SW_F32, 2, { 2, 2 }, NULL }, { "b.scale_inv", SW_F32, 1, { 2 }, NULL } },
      .want = "a.weight F32 [2,2]; b.scale_inv F32 [2]",
      .warnings = NOTHING },
    { .what = "an ending that only looks like it",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a.bias_scale_inv", SW_F32, 1, { 2 }, NULL },
                   { "weight_scale_inv", SW_F32, 1, { 2 }, NULL },
                   { "a.weight_scale_inv2", SW_F32, 1, { 2 }, NULL } },
      .want = "a.bias_scale_inv F32 [2]; a.weight_scale_inv2 F32 [2]; weight_scale_inv F32 [2]",
      .warnings = NOTHING },
    { .what = "a scale without its weight",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a.weight_scale_inv", SW_F32, 2, { 1, 1 }, NULL }, { "b", SW_F32, 1, { 2 }, NULL } },
      .want = "a scale without its weight",
      .blame = "a.weight_scale_inv",
      .code = SW_EINPUT },
    { .what = "a scale without its weight that is left out",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a.weight_scale_inv", SW_F32, 2, { 1, 1 }, OUT }, { "b", SW_F32, 1, { 2 }, NULL } },
      .want = "b F32 [2]",
      .warnings = NOTHING },
    { .what = "too many rows of scales",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a.weight", SW_F8_E4M3, 2, { 256, 128 }, NULL },
                   { "a.weight_scale_inv", SW_F32, 2, { 3, 1 }, NULL } },
      .want = "F32 of shape [3, 1] does not scale 'a.weight', F8_E4M3 of shape [256, 128]",
      .blame = "a.weight_scale_inv",
      .code = SW_EINPUT },
    { .what = "too few columns of scales",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a.weight", SW_F8_E4M3, 2, { 128, 129 }, NULL },
                   { "a.weight_scale_inv", SW_F32, 2, { 1, 1 }, NULL } },
      .want = "does not scale 'a.weight'",
      .blame = "a.weight_scale_inv",
      .code = SW_EINPUT },
    { .what = "scales of another number of dimensions",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a.weight", SW_F8_E4M3, 2, { 1, 1 }, NULL },
                   { "a.weight_scale_inv", SW_F32, 1, { 1 }, NULL } },
      .want = "F32 of shape [1] does not",
      .blame = "a.weight_scale_inv",
      .code = SW_EINPUT },
    { .what = "a weight of another number of dimensions",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a.weight", SW_F8_E4M3, 3, { 1, 1, 1 }, NULL },
                   { "a.weight_scale_inv", SW_F32, 2, { 1, 1 }, NULL } },
      .want = "F8_E4M3 of shape [1, 1, 1]",
      .blame = "a.weight_scale_inv",
      .code = SW_EINPUT },
    { .what = "scales of a dtype that does not scale",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a.weight", SW_F8_E4M3, 2, { 1, 1 }, NULL },
                   { "a.weight_scale_inv", SW_I32, 2, { 1, 1 }, NULL } },
      .want = "I32 of shape",
      .blame = "a.weight_scale_inv",
      .code = SW_EINPUT },
    { .what = "a weight of no numbers",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a.weight", SW_BOOL, 2, { 1, 1 }, NULL },
                   { "a.weight_scale_inv", SW_F32, 2, { 1, 1 }, NULL } },
      .want = "does not scale 'a.weight', BOOL of shape [1, 1], in blocks of 128x128",
      .blame = "a.weight_scale_inv",
      .code = SW_EINPUT },
    { .what = "it becomes too large",
      .cast = NO,
      .dequantize = SW_F32,
      .tensors = { { "a.weight", SW_F8_E4M3, 2, { UINT64_C(1) << 30, UINT64_C(1) << 30 }, NULL },
                   { "a.weight_scale_inv", SW_F8_E8M0, 2, { 1 << 23, 1 << 23 }, NULL } },
      .want = "its size as F32 overflows",
      .blame = "a.weight",
      .code = SW_EINPUT },
};

TEST(fp8)
{
    run_cases(fp8_cases, COUNT(fp8_cases));
}

/* Scales of other schemes: nobody gets what they belong to without a word, unless it is left
 * out. */
TEST(other_scales)
{
    static const struct {
        const char *tensor, *scale;
        sw_dtype dtype;
        bool refused;
    } pairs[] = {
        { "a.weight", "a.weight_scale", SW_F8_E4M3, true },
        { "a.weight", "a.weight_scale", SW_I8, true },
        { "a.weight", "a.weight_scale", SW_F4, true },
        { "a.weight", "a.weight_scale", SW_BF16, false },
        { "a.weight", "a.weight_scale", SW_I64, false },
        { "a.up", "a.up_scale_inv", SW_F8_E4M3, true },
        { "a.up", "a.up_scale_inv", SW_BF16, true },
        { "a.weight_packed", "a.weight_scale", SW_I32, true },
        { "a.weight", "a.scale", SW_F8_E4M3, true },
        { "a.qweight", "a.scales", SW_I32, true },
        { "a.weight", "a.scales", SW_U32, true },
        { "a.weight", "a.SCB", SW_I8, true },
        { "a.weight", "a.weight.absmax", SW_U8, true },
        { "a.bias", "a.weight_scale", SW_F8_E8M0, false },
    };

    for (size_t i = 0; i < COUNT(pairs); i++) {
        test_case k = { .what = pairs[i].scale,
                        .cast = NO,
                        .dequantize = SW_F32,
                        .tensors = { { pairs[i].tensor, pairs[i].dtype, 2, { 2, 2 }, NULL },
                                     { pairs[i].scale, SW_F32, 2, { 2, 1 }, NULL },
                                     { "n", SW_I64, 1, { 1 }, NULL } },
                        .want = "it cannot be dequantized by 'a",
                        .blame = pairs[i].tensor,
                        .code = SW_EINPUT };
        char all[128];

        snprintf(all, sizeof all, "%s %s [2,2]; %s F32 [2,1]; n I64 [1]", pairs[i].tensor,
                 sw_dtype_name(pairs[i].dtype), pairs[i].scale);
        if (!pairs[i].refused) {
            k.want = all;
            k.warnings = NOTHING;
            k.blame = NULL;
            k.code = SW_OK;
        }
        run_cases(&k, 1);
        k.tensors[0].as = k.tensors[1].as = OUT;
        k.want = "n I64 [1]";
        k.warnings = NOTHING;
        k.blame = NULL;
        k.code = SW_OK;
        run_cases(&k, 1);
    }
}

/* ---- MXFP4 ----------------------------------------------------------------------------------- */

static const test_case mxfp4_cases[] = {
    { .what = "blocks and their scales, transposed",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "m.up_blocks", SW_U8, 4, { 2, 3, 5, 16 }, NULL },
                   { "m.up_scales", SW_U8, 3, { 2, 3, 5 }, NULL },
                   { "m.up_bias", SW_F32, 2, { 2, 3 }, NULL } },
      .want = "m.up BF16 [2,160,3] mxfp4 of m.up_blocks by m.up_scales; m.up_bias F32 [2,3]",
      .warnings = "" },
    { .what = "sorted by the new name, dims of the neighbours in place",
      .cast = SW_F16,
      .dequantize = SW_F32,
      .tensors = { { "a", SW_F32, 2, { 7, 9 }, NULL },
                   { "x.b", SW_F16, 3, { 4, 5, 6 }, NULL },
                   { "x_blocks", SW_U8, 4, { 1, 1, 1, 16 }, NULL },
                   { "x_a", SW_I8, 4, { 1, 2, 3, 4 }, NULL },
                   { "x_scales", SW_U8, 3, { 1, 1, 1 }, NULL } },
      .want = "a F16 [7,9] cast; x F32 [1,32,1] mxfp4 of x_blocks by x_scales; x.b F16 [4,5,6]; x_a I8 "
              "[1,2,3,4]",
      .warnings = "" },
    { .what = "renamed, with one prefix for both or not",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a_blocks", SW_U8, 4, { 1, 2, 1, 16 }, "z.a_blocks" },
                   { "a_scales", SW_U8, 3, { 1, 2, 1 }, "elsewhere" },
                   { "b_blocks", SW_U8, 4, { 1, 2, 1, 16 }, "c" },
                   { "b_scales", SW_U8, 3, { 1, 2, 1 }, OUT } },
      .want =
          "c BF16 [1,32,2] mxfp4 of b_blocks by b_scales; z.a BF16 [1,32,2] mxfp4 of a_blocks by a_scales",
      .warnings = "" },
    { .what = "empty ones",
      .cast = NO,
      .dequantize = SW_F16,
      .tensors = { { "a_blocks", SW_U8, 4, { 0, 2, 3, 16 }, NULL },
                   { "a_scales", SW_U8, 3, { 0, 2, 3 }, NULL },
                   { "b_blocks", SW_U8, 4, { 2, 0, 3, 16 }, NULL },
                   { "b_scales", SW_U8, 3, { 2, 0, 3 }, NULL },
                   { "c_blocks", SW_U8, 4, { 2, 3, 0, 16 }, NULL },
                   { "c_scales", SW_U8, 3, { 2, 3, 0 }, NULL } },
      .want = "a F16 [0,96,2] mxfp4 of a_blocks by a_scales; b F16 [2,96,0] mxfp4 of b_blocks by b_scales; c "
              "F16 [2,0,3] mxfp4 of c_blocks by c_scales",
      .warnings = "" },
    { .what = "left out",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a_blocks", SW_U8, 4, { 1, 2, 1, 16 }, OUT },
                   { "a_scales", SW_U8, 3, { 1, 2, 1 }, NULL },
                   { "b_blocks", SW_U8, 4, { 1, 2, 1, 16 }, OUT },
                   { "b_scales", SW_U8, 3, { 1, 2, 1 }, OUT },
                   { "c_scales", SW_U8, 3, { 1, 2, 1 }, OUT },
                   { "d", SW_U8, 1, { 1 }, NULL } },
      .want = "d U8 [1]",
      .warnings = NOTHING },
    { .what = "only scales are left",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a_blocks", SW_U8, 4, { 1, 2, 1, 16 }, OUT },
                   { "a_scales", SW_U8, 3, { 1, 2, 1 }, NULL } },
      .want = "only scales",
      .code = SW_EUSAGE },
    { .what = "nothing is left of a name",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a_blocks", SW_U8, 4, { 1, 2, 1, 16 }, "_blocks" },
                   { "a_scales", SW_U8, 3, { 1, 2, 1 }, NULL } },
      .want = "nothing is left",
      .blame = "a_blocks",
      .code = SW_EUSAGE },
    { .what = "blocks of another form are refused: too narrow ones,",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a_blocks", SW_U8, 4, { 1, 2, 1, 15 }, NULL },
                   { "a_scales", SW_U8, 3, { 1, 2, 1 }, NULL } },
      .want = "U8 of shape [1, 2, 1] does not scale 'a_blocks', U8 of shape [1, 2, 1, 15]",
      .blame = "a_scales",
      .code = SW_EINPUT },
    { .what = "of another dtype,",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "b_blocks", SW_I8, 4, { 1, 2, 1, 16 }, NULL },
                   { "b_scales", SW_U8, 3, { 1, 2, 1 }, NULL } },
      .want = "does not scale 'b_blocks', I8",
      .blame = "b_scales",
      .code = SW_EINPUT },
    { .what = "without experts",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "c_blocks", SW_U8, 3, { 2, 1, 16 }, NULL }, { "c_scales", SW_U8, 2, { 2, 1 }, NULL } },
      .want = "does not scale 'c_blocks'",
      .blame = "c_scales",
      .code = SW_EINPUT },
    { .what = "blocks without scales stay, and so does what is of numbers",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "c_blocks", SW_BF16, 3, { 2, 1, 16 }, NULL },
                   { "c_scales", SW_BF16, 2, { 2, 1 }, NULL },
                   { "d_blocks", SW_U8, 4, { 1, 2, 1, 16 }, NULL } },
      .want = "c_blocks BF16 [2,1,16]; c_scales BF16 [2,1]; d_blocks U8 [1,2,1,16]",
      .warnings =
          "1 tensors of blocks have no scales (X_scales for X_blocks) and stay as they are, the first is "
          "'d_blocks'\n" },
    { .what = "scales of something else",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a_scales", SW_F32, 1, { 4 }, NULL }, { "b_scales", SW_U8, 2, { 4, 4 }, NULL } },
      .want = "a_scales F32 [4]; b_scales U8 [4,4]",
      .warnings = NOTHING },
    { .what = "scales without their blocks",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a_scales", SW_U8, 3, { 1, 2, 1 }, NULL } },
      .want = "scales without their blocks",
      .blame = "a_scales",
      .code = SW_EINPUT },
    { .what = "scales of another shape",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a_blocks", SW_U8, 4, { 1, 2, 1, 16 }, NULL },
                   { "a_scales", SW_U8, 3, { 1, 1, 2 }, NULL } },
      .want = "U8 of shape [1, 1, 2] does not scale 'a_blocks', U8 of shape [1, 2, 1, 16]",
      .blame = "a_scales",
      .code = SW_EINPUT },
    { .what = "scales for another number of columns",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a_blocks", SW_U8, 4, { 1, 2, 2, 16 }, NULL },
                   { "a_scales", SW_U8, 3, { 1, 2, 1 }, NULL } },
      .want = "does not scale 'a_blocks'",
      .blame = "a_scales",
      .code = SW_EINPUT },
    { .what = "scales of another number of dimensions",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a_blocks", SW_U8, 4, { 1, 2, 1, 16 }, NULL },
                   { "a_scales", SW_U8, 4, { 1, 2, 1, 1 }, NULL } },
      .want = "does not scale 'a_blocks'",
      .blame = "a_scales",
      .code = SW_EINPUT },
    { .what = "scales of another dtype",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a_blocks", SW_U8, 4, { 1, 2, 1, 16 }, NULL },
                   { "a_scales", SW_F32, 3, { 1, 2, 1 }, NULL } },
      .want = "F32 of shape [1, 2, 1] does not scale",
      .blame = "a_scales",
      .code = SW_EINPUT },
    { .what = "too many columns",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a_blocks", SW_U8, 4, { 1, 0, UINT64_C(1) << 59, 16 }, NULL },
                   { "a_scales", SW_U8, 3, { 1, 0, UINT64_C(1) << 59 }, NULL } },
      .want = "its shape overflows",
      .blame = "a_blocks",
      .code = SW_EINPUT },
    { .what = "too many elements",
      .cast = NO,
      .dequantize = SW_F32,
      .tensors = { { "a_blocks", SW_U8, 4, { UINT64_C(1) << 54, 1, 1, 16 }, NULL },
                   { "a_scales", SW_U8, 3, { UINT64_C(1) << 54, 1, 1 }, NULL } },
      .want = "its size as F32 overflows",
      .blame = "a_blocks",
      .code = SW_EINPUT },
};

TEST(mxfp4)
{
    run_cases(mxfp4_cases, COUNT(mxfp4_cases));
}

/* ---- names ----------------------------------------------------------------------------------- */

static const test_case name_cases[] = {
    { .what = "X beside X_blocks",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a", SW_BF16, 1, { 4 }, NULL },
                   { "a_blocks", SW_U8, 4, { 1, 2, 1, 16 }, NULL },
                   { "a_scales", SW_U8, 3, { 1, 2, 1 }, NULL } },
      .want = "would be written as 'a', and so would 'a'",
      .blame = "a_blocks",
      .code = SW_EUSAGE },
    { .what = "X beside X_blocks that stays as it is",
      .cast = NO,
      .dequantize = NO,
      .tensors = { { "a", SW_BF16, 1, { 4 }, NULL }, { "a_blocks", SW_U8, 4, { 1, 2, 1, 16 }, NULL } },
      .want = "a BF16 [4]; a_blocks U8 [1,2,1,16]",
      .warnings = "" },
    { .what = "X that is left out beside X_blocks",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a", SW_BF16, 1, { 4 }, OUT },
                   { "a_blocks", SW_U8, 4, { 1, 2, 1, 16 }, NULL },
                   { "a_scales", SW_U8, 3, { 1, 2, 1 }, NULL } },
      .want = "a BF16 [1,32,2] mxfp4 of a_blocks by a_scales",
      .warnings = "" },
    { .what = "another that gets the name of X",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "b", SW_BF16, 1, { 4 }, "a" },
                   { "a_blocks", SW_U8, 4, { 1, 2, 1, 16 }, NULL },
                   { "a_scales", SW_U8, 3, { 1, 2, 1 }, NULL } },
      .want = "would be written as 'a', and so would 'a_blocks'",
      .blame = "b",
      .code = SW_EUSAGE },
    { .what = "a scale leaves its name to others",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "a_blocks", SW_U8, 4, { 1, 2, 1, 16 }, NULL },
                   { "a_scales", SW_U8, 3, { 1, 2, 1 }, NULL },
                   { "b", SW_F32, 1, { 4 }, "a_scales" } },
      .want = "a BF16 [1,32,2] mxfp4 of a_blocks by a_scales; a_scales F32 [4] of b",
      .warnings = "" },
    { .what = "a name that headers keep for themselves",
      .cast = NO,
      .dequantize = SW_BF16,
      .tensors = { { "__metadata___blocks", SW_U8, 4, { 1, 2, 1, 16 }, NULL },
                   { "__metadata___scales", SW_U8, 3, { 1, 2, 1 }, NULL } },
      .want = "would be written as '__metadata__'",
      .blame = "__metadata___blocks",
      .code = SW_EUSAGE },
    { .what = "names that change places",
      .cast = NO,
      .dequantize = NO,
      .tensors = { { "a", SW_F32, 1, { 4 }, "b" },
                   { "b", SW_I8, 2, { 2, 2 }, "c" },
                   { "c", SW_U8, 0, { 0 }, "a" } },
      .want = "a U8 [] of c; b F32 [4] of a; c I8 [2,2] of b",
      .warnings = "" },
    { .what = "a name that begins another",
      .cast = NO,
      .dequantize = NO,
      .tensors = { { "a", SW_U8, 0, { 0 }, "ab" },
                   { "b", SW_U8, 0, { 0 }, "a" },
                   { "c", SW_U8, 0, { 0 }, "a.b" },
                   { "d", SW_U8, 0, { 0 }, "\303\251" } },
      .want = "a U8 [] of b; a.b U8 [] of c; ab U8 [] of a; \303\251 U8 [] of d",
      .warnings = "" },
};

TEST(names)
{
    run_cases(name_cases, COUNT(name_cases));
}

/* A layout by the numbers in file names looks at the files and at each tensor's number. */
TEST(files_and_models)
{
    static const test_box boxes[] = { { "a", 0, SW_F32, 1, { 0 }, { 2 } },
                                      { "b", 1, SW_F32, 1, { 0 }, { 3 } } };
    static char first[] = "z", second[] = "y";
    char *const names[] = { first, second };
    const sw_value_rule rule = { SW_F64, NO, NULL, NULL };
    sw_buf warnings = SW_BUF_INIT;
    sw_status st = SW_STATUS_INIT;
    sw_outputs o;
    sw_catalog c;

    assert_int_equal(test_catalog(boxes, 2, 2, 1, &c, &st), SW_OK);
    c.tensors[0].model = 7;
    c.tensors[1].model = 5;
    assert_int_equal(sw_outputs_build(&c, names, &rule, &warnings, &o, &st), SW_OK);
    assert_ptr_equal(o.view.files, c.files);
    assert_int_equal(o.view.nfiles, 2);
    assert_string_equal(o.view.tensors[0].name, "y");
    assert_int_equal(o.view.tensors[0].model, 5);
    assert_int_equal(o.view.tensors[1].model, 7);
    assert_int_equal(sw_output_element(&o, 0), 8);
    assert_null(warnings.data);
    sw_outputs_release(&o);
    sw_buf_release(&warnings);
    sw_catalog_release(&c);
}
