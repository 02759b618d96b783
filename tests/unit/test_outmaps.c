/* Maps of the input or of the output, made to speak of what is written: renamed, left out and
 * joined tensors, names that no shard holds, the file names of diffusers; and the two mappings of
 * .hf_metadata for shards that are written again. */
#include "plan/layout_whole.h"
#include "plan/outmaps.h"
#include "plan_help.h"

#define MAX 8
#define NO SW_NDTYPES

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
    char *names[MAX]; /* in the order of the catalogue */
    sw_catalog c;
    sw_outputs o;
} fixture;

/* Tensors are "[DTYPE:]NAME[>OUTPUT]", the output "-" = left out. */
static void make(fixture *f, const char *what, const char *tensors, const sw_value_rule *rule)
{
    sw_buf warnings = SW_BUF_INIT;
    sw_status st = SW_STATUS_INIT;
    char *outputs[MAX];
    test_box boxes[MAX];
    size_t n = 0;

    memset(f, 0, sizeof *f);
    for (const char *at = tensors; *at; at += strcspn(at, " "), at += *at == ' ', n++) {
        char *name = f->text[n], *colon, *mark;

        assert_true(n < MAX);
        snprintf(name, sizeof f->text[n], "%.*s", (int)strcspn(at, " "), at);
        if ((mark = strchr(name, '>')))
            *mark++ = '\0';
        colon = strchr(name, ':');
        boxes[n] = box_of(colon ? colon + 1 : name);
        if (colon)
            assert_true(sw_dtype_parse(name, (size_t)(colon - name), &boxes[n].dtype));
        outputs[n] = !mark ? colon ? colon + 1 : name : strcmp(mark, "-") == 0 ? NULL : mark;
    }
    assert_int_equal(test_catalog(boxes, n, 1, 1, &f->c, &st), SW_OK);
    for (size_t i = 0; i < n; i++)
        f->names[sw_catalog_find_tensor(&f->c, boxes[i].name) - f->c.tensors] = outputs[i];
    if (sw_outputs_build(&f->c, f->names, rule, &warnings, &f->o, &st))
        fail_msg("%s: '%s': %s", what, st.tensor, st.reason);
    sw_buf_release(&warnings);
}

static void release(fixture *f)
{
    sw_outputs_release(&f->o);
    sw_catalog_release(&f->c);
}

/* "a=1 b=x" as tight JSON: what looks like a number is one. */
static char *json_of(const char *items, char text[1024])
{
    size_t n = 0;

    text[n++] = '{';
    for (const char *at = items, *equals; *at; at += strcspn(at, " "), at += *at == ' ') {
        int len = (int)strcspn(at, " ");
        bool number;

        equals = memchr(at, '=', (size_t)len);
        number = equals[1] >= '0' && equals[1] <= '9';
        n += (size_t)snprintf(text + n, 1024 - n, number ? "%s\"%.*s\":%.*s" : "%s\"%.*s\":\"%.*s\"",
                              n > 1 ? "," : "", (int)(equals - at), at, len - (int)(equals - at) - 1,
                              equals + 1);
    }
    strcpy(text + n, "}");
    return text;
}

static void read_map(const char *items, bool texts, sw_map *map)
{
    sw_status st = SW_STATUS_INIT;
    char json[1024];

    json_of(items, json);
    assert_int_equal((texts ? sw_map_parse_texts : sw_map_parse_numbers)(json, strlen(json), "m", map, &st),
                     SW_OK);
}

/* ---- names ----------------------------------------------------------------------------------- */

typedef struct test_case {
    const char *what, *tensors;
    const char *map, *want; /* items: "key=value" */
    uint64_t largest;
    bool by_input, texts, diffusers, dequantize;
} test_case;

