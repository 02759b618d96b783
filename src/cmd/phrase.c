/* Messages of the library in the program's words; see phrase.h. */
#include "phrase.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "opts.h"
#include "say.h"
#include "text.h"

/* What begins the name of a member in a message, and that of the struct in sw_args. Changes of
 * names are a list: there the kinds of its rules are options. */
static const struct {
    const char *text, *member;
} structs[] = { { "sw_options.", "opt." }, { "sw_sharding.", "sharding." } };

static const struct {
    const char *text;
    int kind;
} kinds[] = { { "SW_NAME_STRIP", SW_OPT_STRIP }, { "SW_NAME_RENAME", SW_OPT_RENAME } };

/* The first option of any command that fills in a member, or (member NULL) that is of this kind.
 * NULL = there is none. What says a default aloud is not meant. */
static const char *find_option(const char *member, int kind)
{
    sw_opt row;

    for (const sw_command *c = sw_commands; c->name; c++)
        for (size_t i = 0; sw_opt_get(c, i, &row); i++)
            if (member ? strcmp(row.fills, member) == 0 && row.kind != SW_OPT_CLEAR : row.kind == kind)
                return row.name;
    return NULL;
}

/* Write the option for what a message names here. Returns how many bytes of the message that was;
 * 0: it names none. */
static size_t put_option(FILE *to, const char *text)
{
    for (size_t i = 0; i < SW_COUNT(structs); i++) {
        size_t head = strlen(structs[i].text), n;
        const char *option;
        char member[64];

        if (strncmp(text, structs[i].text, head) != 0)
            continue;
        n = strspn(text + head, "abcdefghijklmnopqrstuvwxyz_");
        snprintf(member, sizeof member, "%s%.*s", structs[i].member, (int)n, text + head);
        option = find_option(member, 0);
        if (option)
            fprintf(to, "--%s", option);
        else
            fwrite(text + head, 1, n, to);
        return head + n;
    }
    for (size_t i = 0; i < SW_COUNT(kinds); i++) {
        if (strncmp(text, kinds[i].text, strlen(kinds[i].text)) != 0)
            continue;
        fprintf(to, "--%s", find_option(NULL, kinds[i].kind));
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
