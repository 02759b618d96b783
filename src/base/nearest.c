/* The name that somebody may have meant: optimal string alignment (insertions, deletions,
 * substitutions, neighbours changed over). Looked for when a name was not found, so once a run, but
 * perhaps among 100,000 names: whoever is farther than the best so far is left in the midst. */
#include <ctype.h>
#include <string.h>

#include "base/num.h"
#include "base/status.h"

#define NAME_MAX_LOOKED 255u /* longer ones are near to none */

/* Does a character cost nothing beside another one? */
static bool is_same(char a, char b)
{
    return tolower((unsigned char)a) == tolower((unsigned char)b) || a == '?';
}

/* How far is a name (n bytes) from a text (m bytes)? A '*' of the text stands for anything. At
 * least limit: it does not matter how far. */
static size_t distance(const char *text, size_t m, const char *name, size_t n, size_t limit)
{
    size_t rows[3][NAME_MAX_LOOKED + 1];
    size_t *last = rows[0], *row = rows[1], *before = rows[2], *spare;

    for (size_t k = 0; k <= n; k++)
        last[k] = k;
    for (size_t i = 1; i <= m; i++) {
        bool any = text[i - 1] == '*';
        size_t least = row[0] = last[0] + !any;

        for (size_t k = 1; k <= n; k++) {
            row[k] = sw_min(sw_min(last[k] + !any, row[k - 1] + !any),
                            last[k - 1] + !is_same(text[i - 1], name[k - 1]));
            if (i > 1 && k > 1 && is_same(text[i - 1], name[k - 2]) && is_same(text[i - 2], name[k - 1]))
                row[k] = sw_min(row[k], before[k - 2] + 1);
            least = sw_min(least, row[k]);
        }
        if (least >= limit)
            return limit;
        spare = before;
        before = last;
        last = row;
        row = spare;
    }
    return last[n];
}

const char *sw_text_nearest(const char *text, const char *const *names, size_t n)
{
    size_t len = strlen(text), limit = len / 3 + 1;
    const char *best = NULL;

    if (len < 2 || len > NAME_MAX_LOOKED)
        return NULL;
    for (size_t i = 0; i < n && limit > 0; i++) {
        size_t k = strlen(names[i]), far;

        if (k > NAME_MAX_LOOKED || (far = distance(text, len, names[i], k, limit)) >= limit)
            continue;
        limit = far;
        best = names[i];
    }
    return best;
}
