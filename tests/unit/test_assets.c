/* The model's other files: which come along from where, what stays behind, and the copies. */
#include <sys/stat.h>
#include <unistd.h>

#include "base/path.h"
#include "dir/assets.h"
#include "top_help.h"

/* A file below the top, and its directories. */
static void put(const char *name, const char *text)
{
    put_file(at(name), text, strlen(text));
}

static void put_all(const char *const *names)
{
    for (; *names; names++)
        put(*names, *names);
}

static void make_dir(const char *name)
{
    OK(sw_path_mkdirs(at(name), NULL, st));
}

static void make_link(const char *to, const char *name)
{
    assert_int_equal(symlink(to, at(name)), 0);
}

/* Where the files come from; each test may change it. */
typedef struct args {
    const char *in, *assets, *out, *skip; /* in: NULL = "in" */
} args;

static sw_code list(const args *a, sw_buf *warnings, sw_assets *found, sw_status *st)
{
    const sw_assets_rule rule = { at(a->in ? a->in : "in"), a->assets ? at(a->assets) : NULL,
                                  at(a->out ? a->out : "out"), a->skip };

    return sw_assets_list(&rule, warnings, found, st);
}

/* All names in a line, " !" behind those that exist; then, behind a bar, whether config.json
 * stays. */
static void check_list(args a, const char *want, const char *warns)
{
    sw_buf text = SW_BUF_INIT, warnings = SW_BUF_INIT;
    sw_assets found;

    OK(list(&a, &warnings, &found, st));
    for (size_t i = 0; i < found.n; i++) {
        const sw_asset *item = &found.items[i];

        OK(sw_buf_addf(&text, st, "%s%s%s", i ? " " : "", item->name, item->exists ? "!" : ""));
        assert_true(strncmp(item->source, top, strlen(top)) == 0);
    }
    OK(sw_buf_addf(&text, st, "%s", found.config_stays ? "|stays" : ""));
    if (strcmp(text.data, want) != 0)
        fail_msg("found '%s', expected '%s'", text.data, want);
    OK(sw_buf_add(&warnings, "", 1, st));
    if (warns ? !strstr(warnings.data, warns) : warnings.data[0])
        fail_msg("warns '%s', expected '%s'", warnings.data, warns ? warns : "");
    sw_assets_release(&found);
    sw_buf_release(&warnings);
    sw_buf_release(&text);
}

static void check_refused(args a, sw_code want, const char *file, const char *says)
{
    sw_status st = SW_STATUS_INIT;
    sw_buf warnings = SW_BUF_INIT;
    sw_assets found;

    assert_int_equal(list(&a, &warnings, &found, &st), want);
    assert_string_equal(st.file, at(file));
    if (!strstr(st.reason, says))
        fail_msg("'%s' does not say '%s'", st.reason, says);
    assert_int_equal(found.n, 0);
    assert_null(found.items);
    sw_buf_release(&warnings);
}

/* ---- which ----------------------------------------------------------------------------------- */

TEST_IN_TOP(top)
{
    static const char *const names[] = {
        "in/config.json", "in/tokenizer.model", "in/merges.txt", "in/qwen.tiktoken", "in/chat_template.jinja",
        "in/modeling.py", "in/README.md", "in/LICENSE", "in/LICENSE.rst", "in/NOTICE",
        /* the others stay */
        "in/.hidden.json", "in/shard-00001-model-00001-of-00001.safetensors",
        "in/model.safetensors.index.json", "in/x.index.json", "in/pytorch_model.bin", "in/LICENSE.bin",
        "in/NOTICE.pt", "in/LICENSE.pth", "in/LICENSE.ckpt", "in/LICENSE.distcp", "in/LICENSE.gguf",
        "in/LICENSE.h5", "in/LICENSE.onnx", "in/fqn_to_file_index_mapping.json",
        "in/fqn_to_dtype_mapping.json", "in/license", "in/train.log", "in/optimizer.state",
        "in/sub/config.json", "in/dir.json/config.json", NULL
    };

    put_all(names);
    check_list((args){ 0 },
               "LICENSE LICENSE.rst NOTICE README.md chat_template.jinja config.json merges.txt modeling.py "
               "qwen.tiktoken tokenizer.model",
               NULL);
    check_list((args){ .skip = "merges.txt" },
               "LICENSE LICENSE.rst NOTICE README.md chat_template.jinja config.json modeling.py "
               "qwen.tiktoken tokenizer.model",
               NULL);
}

