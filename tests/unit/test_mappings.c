/* What the mappings of .hf_metadata say of shards that were written again. Texts are those of
 * Python's json.dumps(..., indent=2). */
#include "plan/layout_whole.h"
#include "plan/outmaps.h"
#include "plan_help.h"

#define MAX 6
#define NO SW_NDTYPES

typedef struct fixture {
    char text[MAX][64];
    char *names[MAX];
    sw_catalog c;
    sw_outputs o;
    sw_map was, rule_map;
    sw_layout whole;
    sw_buf out;
    sw_status st;
} fixture;

/* A tensor is "name", "name>output" or "name>-" for one that is left out; its dtype stands before
 * it. */
static test_box box_of(char *text, char **output)
{
    char *name = strchr(text, ' ') + 1, *mark = strchr(name, '>');
    sw_dtype dtype;

    name[-1] = '\0';
    if (mark)
        *mark = '\0';
    *output = !mark ? name : strcmp(mark + 1, "-") == 0 ? NULL : mark + 1;
    assert_true(sw_dtype_parse_any(text, strlen(text), &dtype));
    if (sw_name_ends_with(name, "_blocks"))
        return (test_box){ name, 0, dtype, 4, { 0 }, { 1, 2, 1, 16 } };
    if (sw_name_ends_with(name, "_scales"))
        return (test_box){ name, 0, dtype, 3, { 0 }, { 1, 2, 1 } };
    if (sw_name_ends_with(name, "_scale_inv"))
        return (test_box){ name, 0, dtype, 2, { 0 }, { 1, 1 } };
    return (test_box){ name, 0, dtype, 2, { 0 }, { 3, 2 } };
}

static void make(fixture *f, const char *const *tensors, const sw_value_rule *rule)
{
    sw_buf warnings = SW_BUF_INIT;
    char *outputs[MAX];
    test_box boxes[MAX];
    size_t n = 0;

    memset(f, 0, sizeof *f);
    for (; n < MAX && tensors[n]; n++) {
        snprintf(f->text[n], sizeof f->text[n], "%s", tensors[n]);
        boxes[n] = box_of(f->text[n], &outputs[n]);
    }
    assert_int_equal(test_catalog(boxes, n, 1, 1, &f->c, &f->st), SW_OK);
    for (size_t i = 0; i < n; i++)
        f->names[sw_catalog_find_tensor(&f->c, boxes[i].name) - f->c.tensors] = outputs[i];
    if (sw_outputs_build(&f->c, f->names, rule, &warnings, &f->o, &f->st))
        fail_msg("%s: %s", f->st.tensor, f->st.reason);
    sw_buf_release(&warnings);
}

static void release(fixture *f)
{
    sw_layout_release(&f->whole);
    sw_map_release(&f->was);
    sw_map_release(&f->rule_map);
    sw_outputs_release(&f->o);
    sw_catalog_release(&f->c);
    sw_buf_release(&f->out);
}

/* The text without its spaces and line ends, which are looked at by themselves. */
static void assert_text(const fixture *f, const char *what, const char *want)
{
    char tight[512] = "";
    size_t n = 0;

    for (size_t i = 0; i < f->out.len; i++)
        if (!strchr(" \n", f->out.data[i]) || (i > 0 && f->out.data[i - 1] == '\\'))
            tight[n++] = f->out.data[i];
    if (strcmp(tight, want) != 0)
        fail_msg("%s: '%s', expected '%s'", what, tight, want);
}

/* ---- files ----------------------------------------------------------------------------------- */

