/* libFuzzer target: any bytes are a directory of shards with maps, side files and names, and an
 * output directory with what somebody left or planted there. The library works on it as the program
 * would; what must hold whatever it finds is asserted:
 *   - an answer that is documented, with a reason; no sanitizer speaks up, nothing leaks
 *   - the input, and what lies outside of the output directory, is as it was
 *   - after an error no final name is there, and no file another one, than before
 *   - what was welded verifies, and welds again to the same bytes with other buffers; its manifest
 *     proves it, and notices any byte that is changed
 *   - what was resharded welds to the bytes of its input
 *   - what opens can be shown, and read
 *
 *     fuzz_dir -max_total_time=60 -max_len=256 CORPUS */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "cmd/inspect.h"
#include "fuzz_dir.h"

#define AGAIN "again"   /* the same weld into a new directory */
#define SHARDS "shards" /* the input, resharded */
#define WELDED "welded" /* welded from that */
#define PLAIN "plain"   /* welded from the input, for comparison */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* A line for each thing below dir: name, kind, mode, and what it holds. By name: the order of
 * readdir is no matter. */
static void look(const char *dir, const char *skip, sw_buf *to);

void must(bool holds, const char *what)
{
    static bool telling;
    sw_buf all = SW_BUF_INIT;

    if (holds || telling)
        return;
    telling = true;
    look(".", NULL, &all);
    fprintf(stderr, "%.*sbroken promise: %s\n", (int)all.len, all.data ? all.data : "", what);
    abort();
}

/* ---- what a directory holds ------------------------------------------------------------------ */

static uint64_t hash_of(const char *path)
{
    char data[1 << 16];
    int fd = open(path, O_RDONLY | O_NOFOLLOW);
    ssize_t n = fd >= 0 ? read(fd, data, sizeof data) : -1;

    if (fd >= 0)
        close(fd);
    return n < 0 ? 0 : sw_hash(0, data, (size_t)n);
}

static void look_at(const char *path, const char *skip, sw_buf *to)
{
    sw_status st = SW_STATUS_INIT;
    char target[256] = "";
    struct stat s;

    must(lstat(path, &s) == 0, "a name that is listed is there");
    if (S_ISLNK(s.st_mode) && readlink(path, target, sizeof target - 1) < 0)
        abort();
    sw_buf_addf(to, &st, "%s %o %s", path, (unsigned)s.st_mode, target);
    if (S_ISREG(s.st_mode))
        sw_buf_addf(to, &st, " %" PRIu64 " %016" PRIx64, (uint64_t)s.st_size, hash_of(path));
    must(!sw_buf_addf(to, &st, "\n"), "memory");
    if (S_ISDIR(s.st_mode))
        look(path, skip, to);
}

static void look(const char *dir, const char *skip, sw_buf *to)
{
    struct dirent **items = NULL;
    int n = scandir(dir, &items, NULL, alphasort);
    char path[512];

    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, items[i]->d_name);
        if (strcmp(items[i]->d_name, ".") != 0 && strcmp(items[i]->d_name, "..") != 0 &&
            !(skip && strcmp(items[i]->d_name, skip) == 0))
            look_at(path, skip, to);
        free(items[i]);
    }
    free(items);
}

