/* The header parser: each rule with the message that breaking it gives. What is read is compared
 * with the reference library by tests/torch/test_differential.py. In the texts ' stands for ", `
 * for \" within sharding info. Run from the top directory. */
#include "format/header.h"
#include "tree_help.h"

/* An entry of one byte at 0. */
#define BYTE "'dtype':'U8','shape':[1],'data_offsets':[0,1]"
#define A "'a':{" BYTE "}"
#define ONE(dtype, shape, range) "{'a':{'dtype':" dtype ",'shape':" shape ",'data_offsets':" range "}}"
#define BESIDE(version) "'__metadata__':{'DCP_SHARDING_INFO':'" BOX "','DCP_VERSION':'" version "'}," A "}"
#define INFO(text) "'__metadata__':{'DCP_SHARDING_INFO':'" text "'},"
#define BOX "{`a`:{`saved_offsets`:[0]}}"

/* Quotes put in; *len gets the length. Without a NUL behind it, so that a step too far is seen. */
static char *make_text(const char *s, size_t *len)
{
    char *text = malloc(2 * strlen(s) + 1), *exact;

    assert_non_null(text);
    *len = 0;
    for (; *s; s++) {
        if (*s == '`')
            text[(*len)++] = '\\';
        text[(*len)++] = *s == '\'' || *s == '`' ? '"' : *s;
    }
    exact = malloc(*len ? *len : 1);
    assert_non_null(exact);
    memcpy(exact, text, *len);
    free(text);
    return exact;
}

/* Parse; NULL when it was accepted, else the message, which stays until the next call. */
static const char *parse(const char *s, uint64_t data_len, char message[2048])
{
    sw_status st = SW_STATUS_INIT;
    sw_header h;
    size_t len;
    char *text = make_text(s, &len);

    message[0] = '\0';
    if (sw_header_parse(text, len, data_len, "f", &h, &st)) {
        assert_int_equal(st.code, SW_EINPUT);
        assert_string_equal(st.file, "f");
        assert_true(!h.entries && !h.dims && h.nentries == 0 && !h.sharded);
        sw_status_message(&st, message, 2048);
    } else {
        assert_int_equal(h.data_len, data_len);
    }
    sw_header_release(&h);
    free(text);
    return st.code ? message : NULL;
}

