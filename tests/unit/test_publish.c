/* Staging, journal and publication. The heart is a loop: a child is killed, or refused, at each of
 * its changes of the file system in turn, its successor too, and after each of them no index may
 * name a mixture, and in the end there is exactly the old or exactly the new checkpoint. */
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <unistd.h>

#include "dir/journal.h"
#include "place_help.h"

/* ---- checkpoints ----------------------------------------------------------------------------- */

#define MAX_FILES 5
#define INDEX "model.safetensors.index.json"

/* Weight files, and an index of them when it is not NULL; else the one weight file is the key. */
typedef struct checkpoint {
    const char *files[MAX_FILES];
    const char *index;
} checkpoint;

static const struct scene {
    const char *name;
    checkpoint old, fresh;
    bool clash;
} scenes[] = {
    { "nothing to files",
      { { NULL }, NULL },
      { { "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors" }, INDEX },
      false },
    { "nothing to a lone file", { { NULL }, NULL }, { { "model.safetensors" }, NULL }, false },
    { "files to the same files",
      { { "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors" }, INDEX },
      { { "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors" }, INDEX },
      true },
    { "files to other files",
      { { "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors" }, INDEX },
      { { "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
          "model-00003-of-00003.safetensors" },
        INDEX },
      false },
    { "a lone file to a lone file",
      { { "model.safetensors" }, NULL },
      { { "model.safetensors" }, NULL },
      false },
    { "a lone file to files",
      { { "model.safetensors" }, NULL },
      { { "model-00001-of-00001.safetensors" }, INDEX },
      false },
    { "files to a lone file",
      { { "model-00001-of-00001.safetensors" }, INDEX },
      { { "model.safetensors" }, NULL },
      false },
    { "an index that names the lone file",
      { { "model-00001-of-00002.safetensors", "model.safetensors" }, INDEX },
      { { "model.safetensors" }, NULL },
      true },
    { "sub-directories",
      { { "a/x.safetensors", "b/deep/y.safetensors" }, INDEX },
      { { "a/x.safetensors", "c/deep/z.safetensors" }, INDEX },
      true },
    { "some of the same names",
      { { "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
          "model-00003-of-00003.safetensors" },
        INDEX },
      { { "model-00002-of-00003.safetensors", "n.safetensors" }, INDEX },
      true },
    { "another index",
      { { "diffusion_pytorch_model-00001-of-00001.safetensors" },
        "diffusion_pytorch_model.safetensors.index.json" },
      { { "model-00001-of-00001.safetensors" }, INDEX },
      false },
};
#define NSCENES (sizeof scenes / sizeof *scenes)

/* A weight file says whose and which it is; new ones are longer. */
static char *weights(const char *name, bool fresh, char *text, size_t n)
{
    snprintf(text, n, "%s %s", fresh ? "fresh" : "old", name);
    return text;
}

static char *index_text(const checkpoint *c, bool fresh, char *text, size_t n)
{
    size_t len =
        (size_t)snprintf(text, n, "{\"metadata\": {\"%s\": 1}, \"weight_map\": {", fresh ? "fresh" : "old");

    for (int i = 0; c->files[i]; i++)
        len += (size_t)snprintf(text + len, n - len, "%s\"t%d\": \"%s\"", i ? ", " : "", i, c->files[i]);
    snprintf(text + len, n - len, "}}");
    return text;
}

static void put_checkpoint(const char *dir, const checkpoint *c, bool fresh)
{
    char text[1024];

    for (int i = 0; c->files[i]; i++)
        put(path_at(dir, c->files[i]), weights(c->files[i], fresh, text, sizeof text));
    if (c->index)
        put(path_at(dir, c->index), index_text(c, fresh, text, sizeof text));
}

static bool is_exactly(const char *path, const char *want)
{
    char text[1024];

    return exists(path) && strcmp(get(path, text, sizeof text), want) == 0;
}

