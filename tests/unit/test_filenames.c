/* File names of checkpoints: which are whose. */
#include "format/filenames.h"
#include "unit.h"

static const struct {
    const char *name;
    bool ok;
    sw_shard_name want;
} shards[] = {
    { "shard-00001-model-00001-of-00001.safetensors", true, { 1, 1, 1 } },
    { "shard-00002-model-00001-of-00003.safetensors", true, { 2, 1, 3 } },
    { "shard-99999-model-00012-of-00012.safetensors", true, { 99999, 12, 12 } },
    { "shard-100000-model-00001-of-123456.safetensors", true, { 100000, 1, 123456 } },
    { "shard-18446744073709551615-model-00001-of-00001.safetensors", true, { UINT64_MAX, 1, 1 } },
    { "shard-18446744073709551616-model-00001-of-00001.safetensors", false, { 0, 0, 0 } },
    { "shard-0001-model-00001-of-00001.safetensors", false, { 0, 0, 0 } },
    { "shard-00000-model-00001-of-00001.safetensors", false, { 0, 0, 0 } },
    { "shard-00001-model-00000-of-00001.safetensors", false, { 0, 0, 0 } },
    { "shard-00001-model-00002-of-00001.safetensors", false, { 0, 0, 0 } },
    { "shard-00001-model-00001-of-00001.safetensors.tmp", false, { 0, 0, 0 } },
    { "shard-00001-model-00001-of-00001.bin", false, { 0, 0, 0 } },
    { "shard-00001-model-00001-of-00001", false, { 0, 0, 0 } },
    { "shard-00001-model-00001-of-.safetensors", false, { 0, 0, 0 } },
    { "shard--00001-model-00001-of-00001.safetensors", false, { 0, 0, 0 } },
    { "shard-+0001-model-00001-of-00001.safetensors", false, { 0, 0, 0 } },
    { "Shard-00001-model-00001-of-00001.safetensors", false, { 0, 0, 0 } },
    { " shard-00001-model-00001-of-00001.safetensors", false, { 0, 0, 0 } },
    { "shard-00001-diffusion_pytorch_model-00001-of-00001.safetensors", false, { 0, 0, 0 } },
    { "model-00001-of-00001.safetensors", false, { 0, 0, 0 } },
    { "", false, { 0, 0, 0 } },
};

static const struct {
    const char *name;
    bool ok;
    sw_shard_name want;
} models[] = {
    { "model-00001-of-00001.safetensors", true, { 0, 1, 1 } },
    { "model-00163-of-00163.safetensors", true, { 0, 163, 163 } },
    { "diffusion_pytorch_model-00001-of-00003.safetensors", true, { 0, 1, 3 } },
    { "model-000002-of-000003.safetensors", true, { 0, 2, 3 } },
    { "model.safetensors", false, { 0, 0, 0 } },
    { "model-1-of-2.safetensors", false, { 0, 0, 0 } },
    { "model-00002-of-00001.safetensors", false, { 0, 0, 0 } },
    { "model-00001-of-00001.safetensors.index.json", false, { 0, 0, 0 } },
    { "pytorch_model-00001-of-00001.safetensors", false, { 0, 0, 0 } },
    { "diffusion_pytorch_model.safetensors", false, { 0, 0, 0 } },
    { "model", false, { 0, 0, 0 } },
};

static const struct {
    const char *name;
    bool want;
} consolidated[] = {
    { "model.safetensors", true },
    { "diffusion_pytorch_model.safetensors", true },
    { "model-00001-of-00002.safetensors", true },
    { "model-a-of-b.safetensors", true },
    { "model--of-.safetensors", true },
    { "model-x-of-y-of-z.safetensors", true },
    { "diffusion_pytorch_model-00001-of-00002.safetensors", true },
    { "model.safetensors.index.json", true },
    { "diffusion_pytorch_model.safetensors.index.json", true },
    { "model-00001.safetensors", false },
    { "model-of-.safetensors", false },
    { "model-1-of.safetensors", false },
    { "model_x.safetensors", false },
    { "models.safetensors", false },
    { "model-00001-of-00002.bin", false },
    { "model.safetensors.bak", false },
    { "pytorch_model.bin", false },
    { "adapter_model.safetensors", false },
    { "shard-00001-model-00001-of-00001.safetensors", false },
    { "model-/-of-.safetensors", false },
    { "a/model.safetensors", false },
    { "index.json", false },
    { "", false },
};

