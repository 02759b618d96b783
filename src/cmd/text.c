/* Text for people; see text.h. */
#include "text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "phrase.h"

#define COLUMNS_UNKNOWN 80
#define COLUMNS_MAX 10000

/* ---- names ----------------------------------------------------------------------------------- */

typedef struct code_range {
    uint32_t first, last;
} code_range;

/* Is a character in one of the ranges? */
static bool is_in(uint32_t value, const code_range *ranges, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (value >= ranges[i].first && value <= ranges[i].last)
            return true;
    return false;
}

/* What stands for a character that JSON or XML takes for its own; NULL = the character itself. */
static const char *escape_of(char c, sw_text_form form)
{
    bool json = form == SW_TEXT_JSON;

    switch (form == SW_TEXT_PLAIN ? '\0' : c) {
    case '"':
        return json ? "\\\"" : "&quot;";
    case '\\':
        return json ? "\\\\" : NULL;
    case '\n':
        return json ? "\\n" : NULL;
    case '\t':
        return json ? "\\t" : NULL;
    case '&':
        return json ? NULL : "&amp;";
    case '<':
        return json ? NULL : "&lt;";
    case '>':
        return json ? NULL : "&gt;";
    default:
        return NULL;
    }
}

/* Of what a text begins with, so many bytes are themselves in every form. */
static size_t plain_length(const char *text)
{
    size_t n = 0;

    while (text[n] >= ' ' && text[n] <= '~' && !strchr("\"\\&<>", text[n]))
        n++;
    return n;
}

void sw_text_put(FILE *to, const char *text, sw_text_form form)
{
    for (size_t len; *text; text += len ? len : 1) {
        const char *escape = escape_of(*text, form);
        uint32_t code = 0;

        if ((len = plain_length(text)) > 0) {
            fwrite(text, 1, len, to);
            continue;
        }
        len = sw_text_char(text, strnlen(text, 4), &code);
        if (escape)
            fputs(escape, to);
        else if (len && sw_text_harmless(code))
            fwrite(text, 1, len, to);
        else if (len && form == SW_TEXT_JSON)
            fprintf(to, "\\u%04x", (unsigned)code);
        else
            fputc('?', to);
    }
}

void sw_dims_put(FILE *to, const uint64_t *dims, unsigned n)
{
    fputc('[', to);
    for (unsigned i = 0; i < n; i++)
        fprintf(to, "%s%" PRIu64, i ? ", " : "", dims[i]);
    fputc(']', to);
}

void sw_finding_print(FILE *to, const void *finding)
{
    const sw_finding *f = finding;
    bool tensor = f->tensor[0] != '\0';

    fprintf(to, "%s%s%s%s%s", f->file, f->file[0] ? ": " : "", tensor ? "tensor '" : "", f->tensor,
            tensor ? "': " : "");
    sw_phrase_put(to, f->reason);
}

char *sw_clean_copy(const char *name)
{
    char *copy = strdup(name);

    if (copy)
        sw_text_clean(copy, strlen(copy));
    return copy;
}

/* ---- columns --------------------------------------------------------------------------------- */

/* Hangul, CJK with its punctuation, kana, forms of full width, emoji: two columns each. */
static const code_range wide[] = {
    { 0x1100, 0x115f },   { 0x231a, 0x231b },   { 0x23e9, 0x23ec },   { 0x25fd, 0x25fe },
    { 0x2614, 0x2615 },   { 0x2705, 0x2705 },   { 0x274c, 0x274c },   { 0x2753, 0x2757 },
    { 0x2e80, 0x303e },   { 0x3041, 0x33ff },   { 0x3400, 0x4dbf },   { 0x4e00, 0xa4cf },
    { 0xa960, 0xa97f },   { 0xac00, 0xd7a3 },   { 0xf900, 0xfaff },   { 0xfe10, 0xfe19 },
    { 0xfe30, 0xfe6f },   { 0xff00, 0xff60 },   { 0xffe0, 0xffe6 },   { 0x16fe0, 0x18cff },
    { 0x1aff0, 0x1b2ff }, { 0x1f300, 0x1f64f }, { 0x1f680, 0x1f6ff }, { 0x1f900, 0x1faff },
    { 0x20000, 0x3fffd },
};

/* Marks upon the character before them, and joiners. */
static const code_range narrow[] = {
    { 0x300, 0x36f },   { 0x483, 0x489 },   { 0x591, 0x5bd },   { 0x64b, 0x65f },   { 0x200b, 0x200d },
    { 0x20d0, 0x20ff }, { 0xfe00, 0xfe0f }, { 0xfe20, 0xfe2f }, { 0xfeff, 0xfeff },
};

