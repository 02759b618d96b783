/* File names of checkpoints: which are whose. */
#include "format/filenames.h"
#include "unit.h"

enum {
    NUMBERED = 1, /* sw_model_name_parse() takes it */
    OURS = 2,     /* a consolidated checkpoint's */
    LONE = 4,
    COPY = 8
};

/* The number is that of a SHARD, a LEFTOVER or of what is NUMBERED. */
static const struct {
    const char *name;
    sw_name_look look;
    sw_shard_name number;
    unsigned is;
} cases[] = {
    { "shard-00001-model-00001-of-00001.safetensors", SW_LOOKS_SHARD, { 1, 1, 1 }, 0 },
    { "shard-00002-model-00001-of-00003.safetensors", SW_LOOKS_SHARD, { 2, 1, 3 }, 0 },
    { "shard-99999-model-00012-of-00012.safetensors", SW_LOOKS_SHARD, { 99999, 12, 12 }, 0 },
    { "shard-100000-model-00001-of-123456.safetensors", SW_LOOKS_SHARD, { 100000, 1, 123456 }, 0 },
    { "shard-18446744073709551615-model-00001-of-00001.safetensors",
      SW_LOOKS_SHARD,
      { UINT64_MAX, 1, 1 },
      0 },
    { "shard-18446744073709551616-model-00001-of-00001.safetensors", SW_LOOKS_ALMOST, { 0, 0, 0 }, 0 },
    { "shard-0001-model-00001-of-00001.safetensors", SW_LOOKS_ALMOST, { 0, 0, 0 }, 0 },
    { "shard-00000-model-00001-of-00001.safetensors", SW_LOOKS_ALMOST, { 0, 0, 0 }, 0 },
    { "shard-00001-model-00000-of-00001.safetensors", SW_LOOKS_ALMOST, { 0, 0, 0 }, 0 },
    { "shard-00001-model-00002-of-00001.safetensors", SW_LOOKS_ALMOST, { 0, 0, 0 }, 0 },
    { "shard-00001-model-00001-of-00001.bin", SW_LOOKS_LEFTOVER, { 1, 1, 1 }, 0 },
    { "shard-00001-model-00001-of-.safetensors", SW_LOOKS_ALMOST, { 0, 0, 0 }, 0 },
    { "shard--00001-model-00001-of-00001.safetensors", SW_LOOKS_ALMOST, { 0, 0, 0 }, 0 },
    { "shard-+0001-model-00001-of-00001.safetensors", SW_LOOKS_ALMOST, { 0, 0, 0 }, 0 },
    { "Shard-00001-model-00001-of-00001.safetensors", SW_LOOKS_ALMOST, { 0, 0, 0 }, 0 },
    { " shard-00001-model-00001-of-00001.safetensors", SW_LOOKS_ALMOST, { 0, 0, 0 }, 0 },
    { "shard-00001-diffusion_pytorch_model-00001-of-00001.safetensors", SW_LOOKS_ALMOST, { 0, 0, 0 }, 0 },
    { "model-00001-of-00001.safetensors", SW_LOOKS_OTHER, { 0, 1, 1 }, NUMBERED | OURS },
    { "", SW_LOOKS_OTHER, { 0, 0, 0 }, 0 },
    { "model-00163-of-00163.safetensors", SW_LOOKS_OTHER, { 0, 163, 163 }, NUMBERED | OURS },
    { "diffusion_pytorch_model-00001-of-00003.safetensors", SW_LOOKS_OTHER, { 0, 1, 3 }, NUMBERED | OURS },
    { "model-000002-of-000003.safetensors", SW_LOOKS_OTHER, { 0, 2, 3 }, NUMBERED | OURS },
    { "model.safetensors", SW_LOOKS_OTHER, { 0, 0, 0 }, OURS | LONE },
    { "model-1-of-2.safetensors", SW_LOOKS_OTHER, { 0, 0, 0 }, OURS },
    { "model-00002-of-00001.safetensors", SW_LOOKS_OTHER, { 0, 0, 0 }, OURS },
    { "model-00001-of-00001.safetensors.index.json", SW_LOOKS_OTHER, { 0, 0, 0 }, 0 },
    { "pytorch_model-00001-of-00001.safetensors", SW_LOOKS_STRAY, { 0, 0, 0 }, 0 },
    { "diffusion_pytorch_model.safetensors", SW_LOOKS_OTHER, { 0, 0, 0 }, OURS | LONE },
    { "model", SW_LOOKS_OTHER, { 0, 0, 0 }, 0 },
    { "model-a-of-b.safetensors", SW_LOOKS_OTHER, { 0, 0, 0 }, OURS },
    { "model--of-.safetensors", SW_LOOKS_OTHER, { 0, 0, 0 }, OURS },
    { "model-x-of-y-of-z.safetensors", SW_LOOKS_OTHER, { 0, 0, 0 }, OURS },
    { "model.safetensors.index.json", SW_LOOKS_OTHER, { 0, 0, 0 }, OURS },
    { "diffusion_pytorch_model.safetensors.index.json", SW_LOOKS_OTHER, { 0, 0, 0 }, OURS },
    { "model-00001.safetensors", SW_LOOKS_STRAY, { 0, 0, 0 }, 0 },
    { "model-of-.safetensors", SW_LOOKS_STRAY, { 0, 0, 0 }, 0 },
    { "model-1-of.safetensors", SW_LOOKS_STRAY, { 0, 0, 0 }, 0 },
    { "model_x.safetensors", SW_LOOKS_STRAY, { 0, 0, 0 }, 0 },
    { "models.safetensors", SW_LOOKS_STRAY, { 0, 0, 0 }, 0 },
    { "model-00001-of-00002.bin", SW_LOOKS_OTHER, { 0, 0, 0 }, 0 },
    { "model.safetensors.bak", SW_LOOKS_OTHER, { 0, 0, 0 }, COPY },
    { "pytorch_model.bin", SW_LOOKS_OTHER, { 0, 0, 0 }, 0 },
    { "adapter_model.safetensors", SW_LOOKS_STRAY, { 0, 0, 0 }, 0 },
    { "model-/-of-.safetensors", SW_LOOKS_STRAY, { 0, 0, 0 }, 0 },
    { "a/model.safetensors", SW_LOOKS_STRAY, { 0, 0, 0 }, 0 },
    { "index.json", SW_LOOKS_OTHER, { 0, 0, 0 }, 0 },
    { "shard-2-model-1-of-1.safetensors", SW_LOOKS_ALMOST, { 0, 0, 0 }, 0 },
    { "shard-00001-model-00001-of-00001 (1).safetensors", SW_LOOKS_ALMOST, { 0, 0, 0 }, 0 },
    { "copy of shard-00001-model-00001-of-00001.safetensors", SW_LOOKS_ALMOST, { 0, 0, 0 }, 0 },
    { "SHARD-00001-MODEL-00001-OF-00001.SAFETENSORS", SW_LOOKS_ALMOST, { 0, 0, 0 }, 0 },
    { "shard-x.safetensors", SW_LOOKS_ALMOST, { 0, 0, 0 }, 0 },
    { "shard-00002-model-00001-of-00003.safetensors.tmp", SW_LOOKS_LEFTOVER, { 2, 1, 3 }, COPY },
    { "shard-00002-model-00001-of-00003.safetensors.part", SW_LOOKS_LEFTOVER, { 2, 1, 3 }, COPY },
    { "shard-00002-model-00001-of-00003.safetensors~", SW_LOOKS_LEFTOVER, { 2, 1, 3 }, COPY },
    { "shard-00002-model-00001-of-00003.safetensors.sha256", SW_LOOKS_LEFTOVER, { 2, 1, 3 }, 0 },
    { "shard-00002-model-00001-of-00003", SW_LOOKS_LEFTOVER, { 2, 1, 3 }, 0 },
    { "old Shard-2-Model-1-Of-3.bak", SW_LOOKS_LEFTOVER, { 2, 1, 3 }, COPY },
    { ".shard-00002-model-00001-of-00003.safetensors.Xa3f", SW_LOOKS_OTHER, { 0, 0, 0 }, 0 },
    { "shard-18446744073709551616-model-00001-of-00001.part", SW_LOOKS_OTHER, { 0, 0, 0 }, COPY },
    { "shards.txt", SW_LOOKS_OTHER, { 0, 0, 0 }, 0 },
    { "shard-00002-model.log", SW_LOOKS_OTHER, { 0, 0, 0 }, 0 },
    { ".safetensors", SW_LOOKS_OTHER, { 0, 0, 0 }, 0 },
    { "rank3.safetensors", SW_LOOKS_STRAY, { 0, 0, 0 }, 0 },
    { "MODEL.SafeTensors", SW_LOOKS_STRAY, { 0, 0, 0 }, 0 },
};