static bool same(const sw_buf *a, const sw_buf *b)
{
    return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

static void must_be_same(const sw_buf *was, const sw_buf *is, const char *what)
{
    if (same(was, is))
        return;
    fprintf(stderr, "--- was\n%.*s--- is\n%.*s", (int)was->len, was->data ? was->data : "", (int)is->len,
            is->data ? is->data : "");
    must(false, what);
}

/* ---- what may never change ------------------------------------------------------------------- */

static sw_buf canary; /* as it was made */

/* The input and the canary are as they were; of the directory itself the names. */
static void check_untouched(const sw_buf *input, const char *after)
{
    sw_buf now = SW_BUF_INIT;

    look(IN, NULL, &now);
    must_be_same(input, &now, after);
    now.len = 0;
    look(CANARY, NULL, &now);
    must_be_same(&canary, &now, after);
    sw_buf_release(&now);
}

/* A documented answer, which can be shown. */
static void check_status(sw_code code, const sw_status *st)
{
    char text[sizeof(sw_status) + 64];
    size_t n;

    must(code == st->code, "the status holds the code that is returned");
    must(code != SW_EINTERNAL && code != SW_ECOMM && code != SW_ECANCEL && code <= SW_ENOMEM, st->reason);
    must((code == SW_OK) == (st->reason[0] == '\0'), "an error says why");
    sw_status_message(st, text, sizeof text);
    n = strlen(text);
    must(sw_text_clean(text, n) == n && !strchr(text, '\n'), "a message is one clean line");
}

static void take_warning(void *user, const char *text)
{
    size_t n = strlen(text);
    char *copy = strdup(text);

    (void)user;
    must(copy && sw_text_clean(copy, n) == n && n > 0 && strcmp(copy, text) == 0,
         "a warning is one clean line");
    free(copy);
}

/* ---- welding --------------------------------------------------------------------------------- */

static sw_code weld(const char *in, const char *out, const sw_options *opt, sw_result *result, sw_status *st)
{
    sw_comm self = sw_comm_self();
    sw_code code = sw_consolidate(&self, in, out, opt, result, st);

    check_status(code, st);
    return code;
}

static void must_verify(const char *out, const sw_options *opt)
{
    sw_comm self = sw_comm_self();
    sw_status st = SW_STATUS_INIT;
    sw_options plain = *opt;
    sw_verification v = SW_VERIFICATION_INIT;

    plain.verify = plain.overwrite = plain.dry_run = false;
    sw_verify(&self, IN, out, &plain, &v, &st);
    must(st.code == SW_OK || st.code == SW_DIFF, st.reason);
    /* A damaged replica is a difference, but none of what was welded. */
    for (uint64_t i = 0; i < v.nfindings; i++)
        must(strstr(v.findings[i].reason, " from the copy in ") != NULL, v.findings[i].reason);
    must((st.code == SW_OK) == (v.nfindings == 0), "a difference is a finding");
    sw_verification_release(&v);
}

static void compare_file(const char *a_dir, const char *a_name, const char *b_dir, const char *b_name)
{
    char a[256], b[256];
    struct stat x, y;

    snprintf(a, sizeof a, "%s/%s", a_dir, a_name);
    snprintf(b, sizeof b, "%s/%s", b_dir, b_name);
    must(lstat(a, &x) == 0 && lstat(b, &y) == 0 && S_ISREG(x.st_mode) && S_ISREG(y.st_mode),
         "what was welded is there");
    must(x.st_size == y.st_size && hash_of(a) == hash_of(b), "the bytes are a function of input and options");
}

/* All files that two welds say they made are there, and equal. */
static void compare(const sw_result *x, const char *a, const sw_result *y, const char *b)
{
    bool renamed = false;

    must(x->nfiles == y->nfiles, "the files are a function of input and options");
    for (uint64_t i = 0; i < x->nfiles; i++) {
        compare_file(a, x->files[i].name, b, y->files[i].name);
        renamed = renamed || strcmp(x->files[i].name, y->files[i].name) != 0;
    }
    if (x->index && !renamed)
        compare_file(a, x->index, b, y->index);
}

static sw_code check(const sw_options *opt, sw_status *st)
{
    sw_comm self = sw_comm_self();
    sw_options plain = { .quick = opt->quick };
    sw_code code = sw_check(&self, AGAIN, &plain, NULL, st);

    check_status(code, st);
    return code;
}

/* One byte of the manifest, or of a file of weights, becomes another one. */
static void damage(bytes *b, const sw_result *made)
{
    unsigned which = pick(b, 1 + (unsigned)made->nfiles);
    char path[256];
    struct stat s;
    uint64_t at;
    unsigned char byte;
    int fd;

    snprintf(path, sizeof path, AGAIN "/%s",
             which == 0 ? "shardweld.manifest.json" : made->files[which - 1].name);
    fd = open(path, O_RDWR);
    must(fd >= 0 && fstat(fd, &s) == 0 && s.st_size > 0, "what was welded is there");
    at = (pick(b, 256) * UINT64_C(65536) + pick(b, 256) * UINT64_C(256) + pick(b, 256)) % (uint64_t)s.st_size;
    must(pread(fd, &byte, 1, (off_t)at) == 1, "it can be read");
    byte = (unsigned char)(byte ^ (1 + pick(b, 255)));
    must(pwrite(fd, &byte, 1, (off_t)at) == 1 && close(fd) == 0, "it can be written");
}

/* What has a manifest is proven by it; and no change of a byte goes by, not of the manifest
 * either. */
static void try_check(bytes *b, const sw_options *opt, const sw_result *made)
{
    const sw_options all = { 0 }, quick = { .quick = true };
    const sw_options made_so = { .cast_dtype = opt->cast_dtype,
                                 .dequantize = opt->dequantize,
                                 .block_size = opt->block_size,
                                 .dtype_map_text = opt->dtype_map_text,
                                 .assets = opt->assets,
                                 .no_config_check = opt->no_config_check };
    sw_comm self = sw_comm_self();
    sw_status st = SW_STATUS_INIT;

    must(check(&all, &st) == SW_OK && check(&quick, &st) == SW_OK, "what was welded is what was welded");
    check_status(sw_diff(&self, OUT, AGAIN, NULL, NULL, NULL, &st), &st);
    /* What has no tensors has no files, and is none that opens. */
    if (made->nfiles && !opt->include && !opt->exclude && !opt->nname_rules)
        must(sw_diff(&self, IN, AGAIN, &made_so, NULL, NULL, &st) == SW_OK, st.reason);
    damage(b, made);
    check(&quick, &st);
    must(check(&all, &st) == SW_DIFF || st.code == SW_EINPUT, "a byte that was changed is found");
    check_status(sw_diff(&self, AGAIN, OUT, NULL, NULL, NULL, &st), &st);
}

/* Another buffer, another way to fill, with a proof. */
static void weld_again(bytes *b, const sw_options *opt, const sw_result *first)
{
    sw_options other = *opt;
    sw_status st = SW_STATUS_INIT;
    sw_result r = SW_RESULT_INIT;

    other.buffer_size = opt->buffer_size == 4096 ? 20000 : 5000;
    other.manifest = true;
    other.assign = opt->assign == SW_ASSIGN_OWNER ? SW_ASSIGN_BAND : SW_ASSIGN_OWNER;
    if (weld(IN, AGAIN, &other, &r, &st))
        fprintf(stderr, "%s: tensor '%s': %s\n", st.file, st.tensor, st.reason);
    must(st.code == SW_OK, "what was welded once welds again");
    compare(first, OUT, &r, AGAIN);
    /* Not OUT: what it held before may be there still, and loaders trip over it. */
    must_verify(AGAIN, opt);
    try_check(b, opt, &r);
    sw_result_release(&r);
}

static void try_weld(bytes *b, scene *s, const sw_buf *input)
{
    sw_buf before = SW_BUF_INIT, after = SW_BUF_INIT;
    sw_status st = SW_STATUS_INIT;
    sw_result r = SW_RESULT_INIT;

    make_output(b, s);
    look(OUT, ".shardweld-staging", &before);
    weld(IN, OUT, &s->opt, &r, &st);
    check_untouched(input, "welding changes nothing but OUTPUT_DIR");
    look(OUT, ".shardweld-staging", &after);
    if (st.code ? !s->bound : s->opt.dry_run)
        must_be_same(&before, &after, "an error, or a dry run, leaves OUTPUT_DIR as it was");
    if (st.code == SW_OK && !s->opt.dry_run) {
        weld_again(b, &s->opt, &r);
        check_untouched(input, "nor does verifying");
    }
    sw_result_release(&r);
    sw_buf_release(&before);
    sw_buf_release(&after);
}

/* ---- resharding ------------------------------------------------------------------------------ */

static void try_reshard(scene *s, const sw_buf *input)
{
    const sw_options plain = { .no_sync = true, .buffer_size = s->opt.buffer_size, .warn = take_warning };
    sw_comm self = sw_comm_self();
    sw_status st = SW_STATUS_INIT;
    sw_result r = SW_RESULT_INIT;
    sw_code code = sw_reshard(&self, IN, SHARDS, &s->sharding, &plain, &r, &st);

    check_status(code, &st);
    sw_result_release(&r);
    check_untouched(input, "resharding changes nothing but OUTPUT_DIR");
    if (code) {
        must(access(SHARDS, F_OK) != 0, "an error leaves no OUTPUT_DIR");
        return;
    }
    if (weld(IN, PLAIN, &plain, &r, &st) == SW_OK) {
        sw_result again = SW_RESULT_INIT;

        if (weld(SHARDS, WELDED, &plain, &again, &st))
            fprintf(stderr, "%s: tensor '%s': %s\n", st.file, st.tensor, st.reason);
        must(st.code == SW_OK, "what was resharded welds as its input does");
        /* A lone model.safetensors has no number that shards could keep: its name is another one
         * then. */
        compare(&r, PLAIN, &again, WELDED);
        sw_result_release(&again);
    }
    sw_result_release(&r);
}

/* ---- looking --------------------------------------------------------------------------------- */

/* What is printed of it steers no terminal. */
static void must_be_clean(const char *text, size_t n)
{
    for (size_t at = 0, len; at < n; at += len) {
        uint32_t code = 0;

        len = sw_text_char(text + at, n - at, &code);
        must(len > 0 && (text[at] == '\n' || sw_text_harmless(code)), "what is shown is harmless");
    }
}

static void show(const sw_checkpoint *cp, const sw_status *st)
{
    sw_args args = SW_ARGS_INIT;
    sw_run run = { .args = &args };
    sw_status err = SW_STATUS_INIT;
    sw_look view = { .run = &run, .args = &args, .st = st, .cp = cp, .err = &err };
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);

    args.input = IN;
    setenv("COLUMNS", "40", 1);
    sw_look_survey(&view);
    must(to && view.chosen, "there is memory");
    sw_look_tables(to, &view);
    sw_look_json(to, &view);
    sw_look_svg(to, &view);
    must(!err.code && fclose(to) == 0, "a checkpoint that opens can be shown");
    must_be_clean(text, n);
    free(view.chosen);
    free(text);
}

