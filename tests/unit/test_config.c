/* config.json as text: what is changed, that nothing else is, and what counts as JSON. */
#include "format/config.h"
#include "unit.h"

#define Q(what) "\"quantization_config\": " what

/* out: NULL = as it was. */
static const struct {
    const char *what;
    sw_dtype dtype;
    bool no_quantization;
    const char *in, *out;
} cases[] = {
    { "set", SW_BF16, false, "{\"torch_dtype\": \"float32\"}", "{\"torch_dtype\": \"bfloat16\"}" },
    { "the new name of the key", SW_F16, false, "{\"dtype\": \"float32\"}", "{\"dtype\": \"float16\"}" },
    { "auto", SW_F32, false, "{\"torch_dtype\": \"auto\"}", "{\"torch_dtype\": \"float32\"}" },
    { "double", SW_F64, false, "{\"dtype\": \"auto\"}", "{\"dtype\": \"float64\"}" },
    { "torch's prefix goes", SW_BF16, false, "{\"dtype\": \"torch.float32\"}", "{\"dtype\": \"bfloat16\"}" },
    { "other spellings", SW_BF16, false, "{\"dtype\": \"half\"}", "{\"dtype\": \"bfloat16\"}" },
    { "the same already", SW_BF16, false, "{\"dtype\": \"bfloat16\"}", NULL },
    { "the same already, spelt otherwise", SW_F16, false, "{\"dtype\": \"torch.half\"}",
      "{\"dtype\": \"float16\"}" },
    { "absent", SW_BF16, false, "{\"a\": 1}", NULL },
    { "null", SW_BF16, false, "{\"dtype\": null}", NULL },
    { "not a string", SW_BF16, false, "{\"dtype\": 32, \"torch_dtype\": [\"float32\"]}", NULL },
    { "an object of that name", SW_BF16, false, "{\"dtype\": {\"dtype\": \"float32\"}}", NULL },
    { "not floating", SW_BF16, false, "{\"dtype\": \"int64\", \"torch_dtype\": \"float8_e4m3fn\"}", NULL },
    { "no dtype at all", SW_BF16, false, "{\"dtype\": \"Auto\", \"torch_dtype\": \"\"}", NULL },
    { "near names", SW_BF16, false, "{\"_dtype\": \"auto\", \"dtype_\": \"auto\", \"Dtype\": \"auto\"}",
      NULL },
    { "nothing asked for", SW_NDTYPES, false, "{\"dtype\": \"float32\", " Q("{}") "}", NULL },
    { "twice", SW_BF16, false, "{\"dtype\":\"auto\",\"dtype\":\"auto\"}",
      "{\"dtype\":\"bfloat16\",\"dtype\":\"bfloat16\"}" },
    { "escapes in the key", SW_BF16, false, "{\"torch\\u005fdtyp\\u0065\": \"auto\"}",
      "{\"torch\\u005fdtyp\\u0065\": \"bfloat16\"}" },
    { "escapes in the value", SW_BF16, false, "{\"dtype\": \"float\\u00332\"}", "{\"dtype\": \"bfloat16\"}" },
    { "half a surrogate pair", SW_BF16, false, "{\"dtype\\ud800\": \"auto\", \"dtype\": \"\\udc00auto\"}",
      NULL },
    { "a NUL in the key", SW_BF16, false, "{\"dtype\\u0000\": \"auto\"}", NULL },

    { "in a config", SW_BF16, false,
      "{\"text_config\": {\"dtype\": \"auto\"}, \"vision_config\" : { \"torch_dtype\":\"float32\" } }",
      "{\"text_config\": {\"dtype\": \"bfloat16\"}, \"vision_config\" : { \"torch_dtype\":\"bfloat16\" } }" },
    { "in a config of a config", SW_BF16, false,
      "{\"thinker_config\": {\"text_config\": {\"a\": [1], \"dtype\": \"auto\"}}}",
      "{\"thinker_config\": {\"text_config\": {\"a\": [1], \"dtype\": \"bfloat16\"}}}" },
    { "in what is no config", SW_BF16, true,
      "{\"a\": {\"dtype\": \"auto\"}, \"config\": {\"dtype\": \"auto\", " Q(
          "1") "}, \"b\": [{\"dtype\": \"auto\"}]}",
      NULL },
    { "a config in what is no config", SW_BF16, false, "{\"a\": {\"b_config\": {\"dtype\": \"auto\"}}}",
      NULL },
    { "a list of configs", SW_BF16, false, "{\"a_config\": [{\"dtype\": \"auto\"}]}", NULL },
    { "a config without members", SW_BF16, true, "{\"a_config\": { } , \"b_config\":null}", NULL },

    { "all else stays", SW_BF16, false,
      "\r\n{ \"z\" :  1,\t\"a\":-Infinity , \"b\": [NaN,Infinity , -0.0e+10, 1E5],\r\n  \"torch_dtype\"  "
      ":\r\n\"float32\" ,"
      "\"n\": 123456789012345678901234567890, \"s\": \"\\/\\u00e9\xc3\xa9\\\"\", \"o\":{}, "
      "\"t\":true,\"f\":false }\n\n ",
      "\r\n{ \"z\" :  1,\t\"a\":-Infinity , \"b\": [NaN,Infinity , -0.0e+10, 1E5],\r\n  \"torch_dtype\"  "
      ":\r\n\"bfloat16\" ,"
      "\"n\": 123456789012345678901234567890, \"s\": \"\\/\\u00e9\xc3\xa9\\\"\", \"o\":{}, "
      "\"t\":true,\"f\":false }\n\n " },
    { "a byte order mark", SW_BF16, false, "\xef\xbb\xbf{\"dtype\": \"auto\"}",
      "\xef\xbb\xbf{\"dtype\": \"bfloat16\"}" },
    { "no object", SW_BF16, true, "[{\"dtype\": \"auto\"}]", NULL },
    { "no object either", SW_BF16, true, " \"dtype\" ", NULL },

    { "gone, the first", SW_NDTYPES, true, "{" Q("{\"a\": 1}") ", \"b\": 2}", "{\"b\": 2}" },
    { "gone, the last", SW_NDTYPES, true, "{\"b\": 2, " Q("{\"a\": 1}") "}", "{\"b\": 2}" },
    { "gone, in the middle", SW_NDTYPES, true, "{\"b\": 2, " Q("null") ", \"c\": 3}",
      "{\"b\": 2, \"c\": 3}" },
    { "gone, the only one", SW_NDTYPES, true, "{ " Q("{}") " }", "{}" },
    { "gone, with lines", SW_NDTYPES, true,
      "{\n  \"a\": 1,\n  " Q("{\n    \"bits\": 8\n  }") ",\n  \"b\": 2\n}\n",
      "{\n  \"a\": 1,\n  \"b\": 2\n}\n" },
    { "gone, the first line", SW_NDTYPES, true, "{\r\n  " Q("{\r\n  }") ",\r\n  \"b\": 2\r\n}",
      "{\r\n  \"b\": 2\r\n}" },
    { "gone, the last line", SW_NDTYPES, true, "{\n  \"a\": 1,\n  " Q("{\n    \"bits\": 8\n  }") "\n}\n",
      "{\n  \"a\": 1\n}\n" },
    { "gone, the only line", SW_NDTYPES, true, "{\n  " Q("{}") "\n}\n", "{}\n" },
    { "gone, several times", SW_NDTYPES, true,
      "{" Q("1") ", " Q("2") ", \"a\": 1 , " Q("3") " , " Q("4") " }", "{\"a\": 1 }" },
    { "gone, with an escape in the key", SW_NDTYPES, true, "{\"quantization\\u005fconfig\": 1, \"a\": 1}",
      "{\"a\": 1}" },
    { "gone from a config", SW_NDTYPES, true, "{\"text_config\": {\"a\": 1, " Q("{}") "}, " Q("{}") "}",
      "{\"text_config\": {\"a\": 1}}" },
    { "set and gone", SW_BF16, true,
      "{\"dtype\": \"auto\", " Q("{\"dtype\": \"auto\"}") ", \"a_config\": {" Q(
          "7") ",\"torch_dtype\": \"float32\"}}",
      "{\"dtype\": \"bfloat16\", \"a_config\": {\"torch_dtype\": \"bfloat16\"}}" },
    { "set and not gone", SW_BF16, false, "{" Q("{\"dtype\": \"auto\", \"quant_method\": \"fp8\"}") "}",
      "{" Q("{\"dtype\": \"bfloat16\", \"quant_method\": \"fp8\"}") "}" },
};

