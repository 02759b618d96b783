/* What is written: dtypes by mapping and cast, quantized tensors and their scales, names and
 * shapes. Each case is a list of tensors, and all that comes of them as one text. */
#include "plan/outputs.h"
#include "plan_help.h"

#define MAX 8
#define NO SW_NDTYPES

typedef struct fixture {
    sw_catalog c;
    char saved[MAX][32], as[MAX][32];
    char *names[MAX];
} fixture;

/* One "NAME DTYPE [DIMS]", and " as NAME" or " out": what it is called in the output, if not the
 * same. Returns what follows. */
static const char *read_tensor(const char *text, test_box *b, char *name, char *as)
{
    char dtype[16], *end;
    int n = 0;

    if (sscanf(text, "%31s %15s [%n", name, dtype, &n) != 2 || n == 0)
        fail_msg("no tensor: '%s'", text);
    *b = (test_box){ .name = name };
    assert_true(sw_dtype_parse(dtype, strlen(dtype), &b->dtype));
    for (text += n; *text != ']'; text = *end == ',' ? end + 1 : end)
        b->shape[b->ndim++] = strtoull(text, &end, 10);
    strcpy(as, name);
    n = 0;
    if (sscanf(++text, " as %31[^;]%n", as, &n) < 1 && strncmp(text, " out", 4) == 0) {
        as[0] = '\0';
        n = 4;
    }
    return text + n + strspn(text + n, "; ");
}

