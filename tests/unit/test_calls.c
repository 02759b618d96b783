/* Ranks that do not do the same: one saves another way than the others, or reads, or fails alone.
 * Every rank is told, and none waits for ever (an alarm ends those that do). */
#include "base/path.h"
#include "group_help.h"
#include "top_help.h"

#define RANKS 3

/* What a rank does. */
typedef enum deed {
    READ,
    READ_NOTHING,
    READ_BADLY,
    SHARDS,
    CONSOLIDATED,
    CONSOLIDATED_OTHERWISE,
    RESHARD,
    RESHARD_OTHERWISE
} deed;

typedef struct scene {
    const sw_checkpoint *cp;
    const char *in, *out;
    const deed *deeds; /* one for each rank */
} scene;

static const uint64_t shape[2] = { 3, 4 };
static const uint64_t zeros[2];
static const float values[12] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 };
static const sw_item whole = { "t", "F32", 2, shape, zeros, shape, values, NULL };

static sw_code save(const sw_comm *comm, const scene *s, deed what, sw_status *st)
{
    const uint64_t offsets[2] = { (uint64_t)comm->rank, 0 }, row[2] = { 1, 4 };
    const sw_item item = { .name = "t",
                           .dtype = "F32",
                           .ndim = 2,
                           .global_shape = shape,
                           .offsets = offsets,
                           .shape = row,
                           .data = values + 4 * comm->rank };
    sw_options opt = SW_OPTIONS_INIT;

    opt.single_file = what == CONSOLIDATED_OTHERWISE;
    if (what == SHARDS)
        return sw_save_shards(comm, s->out, &item, 1, &opt, NULL, st);
    return sw_save_consolidated(comm, s->out, &item, 1, &opt, NULL, st);
}

static sw_code read_row(const sw_comm *comm, const scene *s, deed what, sw_status *st)
{
    const uint64_t offsets[2] = { (uint64_t)comm->rank, 0 }, row[2] = { 1, 4 };
    float memory[4] = { 0 };
    const sw_read read = {
        what == READ_BADLY ? "nobody" : "t", 2, offsets, row, memory, NULL, sizeof memory, NULL
    };

    sw_checkpoint_read_all(comm, s->cp, &read, what != READ_NOTHING, NULL, st);
    if (!st->code && what == READ)
        assert_memory_equal(memory, values + 4 * comm->rank, sizeof memory);
    return st->code;
}

static sw_code reshard(const sw_comm *comm, const scene *s, deed what, sw_status *st)
{
    const sw_sharding sharding = { .mesh = what == RESHARD ? "2" : "3" };

    return sw_reshard(comm, s->in, s->out, &sharding, NULL, NULL, st);
}

static void run_rank(const sw_comm *comm, const void *arg, outcome *o)
{
    const scene *s = arg;
    deed what = s->deeds[comm->rank];
    sw_status st = SW_STATUS_INIT;

    o->code = what <= READ_BADLY ? read_row(comm, s, what, &st)
              : what < RESHARD   ? save(comm, s, what, &st)
                                 : reshard(comm, s, what, &st);
    sw_status_message(&st, o->message, sizeof o->message);
}

/* A checkpoint to read from. */
static sw_checkpoint *make_input(char *path, size_t n)
{
    sw_comm self = sw_comm_self();
    sw_checkpoint *cp = NULL;
    sw_status st = SW_STATUS_INIT;

    snprintf(path, n, "%s/in", top);
    assert_int_equal(sw_save_consolidated(&self, path, &whole, 1, NULL, NULL, &st), SW_OK);
    assert_int_equal(sw_checkpoint_open(&self, path, NULL, &cp, &st), SW_OK);
    return cp;
}