static const struct {
    const char *name;
    sw_name_look look;
    sw_shard_name number; /* of SHARD and LEFTOVER */
    bool copy;
} looks[] = {
    { "shard-00002-model-00001-of-00003.safetensors", SW_LOOKS_SHARD, { 2, 1, 3 }, false },
    { "shard-00000-model-00001-of-00001.safetensors", SW_LOOKS_ALMOST, { 0, 0, 0 }, false },
    { "shard-2-model-1-of-1.safetensors", SW_LOOKS_ALMOST, { 0, 0, 0 }, false },
    { "shard-00001-model-00002-of-00001.safetensors", SW_LOOKS_ALMOST, { 0, 0, 0 }, false },
    { "shard-00001-model-00001-of-00001 (1).safetensors", SW_LOOKS_ALMOST, { 0, 0, 0 }, false },
    { "copy of shard-00001-model-00001-of-00001.safetensors", SW_LOOKS_ALMOST, { 0, 0, 0 }, false },
    { "SHARD-00001-MODEL-00001-OF-00001.SAFETENSORS", SW_LOOKS_ALMOST, { 0, 0, 0 }, false },
    { "shard-x.safetensors", SW_LOOKS_ALMOST, { 0, 0, 0 }, false },
    { "shard-00002-model-00001-of-00003.safetensors.tmp", SW_LOOKS_LEFTOVER, { 2, 1, 3 }, true },
    { "shard-00002-model-00001-of-00003.safetensors.part", SW_LOOKS_LEFTOVER, { 2, 1, 3 }, true },
    { "shard-00002-model-00001-of-00003.safetensors~", SW_LOOKS_LEFTOVER, { 2, 1, 3 }, true },
    { "shard-00002-model-00001-of-00003.safetensors.sha256", SW_LOOKS_LEFTOVER, { 2, 1, 3 }, false },
    { "shard-00002-model-00001-of-00003", SW_LOOKS_LEFTOVER, { 2, 1, 3 }, false },
    { "old Shard-2-Model-1-Of-3.bak", SW_LOOKS_LEFTOVER, { 2, 1, 3 }, true },
    { ".shard-00002-model-00001-of-00003.safetensors.Xa3f", SW_LOOKS_OTHER, { 0, 0, 0 }, false },
    { "shard-18446744073709551616-model-00001-of-00001.part", SW_LOOKS_OTHER, { 0, 0, 0 }, true },
    { "shards.txt", SW_LOOKS_OTHER, { 0, 0, 0 }, false },
    { "shard-00002-model.log", SW_LOOKS_OTHER, { 0, 0, 0 }, false },
    { "model.safetensors", SW_LOOKS_OTHER, { 0, 0, 0 }, false },
    { "model-00001-of-00002.safetensors", SW_LOOKS_OTHER, { 0, 0, 0 }, false },
    { "diffusion_pytorch_model.safetensors", SW_LOOKS_OTHER, { 0, 0, 0 }, false },
    { "model.safetensors.index.json", SW_LOOKS_OTHER, { 0, 0, 0 }, false },
    { ".safetensors", SW_LOOKS_OTHER, { 0, 0, 0 }, false },
    { "rank3.safetensors", SW_LOOKS_STRAY, { 0, 0, 0 }, false },
    { "MODEL.SafeTensors", SW_LOOKS_STRAY, { 0, 0, 0 }, false },
    { "", SW_LOOKS_OTHER, { 0, 0, 0 }, false },
};

static void assert_same(sw_shard_name got, sw_shard_name want)
{
    assert_int_equal(got.shard, want.shard);
    assert_int_equal(got.model, want.model);
    assert_int_equal(got.of, want.of);
}

TEST(shards)
{
    for (size_t i = 0; i < COUNT(shards); i++) {
        sw_shard_name got = { 7, 7, 7 };
        bool ok = sw_shard_name_parse(shards[i].name, &got);

        print_message("%s\n", shards[i].name);
        assert_int_equal(ok, shards[i].ok);
        assert_same(got, shards[i].want);
    }
}

TEST(looks)
{
    for (size_t i = 0; i < COUNT(looks); i++) {
        sw_shard_name got = { 7, 7, 7 };

        print_message("%s\n", looks[i].name);
        assert_int_equal(sw_name_judge(looks[i].name, &got), looks[i].look);
        assert_same(got, looks[i].number);
        assert_int_equal(sw_name_is_copy(looks[i].name), looks[i].copy);
    }
}

TEST(models)
{
    for (size_t i = 0; i < COUNT(models); i++) {
        sw_shard_name got = { 7, 7, 7 };
        bool ok = sw_model_name_parse(models[i].name, &got);

        print_message("%s\n", models[i].name);
        assert_int_equal(ok, models[i].ok);
        assert_same(got, models[i].want);
    }
}

TEST(consolidated)
{
    for (size_t i = 0; i < COUNT(consolidated); i++) {
        print_message("%s\n", consolidated[i].name);
        assert_int_equal(sw_name_is_consolidated(consolidated[i].name), consolidated[i].want);
    }
}

TEST(lone)
{
    static const char *const others[] = { "model-00001-of-00001.safetensors",
                                          "model-a-of-b.safetensors",
                                          "model.safetensors.index.json",
                                          "a/model.safetensors",
                                          "model",
                                          "" };

    assert_true(sw_name_is_lone("model.safetensors"));
    assert_true(sw_name_is_lone("diffusion_pytorch_model.safetensors"));
    for (size_t i = 0; i < COUNT(others); i++)
        assert_false(sw_name_is_lone(others[i]));
}

TEST(ends_with)
{
    assert_true(sw_name_ends_with("a.b", ".b"));
    assert_true(sw_name_ends_with(".b", ".b"));
    assert_true(sw_name_ends_with("a", ""));
    assert_false(sw_name_ends_with("b", ".b"));
    assert_false(sw_name_ends_with("a.b ", ".b"));
}