/* What a function says of a name, and the number that it gives; of what it refuses all is 0. */
static void check(const char *name, bool says, sw_shard_name got, bool want, sw_shard_name number)
{
    if (!want)
        number = (sw_shard_name){ 0, 0, 0 };
    if (says != want || got.shard != number.shard || got.model != number.model || got.of != number.of)
        fail_msg("%s", name);
}

TEST(names)
{
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *name = cases[i].name;
        const sw_shard_name number = cases[i].number;
        const unsigned is = cases[i].is;
        sw_shard_name got = { 7, 7, 7 };
        bool says = sw_shard_name_parse(name, &got);

        check(name, says, got, cases[i].look == SW_LOOKS_SHARD, number);
        says = sw_model_name_parse(name, &got);
        check(name, says, got, is & NUMBERED, number);
        says = sw_name_judge(name, &got) == cases[i].look;
        check(name, says, got, true, is & NUMBERED ? (sw_shard_name){ 0, 0, 0 } : number);
        if (sw_name_is_consolidated(name) != !!(is & OURS) || sw_name_is_lone(name) != !!(is & LONE) ||
            sw_name_is_copy(name) != !!(is & COPY))
            fail_msg("%s", name);
    }
}

TEST(ends_with)
{
    assert_true(sw_name_ends_with("a.b", ".b"));
    assert_true(sw_name_ends_with(".b", ".b"));
    assert_true(sw_name_ends_with("a", ""));
    assert_false(sw_name_ends_with("b", ".b"));
    assert_false(sw_name_ends_with("a.b ", ".b"));
}