/* Is the whole checkpoint there, for who enters by its key? */
static bool is_readable(const checkpoint *c, bool fresh)
{
    char text[1024];
    bool all = c->files[0] != NULL;

    if (c->index)
        all = is_exactly(path_at(out_dir, c->index), index_text(c, fresh, text, sizeof text));
    for (int i = 0; c->files[i] && all; i++)
        all = is_exactly(path_at(out_dir, c->files[i]), weights(c->files[i], fresh, text, sizeof text));
    return all;
}

/* No index that is there names a file that is missing or of the other checkpoint. */
static void assert_no_mixture(const struct scene *s)
{
    const checkpoint *both[2] = { &s->old, &s->fresh };
    char text[1024];

    for (int i = 0; i < 2; i++)
        if (both[i]->index && exists(path_at(out_dir, both[i]->index))) {
            bool fresh = strstr(get(path_at(out_dir, both[i]->index), text, sizeof text), "fresh") != NULL;

            if (!is_readable(fresh ? &s->fresh : &s->old, fresh))
                fail_msg("%s: %s names a mixture", s->name, both[i]->index);
        }
}

static int nfound;

static int count_one(const char *path, const struct stat *s, int type, struct FTW *where)
{
    (void)s;
    (void)where;
    nfound += type == FTW_F || type == FTW_SL;
    /* an empty directory counts as something left */
    if (type == FTW_DP && where->level > 0 && rmdir(path) == 0)
        nfound += 100;
    return 0;
}

static int count_files(void)
{
    nfound = 0;
    nftw(out_dir, count_one, 16, FTW_DEPTH | FTW_PHYS);
    return nfound;
}

/* Exactly this checkpoint, the bystander and nothing else. */
static bool is_all(const checkpoint *c, bool fresh)
{
    int want = c->index ? 2 : 1;

    while (c->files[want - (c->index ? 2 : 1)])
        want++;
    return (is_readable(c, fresh) || !c->files[0]) && exists(path_at(out_dir, "README.md")) &&
           count_files() == want;
}

static void put_scene(const struct scene *s)
{
    remove_all(out_dir);
    put(path_at(out_dir, "README.md"), "stays");
    put_checkpoint(out_dir, &s->old, false);
}

/* ---- what a run does ------------------------------------------------------------------------- */

#define PRINT 4711u

static sw_code publish(sw_place *s, const struct scene *scene, sw_status *st)
{
    sw_publication files[MAX_FILES + 1];
    char text[1024];
    sw_dir old = { NULL, 0, 0 };
    size_t n = 0;
    const checkpoint *c = &scene->fresh;

    for (int i = 0; i < MAX_FILES && (c->files[i] || c->index); i++) {
        const char *name = c->files[i] ? c->files[i] : c->index;

        if (c->files[i])
            weights(name, true, text, sizeof text);
        else
            index_text(c, true, text, sizeof text);
        if (!sw_place_make_room(s, name, st))
            sw_below_write(sw_place_fresh(s), name, text, strlen(text), true, st);
        files[n].name = name;
        files[n++].size = strlen(text);
        if (!c->files[i])
            break;
    }
    if (!st->code && !sw_existing_checkpoint(out_dir, NULL, NULL, &old, st))
        sw_place_publish(s, &(sw_change){ files, n, old.names, old.n, PRINT }, st);
    sw_dir_release(&old);
    return st->code;
}

/* A whole run. Returns the code. */
static sw_code run(const struct scene *scene, sw_status *st)
{
    sw_place *s = NULL;
    uint64_t recovered;

    if (!open_place(out_dir, true, &s, &recovered, st))
        publish(s, scene, st);
    sw_place_close(s, NULL, st);
    return st->code;
}

/* What the next run does first. */
static sw_code visit(uint64_t *recovered, sw_status *st)
{
    sw_place *s = NULL;

    open_place(out_dir, true, &s, recovered, st);
    sw_place_close(s, NULL, st);
    return st->code;
}

enum { KILLED = 100, BROKEN };