static void run_case(const test_case *k)
{
    const sw_value_rule rule = { NO, k->dequantize ? SW_BF16 : NO, NULL, NULL };
    sw_buf text = SW_BUF_INIT;
    sw_status st = SW_STATUS_INIT;
    uint64_t largest = 77;
    sw_map map, out;
    fixture f;

    make(&f, k->what, k->tensors, &rule);
    read_map(k->map, k->texts, &map);
    memset(&out, 0x55, sizeof out);
    assert_int_equal(sw_map_for_outputs(&(sw_remap){ &f.o, f.names, k->by_input, k->diffusers }, &map, &out,
                                        &largest, &st),
                     SW_OK);
    sw_buf_addf(&text, &st, "%s", "");
    for (size_t i = 0; i < out.n; i++) {
        sw_buf_addf(&text, &st, "%s%s=", i ? " " : "", out.items[i].key);
        sw_buf_addf(&text, &st, out.items[i].text ? "%s" : "%.0s%d",
                    out.items[i].text ? out.items[i].text : "", (int)out.items[i].number);
        assert_ptr_equal(sw_map_find(&out, out.items[i].key), &out.items[i]);
    }
    if (strcmp(text.data, k->want) != 0 || largest != k->largest)
        fail_msg("%s: '%s', largest %d", k->what, text.data, (int)largest);
    sw_map_release(&out);
    sw_map_release(&map);
    sw_buf_release(&text);
    release(&f);
}

static void run_cases(const test_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++)
        run_case(&cases[i]);
}

/* ---- names ----------------------------------------------------------------------------------- */

static const test_case name_cases[] = {
    { "nothing to change, by input", "a b", "b=3 a=1", "a=1 b=3", .largest = 3, .by_input = true },
    { "nothing to change, by output", "a b", "b=3 a=1", "a=1 b=3", .largest = 3 },
    { "renamed, by input: sorted by the new names", "m.a>z m.b>y m.c", "m.a=1 m.b=2 m.c=3", "m.c=3 y=2 z=1",
      .largest = 3, .by_input = true },
    { "renamed, by output: the old names are those of nothing", "m.a>a m.b>b", "a=1 b=2 m.b=9",
      "a=1 b=2 m.b=9", .largest = 9 },
    { "names that change places, by input", "a>b b>a", "a=1 b=2", "a=2 b=1", .largest = 2, .by_input = true },
    { "names that change places, by output", "a>b b>a", "a=1 b=2", "a=1 b=2", .largest = 2 },
    { "left out, by input", "a b>- c", "a=1 b=5 c=2", "a=1 c=2", .largest = 5, .by_input = true },
    { "left out, by output: what was asked not to be written is not missed", "a b>- c", "a=1 b=5 c=2",
      "a=1 c=2", .largest = 5 },
    { "left out, and another has its name now: by output", "a>- b>a", "a=4", "a=4", .largest = 4 },
    { "left out, and another has its name now: by input", "a>- b>a", "a=4 b=2", "a=2", .largest = 4,
      .by_input = true },
    { "not held: it stays, so that it can be told of", "m.b>b", "a=7 m.b=1 z=2", "a=7 b=1 z=2", .largest = 7,
      .by_input = true },
    { "not held, but the name of an output: the held one wins", "m.a>a", "a=9 m.a=1", "a=1", .largest = 9,
      .by_input = true },
    { "not held, the name of an output that the map lacks: it stays missing", "m.a>a b", "a=9 b=1", "b=1",
      .largest = 9, .by_input = true },
    { "a tensor that the map lacks", "a b", "a=1", "a=1", .largest = 1 },
    { "a map of nothing", "a b", "", "", .largest = 0 },
    { "a map of nothing, by input", "a", "", "", .largest = 0, .by_input = true },
    { "no tensors", "", "b=2 a=1", "a=1 b=2", .largest = 2, .by_input = true },
};

TEST(names)
{
    run_cases(name_cases, COUNT(name_cases));
}

/* ---- quantized tensors ----------------------------------------------------------------------- */

