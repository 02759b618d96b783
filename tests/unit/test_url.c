/* Operands: paths, and what looks like a URL. */
#include "shardweld.h"
#include "unit.h"

TEST(operands)
{
    static const struct {
        const char *operand, *path; /* NULL = refused */
    } cases[] = {
        { "", "" },
        { "out/dir", "out/dir" },
        { "s3:/b", "s3:/b" },
        { "a%20b", "a%20b" },
        { "./s3://b", "./s3://b" },
        { "://b", "://b" },
        { "3d://b", "3d://b" },
        { "s3://b/c", NULL },
        { "memory://", NULL },
        { "https://host/x", NULL },
        { "git+ssh.2-x://b", NULL },
        { "FILE:///a", "/a" },
        { "file:///", "/" },
        { "file:///a%20b%2fc/%C3%A9", "/a b/c/\xc3\xa9" },
        { "file://localhost/a", "/a" },
        { "file://localhost", NULL },
        { "file://", NULL },
        { "file://host/a", NULL },
        { "file://./a", NULL },
        { "file:///a%", NULL },
        { "file:///a%2", NULL },
        { "file:///a%2g", NULL },
        { "file:///a%00b", NULL },
        { "files:///a", NULL },
    };
    char path[64], in_place[64];

    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_status st = SW_STATUS_INIT;
        const char *want = cases[i].path ? cases[i].path : cases[i].operand;

        strcpy(in_place, cases[i].operand);
        if (sw_local_path(in_place, in_place, &st) != (cases[i].path ? SW_OK : SW_EUSAGE))
            fail_msg("'%s': code %d", cases[i].operand, st.code);
        assert_string_equal(in_place, want);
        if (!cases[i].path)
            continue;
        assert_int_equal(sw_local_path(cases[i].operand, path, &st), SW_OK);
        assert_string_equal(path, want);
    }
}

/* Every function that takes a path says so, before it does anything. */
TEST(functions)
{
    static const char *const url = "s3://bucket/x";
    static const sw_sharding sharding = { .mesh = "2" };
    const sw_item *const none[] = { NULL };
    const size_t n[] = { 0 };
    sw_comm self = sw_comm_self();
    sw_status st[9] = { SW_STATUS_INIT };
    sw_options opt = SW_OPTIONS_INIT;
    sw_checkpoint *cp;
    sw_save *save;

    sw_consolidate(&self, url, "out", NULL, NULL, &st[0]);
    sw_consolidate(&self, "in", url, NULL, NULL, &st[1]);
    sw_reshard(&self, "in", url, &sharding, NULL, NULL, &st[2]);
    sw_verify(&self, url, "out", NULL, NULL, &st[3]);
    sw_checkpoint_open(&self, url, NULL, &cp, &st[4]);
    sw_save_consolidated(&self, url, NULL, 0, NULL, NULL, &st[5]);
    sw_save_shards(&self, url, NULL, 0, NULL, NULL, &st[6]);
    sw_save_begin(url, false, none, n, 1, NULL, &save, &st[7]);
    opt.assets = url;
    sw_consolidate(&self, "in", "out", &opt, NULL, &st[8]);
    for (size_t i = 0; i < COUNT(st); i++) {
        assert_int_equal(st[i].code, SW_EUSAGE);
        assert_string_equal(st[i].file, url);
        assert_non_null(strstr(st[i].reason, "upload from there"));
    }
}
