/* Messages of the library in the program's words; see phrase.h. */
#include "phrase.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "opts.h"
#include "say.h"
#include "text.h"

/* What begins the name of a member in a message, and where the struct stands in sw_args. Changes of
 * names are a list: there the kinds of its rules are options. */
static const struct {
    const char *text;
    size_t at;
} structs[] = { { "sw_options.", offsetof(sw_args, opt) }, { "sw_sharding.", offsetof(sw_args, sharding) } };

static const struct {
    const char *text;
    int kind;
} kinds[] = { { "SW_NAME_STRIP", SW_OPT_STRIP }, { "SW_NAME_RENAME", SW_OPT_RENAME } };

/* A member of sw_sharding: the library has no table of these three. */
static const struct {
    const char *name;
    size_t at;
} sharding[] = {
    { "mesh", offsetof(sw_sharding, mesh) },
    { "placements", offsetof(sw_sharding, placements) },
    { "rules", offsetof(sw_sharding, rules) },
};

/* Is a name, which ends at its first character that no name has, this word? */
static bool is_word(const char *name, size_t n, const char *word)
{
    return strlen(word) == n && memcmp(name, word, n) == 0;
}

/* Where in its struct a member stands. */
static bool find_member(size_t which, const char *name, size_t n, size_t *at)
{
    const sw_option *o;

    for (size_t i = 0; which == 0 && (o = sw_option_at(i)); i++) {
        *at = o->at;
        if (is_word(name, n, o->name))
            return true;
    }
    for (size_t i = 0; which == 1 && i < SW_COUNT(sharding); i++) {
        *at = sharding[i].at;
        if (is_word(name, n, sharding[i].name))
            return true;
    }
    return false;
}

/* The first option of any command that fills in what stands at this place, or (kind) that is of
 * this kind. NULL = there is none. What says a default aloud is not meant. */
static const char *find_option(size_t at, int kind)
{
    sw_opt row;

    for (const sw_command *c = sw_commands; c->name; c++)
        for (size_t i = 0; sw_opt_get(c, i, &row); i++)
            if (kind ? row.kind == kind : row.at == at && row.kind != SW_OPT_CLEAR)
                return row.name;
    return NULL;
}

/* Write the option for what a message names here. Returns how many bytes of the message that was;
 * 0: it names none. */
static size_t put_option(FILE *to, const char *text)
{
    for (size_t i = 0; i < SW_COUNT(structs); i++) {
        size_t head = strlen(structs[i].text), n, at;
        const char *option = NULL;

        if (strncmp(text, structs[i].text, head) != 0)
            continue;
        n = strspn(text + head, "abcdefghijklmnopqrstuvwxyz_");
        if (n && find_member(i, text + head, n, &at))
            option = find_option(structs[i].at + at, 0);
        if (option)
            fprintf(to, "--%s", option);
        else
            fwrite(text + head, 1, n, to);
        return head + n;
    }
    for (size_t i = 0; i < SW_COUNT(kinds); i++) {
        if (strncmp(text, kinds[i].text, strlen(kinds[i].text)) != 0)
            continue;
        fprintf(to, "--%s", find_option(0, kinds[i].kind));
        return strlen(kinds[i].text);
    }
    return 0;
}

void sw_phrase_put(FILE *to, const void *text)
{
    size_t n;

    for (const char *at = text; *at; at += n)
        if (!(n = put_option(to, at)) && (n = 1))
            fputc(*at, to);
}

char *sw_phrase_text(const char *text)
{
    sw_status ignored = SW_STATUS_INIT;
    char *phrase = sw_print_text(sw_phrase_put, text, NULL, &ignored);

    return phrase ? phrase : strdup(text);
}

void sw_phrase_status(sw_status *st)
{
    char *phrase = sw_phrase_text(st->reason);

    if (phrase)
        snprintf(st->reason, sizeof st->reason, "%s", phrase);
    free(phrase);
}