TEST_IN_TOP(calls)
{
    static const struct {
        deed deeds[RANKS];
        sw_code want;
        const char *says;
    } cases[] = {
        { { READ, READ, READ }, SW_OK, "" },
        { { READ_NOTHING, READ, READ_NOTHING }, SW_OK, "" },
        { { READ, READ, READ_BADLY }, SW_EUSAGE, "tensor 'nobody': no such tensor" },
        { { READ_NOTHING, READ_BADLY, READ_NOTHING }, SW_EUSAGE, "tensor 'nobody': no such tensor" },
        { { READ, SHARDS, READ }, SW_EUSAGE, "different functions" },
        { { CONSOLIDATED, READ, CONSOLIDATED }, SW_EUSAGE, "different functions" },
        { { SHARDS, SHARDS, CONSOLIDATED }, SW_EUSAGE, "different functions" },
        { { READ_BADLY, CONSOLIDATED, SHARDS }, SW_EUSAGE, "different functions" },
        { { CONSOLIDATED, CONSOLIDATED_OTHERWISE, CONSOLIDATED }, SW_EUSAGE, "or options" },
        { { RESHARD, RESHARD, RESHARD_OTHERWISE }, SW_EUSAGE, "or options" },
        { { RESHARD, SHARDS, READ }, SW_EUSAGE, "different functions" },
    };
    char in[64], out[64];
    sw_checkpoint *cp = make_input(in, sizeof in);

    snprintf(out, sizeof out, "%s/out", top);
    for (size_t i = 0; i < COUNT(cases); i++) {
        scene s = { cp, in, out, cases[i].deeds };
        sw_path_kind kind = SW_PATH_FILE;
        sw_status st = SW_STATUS_INIT;
        outcome o[RANKS];

        group_run(RANKS, run_rank, &s, o);
        for (int r = 0; r < RANKS; r++)
            if (o[r].code != cases[i].want || !strstr(o[r].message, cases[i].says))
                fail_msg("case %zu, rank %d: code %d, '%s'", i, r, (int)o[r].code, o[r].message);
        assert_int_equal(sw_path_lstat(out, &kind, NULL, &st), SW_OK);
        assert_int_equal(kind, SW_PATH_MISSING);
    }
    sw_checkpoint_free(cp);
}

/* What is missing altogether. */
TEST_IN_TOP(nulls)
{
    sw_comm self = sw_comm_self();
    sw_status st;

    assert_int_equal(sw_save_shards(&self, NULL, NULL, 0, NULL, NULL, &st), SW_EUSAGE);
    assert_non_null(strstr(st.reason, "no output directory"));
    assert_int_equal(sw_save_consolidated(&self, NULL, NULL, 0, NULL, NULL, &st), SW_EUSAGE);
    assert_non_null(strstr(st.reason, "no output directory"));
    assert_int_equal(sw_save_consolidated(&self, top, NULL, 3, NULL, NULL, &st), SW_EUSAGE);
    assert_non_null(strstr(st.reason, "3 items, but no list"));
    assert_int_equal(sw_reshard(&self, NULL, top, NULL, NULL, NULL, &st), SW_EUSAGE);
    assert_non_null(strstr(st.reason, "no input directory"));
    assert_int_equal(sw_reshard(&self, top, NULL, NULL, NULL, NULL, &st), SW_EUSAGE);
    assert_non_null(strstr(st.reason, "no output directory"));
    assert_int_equal(sw_reshard(&self, top, top, NULL, NULL, NULL, &st), SW_EUSAGE);
    assert_non_null(strstr(st.reason, "no mesh"));
}

static void keep_warning(void *user, const char *text)
{
    snprintf(user, 1024, "%s", text);
}

/* Shards beside a consolidated checkpoint: a word of warning, and it stays. */
TEST_IN_TOP(beside)
{
    char out[64], file[96], said[1024] = "";
    sw_options opt = { .user = said, .warn = keep_warning };
    sw_path_kind kind = SW_PATH_MISSING;
    sw_comm self = sw_comm_self();
    sw_status st = SW_STATUS_INIT;

    snprintf(out, sizeof out, "%s/beside", top);
    snprintf(file, sizeof file, "%s/model.safetensors.index.json", out);
    assert_int_equal(sw_save_shards(&self, out, &whole, 1, &opt, NULL, &st), SW_OK);
    assert_string_equal(said, "");
    assert_int_equal(remove_tree(out, &st), SW_OK);
    assert_int_equal(sw_save_consolidated(&self, out, &whole, 1, NULL, NULL, &st), SW_OK);
    assert_int_equal(sw_save_shards(&self, out, &whole, 1, &opt, NULL, &st), SW_OK);
    assert_non_null(strstr(said, "model.safetensors.index.json is there too, and stays as it is"));
    assert_int_equal(sw_path_lstat(file, &kind, NULL, &st), SW_OK);
    assert_int_equal(kind, SW_PATH_FILE);
}
