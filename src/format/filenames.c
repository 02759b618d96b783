/* File names of checkpoints; see filenames.h. Names are matched as bytes: no locale, no patterns
 * library. */
#include "format/filenames.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/num.h"

#define WEIGHTS_SUFFIX ".safetensors"
#define MIN_DIGITS 5

/* The two stems that consolidated files may have. */
static const char *const stems[] = { "model", "diffusion_pytorch_model" };
#define NSTEMS (sizeof stems / sizeof stems[0])

/* Take word from the front of *at. */
static bool take_word(const char **at, const char *word)
{
    size_t n = strlen(word);

    if (strncmp(*at, word, n) != 0)
        return false;
    *at += n;
    return true;
}

/* number = 5*DIGIT, from 1 on */
static bool take_number(const char **at, uint64_t *number)
{
    const char *begin = *at;

    return sw_take_decimal(at, number) && *at - begin >= MIN_DIGITS && *number > 0;
}

/* tail = "-" number "-of-" number ".safetensors" */
static bool take_tail(const char *at, sw_shard_name *out)
{
    return take_word(&at, "-") && take_number(&at, &out->model) && take_word(&at, "-of-") &&
           take_number(&at, &out->of) && strcmp(at, WEIGHTS_SUFFIX) == 0 && out->model <= out->of;
}

bool sw_shard_name_parse(const char *name, sw_shard_name *out)
{
    sw_shard_name n = { 0, 0, 0 };
    bool is = take_word(&name, "shard-") && take_number(&name, &n.shard) && take_word(&name, "-model") &&
              take_tail(name, &n);

    if (out)
        *out = is ? n : (sw_shard_name){ 0, 0, 0 };
    return is;
}

char *sw_shard_name_text(const sw_shard_name *n, char text[SW_SHARD_NAME_SIZE])
{
    snprintf(text, SW_SHARD_NAME_SIZE, "shard-%05" PRIu64 "-model-%05" PRIu64 "-of-%05" PRIu64 WEIGHTS_SUFFIX,
             n->shard, n->model, n->of);
    return text;
}

bool sw_model_name_parse(const char *name, sw_shard_name *out)
{
    sw_shard_name n = { 0, 0, 0 };
    bool is = false;

    for (size_t i = 0; i < NSTEMS && !is; i++) {
        const char *at = name;

        is = take_word(&at, stems[i]) && take_tail(at, &n);
    }
    if (out)
        *out = is ? n : (sw_shard_name){ 0, 0, 0 };
    return is;
}

/* Letters in any case, and a number of any length. */
static bool take_any(const char **at, const char *word, uint64_t *number)
{
    size_t n = strlen(word);

    if (strncasecmp(*at, word, n) != 0)
        return false;
    *at += n;
    return sw_take_decimal(at, number);
}

/* The first "shard-" in a name, in any case. */
static const char *find_shard(const char *name)
{
    for (; *name; name++)
        if (strncasecmp(name, "shard-", strlen("shard-")) == 0)
            return name;
    return NULL;
}

sw_name_look sw_name_judge(const char *name, sw_shard_name *out)
{
    sw_shard_name n = { 0, 0, 0 };
    const char *at = find_shard(name);

    *out = n;
    if (name[0] == '.')
        return SW_LOOKS_OTHER;
    if (sw_shard_name_parse(name, out))
        return SW_LOOKS_SHARD;
    if (sw_name_is_weights(name))
        return at ? SW_LOOKS_ALMOST : sw_name_is_consolidated(name) ? SW_LOOKS_OTHER : SW_LOOKS_STRAY;
    if (!at || !take_any(&at, "shard-", &n.shard) || !take_any(&at, "-model-", &n.model) ||
        !take_any(&at, "-of-", &n.of))
        return SW_LOOKS_OTHER;
    *out = n;
    return SW_LOOKS_LEFTOVER;
}

bool sw_name_is_copy(const char *name)
{
    static const char *const ends[] = { ".tmp",        ".temp",     ".part", ".partial", ".incomplete",
                                        ".crdownload", ".download", ".bak",  ".old",     ".orig",
                                        "~",           ".swp",      ".1" };

    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (sw_name_ends_with(name, ends[i]))
            return true;
    return false;
}

bool sw_name_is_weights(const char *name)
{
    size_t n = strlen(name), m = strlen(WEIGHTS_SUFFIX);

    return n > m && strcasecmp(name + n - m, WEIGHTS_SUFFIX) == 0;
}

/* stem.safetensors or stem-*-of-*.safetensors, where a star is any text, digits or not: what
 * --overwrite may remove is a promise about names, not about numbers. */
static bool is_weights_of(const char *name, const char *stem)
{
    const char *of;

    if (!take_word(&name, stem))
        return false;
    if (strcmp(name, WEIGHTS_SUFFIX) == 0)
        return true;
    if (!take_word(&name, "-"))
        return false;
    of = strstr(name, "-of-");
    return of && sw_name_ends_with(of + strlen("-of-"), WEIGHTS_SUFFIX);
}

bool sw_name_is_consolidated(const char *name)
{
    if (strchr(name, '/'))
        return false;
    for (size_t i = 0; i < NSTEMS; i++)
        if (is_weights_of(name, stems[i]))
            return true;
    return strcmp(name, SW_INDEX_NAME) == 0 || strcmp(name, SW_DIFFUSERS_INDEX_NAME) == 0;
}

bool sw_name_is_lone(const char *name)
{
    for (size_t i = 0; i < NSTEMS; i++) {
        const char *at = name;

        if (take_word(&at, stems[i]) && strcmp(at, WEIGHTS_SUFFIX) == 0)
            return true;
    }
    return false;
}

bool sw_name_ends_with(const char *name, const char *suffix)
{
    size_t n = strlen(name), m = strlen(suffix);

    return n >= m && strcmp(name + n - m, suffix) == 0;
}

bool sw_name_is_index(const char *name)
{
    return strstr(name, ".index.") && sw_name_ends_with(name, ".json");
}
