/* Runs from boxes that this rank holds in memory, which stand one after the other as if in a file;
 * see source.h. */
#include "base/num.h"
#include "base/rows.h"
#include "read/pull.h"

/* What lies together in memory is copied from there; short rows that do not, but follow one another
 * in the source, are put together first. */
static sw_code pull_memory(const sw_pull *p, const sw_run *s, char *to, sw_status *st)
{
    const sw_membox *b = sw_memboxes_find(p->source->held, s->at);
    const char *direct = sw_membox_direct(b, s->at - b->begin);
    const sw_run_loop *in = sw_run_innermost(s);
    sw_run_walk w;
    uint64_t at, n;
    int64_t where;

    if (direct) {
        sw_pull_copy(s, direct, to);
        return st->code;
    }
    for (sw_run_begin(&w, s); sw_run_next(&w, s, &at, &where);)
        for (uint64_t i = 0; i < in->count; i += n) {
            uint64_t most = in->from == s->row ? sw_max(p->room / s->row, 1) : 1;
            sw_rows rows = { s->row, sw_min(most, in->count - i), (int64_t)s->row, in->to };
            char *first = to + where + (int64_t)i * in->to;
            bool alone = rows.count == 1;

            n = rows.count;
            sw_membox_copy(b, at + i * in->from - b->begin, n * s->row, alone ? first : p->scratch);
            if (!alone)
                sw_rows_copy(first, p->scratch, &rows);
        }
    return st->code;
}

const sw_source_body sw_from_memory = { pull_memory, NULL };

sw_code sw_source_init_memory(sw_source *s, const sw_catalog *c, const sw_memboxes *held,
                              uint64_t scratch_size, sw_status *st)
{
    *s = (sw_source){ .body = &sw_from_memory, .c = c, .held = held, .scratch_size = scratch_size };
    s->scratch = sw_calloc(scratch_size, 1, st);
    return st->code;
}
