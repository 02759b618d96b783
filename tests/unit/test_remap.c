/* Maps of the input or of the output, made to speak of what is written: renamed, left out and
 * joined tensors, names that no shard holds, and the file names of diffusers. */
#include "plan/outmaps.h"
#include "plan_help.h"

#define MAX 8
#define OUT "-"

typedef struct test_case {
    const char *what;
    const char *tensors[MAX]; /* "name" or "name>output"; the output "-" = left out */
    const char *map;          /* JSON */
    const char *want;         /* "key=value" for each item */
    uint64_t largest;
    bool by_input, texts, diffusers, dequantize;
} test_case;

/* What the tensors of each name's ending are: parts of an MXFP4 or FP8 tensor, or any tensor. */
static test_box box_of(const char *name)
{
    if (sw_name_ends_with(name, "_blocks"))
        return (test_box){ name, 0, SW_U8, 4, { 0 }, { 1, 2, 1, 16 } };
    if (sw_name_ends_with(name, "_scales"))
        return (test_box){ name, 0, SW_U8, 3, { 0 }, { 1, 2, 1 } };
    if (sw_name_ends_with(name, ".weight"))
        return (test_box){ name, 0, SW_F8_E4M3, 2, { 0 }, { 3, 2 } };
    if (sw_name_ends_with(name, "_scale_inv"))
        return (test_box){ name, 0, SW_F32, 2, { 0 }, { 1, 1 } };
    return (test_box){ name, 0, SW_F16, 1, { 0 }, { 5 } };
}

typedef struct fixture {
    char text[MAX][64];
    char *output[MAX]; /* of tensor k of the case: behind '>' in text */
    sw_catalog c;
    char *names[MAX]; /* in the order of the catalogue */
    sw_outputs o;
} fixture;

static void make(fixture *f, const test_case *k)
{
    const sw_value_rule rule = { SW_NDTYPES, k->dequantize ? SW_BF16 : SW_NDTYPES, NULL, NULL };
    sw_buf warnings = SW_BUF_INIT;
    sw_status st = SW_STATUS_INIT;
    test_box boxes[MAX];
    size_t n = 0;

    memset(f, 0, sizeof *f);
    for (; n < MAX && k->tensors[n]; n++) {
        char *mark;

        snprintf(f->text[n], sizeof f->text[n], "%s", k->tensors[n]);
        mark = strchr(f->text[n], '>');
        if (mark)
            *mark = '\0';
        f->output[n] = mark ? mark + 1 : f->text[n];
        boxes[n] = box_of(f->text[n]);
    }
    assert_int_equal(test_catalog(boxes, n, 1, 1, &f->c, &st), SW_OK);
    for (size_t i = 0; i < n; i++) {
        const sw_tensor *t = sw_catalog_find_tensor(&f->c, f->text[i]);

        f->names[t - f->c.tensors] = strcmp(f->output[i], OUT) == 0 ? NULL : f->output[i];
    }
    if (sw_outputs_build(&f->c, f->names, &rule, &warnings, &f->o, &st))
        fail_msg("%s: '%s': %s", k->what, st.tensor, st.reason);
    sw_buf_release(&warnings);
}

static void describe(const sw_map *map, sw_buf *text)
{
    sw_status st = SW_STATUS_INIT;

    sw_buf_addf(text, &st, "%s", "");
    for (size_t i = 0; i < map->n; i++) {
        const sw_map_item *item = &map->items[i];

        if (item->text)
            sw_buf_addf(text, &st, "%s%s=%s", i ? ", " : "", item->key, item->text);
        else
            sw_buf_addf(text, &st, "%s%s=%d", i ? ", " : "", item->key, (int)item->number);
        assert_ptr_equal(sw_map_find(map, item->key), item);
    }
    assert_int_equal(st.code, SW_OK);
}

static void run_case(const test_case *k)
{
    sw_buf text = SW_BUF_INIT;
    sw_status st = SW_STATUS_INIT;
    uint64_t largest = 77;
    sw_map map, out;
    sw_remap remap;
    fixture f;

    make(&f, k);
    remap = (sw_remap){ &f.o, f.names, k->by_input, k->diffusers };
    assert_int_equal(
        (k->texts ? sw_map_parse_texts : sw_map_parse_numbers)(k->map, strlen(k->map), "m", &map, &st),
        SW_OK);
    memset(&out, 0x55, sizeof out);
    assert_int_equal(sw_map_for_outputs(&remap, &map, &out, &largest, &st), SW_OK);
    describe(&out, &text);
    if (strcmp(text.data, k->want) != 0 || largest != k->largest)
        fail_msg("%s: '%s', largest %d", k->what, text.data, (int)largest);
    sw_map_release(&out);
    sw_map_release(&map);
    sw_buf_release(&text);
    sw_outputs_release(&f.o);
    sw_catalog_release(&f.c);
}

static void run_cases(const test_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++)
        run_case(&cases[i]);
}

/* ---- names ----------------------------------------------------------------------------------- */

