/* From bytes to a directory: a sharded or plain checkpoint of a few small tensors, its maps and
 * side files, damaged here and there, and an OUT with what somebody may have left or planted in it.
 * Byte 0 is the tame choice everywhere. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/json.h"
#include "format/dtype.h"
#include "fuzz_dir.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define TENSORS_MAX 5
#define RANKS_MAX 4

unsigned take(bytes *b)
{
    if (b->n == 0)
        return 0;
    b->n--;
    return *b->at++;
}

unsigned pick(bytes *b, unsigned n)
{
    return take(b) % n;
}

/* One choice in n; not for 0. */
static bool rarely(bytes *b, unsigned n)
{
    return take(b) % n == n - 1;
}

/* ---- files ----------------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *at)
{
    (void)s;
    (void)kind;
    (void)at;
    return remove(path);
}

bool clear_path(const char *path)
{
    char dir[256];
    struct stat s;

    snprintf(dir, sizeof dir, "%s", path);
    for (char *slash = strchr(dir + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        must(mkdir(dir, 0755) == 0 || errno == EEXIST, "a directory can be made");
        if (lstat(dir, &s) != 0 || !S_ISDIR(s.st_mode))
            return false;
        *slash = '/';
    }
    must(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0 || errno == ENOENT, "a path can be cleared");
    return true;
}

void put(const char *path, const void *data, size_t n)
{
    int fd;

    if (!clear_path(path))
        return;
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    must(fd >= 0 && write(fd, data, n) == (ssize_t)n && close(fd) == 0, "a file can be written");
}

static void put_text(const char *path, const char *text)
{
    put(path, text, strlen(text));
}

/* to: relative to the working directory. */
static void put_link(const char *path, const char *to)
{
    char target[256] = "";

    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/'))
        strcat(target, "../");
    strcat(target, to);
    must(!clear_path(path) || symlink(target, path) == 0, "a link can be made");
}

/* What is no file of its own, in the place of one: the kinds of things that a name may lead to. */
static void put_odd(bytes *b, const char *path)
{
    unsigned kind = pick(b, 7);

    if (!clear_path(path))
        return;
    switch (kind) {
    case 0:
        must(mkfifo(path, 0644) == 0, "a FIFO can be made");
        break;
    case 1:
        put_link(path, CANARY "/weights.safetensors");
        break;
    case 2:
        put_link(path, CANARY "/none");
        break;
    case 3:
        must(link(CANARY "/weights.safetensors", path) == 0, "a hard link can be made");
        break;
    case 4:
        must(mkdir(path, 0755) == 0, "a directory can be made");
        break;
    case 5:
        put_link(path, CANARY);
        break;
    default:
        must(symlink(".", path) == 0, "a link can be made");
    }
}

void make_canary(void)
{
    static const char weights[] =
        "\x38\0\0\0\0\0\0\0{\"w\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}      data";

    put(CANARY "/weights.safetensors", weights, sizeof weights - 1);
    put(CANARY "/model.safetensors", weights, sizeof weights - 1);
    put_text(CANARY "/model.safetensors.index.json", "{}");
    put_text(CANARY "/config.json", "{\"torch_dtype\": \"bfloat16\"}");
    put_text(CANARY "/journal", "a secret");
    put_text(CANARY "/lock", "");
    put_text(CANARY "/.bashrc", "true\n");
    put_text(CANARY "/new/model.safetensors", "");
}

/* ---- tensors --------------------------------------------------------------------------------- */

typedef struct tensor {
    const char *name, *dtype;
    unsigned bits, ndim, cut; /* cut: the dimension; ndim = whole */
    uint64_t shape[3];
    unsigned model;
    bool everywhere; /* whole tensors: a replica on every rank */
} tensor;

typedef struct plan {
    tensor tensors[TENSORS_MAX];
    unsigned n, ranks, models;
    bool plain; /* whole tensors, no sharding info */
} plan;