/* Whole tensors, as saved. */
static void read_all(const sw_checkpoint *cp)
{
    sw_checkpoint_info info;

    sw_checkpoint_info_get(cp, &info);
    for (uint64_t i = 0; i < info.ntensors; i++) {
        sw_status st = SW_STATUS_INIT;
        sw_read_shape shape;
        sw_tensor_info t;
        sw_read read = { 0 };

        sw_checkpoint_tensor(cp, i, &t);
        must(!sw_checkpoint_read_shape(cp, t.name, NULL, &shape, &st) && shape.bytes == t.bytes,
             "a tensor has a shape");
        read.name = t.name;
        read.size = t.bytes;
        read.data = malloc((size_t)t.bytes + 1);
        must(read.data && !sw_checkpoint_read(cp, &read, 1, NULL, &st), "a valid checkpoint can be read");
        free(read.data);
    }
}

static void try_look(scene *s, const sw_buf *input)
{
    sw_options opt = { .tolerant = true, .expect_shards = s->opt.expect_shards, .like = s->opt.like };
    sw_comm self = sw_comm_self();
    sw_status st = SW_STATUS_INIT, strict = SW_STATUS_INIT;
    sw_checkpoint *cp = NULL;
    uint64_t n = 0;

    check_status(sw_checkpoint_open(&self, IN, &opt, &cp, &st), &st);
    if (cp) {
        sw_checkpoint_findings(cp, &n);
        show(cp, &st);
    }
    sw_checkpoint_free(cp);
    opt.tolerant = false;
    cp = NULL;
    check_status(sw_checkpoint_open(&self, IN, &opt, &cp, &strict), &strict);
    must(st.code || n > 0 || strict.code == SW_OK, "what does not open has findings");
    if (cp)
        read_all(cp);
    sw_checkpoint_free(cp);
    check_untouched(input, "looking changes nothing");
}

