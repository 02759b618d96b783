/* The model's other files: which come along from where, what stays behind, and the copies. */
#include <sys/stat.h>
#include <unistd.h>

#include "base/path.h"
#include "dir/assets.h"
#include "top_help.h"

/* Where the files of in come from, and where they go (NULL: out). */
typedef struct args {
    const char *assets, *out, *skip;
} args;

static sw_code list(const args *a, sw_buf *warnings, sw_assets *found, sw_status *st)
{
    const sw_assets_rule rule = {
        at("in"), a->assets ? at(a->assets) : NULL, at(a->out ? a->out : "out"), a->skip, false, { NULL }
    };

    return sw_assets_list(&rule, warnings, found, st);
}

/* What is found in a tree (make_tree()): all names in a line, "!" behind those that exist; then,
 * behind a bar, whether config.json stays. */
static void check_list(const char *tree, args a, const char *want, const char *warns)
{
    sw_buf text = SW_BUF_INIT, warnings = SW_BUF_INIT;
    sw_assets found;

    OK(remove_tree(top, st));
    OK(sw_path_mkdirs(top, NULL, st));
    make_tree(top, tree);
    OK(list(&a, &warnings, &found, st));
    for (size_t i = 0; i < found.n; i++) {
        const sw_asset *item = &found.items[i];

        OK(sw_buf_addf(&text, st, "%s%s%s", i ? " " : "", item->name, item->exists ? "!" : ""));
        assert_true(strncmp(item->source, top, strlen(top)) == 0);
    }
    OK(sw_buf_addf(&text, st, "%s", found.config_stays ? "|stays" : ""));
    if (strcmp(text.data, want) != 0)
        fail_msg("%s: found '%s', expected '%s'", tree, text.data, want);
    OK(sw_buf_add(&warnings, "", 1, st));
    if (warns ? !strstr(warnings.data, warns) : warnings.data[0])
        fail_msg("%s: warns '%s', expected '%s'", tree, warnings.data, warns ? warns : "");
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

#define BESIDE                                                                                               \
    "in/config.json in/tokenizer.model in/merges.txt in/qwen.tiktoken in/chat_template.jinja "               \
    "in/modeling.py in/README.md in/LICENSE in/LICENSE.rst in/NOTICE "                                       \
    "in/.hidden.json in/shard-00001-model-00001-of-00001.safetensors in/model.safetensors.index.json "       \
    "in/x.index.json in/pytorch_model.bin in/LICENSE.bin in/NOTICE.pt in/LICENSE.pth in/LICENSE.ckpt "       \
    "in/LICENSE.distcp in/LICENSE.gguf in/LICENSE.h5 in/LICENSE.onnx in/fqn_to_file_index_mapping.json "     \
    "in/fqn_to_dtype_mapping.json in/license in/train.log in/optimizer.state in/sub/config.json "            \
    "in/dir.json/config.json "
#define MAPPINGS                                                                                             \
    "in/config.json in/.hf_metadata/fqn_to_file_index_mapping.json "                                         \
    "in/.hf_metadata/fqn_to_dtype_mapping.json "
#define ASSETS                                                                                               \
    "in/config.json in/.hf_metadata/config.json as/tokenizer.json as/sub/x.dat as/pytorch_model.bin "
#define LINKS "blobs/1 blobs/d/2 in/config.json@../blobs/1 in/dir.json@../blobs/d "
#define PIPES "in/config.json in/x.json| in/x.safetensors| "
#define THERE "in/a.json in/b.json in/c.json in/d.json out/a.json out/b.json@nowhere out/c.json/ "
#define INSIDE "as/config.json as/out/config.json as/other/x as/link@out "
#define DIR_LINK " is a link to a directory: it is left out\n"
#define NOWHERE " is a link that leads nowhere: it is left out\n"

TEST_IN_TOP(which)
{
    static const struct {
        const char *tree;
        args from;
        const char *want, *warns;
    } cases[] = {
        { BESIDE,
          { 0 },
          "LICENSE LICENSE.rst NOTICE README.md chat_template.jinja config.json merges.txt modeling.py "
          "qwen.tiktoken tokenizer.model",
          NULL },
        { "in/config.json in/merges.txt", { .skip = "merges.txt" }, "config.json", NULL },
        /* nothing but mappings: as if it were not there */
        { MAPPINGS, { 0 }, "config.json", NULL },
        { MAPPINGS "in/.hf_metadata/vocab in/.hf_metadata/a/b/c.bmp in/.hf_metadata/a/.git/config "
                   "in/.hf_metadata/a/.cache.json in/.hf_metadata/a/model.safetensors in/.hf_metadata/a-b "
                   "in/.hf_metadata/tf.h5/in_a_directory",
          { 0 },
          "a-b a/b/c.bmp tf.h5/in_a_directory vocab",
          NULL },
        { "in/.hf_metadata in/config.json", { 0 }, "config.json", NULL },
        { ASSETS, { .assets = "as" }, "sub/x.dat tokenizer.json", NULL },
        { ASSETS "link@as", { .assets = "link" }, "sub/x.dat tokenizer.json", NULL },
        { "in/config.json empty/", { .assets = "empty" }, "", NULL },
        { "in/", { 0 }, "", NULL },
        /* links, and what is no file */
        { LINKS, { 0 }, "config.json", "/in/config.json is a link to a file outside " },
        { LINKS, { .assets = "in" }, "config.json", "/in/dir.json" DIR_LINK },
        { LINKS "in/same.json@config.json",
          { .assets = "in" },
          "config.json same.json",
          ", and not the only one: what it leads to comes" },
        /* what leads to another place of the tree is told of by nobody */
        { "tree/sub/x tree/y@sub/x", { .assets = "tree" }, "sub/x y", NULL },
        { "in/.x/config.json in/.hf_metadata/config.json@../.x/config.json", { 0 }, "config.json", NULL },
        /* what came with the input must not name a directory of ours */
        { "theirs/passwords in/config.json in/.hf_metadata@../theirs",
          { 0 },
          "config.json",
          "/in/.hf_metadata" DIR_LINK },
        { "in/config.json in/vocab.json@nowhere in/unknown@nowhere",
          { 0 },
          "config.json",
          "/in/vocab.json" NOWHERE },
        { "in/config.json in/self.json@self.json", { 0 }, "config.json", "/in/self.json" NOWHERE },
        { PIPES, { 0 }, "config.json", "/in/x.json is no regular file: it is left out\n" },
        { PIPES, { .assets = "in" }, "config.json", "/in/x.json is no regular file: it is left out\n" },
        { "in/a\nb.json in/c\xff.json",
          { 0 },
          "c\xff.json",
          "/in/a?b.json has a control character in its name: it is left out\n" },
        /* OUTPUT_DIR has some of them */
        { THERE, { 0 }, "a.json! b.json! c.json! d.json", NULL },
        { THERE, { .out = "none/none" }, "a.json b.json c.json d.json", NULL },
        { "in/a.json", { .out = "in" }, "", NULL },
        { "in/a.json in/config.json", { .out = "in" }, "|stays", NULL },
        { "in/a.json in/config.json in/.hf_metadata/config.json", { .out = "in" }, "config.json!", NULL },
        { "in/a.json in/config.json in/.hf_metadata/config.json",
          { .out = "in", .assets = "in" },
          "|stays",
          NULL },
        /* the same file by another way: a link in either direction, or a second name */
        { "in/a.json in/b.json out/c.json out/a.json@../in/a.json out/b.json&in/b.json "
          "in/c.json@../out/c.json",
          { 0 },
          "",
          NULL },
        /* OUTPUT_DIR in the directory that is copied, by any way */
        { INSIDE, { .assets = "as", .out = "as/out" }, "config.json! other/x", NULL },
        { INSIDE,
          { .assets = "as", .out = "as/new" },
          "config.json other/x out/config.json",
          "/as/link" DIR_LINK },
    };

    for (size_t i = 0; i < COUNT(cases); i++)
        check_list(cases[i].tree, cases[i].from, cases[i].want, cases[i].warns);
    make_tree(top, "file dangling@nowhere");
    check_refused((args){ .assets = "none" }, SW_EUSAGE, "none", "no such directory");
    check_refused((args){ .assets = "file" }, SW_EUSAGE, "file", "not a directory");
    check_refused((args){ .assets = "dangling" }, SW_EUSAGE, "dangling", "no such directory");
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
    make_tree(top, "as/x as/sub/");
    assert_int_equal(chmod(at("as/x"), 0), 0);
    assert_int_equal(chmod(at("as/sub"), 0), 0);
    assert_true(become_nobody());
    sw_assets_list(&(sw_assets_rule){ at("in"), at("as"), at("out"), NULL, false, { NULL } }, &warnings,
                   &found, &st);
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

    make_tree(top, "to/sub/");
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

    put_file(at("config.json"), config, strlen(config));
    make_tree(top, "empty broken={\n\"dtype\":\"auto\",\n}");
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
    check_copy("broken", &rule, "config.json", 4096, "{\n\"dtype\":\"auto\",\n}",
               "/broken is not JSON (line 3: expected a string): it is copied as it is\n");
    umask(mask);
}

/* One byte more than is edited in memory. */
TEST_IN_TOP(a_config_that_is_too_large)
{
    static const sw_config_rule rule = { SW_F16, true };
    sw_asset a = { .name = "config.json", .source = at("in") };
    sw_buf warnings = SW_BUF_INIT;
    sw_below to = SW_BELOW_INIT;
    struct stat s;

    make_tree(top, "in to/");
    assert_int_equal(truncate(at("in"), (64 << 20) + 1), 0);
    OK(sw_below_open(at("to"), &to, NULL, st));
    OK(sw_asset_stage(&a, &to, &(sw_asset_copy){ &rule, 1 << 20, false, &warnings }, st));
    OK(sw_buf_add(&warnings, "", 1, st));
    assert_non_null(strstr(warnings.data, "67108865 bytes, too many to edit it: it is copied as it is\n"));
    assert_true(stat(at("to/config.json"), &s) == 0 && s.st_size == (64 << 20) + 1);
    sw_below_close(&to);
    sw_buf_release(&warnings);
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
    make_tree(top, "dir/ file=text");
    assert_int_equal(sw_asset_stage(&a, &to, &how, &st), SW_EINPUT);
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