/* In a child, with the hook set: a run, or a visit when scene is NULL. The code, or KILLED. */
static int in_child(const struct scene *scene, long nth, int err, bool onwards)
{
    sw_status st = SW_STATUS_INIT;
    uint64_t recovered;
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        hook.calls = 0;
        hook.at = nth;
        hook.err = err;
        hook.onwards = onwards;
        _exit((int)(scene ? run(scene, &st) : visit(&recovered, &st)));
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? (WTERMSIG(status) == SIGKILL ? KILLED : BROKEN) : WEXITSTATUS(status);
}

/* Forking is slow under the address sanitizer: fewer calls are tried there. */
#define STEP (UNIT_SANITIZED ? 5 : 1)

static void check_between(const struct scene *s)
{
    assert_no_mixture(s);
    if (!s->clash && s->old.files[0])
        assert_true(is_readable(&s->old, false) || is_readable(&s->fresh, true));
}

/* ---- kills and failures everywhere ----------------------------------------------------------- */

/* The recovery is killed too, three times, at calls that differ from run to run. */
static void recover(const struct scene *s, long nth, void (*check)(const struct scene *s),
                    uint64_t *recovered)
{
    sw_status st = SW_STATUS_INIT;

    for (long k = 0; k < 3; k++) {
        in_child(NULL, 1 + (nth * 7 + k * 5) % 29, KILL, false);
        check(s);
    }
    if (visit(recovered, &st))
        fail_msg("%s, call %ld: %s: %s", s->name, nth, st.file, st.reason);
}

/* After a kill at each call, until there is none. */
TEST_IN_PLACE(killed_anywhere)
{
    sw_status st = SW_STATUS_INIT;
    long total = 0, completed = 0;

    for (const struct scene *s = scenes; s < scenes + NSCENES; s++) {
        int end = KILLED;

        for (long nth = 1; end == KILLED; nth += STEP, total++) {
            uint64_t recovered = 0;

            put_scene(s);
            assert_true(is_all(&s->old, false));
            end = in_child(s, nth, KILL, false);
            assert_true(end == KILLED || end == SW_OK);
            check_between(s);
            recover(s, nth, check_between, &recovered);
            if (!is_all(&s->fresh, true) && (recovered || !is_all(&s->old, false)))
                fail_msg("%s, call %ld: neither old nor new", s->name, nth);
            assert_true(!recovered || recovered == PRINT); /* it is told whose */
            completed += recovered != 0;
            assert_true(!visit(&recovered, &st) && !recovered);
        }
        assert_true(is_all(&s->fresh, true));
    }
    assert_true(completed > 10);
    print_message("killed %ld times\n", total);
}

/* The same, but a staged file is damaged when the recovery comes: the old checkpoint must
 * return. */
TEST_IN_PLACE(killed_and_undone)
{
    long undone = 0;

    for (const struct scene *s = scenes; s < scenes + NSCENES; s++) {
        int end = KILLED;

        for (long nth = 1; end == KILLED; nth += STEP) {
            uint64_t recovered = 0;
            const char *victim;

            put_scene(s);
            end = in_child(s, nth, KILL, false);
            victim = path_at(in_staging("new"), s->fresh.index ? s->fresh.index : s->fresh.files[0]);
            if (!exists(in_staging("journal")) || !exists(victim))
                continue;
            assert_int_equal(truncate(victim, 3), 0);
            undone++;
            recover(s, nth, assert_no_mixture, &recovered);
            if (recovered || !is_all(&s->old, false))
                fail_msg("%s, call %ld: not the old one", s->name, nth);
        }
    }
    assert_true(undone > 20 / STEP);
}

