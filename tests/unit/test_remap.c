/* Maps of the input or of the output, made to speak of what is written: renamed, left out and
 * joined tensors, names that no shard holds, and the file names of diffusers. */
#include "plan/outmaps.h"
#include "plan_help.h"

#define MAX 8
#define OUT "-"

typedef struct test_case {
    const char *what;
    const char *tensors; /* "name" or "name>output" of each; the output "-" = left out */
    const char *map;     /* JSON */
    const char *want;    /* "key=value" for each item */
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
    for (const char *at = k->tensors; *at; at += strcspn(at, " "), at += *at == ' ', n++) {
        char *mark;

        assert_true(n < MAX);
        snprintf(f->text[n], sizeof f->text[n], "%.*s", (int)strcspn(at, " "), at);
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
    { "nothing to change, by input", "a b", "{\"b\":3,\"a\":1}", "a=1, b=3", .largest = 3, .by_input = true },
    { "nothing to change, by output", "a b", "{\"b\":3,\"a\":1}", "a=1, b=3", .largest = 3 },
    { "renamed, by input: sorted by the new names", "m.a>z m.b>y m.c", "{\"m.a\":1,\"m.b\":2,\"m.c\":3}",
      "m.c=3, y=2, z=1", .largest = 3, .by_input = true },
    { "renamed, by output: the old names are those of nothing", "m.a>a m.b>b", "{\"a\":1,\"b\":2,\"m.b\":9}",
      "a=1, b=2, m.b=9", .largest = 9 },
    { "names that change places, by input", "a>b b>a", "{\"a\":1,\"b\":2}", "a=2, b=1", .largest = 2,
      .by_input = true },
    { "names that change places, by output", "a>b b>a", "{\"a\":1,\"b\":2}", "a=1, b=2", .largest = 2 },
    { "left out, by input", "a b>- c", "{\"a\":1,\"b\":5,\"c\":2}", "a=1, c=2", .largest = 5,
      .by_input = true },
    { "left out, by output: what was asked not to be written is not missed", "a b>- c",
      "{\"a\":1,\"b\":5,\"c\":2}", "a=1, c=2", .largest = 5 },
    { "left out, and another has its name now: by output", "a>- b>a", "{\"a\":4}", "a=4", .largest = 4 },
    { "left out, and another has its name now: by input", "a>- b>a", "{\"a\":4,\"b\":2}", "a=2", .largest = 4,
      .by_input = true },
    { "not held: it stays, so that it can be told of", "m.b>b", "{\"a\":7,\"m.b\":1,\"z\":2}",
      "a=7, b=1, z=2", .largest = 7, .by_input = true },
    { "not held, but the name of an output: the held one wins", "m.a>a", "{\"a\":9,\"m.a\":1}", "a=1",
      .largest = 9, .by_input = true },
    { "not held, the name of an output that the map lacks: it stays missing", "m.a>a b", "{\"a\":9,\"b\":1}",
      "b=1", .largest = 9, .by_input = true },
    { "a tensor that the map lacks", "a b", "{\"a\":1}", "a=1", .largest = 1 },
    { "a map of nothing", "a b", "{}", "", .largest = 0 },
    { "a map of nothing, by input", "a", "{}", "", .largest = 0, .by_input = true },
    { "no tensors", "", "{\"b\":2,\"a\":1}", "a=1, b=2", .largest = 2, .by_input = true },
};

TEST(names)
{
    run_cases(name_cases, COUNT(name_cases));
}

/* ---- quantized tensors ----------------------------------------------------------------------- */

static const test_case quantized_cases[] = {
    { "scales go", "a.weight a.weight_scale_inv n", "{\"a.weight\":1,\"a.weight_scale_inv\":3,\"n\":2}",
      "a.weight=1, n=2", .largest = 3, .by_input = true, .dequantize = true },
    { "scales go, by output too", "m.a.weight>a.weight m.a.weight_scale_inv>a.weight_scale_inv n",
      "{\"a.weight\":1,\"a.weight_scale_inv\":3,\"n\":2}", "a.weight=1, n=2", .largest = 3,
      .dequantize = true },
    { "scales that are written stay", "a.weight a.weight_scale_inv",
      "{\"a.weight\":1,\"a.weight_scale_inv\":3}", "a.weight=1, a.weight_scale_inv=3", .largest = 3,
      .by_input = true },
    { "scales that are left out go", "a.weight a.weight_scale_inv>-",
      "{\"a.weight\":1,\"a.weight_scale_inv\":3}", "a.weight=1", .largest = 3, .dequantize = true },
    { "X stands where X_blocks was, by input", "a_blocks a_scales", "{\"a_blocks\":2,\"a_scales\":3}", "a=2",
      .largest = 3, .by_input = true, .dequantize = true },
    { "X stands where X_blocks was, by output", "m.a_blocks>a_blocks m.a_scales>a_scales",
      "{\"a_blocks\":2,\"a_scales\":3}", "a=2", .largest = 3, .dequantize = true },
    { "X stands where X is, by input", "m.a_blocks>a_blocks m.a_scales>a_scales", "{\"m.a\":2}", "a=2",
      .largest = 2, .by_input = true, .dequantize = true },
    { "X stands where X is, by output", "m.a_blocks>a_blocks m.a_scales>a_scales", "{\"a\":2}", "a=2",
      .largest = 2, .dequantize = true },
    { "both are named: by input X_blocks is what is held", "a_blocks a_scales", "{\"a\":1,\"a_blocks\":2}",
      "a=2", .largest = 2, .by_input = true, .dequantize = true },
    { "both are named: by output X is what is written", "a_blocks a_scales", "{\"a\":1,\"a_blocks\":2}",
      "a=1", .largest = 2, .dequantize = true },
    { "blocks that are written as they are", "a_blocks a_scales", "{\"a\":1,\"a_blocks\":2,\"a_scales\":2}",
      "a=1, a_blocks=2, a_scales=2", .largest = 2, .by_input = true },
    { "blocks that are left out", "a_blocks>- a_scales b", "{\"a_blocks\":2,\"a_scales\":2,\"b\":1}", "b=1",
      .largest = 2, .by_input = true, .dequantize = true },
    { "the name of a scale that another has now, by output", "a_blocks a_scales b>a_scales",
      "{\"a\":2,\"a_scales\":1}", "a=2, a_scales=1", .largest = 2, .dequantize = true },
    { "names that have lost their ending", "a_blocks>b a_scales>s", "{\"a_blocks\":2,\"a_scales\":1}", "b=2",
      .largest = 2, .by_input = true, .dequantize = true },
};

TEST(quantized)
{
    run_cases(quantized_cases, COUNT(quantized_cases));
}

/* ---- file names ------------------------------------------------------------------------------ */

static const test_case text_cases[] = {
    { "texts come along as they are", "m.a>a b>- c",
      "{\"m.a\":\"x/y.safetensors\",\"b\":\"b\",\"c\":\"model-00001-of-00002.safetensors\",\"d\":\"\"}",
      "a=x/y.safetensors, c=model-00001-of-00002.safetensors, d=", .largest = 0, .by_input = true,
      .texts = true },
    { "the usual names take the other stem", "a b c",
      "{\"a\":\"model-00001-of-00002.safetensors\",\"b\":\"model.safetensors\","
      "\"c\":\"model-100000-of-100001.safetensors\",\"unheld\":\"model-00002-of-00002.safetensors\"}",
      "a=diffusion_pytorch_model-00001-of-00002.safetensors, "
      "b=diffusion_pytorch_model.safetensors, "
      "c=diffusion_pytorch_model-100000-of-100001.safetensors, "
      "unheld=diffusion_pytorch_model-00002-of-00002.safetensors",
      .largest = 0, .by_input = true, .texts = true, .diffusers = true },
    { "others do not", "a b c d e f",
      "{\"a\":\"diffusion_pytorch_model-00001-of-00002.safetensors\","
      "\"b\":\"sub/model-00001-of-00002.safetensors\",\"c\":\"model-1-of-2.safetensors\","
      "\"d\":\"model\",\"e\":\"model.safetensors-00001-of-00094.safetensors\","
      "\"f\":\"diffusion_pytorch_model.safetensors\"}",
      "a=diffusion_pytorch_model-00001-of-00002.safetensors, "
      "b=sub/model-00001-of-00002.safetensors, c=model-1-of-2.safetensors, d=model, "
      "e=model.safetensors-00001-of-00094.safetensors, f=diffusion_pytorch_model.safetensors",
      .largest = 0, .by_input = true, .texts = true, .diffusers = true },
    { "numbers have no stem", "a", "{\"a\":2}", "a=2", .largest = 2, .by_input = true, .diffusers = true },
};

TEST(texts)
{
    run_cases(text_cases, COUNT(text_cases));
}