static const test_case quantized_cases[] = {
    { "scales go", "a.weight a.weight_scale_inv n", "a.weight=1 a.weight_scale_inv=3 n=2", "a.weight=1 n=2",
      .largest = 3, .by_input = true, .dequantize = true },
    { "scales go, by output too", "m.a.weight>a.weight m.a.weight_scale_inv>a.weight_scale_inv n",
      "a.weight=1 a.weight_scale_inv=3 n=2", "a.weight=1 n=2", .largest = 3, .dequantize = true },
    { "scales that are written stay", "a.weight a.weight_scale_inv", "a.weight=1 a.weight_scale_inv=3",
      "a.weight=1 a.weight_scale_inv=3", .largest = 3, .by_input = true },
    { "scales that are left out go", "a.weight a.weight_scale_inv>-", "a.weight=1 a.weight_scale_inv=3",
      "a.weight=1", .largest = 3, .dequantize = true },
    { "X stands where X_blocks was, by input", "a_blocks a_scales", "a_blocks=2 a_scales=3", "a=2",
      .largest = 3, .by_input = true, .dequantize = true },
    { "X stands where X_blocks was, by output", "m.a_blocks>a_blocks m.a_scales>a_scales",
      "a_blocks=2 a_scales=3", "a=2", .largest = 3, .dequantize = true },
    { "X stands where X is, by input", "m.a_blocks>a_blocks m.a_scales>a_scales", "m.a=2", "a=2",
      .largest = 2, .by_input = true, .dequantize = true },
    { "X stands where X is, by output", "m.a_blocks>a_blocks m.a_scales>a_scales", "a=2", "a=2", .largest = 2,
      .dequantize = true },
    { "both are named: by input X_blocks is what is held", "a_blocks a_scales", "a=1 a_blocks=2", "a=2",
      .largest = 2, .by_input = true, .dequantize = true },
    { "both are named: by output X is what is written", "a_blocks a_scales", "a=1 a_blocks=2", "a=1",
      .largest = 2, .dequantize = true },
    { "blocks that are written as they are", "a_blocks a_scales", "a=1 a_blocks=2 a_scales=2",
      "a=1 a_blocks=2 a_scales=2", .largest = 2, .by_input = true },
    { "blocks that are left out", "a_blocks>- a_scales b", "a_blocks=2 a_scales=2 b=1", "b=1", .largest = 2,
      .by_input = true, .dequantize = true },
    { "the name of a scale that another has now, by output", "a_blocks a_scales b>a_scales", "a=2 a_scales=1",
      "a=2 a_scales=1", .largest = 2, .dequantize = true },
    { "names that have lost their ending", "a_blocks>b a_scales>s", "a_blocks=2 a_scales=1", "b=2",
      .largest = 2, .by_input = true, .dequantize = true },
};

TEST(quantized)
{
    run_cases(quantized_cases, COUNT(quantized_cases));
}

/* ---- file names ------------------------------------------------------------------------------ */

static const test_case text_cases[] = {
    { "texts come along as they are", "m.a>a b>- c",
      "m.a=x/y.safetensors b=b c=model-00001-of-00002.safetensors d=",
      "a=x/y.safetensors c=model-00001-of-00002.safetensors d=", .largest = 0, .by_input = true,
      .texts = true },
    { "the usual names take the other stem", "a b c",
      "a=model-00001-of-00002.safetensors b=model.safetensors c=model-100000-of-100001.safetensors "
      "unheld=model-00002-of-00002.safetensors",
      "a=diffusion_pytorch_model-00001-of-00002.safetensors b=diffusion_pytorch_model.safetensors "
      "c=diffusion_pytorch_model-100000-of-100001.safetensors "
      "unheld=diffusion_pytorch_model-00002-of-00002.safetensors",
      .largest = 0, .by_input = true, .texts = true, .diffusers = true },
    { "others do not", "a b c d e f",
      "a=diffusion_pytorch_model-00001-of-00002.safetensors b=sub/model-00001-of-00002.safetensors "
      "c=model-1-of-2.safetensors d=model e=model.safetensors-00001-of-00094.safetensors "
      "f=diffusion_pytorch_model.safetensors",
      "a=diffusion_pytorch_model-00001-of-00002.safetensors b=sub/model-00001-of-00002.safetensors "
      "c=model-1-of-2.safetensors d=model e=model.safetensors-00001-of-00094.safetensors "
      "f=diffusion_pytorch_model.safetensors",
      .largest = 0, .by_input = true, .texts = true, .diffusers = true },
    { "numbers have no stem", "a", "a=2", "a=2", .largest = 2, .by_input = true, .diffusers = true },
};