TEST(files)
{
    static const struct {
        const char *what, *tensors[MAX], *rule, *was, *want;
        bool unused;
    } cases[] = {
        { "as it was",
          { "F32 a", "F32 b" },
          "{\"a\":1,\"b\":2}",
          "{\"a\":1,\"b\":2}",
          "{\"a\":1,\"b\":2}",
          true },
        { "other names",
          { "F32 a>x.a", "F32 b>x.b" },
          "{\"x.a\":1,\"x.b\":2}",
          "{\"a\":1,\"b\":2}",
          "{\"x.a\":1,\"x.b\":2}",
          true },
        { "a tied weight keeps its number",
          { "F32 a" },
          "{\"a\":1,\"tied\":3}",
          "{\"a\":1,\"tied\":3}",
          "{\"a\":1,\"tied\":3}",
          true },
        { "but not where numbers are others",
          { "F32 a" },
          "{\"a\":1}",
          "{\"a\":2,\"tied\":3}",
          "{\"a\":1}",
          false },
        { "left out, and n stays",
          { "F32 a", "F32 b>-", "F32 c" },
          "{\"a\":1,\"c\":2}",
          "{\"a\":1,\"b\":1,\"c\":2}",
          "{\"a\":1,\"c\":2}",
          true },
        { "left out, and n would be another",
          { "F32 a", "F32 b>-" },
          "{\"a\":1,\"tied\":2}",
          "{\"a\":1,\"b\":2}",
          "",
          true },
        { "n is that of a tensor of the new map that nobody holds",
          { "F32 a" },
          "{\"a\":1,\"tied\":2}",
          "{\"a\":1,\"tied\":2}",
          "",
          false },
        { "an old name that is another's new one",
          { "F32 a>b", "F32 c" },
          "{\"b\":1,\"c\":2}",
          "{\"a\":1,\"b\":5,\"c\":2}",
          "{\"b\":1,\"c\":2}",
          true },
        { "a map of nothing", { "F32 a" }, "{\"a\":1}", "{}", "{\"a\":1}", true },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        static const sw_value_rule values = { SW_NDTYPES, SW_NDTYPES, NULL, NULL };
        sw_layout_rule rule = { .kind = SW_LAYOUT_NUMBERS, .map_file = "m" };
        fixture f;

        make(&f, cases[i].tensors, &values);
        rule.map = &f.rule_map;
        assert_int_equal(sw_map_parse_numbers(cases[i].rule, strlen(cases[i].rule), "m", &f.rule_map, &f.st),
                         SW_OK);
        assert_int_equal(sw_map_parse_numbers(cases[i].was, strlen(cases[i].was), "m", &f.was, &f.st), SW_OK);
        assert_int_equal(sw_layout_build(&f.o.view, &rule, &f.whole, &f.st), SW_OK);
        assert_int_equal(sw_mapping_of_files(&f.o, &f.whole, &f.was, cases[i].unused, &f.out, &f.st), SW_OK);
        assert_text(&f, cases[i].what, cases[i].want);
        release(&f);
    }
}

/* ---- dtypes ---------------------------------------------------------------------------------- */