static const char *const names[] = { "a.weight",
                                     "b.bias",
                                     "model.embed_tokens.weight",
                                     "model.layers.0.w",
                                     "model.layers.10.w",
                                     "lm_head.weight",
                                     "q.weight",
                                     "q.weight_scale_inv",
                                     "x_blocks",
                                     "x_scales",
                                     "_orig_mod.a.weight",
                                     "\u202e\"\\\x01",
                                     "../up",
                                     "" };

static void choose_tensor(bytes *b, const plan *p, tensor *t)
{
    sw_dtype dtype = (sw_dtype)pick(b, SW_NDTYPES);

    *t = (tensor){ .name = names[pick(b, COUNT(names))] };
    t->dtype = sw_dtype_name(dtype);
    t->bits = sw_dtype_bits(dtype);
    t->ndim = pick(b, 4);
    for (unsigned d = 0; d < t->ndim; d++)
        t->shape[d] = rarely(b, 16) ? 0 : 2 + pick(b, 5) * (t->bits < 8 ? 2 : 1);
    t->cut = p->plain ? t->ndim : pick(b, t->ndim + 1);
    t->model = 1 + pick(b, p->models);
    t->everywhere = rarely(b, 4);
}

static void choose_plan(bytes *b, plan *p)
{
    unsigned n = 1 + pick(b, TENSORS_MAX);

    *p = (plan){ .ranks = 1 + pick(b, RANKS_MAX), .models = 1 + pick(b, 2), .plain = rarely(b, 4) };
    if (p->plain)
        p->ranks = 1;
    for (unsigned i = 0; i < n; i++) {
        bool twice = false;

        choose_tensor(b, p, &p->tensors[p->n]);
        for (unsigned k = 0; k < p->n; k++)
            twice = twice || strcmp(p->tensors[k].name, p->tensors[p->n].name) == 0;
        p->n += !twice || rarely(b, 16);
    }
}

/* The box of a rank; false when it has none. torch's rule: chunks of ceil(size / ranks). */
static bool box_of(const plan *p, const tensor *t, unsigned rank, uint64_t offsets[3], uint64_t shape[3])
{
    for (unsigned d = 0; d < t->ndim; d++) {
        offsets[d] = 0;
        shape[d] = t->shape[d];
    }
    if (t->cut < t->ndim) {
        uint64_t size = t->shape[t->cut], chunk = (size + p->ranks - 1) / p->ranks, begin = rank * chunk;

        if (begin >= size && rank > 0)
            return false;
        offsets[t->cut] = begin;
        shape[t->cut] = begin + chunk < size ? chunk : size - begin;
        return true;
    }
    return rank == 0 || t->everywhere;
}

/* ---- shard files ----------------------------------------------------------------------------- */

static void add(sw_buf *to, const char *text)
{
    sw_status st = SW_STATUS_INIT;

    must(!sw_buf_add(to, text, strlen(text), &st), "memory");
}

static void add_name(sw_buf *to, const char *name)
{
    sw_status st = SW_STATUS_INIT;

    must(!sw_json_add_python(to, name, strlen(name), &st), "memory");
}

static void add_numbers(sw_buf *to, const uint64_t *n, unsigned count)
{
    char text[32];

    add(to, "[");
    for (unsigned i = 0; i < count; i++) {
        snprintf(text, sizeof text, "%s%" PRIu64, i ? "," : "", n[i]);
        add(to, text);
    }
    add(to, "]");
}

/* Each element differs from its neighbours, and is the same in every replica. */
static void add_data(sw_buf *to, const tensor *t, const uint64_t *offsets, uint64_t n)
{
    uint64_t seed = sw_hash(0, t->name, strlen(t->name)) + (t->cut < t->ndim ? offsets[t->cut] : 0);

    for (uint64_t i = 0; i < n; i++) {
        /* BOOL is what it is: 0 or 1. */
        char byte = (char)(strcmp(t->dtype, "BOOL") == 0 ? i % 2 : (seed + i * 37) % 120);
        sw_status st = SW_STATUS_INIT;

        must(!sw_buf_add(to, &byte, 1, &st), "memory");
    }
}

