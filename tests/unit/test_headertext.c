/* The front matter of shard files: the text that torch writes, and what our own parser makes of
 * it. */
#include "format/filenames.h"
#include "format/header.h"
#include "unit.h"

static const uint64_t row[] = { 8, 0 }, row_shape[] = { 4, 3 }, one[] = { 7 }, one_shape[] = { 2 },
                      row_of[] = { 16, 3 }, one_of[] = { 9 };

TEST(text)
{
    const sw_header_box boxes[] = {
        { "z\"\xc3\xa9", SW_BF16, 2, row, row_shape, row_of, 12, 36 },
        { "step", SW_I64, 0, NULL, NULL, NULL, 0, 8 },
        { "a", SW_BF16, 1, one, one_shape, one_of, 8, 12 },
    };
    static const char want[] =
        "{\"__metadata__\":{\"DCP_SHARDING_INFO\":\"{\\\"z\\\\\\\"\\\\u00e9\\\": {\\\"saved_offsets\\\": [8, "
        "0], \\\"global_shape\\\": [16, 3]}, "
        "\\\"step\\\": {\\\"saved_offsets\\\": [], \\\"global_shape\\\": []}, "
        "\\\"a\\\": {\\\"saved_offsets\\\": [7], \\\"global_shape\\\": [9]}}\","
        "\"DCP_VERSION\":\"1.0\",\"SHARDWELD_SHARDS\":\"1:1-4 3:9-9\",\"format\":\"pt\"},"
        "\"step\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},"
        "\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[8,12]},"
        "\"z\\\"\xc3\xa9\":{\"dtype\":\"BF16\",\"shape\":[4,3],\"data_offsets\":[12,36]}}";
    sw_status st = SW_STATUS_INIT;
    sw_header h = SW_HEADER_INIT;
    sw_buf text = SW_BUF_INIT;

    assert_int_equal(sw_header_head("1:1-4 3:9-9", boxes, 3, &text, &st), SW_OK);
    assert_int_equal(sw_header_entry(&boxes[1], &text, &st), SW_OK);
    assert_int_equal(sw_header_entry(&boxes[2], &text, &st), SW_OK);
    assert_int_equal(sw_header_entry(&boxes[0], &text, &st), SW_OK);
    assert_int_equal(sw_buf_add(&text, SW_HEADER_TAIL, 1, &st), SW_OK);
    assert_int_equal(text.len, strlen(want));
    assert_memory_equal(text.data, want, strlen(want));
    assert_int_equal(sw_header_parse(text.data, text.len, 36, "file", &h, &st), SW_OK);
    assert_true(h.sharded && h.format_pt);
    assert_int_equal(h.nentries, 3);
    assert_int_equal(h.dims[h.entries[2].offsets], 8);
    sw_header_release(&h);
    sw_buf_release(&text);
}

/* Nobody could read the file. */
TEST(too_long)
{
    sw_status st = SW_STATUS_INIT;

    assert_int_equal(sw_header_check_length(SW_HEADER_MAX, &st), SW_OK);
    assert_int_equal(sw_header_check_length(SW_HEADER_MAX + 1, &st), SW_EUSAGE);
    assert_non_null(strstr(st.reason, "at most 100000000 can be read"));
}

TEST(names)
{
    char text[SW_SHARD_NAME_SIZE];
    sw_shard_name n = { 2, 1, 3 }, parsed;

    assert_string_equal(sw_shard_name_text(&n, text), "shard-00002-model-00001-of-00003.safetensors");
    n = (sw_shard_name){ 1234567, 99999999, 99999999 };
    assert_true(sw_shard_name_parse(sw_shard_name_text(&n, text), &parsed));
    assert_memory_equal(&n, &parsed, sizeof n);
}
