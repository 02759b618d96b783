/* The report as a program reads it. Where it cannot be written, and what is no regular file:
 * tests/e2e/test_cli.py. */

#include <jansson.h>

#include "cmd/run.h"
#include "top_help.h"

static const char *string_of(json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

TEST_IN_TOP(success)
{
    char one[] = "model-00001-of-00002.safetensors", warning[] = "odd \xff name", *warnings[] = { warning };
    const char *hints[] = { "a=b", NULL };
    sw_result_file files[] = { { .name = one, .tensors = 3, .size = UINT64_C(5000000000) } };
    sw_args args = { .command = sw_commands, .report = at("report.json"), .input = "in", .output = "out" };
    sw_run run = { .args = &args, .comm = { .size = 2 }, .warnings = warnings, .nwarnings = 1 };
    sw_status st = SW_STATUS_INIT, err = SW_STATUS_INIT;
    json_t *o, *options;
    sw_dir beside;

    args.opt.hints = hints;
    args.opt.buffer_size = 4096;
    args.opt.no_sync = true;
    run.result.files = files;
    run.result.nfiles = 1;
    run.result.ranks = 2;
    run.result.assign = SW_ASSIGN_OWNER;
    strcpy(run.result.io, "ompio");
    strcpy(run.result.transport, "io_ompio_priority=1 sharedfp=^lockedfile,individual");
    assert_int_equal(sw_report_write(&run, &st, &err), SW_OK);

    o = json_load_file(at("report.json"), JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(o);
    assert_int_equal(json_integer_value(json_object_get(o, "schema")), 1);
    assert_true(json_is_integer(json_object_get(o, "status")));
    assert_int_equal(json_integer_value(json_object_get(o, "status")), 0);
    assert_string_equal(string_of(o, "code"), "SW_OK");
    assert_true(json_is_null(json_object_get(o, "message")));
    assert_string_equal(string_of(o, "command"), "consolidate");
    assert_string_equal(string_of(o, "assign"), "owner");
    assert_string_equal(string_of(o, "io"), "ompio");
    assert_string_equal(string_of(json_object_get(o, "transport"), "sharedfp"), "^lockedfile,individual");
    assert_string_equal(json_string_value(json_array_get(json_object_get(o, "warnings"), 0)), "odd ? name");
    assert_true(json_integer_value(json_object_get(json_array_get(json_object_get(o, "files"), 0), "size")) ==
                5000000000);
    options = json_object_get(o, "options");
    assert_int_equal(json_integer_value(json_object_get(options, "buffer-size")), 4096);
    assert_true(json_is_false(json_object_get(options, "sync")));
    assert_null(json_object_get(options, "no-sync"));
    assert_true(json_is_null(json_object_get(options, "like")));
    assert_string_equal(json_string_value(json_array_get(json_object_get(options, "hint"), 0)), "a=b");
    json_decref(o);
    assert_int_equal(sw_dir_list(top, &beside, &st), SW_OK);
    assert_int_equal(beside.n, 1);
    sw_dir_release(&beside);
}

TEST_IN_TOP(failure)
{
    sw_args args = { .report = at("report.json") };
    sw_run run = { .args = &args, .comm = { .size = 1 } };
    sw_status st = { SW_EINPUT, "shard-1", "a.weight", "data begins at 1, expected 0", 37, "node12" };
    sw_status err = SW_STATUS_INIT;
    json_t *o;

    assert_int_equal(sw_report_write(&run, &st, &err), SW_OK);
    assert_int_equal(sw_report_write(&run, &st, &err), SW_OK); /* replaced */
    o = json_load_file(at("report.json"), JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(o);
    assert_int_equal(json_integer_value(json_object_get(o, "status")), 3);
    assert_string_equal(string_of(o, "code"), "SW_EINPUT");
    assert_string_equal(string_of(o, "file"), "shard-1");
    assert_string_equal(string_of(o, "tensor"), "a.weight");
    assert_string_equal(string_of(o, "message"),
                        "shard-1: tensor 'a.weight': data begins at 1, expected 0 (rank 37 on node12)");
    assert_int_equal(json_integer_value(json_object_get(o, "rank")), 37);
    assert_string_equal(string_of(o, "host"), "node12");
    assert_true(json_is_null(json_object_get(o, "input")));
    json_decref(o);
}