typedef struct shard {
    sw_buf entries, info, data;
} shard;

static void add_entry(shard *s, const plan *p, const tensor *t, unsigned rank)
{
    uint64_t offsets[3], shape[3], bits = t->bits, range[2] = { s->data.len, 0 };

    if (!box_of(p, t, rank, offsets, shape))
        return;
    for (unsigned d = 0; d < t->ndim; d++)
        bits *= shape[d];
    add_data(&s->data, t, offsets, bits / 8);
    range[1] = s->data.len;
    add(&s->entries, s->entries.len ? "," : "");
    add_name(&s->entries, t->name);
    add(&s->entries, ":{\"dtype\":\"");
    add(&s->entries, t->dtype);
    add(&s->entries, "\",\"shape\":");
    add_numbers(&s->entries, shape, t->ndim);
    add(&s->entries, ",\"data_offsets\":");
    add_numbers(&s->entries, range, 2);
    add(&s->entries, "}");
    add(&s->info, s->info.len ? "," : "");
    add_name(&s->info, t->name);
    add(&s->info, ":{\"saved_offsets\":");
    add_numbers(&s->info, offsets, t->ndim);
    add(&s->info, "}");
}

/* The file of a rank and a model; false when it holds nothing. */
static bool compose_shard(const plan *p, unsigned rank, unsigned model, sw_buf *file)
{
    shard s = { SW_BUF_INIT, SW_BUF_INIT, SW_BUF_INIT };
    sw_status st = SW_STATUS_INIT;
    sw_buf info = SW_BUF_INIT;
    bool any;

    for (unsigned i = 0; i < p->n; i++)
        if (p->tensors[i].model == model)
            add_entry(&s, p, &p->tensors[i], rank);
    any = s.entries.len > 0;
    must(!sw_buf_add(file, "\0\0\0\0\0\0\0", 8, &st), "memory");
    add(file, "{\"__metadata__\":{\"format\":\"pt\"");
    if (!p->plain) {
        add(&info, "{");
        must(!sw_buf_add(&info, s.info.data, s.info.len, &st), "memory");
        add(&info, "}");
        must(!sw_buf_add(&info, "", 1, &st), "memory");
        add(file, ",\"DCP_VERSION\":\"1.0\",\"DCP_SHARDING_INFO\":");
        add_name(file, info.data);
    }
    add(file, any ? "}," : "}");
    must(!sw_buf_add(file, s.entries.data, s.entries.len, &st), "memory");
    add(file, "}");
    while (file->len % 8)
        add(file, " ");
    for (int i = 0; i < 8; i++)
        file->data[i] = (char)((file->len - 8) >> 8 * i);
    must(!sw_buf_add(file, s.data.data, s.data.len, &st), "memory");
    sw_buf_release(&info);
    sw_buf_release(&s.data);
    sw_buf_release(&s.info);
    sw_buf_release(&s.entries);
    return any;
}

/* ---- damage ---------------------------------------------------------------------------------- */

/* Numbers and words that stand in the text of headers and maps, and what may stand there
 * instead. */
static void change_text(bytes *b, sw_buf *text)
{
    static const char *const words[] = { "0",     "1",    "9999999999", "-1",      "18446744073709551615",
                                         "null",  "\"\"", "{}",         "\"F32\"", "F4",
                                         "1.5e3", "[",    "]",          "," };
    const char *word = words[pick(b, COUNT(words))];
    size_t at = text->len ? (take(b) * 256u + take(b)) % text->len : 0, n = strlen(word);

    if (text->len - at < n)
        return;
    memcpy(text->data + at, word, n);
}