TEST(texts)
{
    run_cases(text_cases, COUNT(text_cases));
}

/* ---- mappings -------------------------------------------------------------------------------- */

/* The text without its spaces and line ends, which are looked at by themselves. */
static void assert_mapping(const sw_buf *out, const char *what, const char *want)
{
    char tight[512] = "", json[1024] = "";
    size_t n = 0;

    for (size_t i = 0; i < out->len; i++)
        if (!strchr(" \n", out->data[i]))
            tight[n++] = out->data[i];
    if (strcmp(tight, want ? json_of(want, json) : "") != 0)
        fail_msg("%s: '%s', expected '%s'", what, tight, json);
}

TEST(mapping_of_files)
{
    static const struct {
        const char *what, *tensors, *rule, *was, *want; /* NULL = nothing */
        bool unused;
    } cases[] = {
        { "as it was", "F32:a F32:b", "a=1 b=2", "a=1 b=2", "a=1 b=2", true },
        { "other names", "F32:a>x.a F32:b>x.b", "x.a=1 x.b=2", "a=1 b=2", "x.a=1 x.b=2", true },
        { "a tied weight keeps its number", "F32:a", "a=1 tied=3", "a=1 tied=3", "a=1 tied=3", true },
        { "but not where numbers are others", "F32:a", "a=1", "a=2 tied=3", "a=1", false },
        { "left out, and n stays", "F32:a F32:b>- F32:c", "a=1 c=2", "a=1 b=1 c=2", "a=1 c=2", true },
        { "left out, and n would be another", "F32:a F32:b>-", "a=1 tied=2", "a=1 b=2", NULL, true },
        { "n is that of a tensor of the new map that nobody holds", "F32:a", "a=1 tied=2", "a=1 tied=2", NULL,
          false },
        { "an old name that is another's new one", "F32:a>b F32:c", "b=1 c=2", "a=1 b=5 c=2", "b=1 c=2",
          true },
        { "a map of nothing", "F32:a", "a=1", "", "a=1", true },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        static const sw_value_rule values = { NO, NO, NULL, NULL };
        sw_map was, numbers;
        const sw_layout_rule rule = { .kind = SW_LAYOUT_NUMBERS, .map = &numbers, .map_file = "m" };
        sw_status st = SW_STATUS_INIT;
        sw_buf out = SW_BUF_INIT;
        sw_layout whole;
        fixture f;

        make(&f, cases[i].what, cases[i].tensors, &values);
        read_map(cases[i].rule, false, &numbers);
        read_map(cases[i].was, false, &was);
        assert_int_equal(sw_layout_build(&f.o.view, &rule, &whole, &st), SW_OK);
        assert_int_equal(sw_mapping_of_files(&f.o, &whole, &was, cases[i].unused, &out, &st), SW_OK);
        assert_mapping(&out, cases[i].what, cases[i].want);
        sw_buf_release(&out);
        sw_layout_release(&whole);
        sw_map_release(&was);
        sw_map_release(&numbers);
        release(&f);
    }
}

