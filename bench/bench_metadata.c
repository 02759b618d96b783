/* How fast a `.metadata` is understood and packed for all ranks, and in how much memory, the text
 * included.
 *
 *     bench_metadata FILE [ROUNDS]      prints seconds (best) and the peak of resident memory */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/memory.h"
#include "base/path.h"
#include "format/boxlist.h"

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* One round; boxes: how many there are. */
static double once(const sw_buf *text, size_t *boxes, sw_status *st)
{
    sw_boxlist_index index = { NULL, NULL };
    sw_listed_files files = { 0, 0 };
    sw_buf list = SW_BUF_INIT;
    double begin = now();

    sw_dcp_list(text->data, text->len, ".metadata", &list, st);
    begin = now() - begin;
    if (!st->code && !sw_boxlist_sort(&list, &index, st)) {
        while (sw_boxlist_file(&list, &files))
            continue;
        *boxes = index.starts[files.number];
    }
    sw_boxlist_index_release(&index);
    sw_buf_release(&list);
    return begin;
}

int main(int argc, char **argv)
{
    int rounds = argc > 2 ? atoi(argv[2]) : 1;
    sw_status st = SW_STATUS_INIT;
    sw_buf text = SW_BUF_INIT;
    double best = 1e9;
    char message[2048];
    size_t boxes = 0;
    bool missing;

    if (argc < 2)
        return 2;
    sw_path_read(argv[1], argv[1], UINT64_C(1) << 30, &text, &missing, &st);
    for (int i = 0; i < rounds && !st.code; i++) {
        double seconds = once(&text, &boxes, &st);

        best = seconds < best ? seconds : best;
    }
    if (st.code)
        fprintf(stderr, "%s\n", sw_status_message(&st, message, sizeof message));
    else
        printf("%zu boxes, %zu bytes: best %.3f s, peak %" PRIu64 " MiB\n", boxes, text.len, best,
               sw_peak_memory() >> 20);
    sw_buf_release(&text);
    return sw_code_exit_status(st.code);
}