TEST(accepted)
{
    static const struct {
        const char *text;
        uint64_t data_len;
    } cases[] = {
        { "{}", 0 },
        { " \n{ } \t", 0 },
        { "{" A "}", 1 },
        { "{" A "}        ", 1 },
        { "{'':{" BYTE "}}", 1 },
        { "{'__metadata__':null," A "}", 1 },
        { "{'__metadata__':{}," A "}", 1 },
        { "{" A ",'__metadata__':{'format':'pt'}}", 1 },
        { "{'__metadata__':{'x':'\\u0000','':''}}", 0 },
        { "{'\\u005f_metadata__':{'x':'y'}}", 0 },
        { "{'a':{'shape':[1],'data_offsets':[0,1],'dtype':'U8'}}", 1 },
        { "{'a':{'d\\u0074ype':'\\u00558','shape':[1],'data_offsets':[0,1]}}", 1 },
        { ONE("{'U8':null}", "[1]", "[0,1]"), 1 },
        { "{'a':{" BYTE ",'more':{'x':[1.5e3,-0,true,{'y':null}],'z':'\\ud834\\udd1e'}}}", 1 },
        { ONE("'F32'", "[]", "[0,4]"), 4 },
        { ONE("'F4'", "[2]", "[0,1]"), 1 },
        { ONE("'F6_E2M3'", "[4]", "[0,3]"), 3 },
        /* order is free; empty tensors lie anywhere between others, several at one place, on either
         * side */
        { "{'b':{'dtype':'U8','shape':[2],'data_offsets':[1,3]}," A "}", 3 },
        { "{'z':{'dtype':'U8','shape':[0],'data_offsets':[0,0]}," A "}", 1 },
        { "{" A ",'z':{'dtype':'U8','shape':[0],'data_offsets':[0,0]}}", 1 },
        { "{" A ",'z':{'dtype':'U8','shape':[0],'data_offsets':[1,1]},"
          "'y':{'dtype':'F32','shape':[5,0],'data_offsets':[1,1]}}",
          1 },
        { "{'z':{'dtype':'U8','shape':[0],'data_offsets':[1,1]},"
          "'b':{'dtype':'U8','shape':[1],'data_offsets':[1,2]},"
          "'y':{'dtype':'U8','shape':[0],'data_offsets':[1,1]}," A "}",
          2 },
        { "{'z':{'dtype':'U8','shape':[0],'data_offsets':[0,0]}}", 0 },
        /* products are formed in the order of the dimensions */
        { "{'z':{'dtype':'U8','shape':[0,9223372036854775807,9223372036854775807],'data_offsets':[0,0]}}",
          0 },
        { "{'z':{'dtype':'U8','shape':[9223372036854775807,0,9223372036854775807],'data_offsets':[0,0]}}",
          0 },
        { "{'z':{'dtype':'U8','shape':[9223372036854775808,0],'data_offsets':[0,0]}}", 0 },
        { "{'a':{'dtype':'U8','shape':[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"
          "'data_offsets':[0,1]}}",
          1 },
        /* sharding info */
        { "{" INFO(BOX) A "}", 1 },
        { "{" A ",'__metadata__':{'DCP_SHARDING_INFO':'" BOX "','DCP_VERSION':'1'}}", 1 },
        { "{" A ",'__metadata__':{'DCP_VERSION':'1.0','format':'pt','DCP_SHARDING_INFO':'" BOX "'}}", 1 },
        { "{" INFO(" { `a` : { `saved_offsets` : [ 7 ] , `global_shape` : [ 8 ] , `x` : { } } } ") A "}", 1 },
        { "{" INFO("{`b`:{`saved_offsets`:[9,9]},`a`:{`saved_offsets`:[0]},`c`:null}") A "}", 1 },
        { "{" INFO("{`a`:{`saved_offsets`:[]}}") "'a':{'dtype':'U8','shape':[],'data_offsets':[0,1]}}", 1 },
        { "{" INFO("{`\\\\u0061`:{`saved_offsets`:[0]}}") A "}", 1 },
        { "{" INFO("{`a`:{`saved_offsets`:[9223372036854775807]}}") A "}", 1 },
        /* an empty box may lie at the end of its tensor, or beyond */
        { "{" INFO("{`a`:{`saved_offsets`:[8,0],`global_shape`:[8,4]}}") "'a':{'dtype':'U8','shape':[0,4],'"
                                                                         "data_offsets':[0,0]}}",
          0 },
        { "{" INFO("{`a`:{`saved_offsets`:[9,0],`global_shape`:[8,4]}}") "'a':{'dtype':'U8','shape':[0,4],'"
                                                                         "data_offsets':[0,0]}}",
          0 },
        { "{'__metadata__':{'DCP_SHARDING_INFO':'{}'}}", 0 },
        { "{'__metadata__':{'DCP_VERSION':'2'}}", 0 },
    };
    char message[2048];

    for (size_t i = 0; i < COUNT(cases); i++)
        if (parse(cases[i].text, cases[i].data_len, message))
            fail_msg("%s: %s", cases[i].text, message);
}

/* Each rule that a file by itself can break, by the files of tests/bad and the words beside them.
 * What the program says of them: tests/e2e/test_input.py. */
TEST(bad_files)
{
    FILE *cases = fopen("tests/bad/cases.txt", "r");
    char line[256], message[2048];
    unsigned n = 0;

    assert_non_null(cases);
    while (fgets(line, sizeof line, cases)) {
        const char *name = strtok(line, "\t"), *words = strtok(NULL, "\t") ? strtok(NULL, "\n") : NULL;
        sw_header h = SW_HEADER_INIT;
        sw_status st = SW_STATUS_INIT;
        sw_buf file = SW_BUF_INIT;
        uint64_t len;

        if (*name == '#')
            continue;
        assert_int_equal(sw_path_read(path_at("tests/bad", name), NULL, 1 << 20, &file, NULL, &st), SW_OK);
        if (!sw_header_length((const unsigned char *)file.data, file.len, "f", &len, &st))
            sw_header_parse(file.data + 8, (size_t)len, file.len - 8 - len, "f", &h, &st);
        if (st.code != SW_EINPUT || !words || !strstr(sw_status_message(&st, message, sizeof message), words))
            fail_msg("%s: %d '%s'", name, (int)st.code, message);
        sw_header_release(&h);
        sw_buf_release(&file);
        n++;
    }
    fclose(cases);
    assert_true(n > 50);
}