/* Columns of the character at text, and its bytes. */
static size_t one_width(const char *text, size_t *len)
{
    uint32_t value = 0;
    size_t n = sw_text_char(text, strnlen(text, 4), &value);

    *len = n ? n : 1;
    if (value < 0x300)
        return 1;
    return is_in(value, wide, SW_COUNT(wide)) ? 2 : !is_in(value, narrow, SW_COUNT(narrow));
}

/* Columns of so many bytes. */
static size_t width_of(const char *text, size_t bytes)
{
    size_t columns = 0;

    for (size_t at = 0, len; at < bytes; at += len)
        columns += one_width(text + at, &len);
    return columns;
}

size_t sw_text_width(const char *text)
{
    return width_of(text, strlen(text));
}

/* The byte behind as many characters as fit into n columns. */
static char *skip(char *text, size_t n)
{
    size_t len, columns = 0;

    for (; *text; text += len) {
        columns += one_width(text, &len);
        if (columns > n)
            break;
    }
    return text;
}

/* The first place that leaves at most n columns behind it. */
static char *skip_to_last(char *text, size_t n)
{
    size_t len, left = sw_text_width(text);

    for (; *text && left > n; text += len)
        left -= one_width(text, &len);
    /* A mark without its character would stick to the dots. */
    while (*text && one_width(text, &len) == 0)
        text += len;
    return text;
}

void sw_text_shorten(char *text, size_t width, bool end)
{
    size_t head, tail;
    char *cut, *rest;

    if (width < 5 || sw_text_width(text) <= width)
        return;
    head = end ? 0 : (width - 3) / 2;
    tail = width - 3 - head;
    cut = skip(text, head);
    rest = skip_to_last(text, tail);
    /* At least four columns go, so that the dots fit before what stays. */
    if (rest - cut >= 3) {
        memcpy(cut, "...", 3);
        memmove(cut + 3, rest, strlen(rest) + 1);
    }
}

/* ---- numbers --------------------------------------------------------------------------------- */

char *sw_number_text(uint64_t n, char text[SW_NUMBER_TEXT])
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%" PRIu64, n);
    char *to = text;

    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            *to++ = ',';
        *to++ = digits[i];
    }
    *to = '\0';
    return text;
}

char *sw_count_text(uint64_t n, char text[SW_NUMBER_TEXT])
{
    static const char *const units[] = { "", " K", " M", " B", " T", " P", " E" };
    double x = (double)n;
    size_t unit = 0;

    /* 999.95 would be printed as 1000.0 */
    for (; x >= 999.5 && unit + 1 < SW_COUNT(units); unit++)
        x /= 1000;
    if (unit == 0)
        snprintf(text, SW_NUMBER_TEXT, "%" PRIu64, n);
    else
        snprintf(text, SW_NUMBER_TEXT, "%.*f%s", x < 9.995 ? 2 : x < 99.95 ? 1 : 0, x, units[unit]);
    return text;
}

char *sw_rate_text(uint64_t bytes, double seconds, char text[SW_SIZE_TEXT])
{
    double rate = seconds > 0 ? (double)bytes / seconds : 0;

    return sw_size_text(rate < 1e18 ? (uint64_t)rate : 0, text);
}

const char *sw_assign_text(sw_assign assign)
{
    return assign == SW_ASSIGN_OWNER ? "owner" : "band";
}

const char *sw_plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

/* ---- lines ----------------------------------------------------------------------------------- */

void sw_text_wrap(FILE *to, const char *text, const char *first, const char *rest, size_t width)
{
    size_t column = sw_text_width(first), indent = sw_text_width(rest);
    bool begun = false;

    fputs(first, to);
    while (*text) {
        size_t len = strcspn(text, " "), columns = width_of(text, len);

        if (begun && width && column + 1 + columns > width) {
            fprintf(to, "\n%s", rest);
            column = indent;
            begun = false;
        }
        fprintf(to, "%s%.*s", begun ? " " : "", (int)len, text);
        column += columns + begun;
        begun = true;
        text += len;
        text += *text == ' ';
    }
    fputc('\n', to);
}

size_t sw_terminal_columns(int fd)
{
    struct winsize size;

    return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : COLUMNS_UNKNOWN;
}

size_t sw_text_columns(void)
{
    const char *said = getenv("COLUMNS");
    char *end;
    long n = said ? strtol(said, &end, 10) : 0;

    if (n > 0 && *end == '\0' && n <= COLUMNS_MAX)
        return (size_t)n;
    /* A launcher puts a terminal of its own between the ranks and whatever it writes to. */
    if (!isatty(STDOUT_FILENO) || getenv("OMPI_COMM_WORLD_SIZE") || getenv("PMIX_RANK"))
        return 0;
    return sw_terminal_columns(STDOUT_FILENO);
}