static void make(fixture *f, const char *tensors, int nranks)
{
    sw_status st = SW_STATUS_INIT;
    test_box boxes[MAX];
    size_t n = 0;

    memset(f, 0, sizeof *f);
    for (; *tensors; n++) {
        assert_true(n < MAX);
        tensors = read_tensor(tensors, &boxes[n], f->saved[n], f->as[n]);
    }
    if (test_catalog(boxes, n, 1, nranks, &f->c, &st))
        fail_msg("'%s': %s", st.tensor, st.reason);
    for (uint32_t i = 0; i < f->c.ntensors; i++)
        for (size_t k = 0; k < n; k++)
            if (strcmp(f->c.tensors[i].name, f->saved[k]) == 0 && f->as[k][0])
                f->names[i] = f->as[k];
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
    const char *tensors;  /* what is saved, see read_tensor() */
    const char *want;     /* the outputs, or what the error says */
    const char *warnings; /* all of them; NULL = none */
    const char *map;      /* JSON; NULL = none */
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
        (!st.code && strcmp(warnings.data, k->warnings ? k->warnings : "") != 0))
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
    { "as saved", NO, NO, "z F32 [2,3]; a I64 []; f F8_E4M3 [0]; q F4 [3,2]",
      .want = "a I64 []; f F8_E4M3 [0]; q F4 [3,2]; z F32 [2,3]" },
    { "restored to what the map names, in either spelling", NO, NO,
      "a F32 [4]; b BF16 [4]; c F16 [4]; d F16 []; e F64 [4]",
      .want = "a BF16 [4] cast; b F32 [4] cast; c F16 [4]; d F64 [] cast; e F64 [4]", NULL,
      "{\"a\":\"BF16\",\"b\":\"torch.float32\",\"c\":\"half\",\"d\":\"F64\",\"gone\":\"F16\"}" },
    { "what is named quantized or integer stays, and is counted once each", NO, NO,
      "a BF16 [4]; b F32 [4]; c U8 [4]; d F4 [4]; e F8_E4M3 [4]; f U8 [4]",
      .want = "a BF16 [4]; b F32 [4]; c U8 [4]; d F4 [4]; e F8_E4M3 [4]; f U8 [4]", KEPT("4"),
      "{\"a\":\"F8_E4M3\",\"b\":\"I64\",\"c\":\"bool\",\"d\":\"F4\",\"e\":\"F8_E5M2\",\"f\":\"U8\"}" },
    { "what is no number with a point is never cast to one, and not counted", NO, NO,
      "a I32 [4]; b F8_E4M3 [4]", .want = "a I32 [4]; b F8_E4M3 [4]", NULL,
      "{\"a\":\"F32\",\"b\":\"BF16\"}" },
    { "what is left out is not counted", NO, NO, "a I32 [4] out; b I32 [4]", .want = "b I32 [4]", KEPT("1"),
      "{\"a\":\"I64\",\"b\":\"I64\"}" },
    { "the map speaks of the input's names", NO, NO, "m.a F32 [4] as b; m.b F32 [4] as a",
      .want = "a F32 [4] of m.b; b BF16 [4] cast of m.a", NULL, "{\"m.a\":\"BF16\",\"b\":\"F16\"}" },
    { "a cast", SW_BF16, NO,
      "a F64 [4]; b F32 [0]; c BF16 [4]; d F16 []; e I64 [4]; f F8_E5M2 [4]; g C64 [4]",
      .want = "a BF16 [4] cast; b BF16 [0] cast; c BF16 [4]; d BF16 [] cast; e I64 [4]; f F8_E5M2 [4]; g C64 "
              "[4]" },
    { "to a wider one", SW_F64, NO, "a F64 [4]; b F16 [3,5]", .want = "a F64 [4]; b F64 [3,5] cast" },
    { "F32 by nature stays or becomes F32", SW_BF16, NO, "a F32 [4]; b F64 [4]; c F32 [4]; d F16 [4]",
      .want = "a F32 [4]; b F32 [4] cast; c BF16 [4] cast; d BF16 [4] cast", NULL,
      "{\"a\":\"F32\",\"b\":\"float\",\"c\":\"BF16\",\"d\":\"F64\"}" },
    { "a floating tensor that the map lacks makes the others F32 by nature", SW_F16, NO,
      "a BF16 [4]; b BF16 [4]", .want = "a F32 [4] cast; b F16 [4] cast", NULL, "{\"a\":\"F32\"}" },
    { "all F32 says nothing; integers and what no shard holds do not matter", SW_BF16, NO,
      "a F32 [4]; b F64 [4]; i I64 [4]; j U8 [4]",
      .want = "a BF16 [4] cast; b BF16 [4] cast; i I64 [4]; j U8 [4]", NULL,
      "{\"a\":\"F32\",\"b\":\"torch.float32\",\"i\":\"I64\",\"j\":\"BF16\",\"gone\":\"BF16\"}" },
    { "what the shards hold counts, whether it is written or not", SW_BF16, NO, "a F32 [4]; b F32 [4] out",
      .want = "a F32 [4]", NULL, "{\"a\":\"F32\",\"b\":\"BF16\"}" },
    { "a cast does not mind a map that names something quantized", SW_F16, NO, "a BF16 [4]; b U8 [4]",
      .want = "a F16 [4] cast; b U8 [4]", KEPT("1"), "{\"a\":\"F8_E4M3\",\"b\":\"I8\"}" },
    { "no dtype", NO, NO, "a F32 [4]; b F32 [4]", .want = "'float33' is not a dtype", NULL,
      "{\"a\":\"F32\",\"b\":\"float33\"}", "b", SW_EINPUT },
    { "no dtype, of an integer tensor", SW_BF16, NO, "a F32 [4]; b I8 [4]", .want = "'' is not a dtype", NULL,
      "{\"b\":\"\"}", "b", SW_EINPUT },
    { "no dtype, of a tensor that no shard holds", NO, NO, "a F32 [4]", .want = "a F32 [4]", NULL,
      "{\"b\":\"float33\"}" },
    { "nothing at all", SW_BF16, NO, "", .want = "" },
    { "all left out", SW_BF16, NO, "a F32 [4] out", .want = "" },
    { "it becomes too large", SW_F64, NO, "a BF16 [576460752303423488]", .want = "its size as F64 overflows",
      NULL, NULL, "a", SW_EINPUT },
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
    { "weights and their scales", NO, SW_BF16,
      "a.weight F8_E4M3 [300,128]; a.weight_scale_inv F32 [3,1]; b.weight F8_E5M2 [1,129]; "
      "b.weight_scale_inv BF16 [1,2]; c.weight F8_E4M3 [128,1]; c.weight_scale_inv F8_E8M0 [1,1]; n F32 [2]",
      .want = "a.weight BF16 [300,128] scaled by a.weight_scale_inv; b.weight BF16 [1,129] scaled by "
              "b.weight_scale_inv; c.weight BF16 [128,1] scaled by c.weight_scale_inv; n F32 [2]" },
    { "empty ones", NO, SW_F32,
      "a.weight F8_E4M3 [0,300]; a.weight_scale_inv F32 [0,3]; b.weight F8_E4M3 [300,0]; b.weight_scale_inv "
      "F32 [3,0]",
      .want = "a.weight F32 [0,300] scaled by a.weight_scale_inv; b.weight F32 [300,0] scaled by "
              "b.weight_scale_inv" },
    { "the cast is for the others; the map does not hinder", SW_F16, SW_F32,
      "a.weight F8_E4M3 [2,2]; a.weight_scale_inv F32 [1,1]; n BF16 [2]; o BF16 [2]",
      .want = "a.weight F32 [2,2] scaled by a.weight_scale_inv; n F16 [2] cast; o F32 [2] cast", NULL,
      "{\"a.weight\":\"F8_E4M3\",\"a.weight_scale_inv\":\"F32\",\"n\":\"BF16\",\"o\":\"F32\"}" },
    { "not asked for", SW_BF16, NO, "a.weight F8_E4M3 [2,2]; a.weight_scale_inv F32 [1,1]",
      .want = "a.weight F8_E4M3 [2,2]; a.weight_scale_inv BF16 [1,1] cast" },
    { "a cast is of scales too; a word where numbers have some", SW_BF16, NO,
      "a.weight F32 [2,2]; a.weight_scale_inv F32 [7]; b.weight I8 [2,2]; b.weight_scale F32 [2,1]; d.weight "
      "BF16 [2,2]; d.weight_scale_inv F32 [1,1]; n_scale F32 [2]",
      .want = "a.weight BF16 [2,2] cast; a.weight_scale_inv BF16 [7] cast; b.weight I8 [2,2]; b.weight_scale "
              "BF16 [2,1] "
              "cast; d.weight BF16 [2,2]; d.weight_scale_inv BF16 [1,1] cast; n_scale BF16 [2] cast",
      "2 floating-point tensors have scales and are only cast, the first is 'a.weight' with "
      "'a.weight_scale_inv': dequantize makes plain ones of them\n",
      "{\"d.weight_scale_inv\":\"F16\"}" },
    { "weights of other dtypes", SW_F16, SW_BF16,
      "a.weight I8 [300,128]; a.weight_scale_inv F16 [3,1]; b.weight BF16 [1,129]; b.weight_scale_inv F64 "
      "[1,2]; c.weight F32 [128,1]; c.weight_scale_inv F8_E4M3 [1,1]",
      .want = "a.weight BF16 [300,128] scaled by a.weight_scale_inv; b.weight BF16 [1,129] scaled by "
              "b.weight_scale_inv; c.weight BF16 [128,1] scaled by c.weight_scale_inv" },
    { "renamed", NO, SW_F16,
      "m.a.weight F8_E4M3 [2,2] as z.weight; m.a.weight_scale_inv F32 [1,1] as z.weight_scale_inv; n F32 [2]",
      .want = "n F32 [2]; z.weight F16 [2,2] scaled of m.a.weight by m.a.weight_scale_inv" },
    { "a scale that is left out scales all the same", NO, SW_BF16,
      "a.weight F8_E4M3 [2,2]; a.weight_scale_inv F32 [1,1] out",
      .want = "a.weight BF16 [2,2] scaled by a.weight_scale_inv" },
    { "a scale of a weight that is left out goes too", NO, SW_BF16,
      "a.weight F8_E4M3 [2,2] out; a.weight_scale_inv F32 [1,1]; n F32 [2]", .want = "n F32 [2]", NOTHING },
    { "without scales", NO, SW_BF16,
      "a.weight F8_E4M3 [2,2] out; b.weight F8_E4M3 [2,2]; c F8_E5M2 [2]; e8 F8_E8M0 [2]",
      .want = "b.weight F8_E4M3 [2,2]; c F8_E5M2 [2]; e8 F8_E8M0 [2]", BARE("2", "b.weight") },
    { "some without scales", NO, SW_BF16,
      "a.weight F8_E4M3 [2,2]; a.weight_scale_inv F32 [1,1]; b.weight F8_E4M3 [2,2]",
      .want = "a.weight BF16 [2,2] scaled by a.weight_scale_inv; b.weight F8_E4M3 [2,2]",
      BARE("1", "b.weight") },
    { "nothing to do", NO, SW_BF16, "a.weight F32 [2,2]; b.scale_inv F32 [2]",
      .want = "a.weight F32 [2,2]; b.scale_inv F32 [2]", NOTHING },
    { "an ending that only looks like it", NO, SW_BF16,
      "a.bias_scale_inv F32 [2]; weight_scale_inv F32 [2]; a.weight_scale_inv2 F32 [2]",
      .want = "a.bias_scale_inv F32 [2]; a.weight_scale_inv2 F32 [2]; weight_scale_inv F32 [2]", NOTHING },
    { "a scale without its weight", NO, SW_BF16, "a.weight_scale_inv F32 [1,1]; b F32 [2]",
      .want = "a scale without its weight", NULL, NULL, "a.weight_scale_inv", SW_EINPUT },
    { "a scale without its weight that is left out", NO, SW_BF16,
      "a.weight_scale_inv F32 [1,1] out; b F32 [2]", .want = "b F32 [2]", NOTHING },
    { "too many rows of scales", NO, SW_BF16, "a.weight F8_E4M3 [256,128]; a.weight_scale_inv F32 [3,1]",
      .want = "F32 of shape [3, 1] does not scale 'a.weight', F8_E4M3 of shape [256, 128]", NULL, NULL,
      "a.weight_scale_inv", SW_EINPUT },
    { "too few columns of scales", NO, SW_BF16, "a.weight F8_E4M3 [128,129]; a.weight_scale_inv F32 [1,1]",
      .want = "does not scale 'a.weight'", NULL, NULL, "a.weight_scale_inv", SW_EINPUT },
    { "scales of another number of dimensions", NO, SW_BF16,
      "a.weight F8_E4M3 [1,1]; a.weight_scale_inv F32 [1]", .want = "F32 of shape [1] does not", NULL, NULL,
      "a.weight_scale_inv", SW_EINPUT },
    { "a weight of another number of dimensions", NO, SW_BF16,
      "a.weight F8_E4M3 [1,1,1]; a.weight_scale_inv F32 [1,1]", .want = "F8_E4M3 of shape [1, 1, 1]", NULL,
      NULL, "a.weight_scale_inv", SW_EINPUT },
    { "scales of a dtype that does not scale", NO, SW_BF16,
      "a.weight F8_E4M3 [1,1]; a.weight_scale_inv I32 [1,1]", .want = "I32 of shape", NULL, NULL,
      "a.weight_scale_inv", SW_EINPUT },
    { "a weight of no numbers", NO, SW_BF16, "a.weight BOOL [1,1]; a.weight_scale_inv F32 [1,1]",
      .want = "does not scale 'a.weight', BOOL of shape [1, 1], in blocks of 128x128", NULL, NULL,
      "a.weight_scale_inv", SW_EINPUT },
    { "it becomes too large", NO, SW_F32,
      "a.weight F8_E4M3 [1073741824,1073741824]; a.weight_scale_inv F8_E8M0 [8388608,8388608]",
      .want = "its size as F32 overflows", NULL, NULL, "a.weight", SW_EINPUT },
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
        for (int out = 0; out < 2; out++) {
            char saved[128];
            test_case k = { pairs[i].scale, NO, SW_F32, saved, .want = out ? "n I64 [1]" : saved, NOTHING };

            snprintf(saved, sizeof saved, "%s %s [2,2]%s; %s F32 [2,1]%s; n I64 [1]", pairs[i].tensor,
                     sw_dtype_name(pairs[i].dtype), out ? " out" : "", pairs[i].scale, out ? " out" : "");
            if (pairs[i].refused && !out) {
                k.want = "it cannot be dequantized by 'a";
                k.blame = pairs[i].tensor;
                k.code = SW_EINPUT;
            }
            run_cases(&k, 1);
        }
    }
}