/* What else there is. */
TEST(refused)
{
    static const struct {
        const char *text;
        uint64_t data_len;
        const char *says;
    } cases[] = {
        /* JSON */
        { "null", 0, "expected an object" },
        { "{", 0, "byte 1: unexpected end" },
        { "{'\xed\xa0\x80':{" BYTE "}}", 1, "bad UTF-8 at byte 2" },
        { "{'\\ud800':{" BYTE "}}", 1, "surrogate" },
        { "{'a':{" BYTE ",'x':1e999}}", 1, "tensor 'a': header: invalid at byte 61: a number beyond" },
        /* entries */
        { "{'a':null}", 0, "tensor 'a': header: invalid at byte 5: expected an object" },
        { ONE("'U8'", "null", "[0,1]"), 1, "expected an array" },
        { ONE("'u8'", "[1]", "[0,1]"), 1, "unknown dtype 'u8'" },
        { ONE("'U8\\u0000'", "[1]", "[0,1]"), 1, "unknown dtype" },
        { ONE("8", "[1]", "[0,1]"), 1, "expected a string" },
        { ONE("{}", "[1]", "[0,1]"), 1, "expected a dtype" },
        { ONE("{'U8':{}}", "[1]", "[0,1]"), 1, "expected a dtype" },
        { ONE("{'U8':null,'U8':null}", "[1]", "[0,1]"), 1, "expected a dtype" },
        { ONE("{'U8':null 1}", "[1]", "[0,1]"), 1, "expected ',' or '}'" },
        { ONE("'U8'", "[-0]", "[0,0]"), 0, "a negative number" },
        { ONE("'U8'", "[1]", "[0]"), 1, "expected ','" },
        { ONE("'U8'", "[1]", "{'0':0}"), 1, "expected an array" },
        { "{'a':{'dtype':'U8','shape':[1],'data_offsets':[0,1],'x':}}", 1, "expected a value" },
        /* sizes */
        { ONE("'F4'", "[3]", "[0,1]"), 1, "F4 make 12 bits, no whole number of bytes" },
        { ONE("'F6_E3M2'", "[2]", "[0,2]"), 2, "12 bits" },
        { ONE("'U8'", "[9223372036854775808,9223372036854775808,0]", "[0,0]"), 0, "overflows 64 bits as U8" },
        { ONE("'U64'", "[9223372036854775808]", "[0,0]"), 0, "overflows 64 bits as U64" },
        { ONE("'U8'", "[2305843009213693952]", "[0,2305843009213693952]"), 0, "overflows 64 bits" },
        /* coverage */
        { "{" A ",'b':{'dtype':'U8','shape':[1],'data_offsets':[0,1]}}", 1,
          "tensor 'b': data begins at 0, expected 1: an overlap with tensor 'a'" },
        { "{'a':{'dtype':'U8','shape':[4],'data_offsets':[0,4]},'b':{'dtype':'U8','shape':[0],'data_offsets':"
          "[3,3]}}",
          4, "tensor 'b': data begins at 3, expected 4: an overlap" },
        { "{" A ",'z':{'dtype':'U8','shape':[0],'data_offsets':[2,2]}}", 1,
          "tensor 'z': data begins at 2, expected 1" },
        { "{}", 1, "1 bytes at the end" },
        /* duplicates */
        { "{" A ",'\\u0061':{'dtype':'U8','shape':[1],'data_offsets':[1,2]}}", 2, "duplicate key 'a'" },
        { "{'__metadata__':null,'__metadata__':null}", 0, "duplicate key '__metadata__'" },
        { "{'a':{" BYTE ",'shape':[1]}}", 1, "duplicate key 'shape'" },
        { "{'a':{" BYTE ",'x':[{'y':1,'y':2}]}}", 1, "duplicate key 'y' in one object" },
        /* metadata */
        { "{'__metadata__':'x'}", 0, "expected an object" },
        { "{'__metadata__':nul}", 0, "expected a value" },
        { "{'__metadata__':{'x':null}}", 0, "is not a string" },
        /* sharding info */
        { "{" INFO("") A "}", 1, "DCP_SHARDING_INFO: invalid at byte 0: unexpected end" },
        { "{" INFO("no") A "}", 1, "DCP_SHARDING_INFO: invalid at byte 0: expected an object" },
        { "{" INFO("[]") A "}", 1, "DCP_SHARDING_INFO: invalid at byte 0: expected an object" },
        { "{" INFO(BOX "x") A "}", 1, "DCP_SHARDING_INFO: invalid at byte 27: more text" },
        { "{" INFO(BOX "\\u0000") A "}", 1, "DCP_SHARDING_INFO: invalid at byte 27: more text" },
        { "{" INFO("{`a`:null}") A "}", 1, "expected an object" },
        { "{" INFO("{`a`:{`saved_offsets`:null}}") A "}", 1, "expected an array" },
        { "{" INFO("{`a`:{`saved_offsets`:[-1]}}") A "}", 1,
          "tensor 'a': DCP_SHARDING_INFO: invalid at byte 23: a negative number" },
        { "{" INFO("{`a`:{`saved_offsets`:[0.0]}}") A "}", 1, "fraction" },
        { "{" INFO("{`a`:{`saved_offsets`:[]}}") A "}", 1,
          "saved_offsets has 0 dimensions, the shape has 1" },
        { "{" INFO("{`a`:{`saved_offsets`:[9223372036854775809]}}") A "}", 1, "a number over 2^63" },
        { "{" INFO("{`a`:{`saved_offsets`:[0]},`a`:{`saved_offsets`:[0]}}") A "}", 1,
          "tensor 'a': DCP_SHARDING_INFO: duplicate key" },
        { "{" INFO("{`b`:0,`a`:{`saved_offsets`:[0]},`b`:0}") A "}", 1,
          "DCP_SHARDING_INFO: duplicate key 'b'" },
        { "{" INFO("{`a`:{`saved_offsets`:[0],`saved_offsets`:[0]}}") A "}", 1,
          "duplicate key 'saved_offsets'" },
        { "{" INFO("{`a`:{`saved_offsets`:[0],`x`:1,`x`:1}}") A "}", 1,
          "DCP_SHARDING_INFO: duplicate key 'x'" },
        { "{" BESIDE(""), 1, "DCP_VERSION is ''" },
        { "{" BESIDE("10"), 1, "DCP_VERSION is '10'" },
        { "{" BESIDE("1."), 1, "DCP_VERSION is '1.'" },
        { "{" BESIDE("1.0\\u0000"), 1, "DCP_VERSION" },
    };
    char message[2048];

    for (size_t i = 0; i < COUNT(cases); i++) {
        if (!parse(cases[i].text, cases[i].data_len, message))
            fail_msg("accepted: %s", cases[i].text);
        if (!strstr(message, cases[i].says))
            fail_msg("%s: says '%s', expected '%s'", cases[i].text, message, cases[i].says);
    }
}