/* What happens to the bytes of a file on its way. */
static void damage(bytes *b, sw_buf *text)
{
    switch (pick(b, 48)) {
    case 1:
        if (text->len)
            text->data[(take(b) * 256u + take(b)) % text->len] ^= (char)(1u << pick(b, 8));
        break;
    case 2:
        text->len = text->len ? (take(b) * 256u + take(b)) % text->len : 0;
        break;
    case 3:
        add(text, "more");
        break;
    case 4:
    case 5:
        change_text(b, text);
        break;
    case 6:
        text->len = 0;
        break;
    default:
        break;
    }
}

/* And to the file as a whole. */
static void put_damaged(bytes *b, const char *path, sw_buf *text)
{
    damage(b, text);
    switch (pick(b, 48)) {
    case 1:
        break; /* lost */
    case 2:
        put_odd(b, path);
        break;
    case 3:
        put(path, text->data, text->len);
        must(chmod(path, 0) == 0, "a file can be closed to others");
        break;
    default:
        put(path, text->data, text->len);
    }
}

/* ---- the input ------------------------------------------------------------------------------- */

static void name_file(bytes *b, const plan *p, unsigned rank, unsigned model, char name[80])
{
    unsigned odd = pick(b, 32);

    if (p->plain && p->models == 1)
        snprintf(name, 80, odd == 1 ? "diffusion_pytorch_model.safetensors" : "model.safetensors");
    else if (p->plain)
        snprintf(name, 80, "model-%05u-of-%05u.safetensors", model, p->models);
    else
        snprintf(name, 80,
                 odd == 1   ? "shard-%u-model-%05u-of-%05u.safetensors"
                 : odd == 2 ? "shard-%05u-model-%05u-of-%05u (1).safetensors"
                 : odd == 3 ? "shard-%05u-model-%u9999-of-%05u.safetensors"
                 : odd == 4 ? "shard-%05u-model-%05u-of-%05u.SAFETENSORS"
                            : "shard-%05u-model-%05u-of-%05u.safetensors",
                 rank + 1, model, p->models + (odd == 5));
}

/* A JSON object with a value for each tensor. */
static void put_map(bytes *b, const plan *p, const char *path, const char *before,
                    void (*value)(bytes *, const plan *, const tensor *, sw_buf *), const char *after)
{
    sw_buf text = SW_BUF_INIT;
    bool first = true;

    add(&text, before);
    for (unsigned i = 0; i < p->n; i++) {
        if (rarely(b, 32))
            continue;
        add(&text, first ? "" : ", ");
        add_name(&text, p->tensors[i].name);
        add(&text, ": ");
        value(b, p, &p->tensors[i], &text);
        first = false;
    }
    add(&text, after);
    put_damaged(b, path, &text);
    sw_buf_release(&text);
}

static void index_value(bytes *b, const plan *p, const tensor *t, sw_buf *text)
{
    static const char *const odd[] = { "0", "3", "\"1\"", "1.5", "99999999999999999999" };
    char number[16];

    (void)p;
    snprintf(number, sizeof number, "%u", t->model);
    add(text, rarely(b, 32) ? odd[pick(b, COUNT(odd))] : number);
}

static void dtype_value(bytes *b, const plan *p, const tensor *t, sw_buf *text)
{
    static const char *const words[] = {
        "torch.bfloat16", "F32", "float16", "F8_E4M3", "I64", "none", "F64"
    };
    unsigned k = pick(b, 2 * COUNT(words));

    (void)p;
    add_name(text, k < COUNT(words) ? words[k] : t->dtype);
}

static void file_value(bytes *b, const plan *p, const tensor *t, sw_buf *text)
{
    static const char *const odd[] = { "../" CANARY "/weights.safetensors", "x/y.safetensors", "/etc/passwd",
                                       "", "config.json" };
    char name[80] = "";

    if (p->models == 1)
        snprintf(name, sizeof name, "model.safetensors");
    else
        snprintf(name, sizeof name, "model-%05u-of-%05u.safetensors", t->model, p->models);
    add_name(text, rarely(b, 32) ? odd[pick(b, COUNT(odd))] : name);
}

