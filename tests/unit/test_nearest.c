/* The name that somebody may have meant. */
#include "base/status.h"
#include "unit.h"

TEST(nearest)
{
    static const char *const commands[] = { "consolidate", "verify", "inspect", "reshard" };
    static const char *const names[] = { "lm_head.weight", "model.embed_tokens.weight",
                                         "model.layers.0.mlp.up_proj.weight",
                                         "model.layers.1.mlp.up_proj.weight", "model.norm.weight" };
    static const struct {
        const char *const *names;
        size_t n;
        const char *text, *want; /* NULL = none is near */
    } cases[] = {
        { commands, 4, "consolidates", "consolidate" },
        { commands, 4, "conslidate", "consolidate" },
        { commands, 4, "verfiy", "verify" }, /* changed over: one, where it would be two */
        { commands, 4, "Inspect", "inspect" },
        { commands, 4, "inspcet", "inspect" },
        { commands, 4, "re-shard", "reshard" },
        { commands, 4, "weld", NULL },
        { commands, 4, "merge", NULL },
        { commands, 4, "", NULL },
        { commands, 4, "v", NULL },
        { commands, 0, "verify", NULL },
        { names, 5, "model.layers.1.mlp.up_pro.weight", "model.layers.1.mlp.up_proj.weight" },
        { names, 5, "layers.1.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight" },
        { names, 5, "model.lm_head.weight", "lm_head.weight" },
        { names, 5, "model.layer.*.weight", "model.layers.0.mlp.up_proj.weight" },
        { names, 5, "model.embd*", "model.embed_tokens.weight" },
        { names, 5, "model.layers.?.mlp.upproj.weight", "model.layers.0.mlp.up_proj.weight" },
        { names, 5, "optimizer.state.step", NULL },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *got = sw_text_nearest(cases[i].text, cases[i].names, cases[i].n);

        if (got != cases[i].want && (!got || !cases[i].want || strcmp(got, cases[i].want) != 0))
            fail_msg("%s: %s", cases[i].text, got ? got : "none");
    }
}

/* What is longer than any name that a person writes is near to nothing, and is not looked at. */
TEST(long_names)
{
    char text[600], other[600];
    const char *const names[] = { other };

    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    memcpy(other, text, sizeof other);
    assert_null(sw_text_nearest(text, names, 1));
    text[255] = other[255] = '\0';
    assert_ptr_equal(sw_text_nearest(text, names, 1), other);
    text[254] = '\0';
    assert_ptr_equal(sw_text_nearest(text, names, 1), other);
}
