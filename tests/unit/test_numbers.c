/* Which shard numbers are there, and what is said of those that are not. */
#include "plan/numbers.h"
#include "unit.h"

#define FILES_MAX 12

/* A catalogue of files: "SHARD/MODEL" words; all are of n models. */
typedef struct set {
    sw_catalog c;
    sw_file files[FILES_MAX];
    char names[FILES_MAX][64];
} set;

static void make(set *s, const char *words, uint64_t of)
{
    *s = (set){ 0 };
    s->c.files = s->files;
    for (const char *at = words; *at; s->c.nfiles++) {
        sw_file *f = &s->files[s->c.nfiles];
        char *end;

        f->number.shard = strtoull(at, &end, 10);
        f->number.model = strtoull(end + 1, &end, 10);
        f->number.of = of;
        snprintf(s->names[s->c.nfiles], sizeof s->names[0], "file %u", s->c.nfiles);
        sw_file_set_name(f, s->names[s->c.nfiles]);
        at = end + (*end == ' ');
    }
}

static const struct {
    const char *files, *listed;
    uint64_t model;
    const char *says;
} gaps[] = {
    { "1/1 2/1 4/1", NULL, 1, "shard 3 of model 1 is missing" },
    { "2/1 3/1 4/1", NULL, 1, "shard 1 of model 1 is missing" },
    { "1/1 5/1 3/1", NULL, 0, "shards 2, 4 are missing" },
    { "1/1 2/1 3/1", NULL, 1,
      "shards 1 to 3 of model 1 are there, another one is missing or was not written to its end" },
    { "1/1", NULL, 1, "shard 1 of model 1 is there, another one is missing or was not written to its end" },
    /* a list tells more */
    { "1/1 2/1 3/1", "1:1-4", 1, "shard 4 of model 1 is missing" },
    { "1/1 4/1", "1:1-2 1:4-6", 1, "shards 2, 5, 6 of model 1 are missing" },
    /* stages of a pipeline: the numbers of other models are not missed */
    { "1/1 2/1 3/2 4/2 6/2", NULL, 2, "shard 5 of model 2 is missing" },
    { "1/1 2/1 4/2 5/2", NULL, 2, "shard 3 of model 2 is missing" },
    { "1/1 2/1 3/2 4/2", NULL, 2,
      "shards 3, 4 of model 2 are there, another one is missing or was not written to its end" },
    /* each rank has both */
    { "1/1 1/2 2/1 3/1 3/2", NULL, 2, "shard 2 of model 2 is missing" },
    { "0/1 0/2", NULL, 1, "" },
};

TEST(gaps)
{
    for (size_t i = 0; i < COUNT(gaps); i++) {
        sw_status st = SW_STATUS_INIT;
        sw_buf words = SW_BUF_INIT;
        set s;

        make(&s, gaps[i].files, 2);
        if (gaps[i].listed)
            assert_int_equal(sw_numbers_take(&s.c, gaps[i].listed, "f", &st), SW_OK);
        assert_int_equal(sw_numbers_missing(&s.c, gaps[i].model, &words, &st), SW_OK);
        sw_buf_add(&words, "", 1, &st);
        assert_string_equal(words.data, gaps[i].says);
        sw_buf_release(&words);
        free(s.c.listed);
    }
}

static const struct {
    const char *files;
    uint64_t of;
    const char *says; /* in one line; NULL = nothing */
} holes[] = {
    { "1/1 2/1 3/1", 1, NULL },
    { "1/1 2/2", 2, NULL },
    { "0/1", 1, NULL },
    { "", 0, NULL },
    { "2/1 3/1 7/1", 1, "no file has shard numbers 1, 4 to 6, those that are there have 2, 3, 7" },
    { "1/1 3/2", 2, "no file has shard number 2, those" },
    { "1/1 2/1", 3, "of 3 model files, numbers 2, 3 have no shard at all" },
    { "1/1 2/3", 3, "of 3 model files, number 2 has no shard at all" },
};

TEST(holes)
{
    for (size_t i = 0; i < COUNT(holes); i++) {
        sw_status st = SW_STATUS_INIT;
        sw_buf lines = SW_BUF_INIT;
        set s;

        make(&s, holes[i].files, holes[i].of);
        assert_int_equal(sw_numbers_warn_holes(&s.c, &lines, &st), SW_OK);
        assert_int_equal(sw_numbers_warn_models(&s.c, &lines, &st), SW_OK);
        assert_int_equal(lines.len > 0, holes[i].says != NULL);
        sw_buf_add(&lines, "", 1, &st);
        if (holes[i].says) {
            assert_non_null(strstr(lines.data, holes[i].says));
            assert_ptr_equal(strchr(lines.data, '\n') + 1, lines.data + lines.len - 1);
        }
        sw_buf_release(&lines);
    }
}