static void put_config(bytes *b, const char *path)
{
    static const char *const texts[] = {
        "{\"torch_dtype\": \"bfloat16\"}\n",
        "{\"vocab_size\": 6, \"hidden_size\": 4, \"num_hidden_layers\": 1, \"dtype\": \"auto\"}",
        "{\"text_config\": {\"vocab_size\": 99, \"dtype\": \"float32\"}, \"quantization_config\": {}}",
        "{\"num_hidden_layers\": -1, \"hidden_size\": 1e400, \"vocab_size\": null}",
        "not JSON",
        "[1, 2",
    };
    sw_buf text = SW_BUF_INIT;

    add(&text, texts[pick(b, COUNT(texts))]);
    put_damaged(b, path, &text);
    sw_buf_release(&text);
}

/* The model's other files, by name. */
static void put_side_file(bytes *b, const char *dir)
{
    static const char *const side[] = {
        "tokenizer.json", "a/b/c.txt", "model.safetensors.index.json", "odd\u202e.json", "x.safetensors",
        "LICENSE",        ".hidden",   ".shardweld-staging/journal"
    };
    char path[128];

    snprintf(path, sizeof path, "%s/%s", dir, side[pick(b, COUNT(side))]);
    if (rarely(b, 4))
        put_odd(b, path);
    else
        put_text(path, "side");
}

static void make_metadata(bytes *b, const plan *p)
{
    if (rarely(b, 32)) {
        put_odd(b, IN "/.hf_metadata");
        return;
    }
    if (take(b) % 2)
        put_map(b, p, IN "/.hf_metadata/fqn_to_file_index_mapping.json", "{", index_value, "}");
    if (take(b) % 2)
        put_map(b, p, IN "/.hf_metadata/fqn_to_dtype_mapping.json", "{", dtype_value, "}");
    if (take(b) % 2)
        put_config(b, IN "/.hf_metadata/config.json");
    if (rarely(b, 4))
        put_side_file(b, IN "/.hf_metadata");
}

void make_input(bytes *b)
{
    plan p;

    must(mkdir(IN, 0755) == 0, "a directory can be made");
    choose_plan(b, &p);
    for (unsigned rank = 0; rank < p.ranks; rank++) {
        for (unsigned model = 1; model <= p.models; model++) {
            sw_buf file = SW_BUF_INIT;
            char name[80], path[100];

            name_file(b, &p, rank, model, name);
            snprintf(path, sizeof path, IN "/%s", name);
            if (compose_shard(&p, rank, model, &file) || rarely(b, 8))
                put_damaged(b, path, &file);
            sw_buf_release(&file);
        }
    }
    if (take(b) % 2)
        make_metadata(b, &p);
    if (p.plain ? take(b) % 4 != 3 && p.models > 1 : rarely(b, 8))
        put_map(b, &p, IN "/model.safetensors.index.json",
                "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {", file_value, "}}");
    if (rarely(b, 4))
        put_config(b, IN "/config.json");
    if (rarely(b, 4))
        put_side_file(b, IN);
}

/* ---- the output ------------------------------------------------------------------------------ */

static uint64_t inode_of(const char *path)
{
    struct stat s = { 0 };

    return lstat(path, &s) == 0 ? (uint64_t)s.st_ino : 0;
}

/* When it was made, in ns. */
static uint64_t birth_of(const char *path)
{
    struct statx x = { 0 };

    return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_BTIME, &x) == 0 && x.stx_mask & STATX_BTIME
               ? (uint64_t)x.stx_btime.tv_sec * 1000000000 + x.stx_btime.tv_nsec
               : 0;
}

/* A journal that is whole. Bound: of this place, as a killed run of ours leaves one, but for what
 * it names. */
