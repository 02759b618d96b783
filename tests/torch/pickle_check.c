/* What the program takes a pickle for, in words: for tests that compare with Python's own reader.
 *
 *     pickle_check FILE...
 * A line for each: the value, in brackets what it holds, or, when it is refused, "!" and why. Of
 * values that hold themselves it shows so much as DEPTH and SHOWN_MAX let it. */
#include <inttypes.h>
#include <stdio.h>

#include "base/path.h"
#include "format/pickle.h"

#define DEPTH 60u
#define SHOWN_MAX 20000u

static unsigned shown;

static void show_text(const char *s, size_t n)
{
    putchar('\'');
    for (size_t i = 0; i < n; i++)
        printf("%02x", (unsigned char)s[i]);
    putchar('\'');
}

static void show(const sw_pickle *p, sw_value v, unsigned depth);

static void show_items(const sw_pickle *p, sw_value v, unsigned depth, const char *brackets)
{
    sw_items items;
    sw_value item;

    putchar(brackets[0]);
    for (sw_items_begin(p, v, &items); sw_items_next(&items, &item);) {
        show(p, item, depth);
        putchar(' ');
    }
    putchar(brackets[1]);
}

static void show(const sw_pickle *p, sw_value v, unsigned depth)
{
    const sw_kind kind = sw_value_kind(p, v);
    const char *text;
    uint64_t number;
    sw_global g;
    size_t len;

    if (depth == 0 || shown++ >= SHOWN_MAX) {
        printf("...");
        return;
    }
    if ((text = sw_value_text(p, v, &len)) != NULL) {
        putchar(kind == SW_KIND_TEXT ? 't' : 'b');
        show_text(text, len);
    } else if (sw_value_global(p, v, &g)) {
        putchar('<');
        show_text(g.module, g.module_len);
        show_text(g.name, g.name_len);
        putchar('>');
    } else if (kind == SW_KIND_TUPLE) {
        show_items(p, v, depth - 1, "()");
    } else if (kind == SW_KIND_LIST) {
        show_items(p, v, depth - 1, "[]");
    } else if (kind == SW_KIND_DICT || kind == SW_KIND_SET) {
        show_items(p, v, depth - 1, "{}");
    } else if (kind == SW_KIND_OBJECT || kind == SW_KIND_PERSISTENT) {
        printf("@");
        show(p, sw_object_class(p, v), depth - 1);
        show(p, sw_object_args(p, v), depth - 1);
        show(p, sw_object_state(p, v), depth - 1);
    } else if (sw_value_size(p, v, &number)) {
        printf("%" PRIu64, number);
    } else {
        printf("#%d", (int)kind);
    }
}

static sw_code check(const char *path)
{
    sw_status st = SW_STATUS_INIT;
    sw_buf text = SW_BUF_INIT;
    char message[2048];
    sw_pickle p = SW_PICKLE_INIT;
    bool missing;

    shown = 0;
    if (!sw_path_read(path, "pickle", UINT64_C(1) << 30, &text, &missing, &st) &&
        !sw_pickle_parse(text.data, text.len, "pickle", NULL, &p, &st))
        show(&p, p.root, DEPTH);
    if (st.code)
        printf("!%s", sw_status_message(&st, message, sizeof message));
    putchar('\n');
    sw_pickle_release(&p);
    sw_buf_release(&text);
    return st.code;
}

int main(int argc, char **argv)
{
    sw_code last = SW_OK;

    for (int i = 1; i < argc; i++)
        last = check(argv[i]);
    return sw_code_exit_status(last);
}