static const struct {
    const char *files;
    uint64_t n;
    const char *error, *warning; /* NULL = none */
} expected[] = {
    { "1/1 2/1 3/1", 3, NULL, NULL },
    { "1/1 2/2", 2, NULL, "model file 1 has no shard 2 (" },
    { "1/1 2/1", 6, "shards 3 to 6 are missing: 6 were expected", NULL },
    { "1/1 3/1", 3, "shard 2 is missing: 3 were expected", NULL },
    { "1/1 2/1 9/1", 2, "shard number 9 occurs, but 2 shards were expected", NULL },
    { "1/1 2/1 3/1", 1, "shard number 2 occurs, but 1 shards were expected", NULL },
    { "0/1", 2, "has no shard number in its name", NULL },
    { "0/1", 0, NULL, NULL },
    { "", UINT64_MAX, "shards 1 to 18446744073709551615 are missing", NULL },
};

TEST(expected)
{
    for (size_t i = 0; i < COUNT(expected); i++) {
        sw_status st = SW_STATUS_INIT;
        sw_buf lines = SW_BUF_INIT;
        set s;

        make(&s, expected[i].files, 2);
        assert_int_equal(sw_numbers_expect(&s.c, expected[i].n, &lines, NULL, &st),
                         expected[i].error ? SW_EINPUT : SW_OK);
        assert_true(!expected[i].error || strstr(st.reason, expected[i].error));
        sw_status_clear(&st);
        sw_buf_add(&lines, "", 1, &st);
        assert_int_equal(expected[i].warning != NULL, lines.len > 1);
        assert_true(!expected[i].warning || strstr(lines.data, expected[i].warning));
        sw_buf_release(&lines);
    }
}

/* What a set says of itself, and what is missed then. */
TEST(list)
{
    static const sw_shard_name names[] = { { 3, 1, 2 }, { 1, 2, 2 }, { 1, 1, 2 },
                                           { 2, 1, 2 }, { 5, 1, 2 }, { 2, 2, 2 } };
    static const char *const bad[] = { "",       "1",      "1:1",    "1:1-",   "1:2-1",
                                       "0:1-1",  "1:0-1",  "1:1-2 ", " 1:1-2", "1:1-2  1:3-4",
                                       "1:1-2,", "1:1-2x", "a:1-2",  "1:-1-2", "1:1-18446744073709551616" };
    sw_status st = SW_STATUS_INIT;
    sw_buf text = SW_BUF_INIT;
    set s;

    assert_int_equal(sw_numbers_list(names, COUNT(names), &text, &st), SW_OK);
    assert_string_equal(text.data, "1:1-3 1:5-5 2:1-2");
    make(&s, "1/1 2/1 3/1 5/1 1/2 2/2", 2);
    assert_int_equal(sw_numbers_take(&s.c, text.data, "f", &st), SW_OK);
    assert_int_equal(sw_numbers_take(&s.c, text.data, "f", &st), SW_OK);
    assert_int_equal(s.c.nlisted, 3);
    assert_int_equal(sw_numbers_check_listed(&s.c, NULL, &st), SW_OK);
    s.c.nfiles -= 1;
    assert_int_equal(sw_numbers_check_listed(&s.c, NULL, &st), SW_EINPUT);
    assert_string_equal(st.reason, "shard 2 of model 2 is missing, which the other files of the set list");
    sw_status_clear(&st);
    s.c.nfiles = 1;
    assert_int_equal(sw_numbers_check_listed(&s.c, NULL, &st), SW_EINPUT);
    assert_non_null(strstr(st.reason, "shards 2, 3, 5 of model 1 are missing"));
    for (size_t i = 0; i < COUNT(bad); i++) {
        sw_status_clear(&st);
        print_message("'%s'\n", bad[i]);
        assert_int_equal(sw_numbers_take(&s.c, bad[i], "f", &st), SW_EINPUT);
        assert_string_equal(st.file, "f");
    }
    free(s.c.listed);
    sw_buf_release(&text);
}