TEST_IN_TOP(metadata)
{
    static const char *const names[] = { "in/config.json", "in/.hf_metadata/fqn_to_file_index_mapping.json",
                                         "in/.hf_metadata/fqn_to_dtype_mapping.json", NULL };
    static const char *const more[] = { "in/.hf_metadata/vocab",
                                        "in/.hf_metadata/a/b/c.bmp",
                                        "in/.hf_metadata/a/.git/config",
                                        "in/.hf_metadata/a/.cache.json",
                                        "in/.hf_metadata/a/model.safetensors",
                                        "in/.hf_metadata/a-b",
                                        "in/.hf_metadata/tf.h5/in_a_directory",
                                        NULL };

    put_all(names);
    /* nothing but mappings: as if it were not there */
    check_list((args){ 0 }, "config.json", NULL);
    put_all(more);
    check_list((args){ 0 }, "a-b a/b/c.bmp tf.h5/in_a_directory vocab", NULL);
}

TEST_IN_TOP(metadata_is_a_file)
{
    put("in/.hf_metadata", "");
    put("in/config.json", "{}");
    check_list((args){ 0 }, "config.json", NULL);
}

TEST_IN_TOP(assets_dir)
{
    static const char *const names[] = { "in/config.json", "in/.hf_metadata/config.json", "as/tokenizer.json",
                                         "as/sub/x.dat",   "as/pytorch_model.bin",        NULL };

    put_all(names);
    check_list((args){ .assets = "as" }, "sub/x.dat tokenizer.json", NULL);
    make_link("as", "link");
    check_list((args){ .assets = "link" }, "sub/x.dat tokenizer.json", NULL);
    make_dir("empty");
    check_list((args){ .assets = "empty" }, "", NULL);
    check_refused((args){ .assets = "none" }, SW_EUSAGE, "none", "no such directory");
    check_refused((args){ .assets = "as/sub/x.dat" }, SW_EUSAGE, "as/sub/x.dat", "not a directory");
    make_link("nowhere", "dangling");
    check_refused((args){ .assets = "dangling" }, SW_EUSAGE, "dangling", "no such directory");
}

TEST_IN_TOP(no_input)
{
    make_dir("in");
    check_list((args){ 0 }, "", NULL);
}

/* ---- links, and what is no file -------------------------------------------------------------- */

TEST_IN_TOP(links)
{
    put("blobs/1", "one");
    put("blobs/d/2", "two");
    make_dir("in");
    make_link("../blobs/1", "in/config.json");
    make_link("../blobs/d", "in/dir.json");
    check_list((args){ 0 }, "config.json", "/in/config.json is a link to a file outside ");
    check_list((args){ .assets = "in" }, "config.json",
               "/in/dir.json is a link to a directory: it is left out\n");
    make_link("config.json", "in/same.json");
    check_list((args){ .assets = "in" }, "config.json same.json",
               ", and not the only one: what it leads to comes");
    /* what leads to another place of the tree is told of by nobody */
    put("tree/sub/x", "");
    make_link("sub/x", "tree/y");
    check_list((args){ .assets = "tree" }, "sub/x y", NULL);
    put("in2/.x/config.json", "");
    make_dir("in2/.hf_metadata");
    make_link("../.x/config.json", "in2/.hf_metadata/config.json");
    check_list((args){ .in = "in2" }, "config.json", NULL);
}

/* What came with the input must not name a directory of ours. */
TEST_IN_TOP(metadata_is_a_link)
{
    put("theirs/passwords", "");
    put("in/config.json", "");
    make_link("../theirs", "in/.hf_metadata");
    check_list((args){ 0 }, "config.json", "/in/.hf_metadata is a link to a directory: it is left out\n");
}

TEST_IN_TOP(dangling)
{
    put("in/config.json", "");
    make_link("nowhere", "in/vocab.json");
    make_link("nowhere", "in/unknown");
    check_list((args){ 0 }, "config.json", "/in/vocab.json is a link that leads nowhere: it is left out\n");
    make_link("self.json", "in/self.json");
    check_list((args){ 0 }, "config.json", "/in/self.json is a link that leads nowhere: it is left out\n");
}

TEST_IN_TOP(fifo)
{
    put("in/config.json", "");
    assert_int_equal(mkfifo(at("in/x.json"), 0666), 0);
    assert_int_equal(mkfifo(at("in/x.safetensors"), 0666), 0);
    check_list((args){ 0 }, "config.json", "/in/x.json is no regular file: it is left out\n");
    check_list((args){ .assets = "in" }, "config.json", "/in/x.json is no regular file: it is left out\n");
}

TEST_IN_TOP(odd_names)
{
    put("in/a\nb.json", "");
    put("in/c d\xff.json", "");
    check_list((args){ 0 }, "c d\xff.json",
               "/in/a?b.json has a control character in its name: it is left out\n");
}