TEST(contents)
{
    sw_status st = SW_STATUS_INIT;
    sw_header h;
    size_t len;
    char *text =
        make_text("{'__metadata__':{'format':'pt','DCP_SHARDING_INFO':'{`w\\u00e9`:{`saved_offsets`:[4,5],"
                  "`global_shape`:[40,50]},`s`:{`saved_offsets`:[]}}'},"
                  "'s':{'dtype':'BOOL','shape':[],'data_offsets':[12,13]},"
                  "'w\\u00e9':{'dtype':'BF16','shape':[2,3],'data_offsets':[0,12]}}",
                  &len);

    assert_int_equal(sw_header_parse(text, len, 13, "f", &h, &st), SW_OK);
    assert_true(h.sharded && h.format_pt);
    assert_int_equal(h.nentries, 2);
    assert_int_equal(h.data_len, 13);
    assert_string_equal(h.entries[0].name, "s");
    assert_int_equal(h.entries[0].dtype, SW_BOOL);
    assert_int_equal(h.entries[0].ndim, 0);
    assert_int_not_equal(h.entries[0].offsets, SW_NO_DIMS);
    assert_int_equal(h.entries[0].global_shape, SW_NO_DIMS);
    assert_string_equal(h.entries[1].name, "w\xc3\xa9");
    assert_int_equal(h.entries[1].dtype, SW_BF16);
    assert_int_equal(h.dims[h.entries[1].shape + 1], 3);
    assert_int_equal(h.dims[h.entries[1].offsets], 4);
    assert_int_equal(h.dims[h.entries[1].global_shape + 1], 50);
    sw_header_release(&h);
    sw_header_release(&h);
    free(text);
}

