/* The table of options: what ranks compare, what is given, what a call refuses; by member. */
#include "api/options.h"
#include "unit.h"

static const char *const list[] = { "a=b", NULL };
static const sw_name_rule rules[] = { { SW_NAME_STRIP, "a", "" } };

/* Give a member a value that is none of its default. */
static void give(sw_options *o, const sw_option *row)
{
    void *to = (char *)o + row->at;
    const char *text = row->kind == SW_OPTION_CAST ? "bf16" : "64";
    const char *const *some = list;
    uint64_t number = 4096;
    sw_assign choice = SW_ASSIGN_OWNER;

    switch (row->kind) {
    case SW_OPTION_FLAG:
        *(bool *)to = true;
        break;
    case SW_OPTION_TEXT:
    case SW_OPTION_CAST:
    case SW_OPTION_PATH:
        memcpy(to, &text, sizeof text);
        break;
    case SW_OPTION_SIZE:
    case SW_OPTION_COUNT:
        memcpy(to, &number, sizeof number);
        break;
    case SW_OPTION_LIST:
    case SW_OPTION_PAIRS:
        memcpy(to, &some, sizeof some);
        break;
    case SW_OPTION_CHOICE:
        memcpy(to, &choice, sizeof choice);
        break;
    case SW_OPTION_RULES:
        o->name_rules = rules;
        o->nname_rules = 1;
        break;
    case SW_OPTION_NRULES:
    case SW_OPTION_OWN:
        break;
    }
}

/* Whatever an option is, ranks that do not agree on it find out. */
TEST(each_is_compared)
{
    const sw_options none = SW_OPTIONS_INIT;
    uint64_t hashes[64] = { sw_options_hash(0, &none) };
    size_t n = 1;

    for (size_t i = 0; sw_option_at(i); i++) {
        sw_options o = SW_OPTIONS_INIT;

        give(&o, sw_option_at(i));
        if (memcmp(&o, &none, sizeof o) == 0)
            continue;
        hashes[n] = sw_options_hash(0, &o);
        for (size_t k = 0; k < n; k++)
            if (hashes[k] == hashes[n])
                fail_msg("%s makes no difference", sw_option_at(i)->name);
        n++;
    }
    assert_true(n > 20);
}

/* What is the caller's own may differ. */
TEST(callers_own)
{
    const sw_options none = SW_OPTIONS_INIT;
    sw_options o = SW_OPTIONS_INIT;
    int cancel = 0;

    o.cancel = &cancel;
    o.user = &cancel;
    assert_int_equal(sw_options_hash(0, &o), sw_options_hash(0, &none));
}

/* The names of the members that a call refuses when they are given alone. */
TEST(refused)
{
    static const struct {
        sw_call call;
        const char *members, *says;
    } cases[] = {
        { SW_CALL_CONSOLIDATE, "", "" },
        { SW_CALL_VERIFY, "", "" },
        { SW_CALL_DIFF,
          " fqn_map fqn_map_text like max_shard_size single_file diffusers diffusers_index expect_shards "
          "node_local boxes boxes_anywhere if_needed",
          "does not go with two checkpoints of any kind" },
        { SW_CALL_RESHARD, " diffusers diffusers_index dtype_map_text assets verify",
          "does not go with shard files" },
        { SW_CALL_SAVE, " expect_shards node_local boxes boxes_anywhere verify if_needed",
          "speaks of shard files" },
        { SW_CALL_SAVE_SHARDS,
          " like max_shard_size single_file diffusers diffusers_index include exclude name_rules cast_dtype "
          "dequantize dtype_map_text expect_shards node_local boxes boxes_anywhere assets verify if_needed",
          "does not go with shard files that are saved from memory" },
    };
    const sw_comm alone = sw_comm_self();

    for (size_t c = 0; c < COUNT(cases); c++) {
        char refused[512] = "";

        for (size_t i = 0; sw_option_at(i); i++) {
            sw_options o = SW_OPTIONS_INIT;
            sw_status st = SW_STATUS_INIT;
            char member[64];

            give(&o, sw_option_at(i));
            o.like = o.like ? "a.index.json" : NULL;
            /* It says more of another one, without which it is refused. */
            if (o.boxes_anywhere && !strstr(cases[c].members, "boxes_anywhere"))
                continue;
            if (sw_options_check(&o, cases[c].call, &alone, &st) == SW_OK)
                continue;
            assert_int_equal(st.code, SW_EUSAGE);
            /* a library that is not on this machine, as on one that is not its own */
            if (strstr(st.reason, "cannot be loaded"))
                continue;
            assert_non_null(strstr(st.reason, cases[c].says));
            snprintf(member, sizeof member, "sw_options.%s ", sw_option_at(i)->name);
            assert_true(strncmp(st.reason, member, strlen(member)) == 0);
            strcat(strcat(refused, " "), sw_option_at(i)->name);
        }
        assert_string_equal(refused, cases[c].members);
    }
}

TEST(given)
{
    static const struct {
        sw_options o;
        unsigned changes;
    } cases[] = {
        { { .like = "x" }, SW_CHANGES_LAYOUT },
        { { .single_file = true }, SW_CHANGES_LAYOUT },
        { { .diffusers = true }, SW_CHANGES_STYLE },
        { { .include = list }, SW_CHANGES_NAMES },
        { { .include = list + 1 }, 0 },
        { { .nname_rules = 1, .name_rules = rules }, SW_CHANGES_NAMES },
        { { .cast_dtype = "none" }, 0 },
        { { .cast_dtype = "bf16" }, SW_CHANGES_VALUES },
        { { .block_size = "64" }, SW_CHANGES_OTHER },
        { { .verify = true }, SW_CHANGES_OTHER },
        { { .user = (void *)1 }, 0 },
    };

    for (size_t i = 0; i < COUNT(cases); i++)
        for (unsigned bit = 1; bit <= SW_CHANGES_OTHER; bit *= 2)
            assert_int_equal(sw_options_given(&cases[i].o, bit) > 0, cases[i].changes == bit);
}