/* A call fails: once, or it and all that follow (a dead disk). */
static void fail_anywhere(int err, bool onwards)
{
    for (size_t i = 0; i < NSCENES; i++) {
        const struct scene *s = &scenes[i];
        bool was_whole = false;

        for (long nth = 1; nth < 400 && !was_whole; nth += STEP) {
            sw_status st = SW_STATUS_INIT;
            uint64_t recovered;
            int end;

            put_scene(s);
            end = in_child(s, nth, err, onwards);
            assert_true(end < KILLED);
            check_between(s);
            if (end == SW_OK && !onwards && !is_all(&s->fresh, true) &&
                exists(path_at(out_dir, SW_STAGING_NAME)))
                fail_msg("%s, call %ld: success, but not all of it", s->name, nth);
            if (end != SW_OK && !onwards && !exists(path_at(out_dir, SW_STAGING_NAME)) &&
                !is_all(&s->old, false) && !is_all(&s->fresh, true))
                fail_msg("%s, call %ld: an error that left something", s->name, nth);
            if (visit(&recovered, &st))
                fail_msg("%s, call %ld: %s: %s", s->name, nth, st.file, st.reason);
            if (!is_all(&s->old, false) && !is_all(&s->fresh, true))
                fail_msg("%s, call %ld: neither old nor new", s->name, nth);
            was_whole = end == SW_OK && nth > 60;
        }
    }
}

TEST_IN_PLACE(failed_anywhere)
{
    fail_anywhere(EIO, false);
}

TEST_IN_PLACE(disk_dies_anywhere)
{
    fail_anywhere(EROFS, true);
}

/* A run that was taken for dead neither publishes nor removes what its successor does. */
TEST_IN_PLACE(lost_lock)
{
    sw_status st = SW_STATUS_INIT;
    sw_place *s;

    put_scene(&scenes[2]);
    s = must_open();
    put(in_staging("lock"), "host b\npid 2\n");
    assert_int_equal(publish(s, &scenes[2], &st), SW_EIO);
    assert_non_null(strstr(st.reason, "another run has taken the place"));
    sw_place_close(s, NULL, &st);
    assert_true(exists(in_staging("lock")));
    assert_true(is_readable(&scenes[2].old, false));
}

/* ---- OUTPUT_DIR ------------------------------------------------------------------------------ */

TEST_IN_PLACE(made_directories)
{
    sw_status st = SW_STATUS_INIT;
    char deep[200];
    uint64_t recovered;
    sw_place *s;

    snprintf(deep, sizeof deep, "%s/a/b//c/", top);
    for (int ends = 0; ends < 2; ends++) {
        assert_int_equal(open_place(deep, true, &s, &recovered, &st), SW_OK);
        assert_true(exists(path_at(deep, SW_STAGING_NAME)));
        if (ends == 1)
            put(path_at(deep, "somebody's"), "");
        must_close(s);
        assert_int_equal(exists(at("a")), ends == 1);
    }
    assert_int_equal(count_files(), 0);
}

TEST_IN_PLACE(keeps_what_was_there)
{
    assert_int_equal(mkdir(out_dir, 0777), 0);
    must_close(must_open());
    assert_true(exists(out_dir));
}

/* What would stop the publication shows at once, and leaves nothing. */
TEST_IN_PLACE(trial_rename)
{
    sw_status st = SW_STATUS_INIT;
    uint64_t recovered;
    bool seen = false;
    sw_place *s;

    for (long nth = 1; nth < 30 && !seen; nth++) {
        hook.calls = 0;
        hook.at = nth;
        hook.err = EXDEV;
        sw_status_clear(&st);
        if (!open_place(out_dir, false, &s, &recovered, &st))
            must_close(s);
        hook.at = 0;
        seen = strstr(st.reason, "cannot rename") && strstr(st.reason, "link");
        if (seen)
            assert_false(exists(out_dir));
        remove_all(out_dir);
    }
    assert_true(seen);
}

TEST_IN_PLACE(room_for_a_file)
{
    static const char *const bad[] = { "", "/etc/x", "../x", "a/../x", "a//x", "./x", "x/", "a\nb" };
    sw_status st = SW_STATUS_INIT;
    sw_place *s = must_open();

    assert_string_equal(sw_place_fresh(s)->path, in_staging("new"));
    assert_int_equal(sw_place_make_room(s, "a/b/x", &st), SW_OK);
    put(in_staging("new/a/b/x"), "");
    for (size_t i = 0; i < COUNT(bad); i++) {
        sw_status_clear(&st);
        assert_int_equal(sw_place_make_room(s, bad[i], &st), SW_EINPUT);
    }
    must_close(s);
}

/* ---- journals -------------------------------------------------------------------------------- */