static const test_case name_cases[] = {
    { .what = "nothing to change, by input",
      .tensors = { "a", "b" },
      .map = "{\"b\":3,\"a\":1}",
      .want = "a=1, b=3",
      .largest = 3,
      .by_input = true },
    { .what = "nothing to change, by output",
      .tensors = { "a", "b" },
      .map = "{\"b\":3,\"a\":1}",
      .want = "a=1, b=3",
      .largest = 3 },
    { .what = "renamed, by input: sorted by the new names",
      .tensors = { "m.a>z", "m.b>y", "m.c" },
      .map = "{\"m.a\":1,\"m.b\":2,\"m.c\":3}",
      .want = "m.c=3, y=2, z=1",
      .largest = 3,
      .by_input = true },
    { .what = "renamed, by output: the old names are those of nothing",
      .tensors = { "m.a>a", "m.b>b" },
      .map = "{\"a\":1,\"b\":2,\"m.b\":9}",
      .want = "a=1, b=2, m.b=9",
      .largest = 9 },
    { .what = "names that change places, by input",
      .tensors = { "a>b", "b>a" },
      .map = "{\"a\":1,\"b\":2}",
      .want = "a=2, b=1",
      .largest = 2,
      .by_input = true },
    { .what = "names that change places, by output",
      .tensors = { "a>b", "b>a" },
      .map = "{\"a\":1,\"b\":2}",
      .want = "a=1, b=2",
      .largest = 2 },
    { .what = "left out, by input",
      .tensors = { "a", "b>-", "c" },
      .map = "{\"a\":1,\"b\":5,\"c\":2}",
      .want = "a=1, c=2",
      .largest = 5,
      .by_input = true },
    { .what = "left out, by output: what was asked not to be written is not missed",
      .tensors = { "a", "b>-", "c" },
      .map = "{\"a\":1,\"b\":5,\"c\":2}",
      .want = "a=1, c=2",
      .largest = 5 },
    { .what = "left out, and another has its name now: by output",
      .tensors = { "a>-", "b>a" },
      .map = "{\"a\":4}",
      .want = "a=4",
      .largest = 4 },
    { .what = "left out, and another has its name now: by input",
      .tensors = { "a>-", "b>a" },
      .map = "{\"a\":4,\"b\":2}",
      .want = "a=2",
      .largest = 4,
      .by_input = true },
    { .what = "not held: it stays, so that it can be told of",
      .tensors = { "m.b>b" },
      .map = "{\"a\":7,\"m.b\":1,\"z\":2}",
      .want = "a=7, b=1, z=2",
      .largest = 7,
      .by_input = true },
    { .what = "not held, but the name of an output: the held one wins",
      .tensors = { "m.a>a" },
      .map = "{\"a\":9,\"m.a\":1}",
      .want = "a=1",
      .largest = 9,
      .by_input = true },
    { .what = "not held, the name of an output that the map lacks: it stays missing",
      .tensors = { "m.a>a", "b" },
      .map = "{\"a\":9,\"b\":1}",
      .want = "b=1",
      .largest = 9,
      .by_input = true },
    { .what = "a tensor that the map lacks",
      .tensors = { "a", "b" },
      .map = "{\"a\":1}",
      .want = "a=1",
      .largest = 1 },
    { .what = "a map of nothing", .tensors = { "a", "b" }, .map = "{}", .want = "" },
    { .what = "a map of nothing, by input", .tensors = { "a" }, .map = "{}", .want = "", .by_input = true },
    { .what = "no tensors", .map = "{\"b\":2,\"a\":1}", .want = "a=1, b=2", .largest = 2, .by_input = true },
};

TEST(names)
{
    run_cases(name_cases, COUNT(name_cases));
}

/* ---- quantized tensors ----------------------------------------------------------------------- */

