/* Messages of the library in the program's words: every member that has an option, and nothing
 * else. */
#include "cmd/opts.h"
#include "cmd/phrase.h"
#include "cmd/say.h"
#include "unit.h"

/* Free it. */
static char *phrase(const char *text)
{
    sw_status st = SW_STATUS_INIT;
    char *said = sw_print_text(sw_phrase_put, text, NULL, &st);

    assert_non_null(said);
    return said;
}

TEST(words)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        { "", "" },
        { "out: holds it already; sw_options.overwrite replaces it",
          "out: holds it already; --overwrite replaces it" },
        { "sw_options.boxes_anywhere goes with sw_options.boxes alone",
          "--boxes-anywhere goes with --boxes alone" },
        { "(sw_options.no_config_check: config.json is not asked)",
          "(--no-config-check: config.json is not asked)" },
        { "sw_options.no_sync", "--no-sync" },
        { "sw_options.hints.", "--hint." },
        { "sw_sharding.rules 'a=b', sw_sharding.mesh or sw_sharding.placements",
          "--rule 'a=b', --mesh or --placements" },
        { "SW_NAME_STRIP module. takes it off, SW_NAME_RENAME does not",
          "--strip-prefix module. takes it off, --rename does not" },
        /* what has no option keeps its name; what is no member stays as it is */
        { "sw_options.fqn_map_text and sw_options.nothing", "fqn_map_text and nothing" },
        { "sw_options sw_optionsoverwrite sw_read.ndim overwrite SW_NAME",
          "sw_options sw_optionsoverwrite sw_read.ndim overwrite SW_NAME" },
        { "sw_options.", "" },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *said = phrase(cases[i].text);

        assert_string_equal(said, cases[i].want);
        free(said);
    }
}

/* What a status says may grow; its end is cut where there is no room. */
TEST(status)
{
    sw_status st = { .code = SW_EUSAGE };
    size_t room = sizeof st.reason - 1;

    strcpy(st.reason, "sw_options.like is missing");
    sw_phrase_status(&st);
    assert_string_equal(st.reason, "--like is missing");
    memset(st.reason, 'x', room);
    memcpy(st.reason, "SW_NAME_STRIP", 13);
    sw_phrase_status(&st);
    assert_int_equal(strlen(st.reason), room);
    assert_memory_equal(st.reason, "--strip-prefixxx", 16);
}

/* A message does not know which command it is for: an option has one name in all of them. The list
 * of boxes has two, since inspect prints one. */
TEST(one_name)
{
    sw_opt row, other;

    for (const sw_command *c = sw_commands; c->name; c++)
        for (size_t i = 0; sw_opt_get(c, i, &row); i++)
            for (const sw_command *d = sw_commands; d->name; d++)
                for (size_t k = 0; sw_opt_get(d, k, &other); k++)
                    if (row.at == other.at && row.kind == other.kind && row.kind < SW_OPT_HELP &&
                        row.at < offsetof(sw_args, input) && row.at != offsetof(sw_args, opt.boxes))
                        assert_string_equal(row.name, other.name);
}