/* ---- MXFP4 ----------------------------------------------------------------------------------- */

static const test_case mxfp4_cases[] = {
    { "blocks and their scales, transposed", NO, SW_BF16,
      "m.up_blocks U8 [2,3,5,16]; m.up_scales U8 [2,3,5]; m.up_bias F32 [2,3]",
      .want = "m.up BF16 [2,160,3] mxfp4 of m.up_blocks by m.up_scales; m.up_bias F32 [2,3]" },
    { "sorted by the new name, dims of the neighbours in place", SW_F16, SW_F32,
      "a F32 [7,9]; x.b F16 [4,5,6]; x_blocks U8 [1,1,1,16]; x_a I8 [1,2,3,4]; x_scales U8 [1,1,1]",
      .want = "a F16 [7,9] cast; x F32 [1,32,1] mxfp4 of x_blocks by x_scales; x.b F16 [4,5,6]; x_a I8 "
              "[1,2,3,4]" },
    { "renamed, with one prefix for both or not", NO, SW_BF16,
      "a_blocks U8 [1,2,1,16] as z.a_blocks; a_scales U8 [1,2,1] as elsewhere; b_blocks U8 [1,2,1,16] as c; "
      "b_scales U8 [1,2,1] out",
      .want =
          "c BF16 [1,32,2] mxfp4 of b_blocks by b_scales; z.a BF16 [1,32,2] mxfp4 of a_blocks by a_scales" },
    { "empty ones", NO, SW_F16,
      "a_blocks U8 [0,2,3,16]; a_scales U8 [0,2,3]; b_blocks U8 [2,0,3,16]; b_scales U8 [2,0,3]; c_blocks U8 "
      "[2,3,0,16]; c_scales U8 [2,3,0]",
      .want = "a F16 [0,96,2] mxfp4 of a_blocks by a_scales; b F16 [2,96,0] mxfp4 of b_blocks by b_scales; c "
              "F16 [2,0,3] mxfp4 of c_blocks by c_scales" },
    { "left out", NO, SW_BF16,
      "a_blocks U8 [1,2,1,16] out; a_scales U8 [1,2,1]; b_blocks U8 [1,2,1,16] out; b_scales U8 [1,2,1] out; "
      "c_scales U8 [1,2,1] out; d U8 [1]",
      .want = "d U8 [1]", NOTHING },
    { "only scales are left", NO, SW_BF16, "a_blocks U8 [1,2,1,16] out; a_scales U8 [1,2,1]",
      .want = "only scales", NULL, NULL, NULL, SW_EUSAGE },
    { "nothing is left of a name", NO, SW_BF16, "a_blocks U8 [1,2,1,16] as _blocks; a_scales U8 [1,2,1]",
      .want = "nothing is left", NULL, NULL, "a_blocks", SW_EUSAGE },
    { "blocks of another form are refused: too narrow ones,", NO, SW_BF16,
      "a_blocks U8 [1,2,1,15]; a_scales U8 [1,2,1]",
      .want = "U8 of shape [1, 2, 1] does not scale 'a_blocks', U8 of shape [1, 2, 1, 15]", NULL, NULL,
      "a_scales", SW_EINPUT },
    { "of another dtype,", NO, SW_BF16, "b_blocks I8 [1,2,1,16]; b_scales U8 [1,2,1]",
      .want = "does not scale 'b_blocks', I8", NULL, NULL, "b_scales", SW_EINPUT },
    { "without experts", NO, SW_BF16, "c_blocks U8 [2,1,16]; c_scales U8 [2,1]",
      .want = "does not scale 'c_blocks'", NULL, NULL, "c_scales", SW_EINPUT },
    { "blocks without scales stay, and so does what is of numbers", NO, SW_BF16,
      "c_blocks BF16 [2,1,16]; c_scales BF16 [2,1]; d_blocks U8 [1,2,1,16]",
      .want = "c_blocks BF16 [2,1,16]; c_scales BF16 [2,1]; d_blocks U8 [1,2,1,16]",
      "1 tensors of blocks have no scales (X_scales for X_blocks) and stay as they are, the first is "
      "'d_blocks'\n" },
    { "scales of something else", NO, SW_BF16, "a_scales F32 [4]; b_scales U8 [4,4]",
      .want = "a_scales F32 [4]; b_scales U8 [4,4]", NOTHING },
    { "scales without their blocks", NO, SW_BF16, "a_scales U8 [1,2,1]",
      .want = "scales without their blocks", NULL, NULL, "a_scales", SW_EINPUT },
    { "scales of another shape", NO, SW_BF16, "a_blocks U8 [1,2,1,16]; a_scales U8 [1,1,2]",
      .want = "U8 of shape [1, 1, 2] does not scale 'a_blocks', U8 of shape [1, 2, 1, 16]", NULL, NULL,
      "a_scales", SW_EINPUT },
    { "scales for another number of columns", NO, SW_BF16, "a_blocks U8 [1,2,2,16]; a_scales U8 [1,2,1]",
      .want = "does not scale 'a_blocks'", NULL, NULL, "a_scales", SW_EINPUT },
    { "scales of another number of dimensions", NO, SW_BF16, "a_blocks U8 [1,2,1,16]; a_scales U8 [1,2,1,1]",
      .want = "does not scale 'a_blocks'", NULL, NULL, "a_scales", SW_EINPUT },
    { "scales of another dtype", NO, SW_BF16, "a_blocks U8 [1,2,1,16]; a_scales F32 [1,2,1]",
      .want = "F32 of shape [1, 2, 1] does not scale", NULL, NULL, "a_scales", SW_EINPUT },
    { "too many columns", NO, SW_BF16,
      "a_blocks U8 [1,0,576460752303423488,16]; a_scales U8 [1,0,576460752303423488]",
      .want = "its shape overflows", NULL, NULL, "a_blocks", SW_EINPUT },
    { "too many elements", NO, SW_F32,
      "a_blocks U8 [18014398509481984,1,1,16]; a_scales U8 [18014398509481984,1,1]",
      .want = "its size as F32 overflows", NULL, NULL, "a_blocks", SW_EINPUT },
};