/* Not JSON, as test_json.c has it: how it is said, and in which line. */
static const struct {
    const char *in, *says;
    uint64_t line;
} faults[] = {
    { "", "unexpected end of the text", 1 },
    { "\n \n", "unexpected end of the text", 3 },
    { "\xef\xbb\xbf", "unexpected end of the text", 1 },
    { "{\"dtype\": \"auto\"", "unexpected end of the text", 1 },
    { "{\"dtype\": \"auto", "unexpected end of the text", 1 },
    { "{\"dtype\": \"auto\n\"}", "a control character in a string", 1 },
    { "{\"dtype\": \"auto\"}\n\v", "more text after the value", 2 },
    { "{\"dtype\": \"auto\", \"a\": }", "expected a value", 1 },
    { "{\"dtype\": \"auto\",\n\n'a': 1}", "expected a string", 3 },
    { "{\"a\": \"\xff\"}", "not UTF-8", 1 },
    { "\xff\xfe{\0}\0", "not UTF-8", 1 },
    { "{\"a\": 01}", "expected ',' or '}'", 1 },
    { "{\"a_config\": {1: 2}}", "expected a string", 1 },
    { "{" Q("") "}", "expected a value", 1 },
    { "{" Q("1") ",}", "expected a string", 1 },
    { "{" Q("1") "", "unexpected end of the text", 1 },
    { "{" Q("1") "]", "expected ',' or '}'", 1 },
};