TEST(dtypes)
{
    static const struct {
        const char *what, *tensors[MAX];
        sw_dtype cast, dequantize;
        const char *was, *want;
    } cases[] = {
        { "as it was",
          { "F32 a", "BF16 b" },
          NO,
          NO,
          "{\"a\":\"BF16\",\"b\":\"torch.bfloat16\"}",
          "{\"a\":\"BF16\",\"b\":\"torch.bfloat16\"}" },
        { "other names",
          { "F32 a>b", "BF16 b>c" },
          NO,
          NO,
          "{\"a\":\"F16\",\"b\":\"F32\"}",
          "{\"b\":\"F16\",\"c\":\"F32\"}" },
        { "what nobody holds stays, what is left out goes",
          { "F32 a>-", "F32 b" },
          NO,
          NO,
          "{\"a\":\"F16\",\"b\":\"F32\",\"tied\":\"BF16\"}",
          "{\"b\":\"F32\",\"tied\":\"BF16\"}" },
        { "cast",
          { "F32 a", "BF16 b", "I64 c" },
          SW_F16,
          NO,
          "{\"a\":\"BF16\",\"b\":\"BF16\",\"c\":\"BF16\"}",
          "{\"a\":\"F16\",\"b\":\"F16\",\"c\":\"BF16\"}" },
        { "what has that dtype already must not be restored",
          { "F16 a", "F32 b" },
          SW_F16,
          NO,
          "{\"a\":\"BF16\",\"b\":\"BF16\"}",
          "{\"a\":\"F16\",\"b\":\"F16\"}" },
        { "F32 by nature",
          { "F32 a", "BF16 b", "BF16 c" },
          SW_BF16,
          NO,
          "{\"a\":\"torch.float32\",\"b\":\"F32\",\"c\":\"BF16\"}",
          "{\"a\":\"torch.float32\",\"b\":\"F32\",\"c\":\"BF16\"}" },
        { "F32 for all is nobody's nature",
          { "BF16 a", "BF16 b" },
          SW_BF16,
          NO,
          "{\"a\":\"F32\",\"b\":\"F32\"}",
          "{\"a\":\"BF16\",\"b\":\"BF16\"}" },
        { "a word for the same dtype stays",
          { "F16 a", "F32 b" },
          SW_F16,
          NO,
          "{\"a\":\"torch.half\",\"b\":\"float16\"}",
          "{\"a\":\"torch.half\",\"b\":\"float16\"}" },
        { "quantized once", { "BF16 a" }, SW_BF16, NO, "{\"a\":\"F8_E4M3\"}", "{\"a\":\"BF16\"}" },
        { "no cast, no change", { "BF16 a" }, NO, NO, "{\"a\":\"F8_E4M3\"}", "{\"a\":\"F8_E4M3\"}" },
        { "dequantized",
          { "F8_E4M3 x.weight", "F32 x.weight_scale_inv", "F32 a" },
          NO,
          SW_BF16,
          "{\"a\":\"F16\",\"x.weight\":\"F8_E4M3\",\"x.weight_scale_inv\":\"F32\"}",
          "{\"a\":\"F16\",\"x.weight\":\"BF16\"}" },
        { "dequantized blocks",
          { "U8 x_blocks>y_blocks", "U8 x_scales" },
          NO,
          SW_F16,
          "{\"x_blocks\":\"U8\",\"x_scales\":\"U8\"}",
          "{\"y\":\"F16\"}" },
        { "blocks that are mapped as what they become",
          { "U8 x_blocks", "U8 x_scales" },
          NO,
          SW_BF16,
          "{\"x\":\"F32\"}",
          "{\"x\":\"BF16\"}" },
        { "a map of nothing", { "F32 a" }, SW_F16, NO, "{}", "{}" },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_value_rule rule = { cases[i].cast, cases[i].dequantize, NULL, "m" };
        sw_status st = SW_STATUS_INIT;
        bool cast = cases[i].cast != SW_NDTYPES;
        sw_map was;
        fixture f;

        assert_int_equal(sw_map_parse_texts(cases[i].was, strlen(cases[i].was), "m", &was, &st), SW_OK);
        rule.map = cast ? &was : NULL;
        make(&f, cases[i].tensors, &rule);
        assert_int_equal(sw_mapping_of_dtypes(&f.o, &was, cast, &f.out, &f.st), SW_OK);
        assert_text(&f, cases[i].what, cases[i].want);
        sw_map_release(&was);
        release(&f);
    }
}

TEST(text)
{
    static const char *const tensors[] = { "F32 b\"\xc3\xa4", "F32 a", NULL };
    static const char json[] = "{\"b\\\"\\u00e4\": \"F32\", \"a\": \"F16\"}";
    static const char want[] = "{\n  \"a\": \"F16\",\n  \"b\\\"\\u00e4\": \"F32\"\n}\n";
    static const sw_value_rule values = { SW_NDTYPES, SW_NDTYPES, NULL, NULL };
    fixture f;

    make(&f, tensors, &values);
    assert_int_equal(sw_map_parse_texts(json, strlen(json), "m", &f.was, &f.st), SW_OK);
    assert_int_equal(sw_mapping_of_dtypes(&f.o, &f.was, false, &f.out, &f.st), SW_OK);
    assert_int_equal(f.out.len, strlen(want));
    assert_memory_equal(f.out.data, want, f.out.len);
    release(&f);
}