/* A pipe that an option names is waited for, as it should be. */
static void leave_pipe(const char **path)
{
    struct stat s;

    if (*path && stat(*path, &s) == 0 && S_ISFIFO(s.st_mode))
        *path = NULL;
}

/* ---- one case -------------------------------------------------------------------------------- */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const made[] = { IN,     OUT,    ".out.shardweld-new",
                                        AGAIN,  SHARDS, ".shards.shardweld-new",
                                        WELDED, PLAIN };
    bytes b = { data, size };
    scene s = { .opt = { .warn = take_warning } };
    sw_buf input = SW_BUF_INIT;
    unsigned what = pick(&b, 4);

    choose_options(&b, &s);
    make_input(&b);
    leave_pipe(&s.opt.like);
    leave_pipe(&s.opt.fqn_map);
    look(IN, NULL, &input);
    if (what < 2)
        try_weld(&b, &s, &input);
    else if (what == 2)
        try_reshard(&s, &input);
    else
        try_look(&s, &input);
    sw_buf_release(&input);
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        clear_path(made[i]);
    must(rmdir(CANARY "/none") != 0 && errno == ENOENT, "nothing was made through a link");
    return 0;
}

static char place[64];

static void clean_up(void)
{
    if (chdir("/") == 0)
        clear_path(place);
}

/* In memory where there is a file system in memory. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    snprintf(place, sizeof place, "%s/shardweld-fuzz.XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    must(mkdtemp(place) && chdir(place) == 0, "there is room to work");
    atexit(clean_up);
    make_canary();
    look(CANARY, NULL, &canary);
    return 0;
}