/* A copy without anything behind it, so that a step too far is seen. */
static void edit(const char *text, size_t len, const sw_config_rule *rule, sw_buf *out,
                 sw_config_fault *fault)
{
    sw_status st = SW_STATUS_INIT;
    char *exact = malloc(len ? len : 1);

    assert_non_null(exact);
    memcpy(exact, text, len);
    assert_int_equal(sw_config_edit(exact, len, rule, out, fault, &st), SW_OK);
    free(exact);
}

static bool is_same(const sw_buf *b, const char *text, size_t len)
{
    return b->len == len && (len == 0 || memcmp(b->data, text, len) == 0);
}

TEST(table)
{
    for (size_t i = 0; i < COUNT(cases); i++) {
        const sw_config_rule rule = { cases[i].dtype, cases[i].no_quantization };
        const char *want = cases[i].out ? cases[i].out : cases[i].in;
        sw_buf out = SW_BUF_INIT;
        sw_config_fault fault;

        edit(cases[i].in, strlen(cases[i].in), &rule, &out, &fault);
        if (fault.what || !is_same(&out, want, strlen(want)))
            fail_msg("%s: %s '%.*s'", cases[i].what, fault.what ? fault.what : "", (int)out.len, out.data);
        sw_buf_release(&out);
    }
}

TEST(faults)
{
    static const sw_config_rule rule = { SW_BF16, true };

    for (size_t i = 0; i < COUNT(faults); i++) {
        sw_buf out = SW_BUF_INIT;
        sw_config_fault fault;

        edit(faults[i].in, strlen(faults[i].in), &rule, &out, &fault);
        if (!fault.what || strcmp(fault.what, faults[i].says) != 0 || fault.line != faults[i].line)
            fail_msg("'%s': '%s' in line %d", faults[i].in, fault.what ? fault.what : "", (int)fault.line);
        if (!is_same(&out, faults[i].in, strlen(faults[i].in)))
            fail_msg("'%s' is changed", faults[i].in);
        sw_buf_release(&out);
    }
}

/* Whatever was cut off, the text is either edited or as it was. */
TEST(every_end)
{
    static const char text[] = "\xef\xbb\xbf{\"dtype\": \"auto\", " Q(
        "{\"a\": [1, -2.5e3, NaN]}") ", \"a_config\": "
                                     "{\"x\": \"\\u00e9\xc3\xa9\"}, " Q("true") "}";
    static const sw_config_rule rule = { SW_F16, true };
    sw_buf out = SW_BUF_INIT;
    sw_config_fault fault;

    for (size_t n = 0; n < sizeof text - 1; n++) {
        edit(text, n, &rule, &out, &fault);
        assert_non_null(fault.what);
        assert_true(is_same(&out, text, n));
    }
    edit(text, sizeof text - 1, &rule, &out, &fault);
    assert_null(fault.what);
    sw_buf_release(&out);
}

