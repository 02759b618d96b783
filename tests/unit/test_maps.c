/* Maps and index files: what is read from them, and what is refused with which words. */
#include "format/maps.h"
#include "unit.h"

typedef sw_code (*parse)(const char *json, size_t len, const char *file, sw_map *out, sw_status *st);

static sw_code parse_index(const char *json, size_t len, const char *file, sw_map *out, sw_status *st)
{
    return sw_index_parse(json, len, file, out, NULL, st);
}

/* says: a part of the message; NULL = accepted. */
static const struct {
    parse parse;
    const char *json;
    const char *says;
} cases[] = {
    { sw_map_parse_numbers, "{}", NULL },
    { sw_map_parse_numbers, " {\"a\": 1, \"b\" : 99999999 }\n", NULL },
    { sw_map_parse_numbers, "{\"a\": 0}",
      "m.json: tensor 'a': found 0, expected a file index from 1 to 99999999" },
    { sw_map_parse_numbers, "{\"a\": -1}", "found -1, expected a file index" },
    { sw_map_parse_numbers, "{\"a\": 100000000}", "found 100000000, expected a file index" },
    { sw_map_parse_numbers, "{\"a\": 1.0}",
      "found a number with a fraction or exponent, expected a file index" },
    { sw_map_parse_numbers, "{\"a\": 1e0}",
      "found a number with a fraction or exponent, expected a file index" },
    { sw_map_parse_numbers, "{\"a\": true}", "found a boolean, expected a file index" },
    { sw_map_parse_numbers, "{\"a\": null}", "found null, expected a file index" },
    { sw_map_parse_numbers, "{\"a\": \"1\"}", "found a string, expected a file index" },
    { sw_map_parse_numbers, "{\"a\": [1]}", "found an array, expected a file index" },
    { sw_map_parse_numbers, "{\"a\": {}}", "found an object, expected a file index" },
    { sw_map_parse_numbers, "{\"a\": 99999999999999999999}", "not valid JSON: line 1, column " },
    { sw_map_parse_numbers, "{\"a\": 1, \"a\": 1}", "duplicate object key" },
    { sw_map_parse_numbers, "{\"a\": 1, \"\\u0061\": 2}", "duplicate object key" },
    { sw_map_parse_numbers, "{\"a\\u0000b\": 1}", "not valid JSON" },
    { sw_map_parse_numbers, "{\"\xff\": 1}", "not valid JSON" },
    { sw_map_parse_numbers, "{\"a\": 1} x", "not valid JSON" },
    { sw_map_parse_numbers, "{\"a\": 1", "not valid JSON" },
    { sw_map_parse_numbers, "", "not valid JSON" },
    { sw_map_parse_numbers, "[]", "m.json: found an array, expected an object" },
    { sw_map_parse_numbers, "1", "found an integer, expected an object" },
    { sw_map_parse_numbers, "null", "found null, expected an object" },
    { sw_map_parse_texts, "{\"a\": \"BF16\", \"b\": \"\"}", NULL },
    { sw_map_parse_texts, "{\"a\": 1}", "tensor 'a': found a number, expected a string" },
    { sw_map_parse_texts, "{\"a\": null}", "tensor 'a': found null, expected a string" },
    { parse_index, "{}", NULL },
    { parse_index, "{\"metadata\": {\"total_size\": 1.5e10}, \"weight_map\": {}}", NULL },
    { parse_index, "{\"weight_map\": {\"a\": \"m/x.safetensors\"}, \"other\": [null, {\"a\": 1}]}", NULL },
    { parse_index, "{\"weight_map\": null}", "weight_map: found null, expected an object" },
    { parse_index, "{\"weight_map\": [\"a\"]}", "weight_map: found an array, expected an object" },
    { parse_index, "{\"weight_map\": {\"a\": 1}}", "tensor 'a': found a number, expected a string" },
    { parse_index, "{\"weight_map\": {\"a\": \"../x\"}}",
      "m.json: tensor 'a': file name '../x' is not a relative path below its directory" },
    { parse_index, "{\"weight_map\": {\"a\": \"x\", \"a\": \"x\"}}", "duplicate object key" },
    { parse_index, "{\"weight_map\": {}, \"weight_map\": {}}", "duplicate object key" },
    { parse_index, "[]", "found an array, expected an object" },
};