/* A visit is refused in these words, and nothing that was staged or moved aside is gone. */
static void must_keep(const char *what, const char *says)
{
    sw_status st = SW_STATUS_INIT;
    uint64_t recovered;

    if (visit(&recovered, &st) != SW_EIO || !strstr(st.reason, says) || recovered)
        fail_msg("%s: %d, '%s' does not say '%s'", what, (int)st.code, st.reason, says);
}

TEST_IN_PLACE(damaged_journal)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        { "", "damaged" },
        { "shardweld journal 1\nfingerprint 1\nclash 0\nnew 1 3:abc\nsum 0\n", "another version" },
        { "shardweld journal 2\n", "damaged" },
        { "shardweld journal 2\nhome 1 2 3\n", "damaged" },
        { "shardweld journal 2\nhome 1 2 3 4\nfingerprint 1\nclash 0\nnew 1 2 3:abc\nsum 0000000000000000\n",
          "damaged" },
        { "shardweld journal 2\nhome 1 2 3 4\nfingerprint 1\nclash 0\nnew 1 2 99999999999:abc\n", "damaged" },
    };
    char text[100];

    for (size_t i = 0; i < COUNT(cases); i++) {
        put(in_staging("old/model.safetensors"), "the only copy");
        put(in_staging("journal"), cases[i].text);
        must_keep(cases[i].text, cases[i].says);
        assert_true(exists(in_staging("old/model.safetensors")));
        assert_true(exists(in_staging("journal")));
        /* The number stays, and nobody is in. */
        assert_int_equal(strncmp(get(in_staging("lock"), text, sizeof text), "free\nnumber ", 12), 0);
    }
}

#define NEW_WEIGHTS "model-00001-of-00001.safetensors"

/* A journal that knows all about the directory, as only who wrote it there can. */
static void forge(const char *new_name, const char *old_name, uint64_t number)
{
    sw_journal j = { 0 };
    sw_status st = SW_STATUS_INIT;
    const sw_publication files[] = { { new_name, 5 }, { NEW_WEIGHTS, 5 } };
    char *old[] = { strdup(old_name) }, lock[64];
    sw_below dir = SW_BELOW_INIT;
    struct statx x;
    struct stat s;

    snprintf(lock, sizeof lock, "free\nnumber %016" PRIx64 "\n", number);
    put(in_staging("lock"), lock);
    assert_int_equal(sw_journal_fill(&j, &(sw_change){ files, 2, old, *old_name ? 1 : 0, PRINT }, &st),
                     SW_OK);
    for (size_t i = 0; i < 2; i++) {
        char name[200];

        snprintf(name, sizeof name, SW_STAGING_NAME "/new/%s", files[i].name);
        if (!strchr(files[i].name, ':') && files[i].name[0] != '/')
            put(path_at(out_dir, name), "fresh");
        j.files[i].ino = stat(path_at(out_dir, name), &s) == 0 ? (uint64_t)s.st_ino : 1;
    }
    assert_int_equal(sw_below_open(path_at(out_dir, SW_STAGING_NAME), &dir, NULL, &st), SW_OK);
    assert_int_equal(statx(dir.fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &x), 0);
    j.home = (sw_journal_home){ 0, x.stx_ino, 0, number };
    if (x.stx_mask & STATX_BTIME)
        j.home.born = (uint64_t)x.stx_btime.tv_sec * 1000000000 + x.stx_btime.tv_nsec;
    assert_int_equal(stat(out_dir, &s), 0);
    j.home.out = s.st_ino;
    assert_int_equal(sw_journal_write(&j, &dir, &(sw_store){ .rewrites = true, .renames = true }, false, &st),
                     SW_OK);
    sw_below_close(&dir);
    sw_journal_release(&j);
    free(old[0]);
}

