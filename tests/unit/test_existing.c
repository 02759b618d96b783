/* What is already in an output directory, and what stands in the way. */
#include "place_help.h"

#define INDEX "model.safetensors.index.json"

/* keep, want: names with a blank behind each */
TEST_IN_PLACE(existing)
{
    static const struct {
        const char *name, *tree, *keep, *want;
    } cases[] = {
        { "nothing", "config.json shard-00001-model-00001-of-00001.safetensors", NULL, "" },
        { "lone", "model.safetensors x.safetensors", NULL, "model.safetensors " },
        { "files and index", "model-00001-of-00001.safetensors README.md " INDEX "={\"weight_map\":{}}", NULL,
          "model-00001-of-00001.safetensors " INDEX " " },
        { "index names others",
          "odd.bin sub/w.safetensors " INDEX "={\"weight_map\":{\"a\":\"sub/"
          "w.safetensors\",\"b\":\"odd.bin\",\"c\":\"gone\",\"d\":\"odd.bin\"}}",
          NULL, INDEX " sub/w.safetensors " },
        { "index names shards",
          "shard-00001-model-00001-of-00001.safetensors s/shard-x " INDEX
          "={\"weight_map\":{\"a\":\"shard-00001-model-00001-of-00001.safetensors\",\"b\":\"s/shard-x\"}}",
          NULL, INDEX " " },
        { "index leads out", "w.safetensors " INDEX "={\"weight_map\":{\"a\":\"../precious\"}}", NULL,
          INDEX " " },
        { "index leads behind a link", INDEX "={\"weight_map\":{\"a\":\"behind/precious\"}}", NULL,
          INDEX " " },
        { "index is no JSON", "model-00001-of-00001.safetensors " INDEX "={", NULL,
          "model-00001-of-00001.safetensors " INDEX " " },
        { "diffusers",
          "w.safetensors diffusion_pytorch_model.safetensors "
          "diffusion_pytorch_model.safetensors.index.json={\"weight_map\":{\"a\":\"w.safetensors\"}}",
          NULL,
          "diffusion_pytorch_model.safetensors diffusion_pytorch_model.safetensors.index.json "
          "w.safetensors " },
        { "input is spared",
          "w.safetensors model.safetensors " INDEX "={\"weight_map\":{\"a\":\"w.safetensors\"}}",
          "w.safetensors", "model.safetensors " INDEX " " },
        { "the input's index names nothing of ours",
          "w.safetensors " INDEX "={\"weight_map\":{\"a\":\"w.safetensors\"}}", INDEX, "" },
        { "a link", "model.safetensors@../precious", NULL, "model.safetensors " },
        { "a directory", "model.safetensors/x", NULL, "" },
    };

    make_tree(top, "elsewhere/precious precious");
    for (size_t i = 0; i < COUNT(cases); i++) {
        char got[500] = "", *kept[] = { strdup(cases[i].keep ? cases[i].keep : "") };
        sw_dir names;

        remove_all(out_dir);
        make_tree(out_dir, "behind@../elsewhere");
        make_tree(out_dir, cases[i].tree);
        OK(sw_existing_checkpoint(out_dir, NULL, &(sw_dir){ kept, 1, 0 }, &names, st));
        for (size_t k = 0; k < names.n; k++) {
            strncat(got, names.names[k], 200);
            strcat(got, " ");
        }
        sw_dir_release(&names);
        free(kept[0]);
        if (strcmp(got, cases[i].want) != 0)
            fail_msg("%s: found '%s', expected '%s'", cases[i].name, got, cases[i].want);
    }
}

TEST_IN_PLACE(publication_check)
{
    static const struct {
        const char *name, *old;
        sw_code want;
    } cases[] = {
        { "new.safetensors", NULL, SW_OK },
        { "deep/in/new.safetensors", NULL, SW_OK },
        { "dir/new.safetensors", NULL, SW_OK },
        { "config.json", NULL, SW_EUSAGE },
        { "config.json", "config.json", SW_OK },
        { "dir", NULL, SW_EUSAGE },
        { "dir", "dir", SW_EUSAGE },
        { "link", NULL, SW_EUSAGE },
        { "link/new.safetensors", NULL, SW_EUSAGE },
        { "config.json/new.safetensors", NULL, SW_EUSAGE },
    };

    make_tree(out_dir, "config.json={} dir/x link@dir");
    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_status st = SW_STATUS_INIT;
        sw_publication file = { cases[i].name, 1 };
        char *old[1] = { strdup(cases[i].old ? cases[i].old : "") };

        if (sw_change_check(out_dir, &(sw_change){ &file, 1, old, cases[i].old ? 1 : 0, 0 }, &st) !=
            cases[i].want)
            fail_msg("%s: %d: %s", cases[i].name, (int)st.code, st.reason);
        free(old[0]);
    }
}
