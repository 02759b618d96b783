/* The report as a program reads it: what is in it, and what becomes of the file. */

#include <jansson.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/run.h"
#include "unit.h"

typedef struct place {
    char dir[64], path[128];
} place;

static int set_up(void **state)
{
    place *p = calloc(1, sizeof *p);

    if (!p)
        return -1;
    strcpy(p->dir, "/tmp/test_cmd_report.XXXXXX");
    if (!mkdtemp(p->dir))
        return -1;
    snprintf(p->path, sizeof p->path, "%s/report.json", p->dir);
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    place *p = *state;

    unlink(p->path);
    rmdir(p->dir); /* fails if something was left beside the report: see the test */
    free(p);
    return 0;
}

static const char *string_of(json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

TEST_WITH(success, set_up, tear_down)
{
    place *p = *state;
    char one[] = "model-00001-of-00002.safetensors", warning[] = "odd \xff name", *warnings[] = { warning };
    const char *hints[] = { "a=b", NULL };
    sw_result_file files[] = { { .name = one, .tensors = 3, .size = UINT64_C(5000000000) } };
    sw_args args = { .command = sw_commands, .report = p->path, .input = "in", .output = "out" };
    sw_run run = { .args = &args, .comm = { .size = 2 }, .warnings = warnings, .nwarnings = 1 };
    sw_status st = SW_STATUS_INIT, err = SW_STATUS_INIT;
    json_t *o, *options;

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

    o = json_load_file(p->path, JSON_REJECT_DUPLICATES, NULL);
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
    /* Nothing beside it. */
    assert_int_equal(unlink(p->path), 0);
    assert_int_equal(rmdir(p->dir), 0);
}

TEST_WITH(failure, set_up, tear_down)
{
    place *p = *state;
    sw_args args = { .report = p->path };
    sw_run run = { .args = &args, .comm = { .size = 1 } };
    sw_status st = { SW_EINPUT, "shard-1", "a.weight", "data begins at 1, expected 0", 37, "node12" };
    sw_status err = SW_STATUS_INIT;
    json_t *o;

    assert_int_equal(sw_report_write(&run, &st, &err), SW_OK);
    assert_int_equal(sw_report_write(&run, &st, &err), SW_OK); /* replaced */
    o = json_load_file(p->path, JSON_REJECT_DUPLICATES, NULL);
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

TEST_WITH(no_such_directory, set_up, tear_down)
{
    place *p = *state;
    char path[PATH_MAX];
    sw_args args = { .report = path };
    sw_run run = { .args = &args };
    sw_status st = SW_STATUS_INIT, err = SW_STATUS_INIT;

    snprintf(path, sizeof path, "%s/no/report.json", p->dir);
    assert_int_equal(sw_report_write(&run, &st, &err), SW_EIO);
    assert_string_equal(err.file, path);
    assert_non_null(strstr(err.reason, "cannot write the report: No such file"));
}

/* What is no regular file is written to, not replaced. */
TEST_WITH(link, set_up, tear_down)
{
    place *p = *state;
    char target[160];
    struct stat s;
    sw_args args = { .report = p->path };
    sw_run run = { .args = &args };
    sw_status st = SW_STATUS_INIT, err = SW_STATUS_INIT;

    snprintf(target, sizeof target, "%s/target", p->dir);
    assert_int_equal(symlink(target, p->path), 0);
    assert_int_equal(sw_report_write(&run, &st, &err), SW_OK);
    assert_int_equal(lstat(p->path, &s), 0);
    assert_true(S_ISLNK(s.st_mode));
    assert_int_equal(stat(target, &s), 0);
    assert_true(s.st_size > 0);
    unlink(target);
}