TEST(length)
{
    static const struct {
        unsigned char first[8];
        uint64_t file_size, want;
        const char *says;
    } cases[] = {
        { { 2 }, 10, 2, NULL },
        { { 0 }, 8, 0, NULL },
        { { 2, 1 }, 1000, 258, NULL },
        { { 0x00, 0xe1, 0xf5, 0x05 }, 100000008, 100000000, NULL },
        { { 0 }, 0, 0, "the file has 0 bytes, too short" },
        { { 0 }, 7, 0, "the file has 7 bytes, too short" },
        { { 3 }, 10, 0, "header length 3 goes past the end of the file, which has 10 bytes" },
        { { 1 }, 8, 0, "goes past the end" },
        { { 0x01, 0xe1, 0xf5, 0x05 }, UINT64_C(1) << 40, 0, "header length 100000001 is over the limit" },
        { { 255, 255, 255, 255, 255, 255, 255, 255 }, 10, 0, "18446744073709551615 is over the limit" },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_status st = SW_STATUS_INIT;
        uint64_t len = 0;
        sw_code code = sw_header_length(cases[i].first, cases[i].file_size, "f", &len, &st);

        assert_int_equal(code, cases[i].says ? SW_EINPUT : SW_OK);
        assert_int_equal(len, cases[i].want);
        if (cases[i].says && !strstr(st.reason, cases[i].says))
            fail_msg("says '%s', expected '%s'", st.reason, cases[i].says);
    }
}

TEST(too_long)
{
    sw_status st = SW_STATUS_INIT;
    sw_header h;
    size_t len = (size_t)SW_HEADER_MAX + 1;
    char *text = malloc(len);

    assert_non_null(text);
    assert_int_equal(sw_header_parse(text, len, 0, "f", &h, &st), SW_EINPUT);
    assert_non_null(strstr(st.reason, "over the limit"));
    free(text);
}

/* Thousands of entries whose boxes stand in another order, and one of them spoilt. */
TEST(many)
{
    enum { COUNT = 5000, ROOM = 400 };
    char *text = malloc((size_t)COUNT * ROOM), *end = text, message[2048];

    assert_non_null(text);
    for (int spoilt = 0; spoilt < 2; spoilt++) {
        end = text + sprintf(text, "{'__metadata__':{'DCP_SHARDING_INFO':'{");
        for (int i = 0; i < COUNT; i++)
            end += sprintf(end, "%s`t.%d`:{`saved_offsets`:[%d,0]}", i ? "," : "",
                           (i * 7 + 3) % (COUNT - spoilt), i);
        end += sprintf(end, "}'}");
        for (int i = COUNT - 1; i >= 0; i--)
            end += sprintf(end, ",'t.%d':{'dtype':'U8','shape':[1,2],'data_offsets':[%d,%d]}", i, 2 * i,
                           2 * i + 2);
        sprintf(end, "}");
        assert_int_equal(parse(text, 2 * COUNT, message) != NULL, spoilt);
    }
    assert_non_null(strstr(message, "duplicate key"));
    free(text);
}
