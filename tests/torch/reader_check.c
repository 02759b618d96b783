/* The reader as a filter, for comparing it with torch's: reader_check [-m 0|1|2] [-t THREADS] [-b
 * BUFFER] PATH (-m: an sw_read_map), with a JSON array of reads on standard input: {"name",
 * "offsets", "shape", "dtype"}, where all but the name may be left out. Without any the array
 * stands for all tensors as they are saved. On standard output: a line of JSON, [[name, dtype,
 * shape], ...], then the bytes of all. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "shardweld.h"

typedef struct request {
    sw_read read;
    sw_read_shape s;
    uint64_t offsets[SW_READ_DIMS], shape[SW_READ_DIMS], bytes;
} request;

static void die(const char *what)
{
    fprintf(stderr, "reader_check: %s\n", what);
    exit(2);
}

static int fail(const sw_status *st)
{
    char text[2048];

    fprintf(stderr, "%s\n", sw_status_message(st, text, sizeof text));
    return sw_code_exit_status(st->code);
}

static void *allocate(size_t n, size_t size)
{
    void *p = calloc(n + 1, size);

    if (!p)
        die("out of memory");
    return p;
}

static void take_dims(const json_t *list, uint64_t *dims)
{
    for (size_t i = 0; i < json_array_size(list) && i < SW_READ_DIMS; i++)
        dims[i] = (uint64_t)json_integer_value(json_array_get(list, i));
}

/* A request without its memory. */
static sw_code look_up(const sw_checkpoint *cp, request *q, sw_status *st)
{
    if (sw_checkpoint_read_shape(cp, q->read.name, q->read.dtype, &q->s, st))
        return st->code;
    q->bytes = q->s.bytes;
    if (!q->read.shape)
        return SW_OK;
    q->bytes = 1; /* more than enough: no dtype takes more than 8 bytes */
    for (unsigned d = 0; d < q->s.ndim; d++)
        q->bytes *= q->shape[d];
    q->bytes *= 8;
    return SW_OK;
}

static void take_request(const json_t *item, request *q)
{
    const json_t *shape = json_object_get(item, "shape");

    q->read.name = json_string_value(json_object_get(item, "name"));
    q->read.dtype = json_string_value(json_object_get(item, "dtype"));
    if (!q->read.name)
        die("a read without a name");
    if (!shape)
        return;
    take_dims(json_object_get(item, "offsets"), q->offsets);
    take_dims(shape, q->shape);
    q->read.ndim = (unsigned)json_array_size(shape);
    q->read.offsets = q->offsets;
    q->read.shape = q->shape;
}

static request *list_requests(const sw_checkpoint *cp, const json_t *asked, size_t *n)
{
    request *list;
    sw_checkpoint_info info;

    sw_checkpoint_info_get(cp, &info);
    *n = json_array_size(asked) ? json_array_size(asked) : (size_t)info.ntensors;
    list = allocate(*n, sizeof *list);
    for (size_t i = 0; i < *n; i++) {
        sw_tensor_info t;

        if (json_array_size(asked)) {
            take_request(json_array_get(asked, i), &list[i]);
            continue;
        }
        sw_checkpoint_tensor(cp, i, &t);
        list[i].read.name = t.name;
    }
    return list;
}

static void tell(const request *list, size_t n)
{
    json_t *all = json_array();

    for (size_t i = 0; i < n; i++) {
        const request *q = &list[i];
        json_t *shape = json_array();

        for (unsigned d = 0; d < q->s.ndim; d++)
            json_array_append_new(shape,
                                  json_integer((json_int_t)(q->read.shape ? q->shape[d] : q->s.shape[d])));
        json_array_append_new(all, json_pack("[sso]", q->read.name, q->s.dtype, shape));
    }
    json_dumpf(all, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(all);
}

/* Bytes of what a request has brought. */
static uint64_t brought(const request *q)
{
    uint64_t n = q->s.bytes, whole = 1, part = 1;

    for (unsigned d = 0; d < q->s.ndim && q->read.shape; d++) {
        whole *= q->s.shape[d];
        part *= q->shape[d];
    }
    return whole ? n / whole * part : 0;
}

static int read_and_print(const sw_checkpoint *cp, request *list, size_t n, const sw_read_options *opt)
{
    sw_read *reads = allocate(n, sizeof *reads);
    sw_status st = SW_STATUS_INIT;

    for (size_t i = 0; i < n; i++) {
        if (look_up(cp, &list[i], &st))
            return fail(&st);
        list[i].read.data = allocate(list[i].bytes, 1);
        list[i].read.size = list[i].bytes;
        reads[i] = list[i].read;
    }
    if (sw_checkpoint_read(cp, reads, n, opt, &st))
        return fail(&st);
    tell(list, n);
    for (size_t i = 0; i < n; i++) {
        fwrite(list[i].read.data, 1, brought(&list[i]), stdout);
        free(list[i].read.data);
    }
    free(reads);
    return fflush(stdout) ? 4 : 0;
}

int main(int argc, char **argv)
{
    sw_read_options opt = SW_READ_OPTIONS_INIT;
    sw_comm comm = sw_comm_self();
    sw_checkpoint *cp = NULL;
    sw_status st = SW_STATUS_INIT;
    request *list;
    json_error_t error;
    json_t *asked;
    size_t n;
    int c, status;

    while ((c = getopt(argc, argv, "m:t:b:")) != -1) {
        if (c == 'm')
            opt.map = (sw_read_map)strtoul(optarg, NULL, 10);
        else if (c == 't')
            opt.threads = (unsigned)strtoul(optarg, NULL, 10);
        else if (c == 'b')
            opt.buffer_size = strtoull(optarg, NULL, 10);
        else
            return 2;
    }
    asked = json_loadf(stdin, 0, &error);
    if (optind + 1 != argc || !json_is_array(asked))
        die("usage: reader_check [-m 0|1|2] [-t THREADS] [-b BUFFER] PATH, and an array of reads on standard "
            "input");
    if (sw_checkpoint_open(&comm, argv[optind], NULL, &cp, &st))
        return fail(&st);
    list = list_requests(cp, asked, &n);
    status = read_and_print(cp, list, n, &opt);
    free(list);
    sw_checkpoint_free(cp);
    json_decref(asked);
    return status;
}