/* A NUL is a character like any other that has no place here. */
TEST(nul)
{
    static const char *const texts[] = { "{\"a\": \0}",  "{\"a\"\0: 1}", "{\0}",
                                         "{\"a\": 1\0}", "{\"a\": 1}\0", "{\"a\": -\0}" };
    static const sw_config_rule rule = { SW_F16, true };
    sw_buf out = SW_BUF_INIT;
    sw_config_fault fault;

    for (size_t i = 0; i < COUNT(texts); i++) {
        edit(texts[i], strlen(texts[i]) + 1, &rule, &out, &fault);
        assert_non_null(fault.what);
    }
    edit("\"\0\"", 3, &rule, &out, &fault);
    assert_string_equal(fault.what, "a control character in a string");
    sw_buf_release(&out);
}

/* {"a_config":{"a_config": ... 1}} and [[ ... ]], so deep; 500 is allowed. */
static void deep(const char *open, const char *close, size_t depth, bool good)
{
    static const sw_config_rule rule = { SW_F16, true };
    sw_buf in = SW_BUF_INIT, out = SW_BUF_INIT;
    sw_status st = SW_STATUS_INIT;
    sw_config_fault fault;

    for (size_t i = 0; i < depth; i++)
        sw_buf_add(&in, open, strlen(open), &st);
    sw_buf_add(&in, "1", 1, &st);
    for (size_t i = 0; i < depth; i++)
        sw_buf_add(&in, close, strlen(close), &st);
    edit(in.data, in.len, &rule, &out, &fault);
    if (good)
        assert_null(fault.what);
    else
        assert_string_equal(fault.what, "nested more than 500 deep");
    assert_true(is_same(&out, in.data, in.len));
    sw_buf_release(&out);
    sw_buf_release(&in);
}

TEST(depth)
{
    deep("{\"a_config\":", "}", 500, true);
    deep("{\"a_config\":", "}", 501, false);
    deep("{\"a\":", "}", 500, true);
    deep("[", "]", 500, true);
    deep("[", "]", 1000000, false);
}

/* found: rows and columns; 0 = the text does not say. */
TEST(block_size)
{
    static const struct {
        const char *text;
        uint64_t rows, columns;
    } sizes[] = {
        { "{\"a\": [1, {}], " Q("{\"b\": null, \"weight_block_size\": [64, 128]}") "}", 64, 128 },
        { "{\"text_config\": {" Q("{\"weight_block_size\":[1,32]}") "}}", 1, 32 },
        { "{\"limit\": Infinity, " Q("{\"weight_block_size\": [64, 64]}") "}", 64, 64 },
        { "{\"weight_block_size\": [64, 64]}", 0, 0 },
        { "{\"other_config\": {\"weight_block_size\": [64, 64]}}", 0, 0 },
        { "{" Q("{\"weight_block_size\": null}") "}", 0, 0 },
        { "{" Q("{\"weight_block_size\": [128]}") "}", 0, 0 },
        { "{" Q("{\"weight_block_size\": [128, 128, 1]}") "}", 0, 0 },
        { "{" Q("{\"weight_block_size\": [128, 0]}") "}", 0, 0 },
        { "{" Q("{\"weight_block_size\": [128, -1]}") "}", 0, 0 },
        { "{" Q("{\"weight_block_size\": [128, \"128\"]}") "}", 0, 0 },
        { "{" Q("{\"weight_block_size\": [128, 128") "", 0, 0 },
        { "[" Q("") "]", 0, 0 },
        { "{\"\xff\": 1, " Q("{\"weight_block_size\": [64, 64]}") "}", 0, 0 },
        { "", 0, 0 },
    };

    for (size_t i = 0; i < COUNT(sizes); i++) {
        char *text = strdup(sizes[i].text);
        uint64_t block[2] = { 0 };

        if (sw_config_block_size(text, strlen(text), block) != (sizes[i].rows != 0) ||
            block[0] != sizes[i].rows || block[1] != sizes[i].columns)
            fail_msg("%s: %dx%d", sizes[i].text, (int)block[0], (int)block[1]);
        free(text);
    }
}
