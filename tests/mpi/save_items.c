/* Save from memory what a description says: save_items consolidated|shards SPEC OUT
 * [OPTION=VALUE...]
 *
 * SPEC is JSON: a list of items {"rank", "name", "dtype", "global_shape", "offsets", "shape",
 * "strides" (null = packed), "file", "at"}, where the first element of the box is byte `at` of the
 * file. Prints one line on rank 0: "ok BYTES SECONDS" or "error CODE MESSAGE"; the exit status is
 * that of the code. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shardweld.h"

#define ITEMS_MAX 4096

typedef struct rank_items {
    sw_item items[ITEMS_MAX];
    size_t n;
    char *data; /* the items' file: one a rank */
    json_t *spec;
} rank_items;

static uint64_t *numbers(const json_t *list)
{
    uint64_t *out = calloc(json_array_size(list) + 1, sizeof *out);

    for (size_t i = 0; out && i < json_array_size(list); i++)
        out[i] = (uint64_t)json_integer_value(json_array_get(list, i));
    return out;
}

static char *read_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    char *data = NULL;
    long n;

    if (f && fseek(f, 0, SEEK_END) == 0 && (n = ftell(f)) >= 0 && fseek(f, 0, SEEK_SET) == 0 &&
        (data = malloc((size_t)n + 1)) && fread(data, 1, (size_t)n, f) != (size_t)n) {
        free(data);
        data = NULL;
    }
    if (f)
        fclose(f);
    return data;
}

static bool take_item(rank_items *r, const json_t *item)
{
    const json_t *strides = json_object_get(item, "strides");
    const char *file = json_string_value(json_object_get(item, "file"));
    sw_item *it = &r->items[r->n];

    if (r->n == ITEMS_MAX || !file || (!r->data && !(r->data = read_file(file))))
        return false;
    *it = (sw_item){ .name = json_string_value(json_object_get(item, "name")),
                     .dtype = json_string_value(json_object_get(item, "dtype")),
                     .ndim = (unsigned)json_array_size(json_object_get(item, "shape")),
                     .global_shape = numbers(json_object_get(item, "global_shape")),
                     .offsets = numbers(json_object_get(item, "offsets")),
                     .shape = numbers(json_object_get(item, "shape")),
                     .data = r->data + json_integer_value(json_object_get(item, "at")),
                     .strides = json_is_null(strides) ? NULL : (int64_t *)numbers(strides) };
    r->n++;
    return true;
}

static bool take_items(rank_items *r, const char *path, int rank)
{
    json_t *item;
    size_t i;

    r->spec = json_load_file(path, 0, NULL);
    if (!json_is_array(r->spec))
        return false;
    json_array_foreach(r->spec, i, item)
    {
        if (json_integer_value(json_object_get(item, "rank")) == rank && !take_item(r, item))
            return false;
    }
    return true;
}

static void release(rank_items *r)
{
    for (size_t i = 0; i < r->n; i++) {
        free((void *)(uintptr_t)r->items[i].global_shape);
        free((void *)(uintptr_t)r->items[i].offsets);
        free((void *)(uintptr_t)r->items[i].shape);
        free((void *)(uintptr_t)r->items[i].strides);
    }
    free(r->data);
    json_decref(r->spec);
}

static bool take_option(sw_options *o, const char *word)
{
    const char *value = strchr(word, '=') ? strchr(word, '=') + 1 : "";
    sw_status st = SW_STATUS_INIT;

    if (strncmp(word, "fqn_map=", 8) == 0)
        o->fqn_map = value;
    else if (strncmp(word, "max_shard_size=", 15) == 0)
        return sw_size_parse(value, &o->max_shard_size, &st) == SW_OK;
    else if (strncmp(word, "buffer_size=", 12) == 0)
        return sw_size_parse(value, &o->buffer_size, &st) == SW_OK;
    else if (strncmp(word, "cast_dtype=", 11) == 0)
        o->cast_dtype = value;
    else if (strncmp(word, "dequantize=", 11) == 0)
        o->dequantize = value;
    else if (strncmp(word, "staging_dir=", 12) == 0)
        o->staging_dir = value;
    else if (strncmp(word, "assets=", 7) == 0)
        o->assets = value;
    else if (strcmp(word, "single_file") == 0)
        o->single_file = true;
    else if (strcmp(word, "diffusers") == 0)
        o->diffusers = true;
    else if (strcmp(word, "overwrite") == 0)
        o->overwrite = true;
    else if (strcmp(word, "no_sync") == 0)
        o->no_sync = true;
    else if (strcmp(word, "manifest") == 0)
        o->manifest = true;
    else if (strcmp(word, "refuse_nan") == 0)
        o->refuse_nan = true;
    else
        return false;
    return true;
}

/* In seconds. */
static double now(void)
{
    struct timespec t = { 0, 0 };

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A description that is none ends all ranks. */
static void give_up(const sw_comm *comm)
{
    if (comm->size > 1)
        sw_comm_abort(99);
    exit(99);
}

static int save(const sw_comm *comm, int argc, char **argv)
{
    static rank_items r;
    sw_options opt = SW_OPTIONS_INIT;
    sw_status st = SW_STATUS_INIT;
    sw_result result = SW_RESULT_INIT;
    char text[4096];
    double begin;
    bool good = argc >= 4 && take_items(&r, argv[2], comm->rank);

    for (int i = 4; i < argc && good; i++)
        good = take_option(&opt, argv[i]);
    if (!good)
        give_up(comm);
    comm->barrier(comm->ctx);
    begin = now();
    if (strcmp(argv[1], "shards") == 0)
        sw_save_shards(comm, argv[3], r.items, r.n, &opt, &result, &st);
    else
        sw_save_consolidated(comm, argv[3], r.items, r.n, &opt, &result, &st);
    if (comm->rank == 0 && st.code)
        printf("error %d %s\n", (int)st.code, sw_status_message(&st, text, sizeof text));
    else if (comm->rank == 0)
        printf("ok %llu %.6f\n", (unsigned long long)result.bytes_written, now() - begin);
    fflush(stdout);
    sw_result_release(&result);
    release(&r);
    return sw_code_exit_status(st.code);
}

int main(int argc, char **argv)
{
    sw_status st = SW_STATUS_INIT;
    int status = 97;
    sw_comm comm;

    sw_transport_defaults(argc > 3 ? argv[3] : NULL);
    if (!sw_comm_world(&comm, &st))
        status = save(&comm, argc, argv);
    sw_comm_mpi_release(&comm);
    return status;
}