static const test_case quantized_cases[] = {
    { .what = "scales go",
      .tensors = { "a.weight", "a.weight_scale_inv", "n" },
      .map = "{\"a.weight\":1,\"a.weight_scale_inv\":3,\"n\":2}",
      .want = "a.weight=1, n=2",
      .largest = 3,
      .by_input = true,
      .dequantize = true },
    { .what = "scales go, by output too",
      .tensors = { "m.a.weight>a.weight", "m.a.weight_scale_inv>a.weight_scale_inv", "n" },
      .map = "{\"a.weight\":1,\"a.weight_scale_inv\":3,\"n\":2}",
      .want = "a.weight=1, n=2",
      .largest = 3,
      .dequantize = true },
    { .what = "scales that are written stay",
      .tensors = { "a.weight", "a.weight_scale_inv" },
      .map = "{\"a.weight\":1,\"a.weight_scale_inv\":3}",
      .want = "a.weight=1, a.weight_scale_inv=3",
      .largest = 3,
      .by_input = true },
    { .what = "scales that are left out go",
      .tensors = { "a.weight", "a.weight_scale_inv>-" },
      .map = "{\"a.weight\":1,\"a.weight_scale_inv\":3}",
      .want = "a.weight=1",
      .largest = 3,
      .dequantize = true },
    { .what = "X stands where X_blocks was, by input",
      .tensors = { "a_blocks", "a_scales" },
      .map = "{\"a_blocks\":2,\"a_scales\":3}",
      .want = "a=2",
      .largest = 3,
      .by_input = true,
      .dequantize = true },
    { .what = "X stands where X_blocks was, by output",
      .tensors = { "m.a_blocks>a_blocks", "m.a_scales>a_scales" },
      .map = "{\"a_blocks\":2,\"a_scales\":3}",
      .want = "a=2",
      .largest = 3,
      .dequantize = true },
    { .what = "X stands where X is, by input",
      .tensors = { "m.a_blocks>a_blocks", "m.a_scales>a_scales" },
      .map = "{\"m.a\":2}",
      .want = "a=2",
      .largest = 2,
      .by_input = true,
      .dequantize = true },
    { .what = "X stands where X is, by output",
      .tensors = { "m.a_blocks>a_blocks", "m.a_scales>a_scales" },
      .map = "{\"a\":2}",
      .want = "a=2",
      .largest = 2,
      .dequantize = true },
    { .what = "both are named: by input X_blocks is what is held",
      .tensors = { "a_blocks", "a_scales" },
      .map = "{\"a\":1,\"a_blocks\":2}",
      .want = "a=2",
      .largest = 2,
      .by_input = true,
      .dequantize = true },
    { .what = "both are named: by output X is what is written",
      .tensors = { "a_blocks", "a_scales" },
      .map = "{\"a\":1,\"a_blocks\":2}",
      .want = "a=1",
      .largest = 2,
      .dequantize = true },
    { .what = "blocks that are written as they are",
      .tensors = { "a_blocks", "a_scales" },
      .map = "{\"a\":1,\"a_blocks\":2,\"a_scales\":2}",
      .want = "a=1, a_blocks=2, a_scales=2",
      .largest = 2,
      .by_input = true },
    { .what = "blocks that are left out",
      .tensors = { "a_blocks>-", "a_scales", "b" },
      .map = "{\"a_blocks\":2,\"a_scales\":2,\"b\":1}",
      .want = "b=1",
      .largest = 2,
      .by_input = true,
      .dequantize = true },
    { .what = "the name of a scale that another has now, by output",
      .tensors = { "a_blocks", "a_scales", "b>a_scales" },
      .map = "{\"a\":2,\"a_scales\":1}",
      .want = "a=2, a_scales=1",
      .largest = 2,
      .dequantize = true },
    { .what = "names that have lost their ending",
      .tensors = { "a_blocks>b", "a_scales>s" },
      .map = "{\"a_blocks\":2,\"a_scales\":1}",
      .want = "b=2",
      .largest = 2,
      .by_input = true,
      .dequantize = true },
};

TEST(quantized)
{
    run_cases(quantized_cases, COUNT(quantized_cases));
}

/* ---- file names ------------------------------------------------------------------------------ */

static const test_case text_cases[] = {
    { .what = "texts come along as they are",
      .tensors = { "m.a>a", "b>-", "c" },
      .map =
          "{\"m.a\":\"x/y.safetensors\",\"b\":\"b\",\"c\":\"model-00001-of-00002.safetensors\",\"d\":\"\"}",
      .want = "a=x/y.safetensors, c=model-00001-of-00002.safetensors, d=",
      .by_input = true,
      .texts = true },
    { .what = "the usual names take the other stem",
      .tensors = { "a", "b", "c" },
      .map = "{\"a\":\"model-00001-of-00002.safetensors\",\"b\":\"model.safetensors\","
             "\"c\":\"model-100000-of-100001.safetensors\",\"unheld\":\"model-00002-of-00002.safetensors\"}",
      .want = "a=diffusion_pytorch_model-00001-of-00002.safetensors, "
              "b=diffusion_pytorch_model.safetensors, "
              "c=diffusion_pytorch_model-100000-of-100001.safetensors, "
              "unheld=diffusion_pytorch_model-00002-of-00002.safetensors",
      .by_input = true,
      .texts = true,
      .diffusers = true },
    { .what = "others do not",
      .tensors = { "a", "b", "c", "d", "e", "f" },
      .map = "{\"a\":\"diffusion_pytorch_model-00001-of-00002.safetensors\","
             "\"b\":\"sub/model-00001-of-00002.safetensors\",\"c\":\"model-1-of-2.safetensors\","
             "\"d\":\"model\",\"e\":\"model.safetensors-00001-of-00094.safetensors\","
             "\"f\":\"diffusion_pytorch_model.safetensors\"}",
      .want = "a=diffusion_pytorch_model-00001-of-00002.safetensors, "
              "b=sub/model-00001-of-00002.safetensors, c=model-1-of-2.safetensors, d=model, "
              "e=model.safetensors-00001-of-00094.safetensors, f=diffusion_pytorch_model.safetensors",
      .by_input = true,
      .texts = true,
      .diffusers = true },
    { .what = "numbers have no stem",
      .tensors = { "a" },
      .map = "{\"a\":2}",
      .want = "a=2",
      .largest = 2,
      .by_input = true,
      .diffusers = true },
};

TEST(texts)
{
    run_cases(text_cases, COUNT(text_cases));
}