TEST(mapping_of_dtypes)
{
    static const struct {
        const char *what, *tensors;
        sw_dtype cast, dequantize;
        const char *was, *want;
    } cases[] = {
        { "as it was", "F32:a BF16:b", NO, NO, "a=BF16 b=torch.bfloat16", "a=BF16 b=torch.bfloat16" },
        { "other names", "F32:a>b BF16:b>c", NO, NO, "a=F16 b=F32", "b=F16 c=F32" },
        { "what nobody holds stays, what is left out goes", "F32:a>- F32:b", NO, NO, "a=F16 b=F32 tied=BF16",
          "b=F32 tied=BF16" },
        { "cast", "F32:a BF16:b I64:c", SW_F16, NO, "a=BF16 b=BF16 c=BF16", "a=F16 b=F16 c=BF16" },
        { "what has that dtype already must not be restored", "F16:a F32:b", SW_F16, NO, "a=BF16 b=BF16",
          "a=F16 b=F16" },
        { "F32 by nature", "F32:a BF16:b BF16:c", SW_BF16, NO, "a=torch.float32 b=F32 c=BF16",
          "a=torch.float32 b=F32 c=BF16" },
        { "F32 for all is nobody's nature", "BF16:a BF16:b", SW_BF16, NO, "a=F32 b=F32", "a=BF16 b=BF16" },
        { "a word for the same dtype stays", "F16:a F32:b", SW_F16, NO, "a=torch.half b=float16",
          "a=torch.half b=float16" },
        { "quantized once", "BF16:a", SW_BF16, NO, "a=F8_E4M3", "a=BF16" },
        { "no cast, no change", "BF16:a", NO, NO, "a=F8_E4M3", "a=F8_E4M3" },
        { "dequantized", "F8_E4M3:x.weight F32:x.weight_scale_inv F32:a", NO, SW_BF16,
          "a=F16 x.weight=F8_E4M3 x.weight_scale_inv=F32", "a=F16 x.weight=BF16" },
        { "dequantized blocks", "U8:x_blocks>y_blocks U8:x_scales", NO, SW_F16, "x_blocks=U8 x_scales=U8",
          "y=F16" },
        { "blocks that are mapped as what they become", "U8:x_blocks U8:x_scales", NO, SW_BF16, "x=F32",
          "x=BF16" },
        { "a map of nothing", "F32:a", SW_F16, NO, "", "" },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_value_rule rule = { cases[i].cast, cases[i].dequantize, NULL, "m" };
        sw_status st = SW_STATUS_INIT;
        sw_buf out = SW_BUF_INIT;
        bool cast = cases[i].cast != NO;
        sw_map was;
        fixture f;

        read_map(cases[i].was, true, &was);
        rule.map = cast ? &was : NULL;
        make(&f, cases[i].what, cases[i].tensors, &rule);
        assert_int_equal(sw_mapping_of_dtypes(&f.o, &was, cast, &out, &st), SW_OK);
        assert_mapping(&out, cases[i].what, cases[i].want);
        sw_buf_release(&out);
        sw_map_release(&was);
        release(&f);
    }
}

/* As Python's json.dumps(..., indent=2). */
TEST(mapping_text)
{
    static const char json[] = "{\"b\\\"\\u00e4\": \"F32\", \"a\": \"F16\"}";
    static const char want[] = "{\n  \"a\": \"F16\",\n  \"b\\\"\\u00e4\": \"F32\"\n}\n";
    static const sw_value_rule values = { NO, NO, NULL, NULL };
    sw_status st = SW_STATUS_INIT;
    sw_buf out = SW_BUF_INIT;
    sw_map was;
    fixture f;

    make(&f, "text", "F32:b\"\xc3\xa4 F32:a", &values);
    assert_int_equal(sw_map_parse_texts(json, strlen(json), "m", &was, &st), SW_OK);
    assert_int_equal(sw_mapping_of_dtypes(&f.o, &was, false, &out, &st), SW_OK);
    assert_int_equal(out.len, strlen(want));
    assert_memory_equal(out.data, want, out.len);
    sw_buf_release(&out);
    sw_map_release(&was);
    release(&f);
}