static void put_journal(bytes *b, bool bound)
{
    static const char *const any[] = { "model.safetensors",
                                       "model-00001-of-00001.safetensors",
                                       "model.safetensors.index.json",
                                       "shard-00001-model-00001-of-00001.safetensors",
                                       "config.json",
                                       "x/.bashrc",
                                       "x/model.safetensors",
                                       ".git/config",
                                       "../" CANARY "/model.safetensors",
                                       "mine.txt",
                                       ".shardweld-staging/lock",
                                       "" };
    sw_status st = SW_STATUS_INIT;
    sw_buf text = SW_BUF_INIT;
    unsigned n = 1 + pick(b, 3);
    char path[128];

    must(!sw_buf_addf(&text, &st,
                      "shardweld journal 2\nhome %" PRIu64 " %" PRIu64 " %" PRIu64
                      " %016x\nfingerprint %016x\nclash %u\n",
                      inode_of(OUT) + !bound, inode_of(OUT "/.shardweld-staging"),
                      birth_of(OUT "/.shardweld-staging"), 7u, take(b), pick(b, 2)),
         "memory");
    for (unsigned i = 0; i < n; i++) {
        const char *name = any[pick(b, COUNT(any))];

        snprintf(path, sizeof path, OUT "/.shardweld-staging/new/%s", name);
        if (pick(b, 4) != 3 && *name && !strstr(name, ".."))
            put_text(path, "new");
        must(!sw_buf_addf(&text, &st, "new %u %" PRIu64 " %zu:%s\n", 3u, inode_of(path), strlen(name), name),
             "memory");
    }
    for (unsigned k = pick(b, 3); k > 0; k--) {
        const char *name = any[pick(b, COUNT(any))];

        must(!sw_buf_addf(&text, &st, "old %zu:%s\n", strlen(name), name), "memory");
    }
    must(!sw_buf_addf(&text, &st, "sum %016" PRIx64 "\n", sw_hash(0, text.data, text.len)), "memory");
    damage(b, &text);
    put(OUT "/.shardweld-staging/journal", text.data, text.len);
    sw_buf_release(&text);
}

static void plant_staging(bytes *b, scene *s)
{
    static const char foreign[] = "host elsewhere\npid 1\njob none\nstarted 2020-01-01T00:00:00Z\n"
                                  "id 0000000000000001\nnumber 0000000000000007\n";
    static const char *const locks[] = { foreign, "", "number 0000000000000007\n", "junk" };
    unsigned lock = pick(b, COUNT(locks) + 2);

    if (rarely(b, 8)) {
        put_odd(b, OUT "/.shardweld-staging");
        return;
    }
    put_text(OUT "/.shardweld-staging/new/left.safetensors", "left");
    put_text(OUT "/.shardweld-staging/old/model.safetensors", "old");
    if (lock < COUNT(locks))
        put_text(OUT "/.shardweld-staging/lock", locks[lock]);
    else if (lock == COUNT(locks))
        put_odd(b, OUT "/.shardweld-staging/lock");
    if (rarely(b, 8))
        put_odd(b, OUT "/.shardweld-staging/new");
    switch (pick(b, 4)) {
    case 1:
        put_odd(b, OUT "/.shardweld-staging/journal");
        break;
    case 2:
        put_journal(b, false);
        break;
    case 3:
        if (lock < COUNT(locks))
            put_text(OUT "/.shardweld-staging/lock", foreign);
        put_journal(b, true);
        s->bound = true;
        break;
    default:
        break;
    }
}