/* ---- OUTPUT_DIR ------------------------------------------------------------------------------ */

TEST_IN_TOP(exists)
{
    static const char *const names[] = { "in/a.json", "in/b.json",  "in/c.json",
                                         "in/d.json", "out/a.json", NULL };

    put_all(names);
    make_link("nowhere", "out/b.json");
    make_dir("out/c.json");
    check_list((args){ 0 }, "a.json! b.json! c.json! d.json", NULL);
    check_list((args){ .out = "none/none" }, "a.json b.json c.json d.json", NULL);
}

TEST_IN_TOP(same_dir)
{
    static const char *const names[] = { "in/config.json", "in/a.json", "in/.hf_metadata/config.json", NULL };

    put("in/a.json", "");
    check_list((args){ .out = "in" }, "", NULL);
    put("in/config.json", "");
    check_list((args){ .out = "in" }, "|stays", NULL);
    put_all(names);
    check_list((args){ .out = "in" }, "config.json!", NULL);
    check_list((args){ .out = "in", .assets = "in" }, "|stays", NULL);
}

/* The same file by another way: a link in either direction, or a second name. */
TEST_IN_TOP(same_file)
{
    put("in/a.json", "");
    put("in/b.json", "");
    put("out/c.json", "");
    make_link("../in/a.json", "out/a.json");
    assert_int_equal(link(at("in/b.json"), at("out/b.json")), 0);
    make_link("../out/c.json", "in/c.json");
    check_list((args){ 0 }, "", NULL);
}

/* OUTPUT_DIR in the directory that is copied, by any way. */
TEST_IN_TOP(inside)
{
    static const char *const names[] = { "as/config.json", "as/out/config.json", "as/other/x", NULL };

    put_all(names);
    make_link("out", "as/link");
    check_list((args){ .assets = "as", .out = "as/out" }, "config.json! other/x", NULL);
    check_list((args){ .assets = "as", .out = "as/new" }, "config.json other/x out/config.json",
               "/as/link is a link to a directory: it is left out\n");
}

/* ---- what cannot be read --------------------------------------------------------------------- */

/* As somebody for whom modes count. */
static bool become_nobody(void)
{
    return geteuid() != 0 || seteuid(65534) == 0;
}

static void become_self(void)
{
    assert_int_equal(seteuid(getuid()), 0);
}

TEST_IN_TOP(unreadable)
{
    sw_status st = SW_STATUS_INIT, st2 = SW_STATUS_INIT;
    sw_buf warnings = SW_BUF_INIT;
    sw_asset a = { .name = "y", .source = at("as/x") };
    sw_below to = SW_BELOW_INIT;
    sw_assets found;

    assert_int_equal(sw_below_open(top, &to, NULL, &st), SW_OK);
    put("as/x", "");
    make_dir("as/sub");
    assert_int_equal(chmod(at("as/x"), 0), 0);
    assert_int_equal(chmod(at("as/sub"), 0), 0);
    assert_true(become_nobody());
    sw_assets_list(&(sw_assets_rule){ at("in"), at("as"), at("out"), NULL }, &warnings, &found, &st);
    sw_asset_stage(&a, &to, &(sw_asset_copy){ NULL, 1, false, &warnings }, &st2);
    become_self();
    sw_below_close(&to);
    assert_int_equal(st.code, SW_EIO);
    assert_string_equal(st.file, at("as/sub"));
    assert_null(found.items);
    assert_int_equal(st2.code, SW_EIO);
    assert_string_equal(st2.file, at("as/x"));
    assert_int_equal(chmod(at("as/sub"), 0755), 0);
    sw_buf_release(&warnings);
}

/* ---- copies ---------------------------------------------------------------------------------- */

/* What was staged is what is compared, whatever the piece; a byte more or another one is told
 * of. */
static void check_same(sw_asset *a, const sw_config_rule *rule, uint64_t piece, const char *copy)
{
    sw_buf why = SW_BUF_INIT, ignored = SW_BUF_INIT;
    const sw_asset_copy how = { rule, piece, false, &ignored };
    char says[64], last = '!';
    FILE *f;

    OK(sw_asset_compare(a, copy, &how, &why, st));
    assert_string_equal(why.data, "");
    f = fopen(copy, "r+");
    assert_non_null(f);
    if (a->size) {
        assert_int_equal(fseek(f, -1, SEEK_END), 0);
        assert_int_equal(fwrite(&last, 1, 1, f), 1);
        assert_int_equal(fflush(f), 0);
        OK(sw_asset_compare(a, copy, &how, &why, st));
        snprintf(says, sizeof says, "from byte %u on", (unsigned)a->size - 1);
        assert_non_null(strstr(why.data, says));
    }
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    assert_int_equal(fwrite(&last, 1, 1, f), 1);
    assert_int_equal(fclose(f), 0);
    OK(sw_asset_compare(a, copy, &how, &why, st));
    assert_non_null(strstr(why.data, "bytes, expected"));
    sw_buf_release(&ignored);
    sw_buf_release(&why);
}

