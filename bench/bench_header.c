/* How fast a large header is parsed, and in how much memory: a mixture-of-experts model with
 * sharding info as torch DCP writes it, 330,000 tensors in 76 MB of JSON, whose sharding info has
 * another order than its entries.
 *
 *     bench_header [TENSORS [ROUNDS]]      prints seconds (best and median) and MiB beyond the text
 *     bench_header --check                 the same, and fails over 64 MiB
 *     bench_header --write FILE [TENSORS]  writes such a file instead, its data as a hole */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "format/header.h"

#define MIB_MAX 64.0
#define ROUNDS_MAX 100

/* Tensor i in the order of the model: a weight in FP8 and its scales, three of each an expert, 256
 * experts a layer. */
static void tensor_name(uint64_t i, char name[96])
{
    static const char *const parts[] = { "gate_proj", "up_proj", "down_proj" };
    uint64_t expert = i / 6;

    snprintf(name, 96, "language_model.layers.%" PRIu64 ".mlp.experts.%" PRIu64 ".%s.weight%s", expert / 256,
             expert % 256, parts[i / 2 % 3], i % 2 ? "_scale_inv" : "");
}

static sw_code add_entry(sw_buf *b, uint64_t i, uint64_t *at, sw_status *st)
{
    char name[96];
    uint64_t begin = *at, rows = i % 2 ? 2 : 256, columns = i % 2 ? 56 : 7168, width = i % 2 ? 4 : 1;

    tensor_name(i, name);
    *at += rows * columns * width;
    return sw_buf_addf(b, st,
                       ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%" PRIu64 ",%" PRIu64
                       "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}",
                       name, i % 2 ? "F32" : "F8_E4M3", rows, columns, begin, *at);
}

static sw_code add_box(sw_buf *b, uint64_t i, sw_status *st)
{
    char name[96];

    tensor_name(i, name);
    return sw_buf_addf(b, st, "%s\\\"%s\\\": {\\\"saved_offsets\\\": [%d, 0]}", i ? ", " : "", name,
                       i % 2 ? 6 : 768);
}

static int compare_names(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    char names[2][96];

    if (*x % 2 != *y % 2)
        return *x % 2 ? -1 : 1;
    tensor_name(*x, names[0]);
    tensor_name(*y, names[1]);
    return strcmp(names[0], names[1]);
}

/* Entries by dtype and name as the reference library has them, boxes in the order of the model. */
static sw_code make_header(uint64_t n, sw_buf *b, uint64_t *data_len, sw_status *st)
{
    uint64_t *order = sw_calloc(n, sizeof *order, st);

    if (!order)
        return st->code;
    for (uint64_t i = 0; i < n; i++)
        order[i] = i;
    qsort(order, n, sizeof *order, compare_names);
    *data_len = 0;
    sw_buf_addf(b, st, "{\"__metadata__\":{\"DCP_SHARDING_INFO\":\"{");
    for (uint64_t i = 0; i < n && !st->code; i++)
        add_box(b, i, st);
    sw_buf_addf(b, st, "}\",\"DCP_VERSION\":\"1.0\",\"format\":\"pt\"}");
    for (uint64_t i = 0; i < n && !st->code; i++)
        add_entry(b, order[i], data_len, st);
    free(order);
    sw_buf_addf(b, st, "}");
    while (b->len % 8 && !st->code)
        sw_buf_add(b, " ", 1, st);
    return st->code;
}

/* Of the processor. */
static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The largest resident set since it was forgotten the last time, in MiB; 0 where the system does
 * not tell. */
static double peak_mib(int forget)
{
    char line[256];
    double kib = 0;
    FILE *f = fopen("/proc/self/status", "r");

    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "VmHWM:", 6) == 0)
            kib = strtod(line + 6, NULL);
    if (f)
        fclose(f);
    if (forget && (f = fopen("/proc/self/clear_refs", "w"))) {
        fputs("5", f);
        fclose(f);
    }
    return kib / 1024;
}

static int compare_doubles(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static sw_code run(const sw_buf *b, uint64_t data_len, int rounds, int check, sw_status *st)
{
    double seconds[ROUNDS_MAX], mib = 0, before;
    char *text = malloc(b->len);

    if (!text)
        return sw_fail_nomem(st, b->len);
    for (int i = 0; i < rounds && !st->code; i++) {
        sw_header h = SW_HEADER_INIT;

        memcpy(text, b->data, b->len);
        peak_mib(1);
        before = peak_mib(0);
        seconds[i] = now();
        sw_header_parse(text, b->len, data_len, "bench", &h, st);
        seconds[i] = now() - seconds[i];
        mib = peak_mib(0) - before > mib ? peak_mib(0) - before : mib;
        sw_header_release(&h);
    }
    free(text);
    if (st->code)
        return st->code;
    qsort(seconds, (size_t)rounds, sizeof *seconds, compare_doubles);
    printf("header of %.1f MB: best %.3f s, median %.3f s, %.1f MiB beyond the text\n", (double)b->len / 1e6,
           seconds[0], seconds[rounds / 2], mib);
    if (check && mib > MIB_MAX)
        sw_fail(st, SW_DIFF, NULL, NULL, "over the limit of %.0f MiB", MIB_MAX);
    return st->code;
}

static sw_code write_file(const char *path, const sw_buf *b, uint64_t data_len, sw_status *st)
{
    unsigned char first[8];
    FILE *f = fopen(path, "wb");
    int good;

    if (!f)
        return sw_fail(st, SW_EIO, path, NULL, "cannot open");
    for (int i = 0; i < 8; i++)
        first[i] = (unsigned char)((uint64_t)b->len >> 8 * i);
    good = fwrite(first, 8, 1, f) == 1 && fwrite(b->data, b->len, 1, f) == 1 && fflush(f) == 0 &&
           ftruncate(fileno(f), (off_t)(8 + b->len + data_len)) == 0;
    if (fclose(f) || !good)
        sw_fail(st, SW_EIO, path, NULL, "cannot write");
    return st->code;
}

int main(int argc, char **argv)
{
    sw_status st = SW_STATUS_INIT;
    sw_buf b = SW_BUF_INIT;
    int check = argc > 1 && strcmp(argv[1], "--check") == 0;
    int write = argc > 2 && strcmp(argv[1], "--write") == 0;
    int skip = check ? 1 : write ? 2 : 0;
    uint64_t n = argc > skip + 1 ? strtoull(argv[skip + 1], NULL, 10) : 330000, data_len = 0;
    int rounds = argc > skip + 2 ? atoi(argv[skip + 2]) : 9;

    rounds = rounds < 1 ? 1 : rounds > ROUNDS_MAX ? ROUNDS_MAX : rounds;
    if (!make_header(n, &b, &data_len, &st)) {
        if (write)
            write_file(argv[2], &b, data_len, &st);
        else
            run(&b, data_len, rounds, check, &st);
    }
    sw_buf_release(&b);
    if (st.code)
        fprintf(stderr, "bench_header: %s\n", st.reason);
    return sw_code_exit_status(st.code);
}