void make_output(bytes *b, scene *s)
{
    static const char *const old[] = { "model.safetensors",
                                       "model-00001-of-00001.safetensors",
                                       "model-00002-of-00002.safetensors",
                                       "model.safetensors.index.json",
                                       "config.json",
                                       "shard-00001-model-00001-of-00001.safetensors",
                                       "diffusion_pytorch_model.safetensors",
                                       "tokenizer.json" };
    static const char *const indices[] = {
        "{\"weight_map\": {\"a\": \"model-00002-of-00002.safetensors\"}}",
        "{\"weight_map\": {\"a\": \"../" CANARY
        "/model.safetensors\", \"b\": \"x/model.safetensors\", \"c\": \"mine.txt\"}}",
        "{\"weight_map\": 7}", "{"
    };
    unsigned files;

    if (pick(b, 4) == 0)
        return;
    put_text(OUT "/mine.txt", "mine");
    put_text(OUT "/.git/config", "mine");
    for (files = pick(b, 4); files > 0; files--) {
        char path[100];

        snprintf(path, sizeof path, OUT "/%s", old[pick(b, COUNT(old))]);
        if (rarely(b, 8))
            put_odd(b, path);
        else
            put_text(path, strstr(path, ".index.json") ? indices[pick(b, COUNT(indices))] : "old");
    }
    if (rarely(b, 4))
        put_link(OUT "/x", CANARY);
    if (take(b) % 2)
        plant_staging(b, s);
}

/* ---- options --------------------------------------------------------------------------------- */

void choose_options(bytes *b, scene *s)
{
    static const char *const globs[] = { "*", "a.*", "nothing", "[" };
    static const char *const dtypes[] = { "bf16", "fp32", "fp16", "fp64", "none", "int8" };
    static const char *const meshes[] = { "2", "2x2", "3", "1", "0", "2x", "4000000000x4" };
    static const char *const placements[] = { NULL,      "shard1", "replicate,shard0", "shard(0),shard(0)",
                                              "shard-1", "shard9" };
    static const char *const rules[] = { "*=replicate", "a.*=shard1,shard0", "b", "*=" };
    sw_options *opt = &s->opt;

    opt->no_sync = true;
    /* The default is megabytes: their allocation would take most of the time. */
    opt->buffer_size = rarely(b, 4) ? 4096 : 20000;
    switch (pick(b, 10)) {
    case 1:
        opt->max_shard_size = 1 + take(b);
        break;
    case 2:
        opt->single_file = true;
        break;
    case 3:
        opt->fqn_map = IN "/.hf_metadata/fqn_to_file_index_mapping.json";
        break;
    case 4:
        opt->like = IN "/model.safetensors.index.json";
        break;
    case 5:
        opt->like = CANARY "/model.safetensors.index.json";
        break;
    default:
        break;
    }
    opt->diffusers = rarely(b, 8);
    opt->diffusers_index = rarely(b, 8);
    if (rarely(b, 8))
        opt->include = (s->include[0] = globs[pick(b, COUNT(globs))], s->include);
    if (rarely(b, 8))
        opt->exclude = (s->exclude[0] = globs[pick(b, COUNT(globs))], s->exclude);
    if (rarely(b, 8)) {
        s->rename[0] = (sw_name_rule){ SW_NAME_STRIP, "_orig_mod.", "" };
        s->rename[1] = (sw_name_rule){ SW_NAME_RENAME, "a.", take(b) % 2 ? "b." : "" };
        opt->name_rules = s->rename;
        opt->nname_rules = 2;
    }
    if (rarely(b, 4))
        opt->cast_dtype = dtypes[pick(b, COUNT(dtypes))];
    if (rarely(b, 4))
        opt->dequantize = dtypes[pick(b, COUNT(dtypes))];
    opt->expect_shards = rarely(b, 8) ? pick(b, 5) : 0;
    opt->assets = rarely(b, 16) ? CANARY : NULL;
    opt->no_assets = rarely(b, 8);
    opt->verify = rarely(b, 8);
    opt->overwrite = take(b) % 2;
    opt->dry_run = rarely(b, 16);
    opt->assign = (sw_assign)pick(b, 3);
    s->sharding.mesh = meshes[pick(b, COUNT(meshes))];
    s->sharding.placements = placements[pick(b, COUNT(placements))];
    if (rarely(b, 4))
        s->sharding.rules = (s->rules[0] = rules[pick(b, COUNT(rules))], s->rules);
}