/* The copy's mode, below umask 027, of a source that all may read, or that nobody else may. */
static void check_copy(const char *source, const sw_config_rule *rule, const char *name, uint64_t piece,
                       const char *want, const char *warns)
{
    const mode_t mode = strcmp(source, "config.json") == 0 ? 0600 : 0640;
    sw_asset a = { .name = strdup(name), .source = strdup(at(source)), .size = 7 };
    sw_buf text = SW_BUF_INIT, warnings = SW_BUF_INIT;
    const sw_asset_copy how = { rule, piece, true, &warnings };
    sw_below to = SW_BELOW_INIT;
    char path[512];
    struct stat s;

    make_dir("to/sub");
    OK(sw_below_open(at("to"), &to, NULL, st));
    snprintf(path, sizeof path, "%s/%s", at("to"), name);
    OK(sw_asset_stage(&a, &to, &how, st));
    OK(sw_path_read(path, NULL, 1 << 20, &text, NULL, st));
    sw_below_close(&to);
    assert_int_equal(text.len, strlen(want));
    assert_int_equal(a.size, text.len);
    assert_memory_equal(text.data ? text.data : "", want, text.len);
    OK(sw_buf_add(&warnings, "", 1, st));
    if (warns ? !strstr(warnings.data, warns) : warnings.data[0])
        fail_msg("warns '%s'", warnings.data);
    assert_int_equal(stat(path, &s), 0);
    assert_int_equal(s.st_mode & 07777, mode);
    check_same(&a, rule, piece, path);
    assert_int_equal(unlink(path), 0);
    sw_buf_release(&warnings);
    sw_buf_release(&text);
    free(a.source);
    free(a.name);
}

TEST_IN_TOP(copy)
{
    static const sw_config_rule rule = { SW_F16, true }, none = { SW_NDTYPES, false };
    static const char config[] = "{\"quantization_config\": 1, \"dtype\": \"auto\"}";
    mode_t mask = umask(0027);

    put("config.json", config);
    put("empty", "");
    put("broken", "{\n\"dtype\": \"auto\",\n}");
    assert_int_equal(chmod(at("config.json"), 0700), 0);
    for (uint64_t piece = 1; piece < 60; piece++)
        check_copy("config.json", NULL, "config.json", piece, config, NULL);
    check_copy("config.json", &none, "config.json", 1 << 20, config, NULL);
    check_copy("config.json", &rule, "other.json", 4096, config, NULL);
    check_copy("config.json", &rule, "sub/config.json", 4096, config, NULL);
    check_copy("config.json", &rule, "config.json", 4096, "{\"dtype\": \"float16\"}", NULL);
    check_copy("empty", NULL, "config.json", 4096, "", NULL);
    check_copy("empty", &rule, "config.json", 4096, "",
               "/empty is not JSON (line 1: unexpected end of the text): it is copied as it is\n");
    check_copy("broken", &rule, "config.json", 4096, "{\n\"dtype\": \"auto\",\n}",
               "/broken is not JSON (line 3: expected a string): it is copied as it is\n");
    umask(mask);
}

TEST_IN_TOP(copy_fails)
{
    sw_asset a = { .name = "copy", .source = at("gone") };
    sw_buf warnings = SW_BUF_INIT;
    const sw_asset_copy how = { NULL, 10, false, &warnings };
    sw_below to = SW_BELOW_INIT;
    sw_status st = SW_STATUS_INIT;

    assert_int_equal(sw_below_open(top, &to, NULL, &st), SW_OK);
    assert_int_equal(sw_asset_stage(&a, &to, &how, &st), SW_EIO);
    assert_string_equal(st.file, a.source);
    sw_status_clear(&st);
    a.source = at("dir");
    make_dir("dir");
    assert_int_equal(sw_asset_stage(&a, &to, &how, &st), SW_EINPUT);
    put("file", "text");
    a.source = at("file");
    for (int there = 0; there < 2; there++) {
        sw_status_clear(&st);
        a.name = there ? "file" : "none/copy";
        assert_int_equal(sw_asset_stage(&a, &to, &how, &st), SW_EIO);
        assert_string_equal(st.file, at(a.name));
    }
    sw_below_close(&to);
    sw_buf_release(&warnings);
}
