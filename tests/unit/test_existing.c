/* What is already in an output directory, and what stands in the way. */
#include "place_help.h"

#define INDEX "model.safetensors.index.json"

TEST_IN_TOP(existing)
{
    static const struct {
        const char *name;
        const char *files[6]; /* NAME or NAME=TEXT */
        const char *keep;
        const char *want; /* names with a space behind each */
    } cases[] = {
        { "nothing", { "config.json", "shard-00001-model-00001-of-00001.safetensors" }, NULL, "" },
        { "lone", { "model.safetensors", "x.safetensors" }, NULL, "model.safetensors " },
        { "files and index",
          { "model-00001-of-00001.safetensors", INDEX "={\"weight_map\":{}}", "README.md" },
          NULL,
          "model-00001-of-00001.safetensors " INDEX " " },
        { "index names others",
          { INDEX "={\"weight_map\":{\"a\":\"sub/"
                  "w.safetensors\",\"b\":\"odd.bin\",\"c\":\"gone\",\"d\":\"odd.bin\"}}",
            "odd.bin", "sub/w.safetensors" },
          NULL,
          INDEX " sub/w.safetensors " },
        { "index names shards",
          { INDEX
            "={\"weight_map\":{\"a\":\"shard-00001-model-00001-of-00001.safetensors\",\"b\":\"s/shard-x\"}}",
            "shard-00001-model-00001-of-00001.safetensors", "s/shard-x" },
          NULL,
          INDEX " " },
        { "index leads out",
          { INDEX "={\"weight_map\":{\"a\":\"../precious\"}}", "w.safetensors" },
          NULL,
          INDEX " " },
        { "index leads behind a link",
          { INDEX "={\"weight_map\":{\"a\":\"behind/precious\"}}" },
          NULL,
          INDEX " " },
        { "index is no JSON",
          { INDEX "={", "model-00001-of-00001.safetensors" },
          NULL,
          "model-00001-of-00001.safetensors " INDEX " " },
        { "diffusers",
          { "diffusion_pytorch_model.safetensors.index.json={\"weight_map\":{\"a\":\"w.safetensors\"}}",
            "w.safetensors", "diffusion_pytorch_model.safetensors" },
          NULL,
          "diffusion_pytorch_model.safetensors diffusion_pytorch_model.safetensors.index.json "
          "w.safetensors " },
        { "input is spared",
          { INDEX "={\"weight_map\":{\"a\":\"w.safetensors\"}}", "w.safetensors", "model.safetensors" },
          "w.safetensors",
          "model.safetensors " INDEX " " },
        { "the input's index names nothing of ours",
          { INDEX "={\"weight_map\":{\"a\":\"w.safetensors\"}}", "w.safetensors" },
          INDEX,
          "" },
        { "a link", { "@model.safetensors" }, NULL, "model.safetensors " },
        { "a directory", { "model.safetensors/x" }, NULL, "" },
    };

    put(path_at(top, "elsewhere/precious"), "");
    put(path_at(top, "precious"), "");
    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_status st = SW_STATUS_INIT;
        char got[500] = "", *kept[] = { strdup(cases[i].keep ? cases[i].keep : "") };
        sw_dir names;

        remove_all(out_dir);
        assert_int_equal(mkdir(out_dir, 0777), 0);
        assert_int_equal(symlink("../elsewhere", path_at(out_dir, "behind")), 0);
        for (int k = 0; k < 6 && cases[i].files[k]; k++) {
            char name[300];
            const char *text = strchr(cases[i].files[k], '=');

            snprintf(name, sizeof name, "%.*s", (int)strcspn(cases[i].files[k], "="), cases[i].files[k]);
            if (name[0] == '@')
                assert_int_equal(symlink("../precious", path_at(out_dir, name + 1)), 0);
            else
                put(path_at(out_dir, name), text ? text + 1 : "");
        }
        assert_int_equal(sw_existing_checkpoint(out_dir, NULL, &(sw_dir){ kept, 1, 0 }, &names, &st), SW_OK);
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

TEST_IN_TOP(publication_check)
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

    put(path_at(out_dir, "config.json"), "{}");
    put(path_at(out_dir, "dir/x"), "");
    assert_int_equal(symlink("dir", path_at(out_dir, "link")), 0);
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