TEST(mxfp4)
{
    run_cases(mxfp4_cases, COUNT(mxfp4_cases));
}

/* ---- names ----------------------------------------------------------------------------------- */

static const test_case name_cases[] = {
    { "X beside X_blocks", NO, SW_BF16, "a BF16 [4]; a_blocks U8 [1,2,1,16]; a_scales U8 [1,2,1]",
      .want = "would be written as 'a', and so would 'a'", NULL, NULL, "a_blocks", SW_EUSAGE },
    { "X beside X_blocks that stays as it is", NO, NO, "a BF16 [4]; a_blocks U8 [1,2,1,16]",
      .want = "a BF16 [4]; a_blocks U8 [1,2,1,16]" },
    { "X that is left out beside X_blocks", NO, SW_BF16,
      "a BF16 [4] out; a_blocks U8 [1,2,1,16]; a_scales U8 [1,2,1]",
      .want = "a BF16 [1,32,2] mxfp4 of a_blocks by a_scales" },
    { "another that gets the name of X", NO, SW_BF16,
      "b BF16 [4] as a; a_blocks U8 [1,2,1,16]; a_scales U8 [1,2,1]",
      .want = "would be written as 'a', and so would 'a_blocks'", NULL, NULL, "b", SW_EUSAGE },
    { "a scale leaves its name to others", NO, SW_BF16,
      "a_blocks U8 [1,2,1,16]; a_scales U8 [1,2,1]; b F32 [4] as a_scales",
      .want = "a BF16 [1,32,2] mxfp4 of a_blocks by a_scales; a_scales F32 [4] of b" },
    { "a name that headers keep for themselves", NO, SW_BF16,
      "__metadata___blocks U8 [1,2,1,16]; __metadata___scales U8 [1,2,1]",
      .want = "would be written as '__metadata__'", NULL, NULL, "__metadata___blocks", SW_EUSAGE },
    { "names that change places", NO, NO, "a F32 [4] as b; b I8 [2,2] as c; c U8 [] as a",
      .want = "a U8 [] of c; b F32 [4] of a; c I8 [2,2] of b" },
    { "a name that begins another", NO, NO,
      "a U8 [] as ab; b U8 [] as a; c U8 [] as a.b; d U8 [] as \303\251",
      .want = "a U8 [] of b; a.b U8 [] of c; ab U8 [] of a; \303\251 U8 [] of d" },
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
