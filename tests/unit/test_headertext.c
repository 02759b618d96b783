/* The front matter of shard files: the text that torch writes, and what our own parser makes of
 * it. */
#include "format/filenames.h"
#include "format/header.h"
#include "unit.h"

static const uint64_t row[] = { 8, 0 }, row_shape[] = { 4, 3 }, one[] = { 7 }, one_shape[] = { 2 },
                      row_of[] = { 16, 3 }, one_of[] = { 9 };

TEST(text)
{
    sw_header_box boxes[] = {
        { "z\"\xc3\xa9", SW_BF16, 2, row, row_shape, row_of, 0, 0 },
        { "step", SW_I64, 0, NULL, NULL, NULL, 0, 0 },
        { "a", SW_BF16, 1, one, one_shape, one_of, 0, 0 },
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
    uint32_t order[3];
    uint64_t len;

    assert_int_equal(sw_header_of_shard(boxes, 3, "1:1-4 3:9-9", order, &text, &st), SW_OK);
    assert_int_equal(text.len % 8, 0);
    memcpy(&len, text.data, 8);
    assert_int_equal(len, text.len - 8);
    assert_true(len >= strlen(want) && len < strlen(want) + 8);
    assert_memory_equal(text.data + 8, want, strlen(want));
    for (size_t i = strlen(want); i < len; i++)
        assert_int_equal(text.data[8 + i], ' ');
    assert_int_equal(order[0], 1);
    assert_int_equal(order[1], 2);
    assert_int_equal(order[2], 0);
    assert_int_equal(boxes[0].begin, 12);
    assert_int_equal(boxes[0].end, 36);
    assert_int_equal(sw_header_parse(text.data + 8, (size_t)len, 36, "file", &h, &st), SW_OK);
    assert_true(h.sharded && h.format_pt);
    assert_int_equal(h.nentries, 3);
    assert_int_equal(h.dims[h.entries[2].offsets], 8);
    sw_header_release(&h);
    sw_buf_release(&text);
}

/* Names so long that nobody could read the file. */
TEST(too_long)
{
    size_t n = SW_HEADER_MAX / 2;
    char *name = malloc(n + 1);
    sw_header_box box = { name, SW_U8, 1, one, one_shape, one_of, 0, 0 };
    sw_status st = SW_STATUS_INIT;
    sw_buf text = SW_BUF_INIT;
    uint32_t order;

    assert_non_null(name);
    memset(name, 'n', n);
    name[n] = '\0';
    assert_int_equal(sw_header_of_shard(&box, 1, "1:1-1", &order, &text, &st), SW_EUSAGE);
    assert_non_null(strstr(st.reason, "at most 100000000 can be read"));
    sw_buf_release(&text);
    free(name);
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