/* Even then it names nothing but what a publication makes and replaces. */
TEST_IN_PLACE(what_a_journal_may_name)
{
    static const struct {
        const char *name, *old;
        bool obeyed;
    } cases[] = {
        { "config.json", "", true },
        { "config.json", "config.json", true },
        { ".hf_metadata/a/tokenizer.json", ".hf_metadata/fqn_to_dtype_mapping.json", true },
        { "a/b.safetensors", "model.safetensors.index.json", true },
        { "a/b.safetensors", "old/weights.safetensors", true },
        { "a/b.safetensors", "train.py", false },
        { "a/b.safetensors", ".git/config", false },
        { "a/b.safetensors", "../precious.safetensors", false },
        { "a/b.safetensors", SW_STAGING_NAME "/x.safetensors", false },
        { ".git/config", "", false },
        { "a/.bashrc", "", false },
        { "pytorch_model.bin", "", false },
        { SW_STAGING_NAME "/new.json", "", false },
        { "../x.safetensors", "", false },
    };

    put(at("precious.safetensors"), "");
    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_status st = SW_STATUS_INIT;
        uint64_t recovered = 0;

        remove_all(out_dir);
        for (int k = 0; k < 2; k++)
            if (k == 0 ? *cases[i].old != '\0' : true)
                put(path_at(out_dir, k == 0 ? cases[i].old : ".git/config"), "old");
        forge(cases[i].name, cases[i].old, 42);
        if (!cases[i].obeyed) {
            must_keep(cases[i].name, "no publication makes or replaces");
            assert_true(exists(in_staging("new/" NEW_WEIGHTS)));
            assert_true(!*cases[i].old || exists(path_at(out_dir, cases[i].old)));
        } else if (visit(&recovered, &st) || recovered != PRINT || !exists(path_at(out_dir, cases[i].name))) {
            fail_msg("%s: %s: %s", cases[i].name, st.file, st.reason);
        }
        assert_true(exists(path_at(out_dir, ".git/config")) && exists(at("precious.safetensors")));
    }
}

/* What was staged is told by its inode: another file of the same name and size is neither published
 * nor taken back. */
TEST_IN_PLACE(other_files_than_were_staged)
{
    char text[20];

    for (int published = 0; published < 2; published++) {
        sw_status st = SW_STATUS_INIT;
        uint64_t recovered = 0;

        remove_all(out_dir);
        forge("config.json", "", 42);
        put(path_at(out_dir, "other"), "OTHER");
        assert_int_equal(
            rename(path_at(out_dir, "other"),
                   path_at(out_dir, published ? "config.json" : SW_STAGING_NAME "/new/config.json")),
            0);
        if (published)
            assert_int_equal(unlink(in_staging("new/config.json")), 0);
        assert_int_equal(visit(&recovered, &st), SW_OK);
        assert_int_equal(recovered, 0);
        assert_false(exists(path_at(out_dir, NEW_WEIGHTS)));
        assert_string_equal(get(path_at(out_dir, "config.json"), text, sizeof text),
                            published ? "OTHER" : "");
    }
}

/* Leave a directory in which a journal stands. */
static void kill_with_journal(const struct scene *s)
{
    static long nth = 1;

    for (put_scene(s);; nth++, put_scene(s)) {
        assert_int_equal(in_child(s, nth, KILL, false), KILLED);
        if (exists(in_staging("journal")))
            return;
    }
}

/* Nobody has given a sign of life for long. */
static void age_lock(void)
{
    struct timespec times[2] = { { 0, UTIME_OMIT }, { time(NULL) - 700, 0 } };

    utimensat(AT_FDCWD, in_staging("lock"), times, 0);
}

/* The number that binds journal and directory outlives those who take a dead run's place, and fail
 * there too. */
TEST_IN_PLACE(a_journal_where_locks_do_not_work)
{
    const struct scene *s = &scenes[3];
    long left = 0;

    hook.no_locks = true;
    for (long nth = 1; nth < 60; nth++) {
        sw_status st = SW_STATUS_INIT;
        uint64_t recovered;

        kill_with_journal(s);
        age_lock();
        in_child(NULL, nth, EIO, false);
        left += exists(in_staging("journal"));
        if (visit(&recovered, &st) == SW_EUSAGE) {
            age_lock();
            sw_status_clear(&st);
            visit(&recovered, &st);
        }
        if (st.code || !(is_all(&s->old, false) || is_all(&s->fresh, true)))
            fail_msg("call %ld: %s: %s", nth, st.file, st.reason);
    }
    assert_true(left > 10);
}