TEST(cases)
{
    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_status st = SW_STATUS_INIT;
        sw_map map = { (sw_map_item *)&st, 7 };
        char text[2048];
        sw_code code = cases[i].parse(cases[i].json, strlen(cases[i].json), "m.json", &map, &st);

        print_message("%s\n", cases[i].json);
        assert_int_equal(code, st.code);
        assert_int_equal(code, cases[i].says ? SW_EINPUT : SW_OK);
        if (cases[i].says) {
            assert_non_null(strstr(sw_status_message(&st, text, sizeof text), cases[i].says));
            assert_int_equal(map.n, 0);
            assert_null(map.items);
        }
        sw_map_release(&map);
    }
}

/* Only len bytes count, whatever lies behind them. */
TEST(length)
{
    sw_status st = SW_STATUS_INIT;
    sw_map map = SW_MAP_INIT;

    assert_int_equal(sw_map_parse_numbers("{\"a\":1}garbage", 7, "m.json", &map, &st), SW_OK);
    assert_int_equal(map.n, 1);
    sw_map_release(&map);
}

TEST(sorted_and_found)
{
    static const char json[] =
        "{\"b\": 2, \"a.10\": 3, \"a.9\": 4, \"\": 5, \"\xc3\xa9\": 6, \"\\ud83d\\ude00\": 7, \"z\": 8}";
    static const char *const order[] = { "", "a.10", "a.9", "b", "z", "\xc3\xa9", "\xf0\x9f\x98\x80" };
    static const uint64_t numbers[] = { 5, 3, 4, 2, 8, 6, 7 };
    sw_status st = SW_STATUS_INIT;
    sw_map map = SW_MAP_INIT;

    assert_null(sw_map_find(&map, "a"));
    assert_int_equal(sw_map_parse_numbers(json, strlen(json), "m.json", &map, &st), SW_OK);
    assert_int_equal(map.n, COUNT(order));
    for (size_t i = 0; i < map.n; i++) {
        assert_string_equal(map.items[i].key, order[i]);
        assert_ptr_equal(sw_map_find(&map, order[i]), &map.items[i]);
        assert_int_equal(map.items[i].number, numbers[i]);
        assert_null(map.items[i].text);
    }
    assert_null(sw_map_find(&map, "a.1"));
    assert_null(sw_map_find(&map, "a.100"));
    assert_null(sw_map_find(&map, "\xff"));
    sw_map_release(&map);
    assert_null(map.items);
    sw_map_release(&map);
}

/* What is said of all tensors together, however large the number. */
TEST(totals)
{
    static const char json[] =
        "{\"metadata\": {\"total_size\": 99999999999999999999, \"total_parameters\": 12}, "
        "\"weight_map\": {\"a\": \"x\"}}";
    static const char other[] = "{\"metadata\": {\"total_size\": \"1\"}}",
                      none[] = "{\"weight_map\": {\"a\": 1}}";
    sw_index_totals t = { .there = true, .has_size = true, .has_parameters = true, .size = 7 };
    sw_status st = SW_STATUS_INIT;
    sw_map map;

    assert_int_equal(sw_index_parse(json, strlen(json), "m.json", &map, &t, &st), SW_OK);
    assert_true(map.n == 1 && t.there && t.has_size && t.has_parameters);
    assert_true(t.size > 9.9e19 && t.size < 1.1e20 && t.parameters > 11 && t.parameters < 13);
    sw_map_release(&map);
    assert_int_equal(sw_index_parse(other, strlen(other), "m.json", &map, &t, &st), SW_OK);
    assert_true(t.there && !t.has_size && !t.has_parameters && t.odd_size && !t.odd_parameters);
    sw_map_release(&map);
    assert_int_equal(sw_index_parse(none, strlen(none), "m.json", &map, &t, &st), SW_EINPUT);
    assert_true(!t.there && !t.has_size && !t.has_parameters && map.n == 0);
}

TEST(below)
{
    static const char *const below[] = { "a",   "a/b",     "a/b/c.d", "..a",      "a..",
                                         "...", ".hidden", "a b",     "\xc3\xa9", "-" };
    static const char *const outside[] = {
        "",    "/",    "/a",   "a/",     "a//b", ".",    "..",     "./a",
        "a/.", "a/..", "../a", "a/../b", "a\nb", "\x7f", "a/\x01", "a/./b"
    };

    for (size_t i = 0; i < COUNT(below); i++) {
        print_message("%s\n", below[i]);
        assert_true(sw_name_is_below(below[i]));
    }
    for (size_t i = 0; i < COUNT(outside); i++) {
        print_message("%s\n", outside[i]);
        assert_false(sw_name_is_below(outside[i]));
    }
}