static int shell(const char *command)
{
    char line[512];
    int status;

    snprintf(line, sizeof line, "cd %s && %s", top, command);
    status = system(line);
    return status;
}

/* All that is there but for the lock file. */
#define LISTING                                                                                              \
    "(find . ! -name lock -printf '%P %y %l\\n'; find . -type f ! -name lock -exec cksum {} +) | sort"

/* A killed publication's directory, treated as users and thieves treat directories. */
TEST_IN_PLACE(a_journal_belongs_to_its_directory)
{
    static const char staging[] = "out/" SW_STAGING_NAME;
    static const struct {
        const char *command, *says; /* NULL = it is completed or undone */
    } cases[] = {
        { "true", NULL },
        { "mv out moved && mv moved out", NULL },
        { "cp -a out copy && rm -r out && mv copy out", "in another directory" },
        { "tar cf t out && rm -r out && tar xf t", "in another directory" },
        { "cp -a $S s && rm -r $S && mv s $S", "in another directory" },
        { "mkdir o && mv out/* $S o && rm -r out && mv o out", "in another directory" },
        { "rm $S/lock", "in another directory" },
        { "ln $S/journal j", "hard links" },
        { "mv $S/journal j && ln -s ../../j $S/journal", "it is a link" },
        { "rm $S/journal && mkfifo $S/journal", "no regular file" },
        { "rm $S/journal && mkdir $S/journal", "no regular file" },
        { "ln $S/lock l && echo mine >l", "hard links" },
        { "mv $S/lock l && ln -s ../../l $S/lock", "it is a link" },
        { "rm $S/lock && mkfifo $S/lock", "no regular file" },
        { "mv $S s && ln -s ../s $S", "it is a link" },
        { "rm -r $S && mkfifo $S", "link or a pipe" },
        { "rm -r $S && echo mine >$S", "it is a file" },
        { "chown 65534 $S", "belongs to user 65534" },
        { "chown 65534 $S/journal", "somebody else" },
        { "chown 65534 $S/lock", "somebody else" },
    };
    const struct scene *s = &scenes[3];

    setenv("S", staging, 1);
    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_status st = SW_STATUS_INIT;
        uint64_t recovered = 0;

        if (strstr(cases[i].command, "chown") && geteuid() != 0)
            continue;
        shell("rm -rf *");
        kill_with_journal(s);
        assert_int_equal(shell(cases[i].command), 0);
        assert_int_equal(shell(LISTING " >../$(basename $PWD).before"), 0);
        if (cases[i].says) {
            must_keep(cases[i].command, cases[i].says);
            assert_int_equal(shell("[ ! -s l ] || [ -L $S/lock ] || [ $(cat l) = mine ]"), 0);
            assert_true(is_readable(&s->old, false));
        } else if (visit(&recovered, &st) || !(is_all(&s->old, false) || is_all(&s->fresh, true))) {
            fail_msg("%s: %s: %s", cases[i].command, st.file, st.reason);
        }
        if (cases[i].says && shell(LISTING " | cmp - ../$(basename $PWD).before") != 0)
            fail_msg("%s: something has changed", cases[i].command);
        shell("rm ../$(basename $PWD).before");
    }
    unsetenv("S");
}

/* ---- what is there --------------------------------------------------------------------------- */

/* A file that is not as it should be is never published. */
TEST_IN_PLACE(wrong_size)
{
    sw_status st = SW_STATUS_INIT;
    sw_publication file = { "model.safetensors", 5 };
    sw_place *s = must_open();

    put(in_staging("new/model.safetensors"), "four");
    assert_int_equal(sw_place_publish(s, &(sw_change){ &file, 1, NULL, 0, 1 }, &st), SW_EINTERNAL);
    sw_status_clear(&st);
    must_close(s);
    assert_false(exists(out_dir));
}
