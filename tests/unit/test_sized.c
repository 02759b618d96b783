/* The tensors against what config.json says of them: what is too small is named, and no model that
 * is as it should be is refused. */
#include "base/num.h"
#include "format/config.h"
#include "plan/sized.h"
#include "plan_help.h"

#define LLAMA "\"vocab_size\": 96, \"hidden_size\": 32, \"num_hidden_layers\": 2"

/* Tensors as "name rows columns" or "name elements", in lines; a dtype before a line (U8 FP8), else
 * BF16. "N*" before a line: layers 0 to N - 1, whose number stands for '#'. */
#define LAYERS(n, root)                                                                                      \
    n "*" root "layers.#.input_layernorm.weight 32\n" n "*" root "layers.#.mlp.up_proj.weight 48 32\n"
#define MODEL(rows, n, root) root "embed_tokens.weight " rows " 32\n" LAYERS(n, root) root "norm.weight 32\n"

static const struct {
    const char *about, *config, *tensors;
    const char *says; /* words of the error, with the tensor before a bar; NULL = all is well */
} cases[] = {
    { "whole", LLAMA, MODEL("96", "2", "model.") "lm_head.weight 96 32\n", NULL },
    { "tied", LLAMA, MODEL("96", "2", "model."), NULL },
    { "rows are lost", LLAMA, MODEL("72", "2", "model."),
      "model.embed_tokens.weight|vocab_size is 96, but the tensor has only 72 rows: a shard file is probably "
      "missing" },
    { "rows of the head", LLAMA, MODEL("96", "2", "model.") "lm_head.weight 95 32\n",
      "lm_head.weight|only 95 rows" },
    { "padding", LLAMA, MODEL("128", "3", "model.") "lm_head.weight 128 32\n", NULL },
    { "columns are lost", LLAMA, "model.embed_tokens.weight 96 24\n",
      "model.embed_tokens.weight|hidden_size is 32, but the tensor has only 24 columns" },
    { "the last norm", LLAMA, LAYERS("2", "model.") "model.norm.weight 24\n",
      "model.norm.weight|hidden_size is 32, but the tensor has only 24 elements" },
    { "a layer's norm", LLAMA, LAYERS("2", "model.") "2*model.layers.#.post_attention_layernorm.weight 8\n",
      "model.layers.0.post_attention_layernorm.weight|only 8 elements" },
    { "norms of heads", LLAMA, LAYERS("2", "model.") "2*model.layers.#.self_attn.q_norm.weight 8\n", NULL },
    { "a wider norm", LLAMA, "2*model.layers.#.input_layernorm.weight 64\n", NULL },
    { "the last layer", LLAMA, MODEL("96", "1", "model."),
      "|num_hidden_layers is 2, but no tensor of 'model.layers.1' is there (the last layer is 0)" },
    { "a layer in the middle", LLAMA, "model.layers.0.x 1\nmodel.layers.10.x 1\n",
      "|no tensor of 'model.layers.1' is there (the last layer is 10)" },
    { "the first layer", LLAMA, "model.layers.1.x 1\n", "|no tensor of 'model.layers.0' is there" },
    { "one row of one", "\"vocab_size\": 2", "model.embed_tokens.weight 1 4\n",
      "model.embed_tokens.weight|only 1 row:" },
    { "so many layers that none could hold them",
      "\"vocab_size\": 9, \"num_hidden_layers\": 999999999999999999", "model.layers.0.x 1\n",
      "|no tensor of 'model.layers.1'" },
    { "names of a job", LLAMA, MODEL("96", "2", "_orig_mod.module.model."), NULL },
    { "names of a job, lost", LLAMA, MODEL("96", "1", "module._orig_mod.model."),
      "|'module._orig_mod.model.layers.1'" },
    { "GPT-2", "\"vocab_size\": 96, \"n_layer\": 2",
      "transformer.wte.weight 72 32\n2*transformer.h.#.ln_1.weight 32\n", "transformer.wte.weight|" },
    { "BERT", LLAMA,
      "bert.embeddings.word_embeddings.weight 96 32\n1*bert.encoder.layer.#.output.LayerNorm.weight 32\n",
      "|'bert.encoder.layer.1'" },
    { "NeoX", LLAMA, "gpt_neox.embed_in.weight 96 32\n2*gpt_neox.layers.#.input_layernorm.weight 31\n",
      "gpt_neox.layers.0.input_layernorm.weight|" },
    /* what is larger, or of another kind */
    { "layers for several tokens", LLAMA,
      MODEL("96", "2", "model.") "model.layers.2.embed_tokens.weight 96 32\nmodel.layers.2.enorm.weight 32\n",
      NULL },
    { "a stack of its own for them", LLAMA, MODEL("96", "2", "model.") MODEL("96", "1", "mtp."), NULL },
    { "a narrow embedding", LLAMA ", \"word_embed_proj_dim\": 16",
      "model.decoder.embed_tokens.weight 96 16\n2*model.decoder.layers.#.x 1\n", NULL },
    { "as many positions as columns", LLAMA ", \"max_position_embeddings\": 16",
      "model.embed_tokens.weight 96 16\n", "model.embed_tokens.weight|16 columns" },
    { "a second vocabulary", LLAMA ", \"draft_vocab_size\": 16",
      MODEL("96", "2", "model.") "lm_head.weight 16 32\n", NULL },
    { "two heads", LLAMA, MODEL("96", "2", "model.") "lm_head.weight 96 32\ntalker.lm_head.weight 16 32\n",
      NULL },
    { "layers that are counted twice", LLAMA ", \"num_layers\": 1", MODEL("96", "1", "model."), NULL },
    { "counted twice, and one lost", LLAMA ", \"num_layers\": 1", "model.layers.1.x 1\n",
      "|'model.layers.0'" },
    { "layers of nothing", LLAMA ", \"block_configs\": [{}]", MODEL("96", "1", "model."), NULL },
    { "packed", LLAMA, "U8 model.embed_tokens.weight 1536 1\nU8 lm_head.weight 48 32\n", NULL },
    { "FP8", LLAMA, "F8 model.embed_tokens.weight 48 32\n", "model.embed_tokens.weight|" },
    { "no matrix", LLAMA, "model.embed_tokens.weight 1536\n", NULL },
    { "adapters", LLAMA, "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight 8 32\n", NULL },
    { "names that only look like it", LLAMA,
      "model.xembed_tokens.weight 9 9\nmodel.embed_tokens_per_layer.weight 9 9\nxlm_head.weight 9 "
      "9\nlayers.x 1\n"
      "model.layers.0 1\nmodel.layers.0x.y 1\nmodel.layers.0000000000.y 1\n",
      NULL },
    { "no such tensors", LLAMA, "conv.weight 3 3\n", NULL },
    { "no tensors", LLAMA, "", NULL },
    /* several models in one */
    { "a text model inside",
      "\"hidden_size\": 99, \"text_config\": {" LLAMA
      "}, \"vision_config\": {\"hidden_size\": 64, \"num_hidden_layers\": 9}",
      MODEL("96", "2", "model.language_model.") "1*model.visual.blocks.#.norm1.weight 8\n", NULL },
    { "rows of it", "\"text_config\": {" LLAMA "}", MODEL("48", "2", "language_model.model."),
      "language_model.model.embed_tokens.weight|text_config.vocab_size is 96, but the tensor has only 48 "
      "rows" },
    { "layers of it", "\"llm_config\": {" LLAMA "}, \"vision_config\": {}",
      MODEL("96", "1", "language_model.model.") "9*vision.layers.#.x 1\n",
      "|llm_config.num_hidden_layers is 2" },
    { "no text model", "\"num_hidden_layers\": 4", "1*encoder.blocks.#.x 1\n", NULL },
    { "only its tower", "\"text_config\": {" LLAMA "}",
      "1*vision_tower.encoder.layers.#.layer_norm1.weight 8\n", NULL },
    { "a tower beside it", LLAMA ", \"vision_config\": {\"depth\": 3}",
      MODEL("96", "2", "model.") "3*visual.blocks.#.norm1.weight 8\n", NULL },
    { "two that are alike", LLAMA ", \"depth_decoder_config\": {\"num_hidden_layers\": 1}",
      "backbone.embed_tokens.embed_audio_tokens.weight 96 32\n2*backbone.layers.#.x 1\n" MODEL(
          "192", "1", "depth_decoder.model."),
      NULL },
    { "two towers", "\"text_config\": {" LLAMA "}",
      "text_model.embeddings.token_embedding.weight 9 9\n1*text_model.encoder.layers.#.x 1\n"
      "1*vision_model.encoder.layers.#.x 1\n",
      NULL },
    { "two stacks", "\"is_encoder_decoder\": true, \"decoder_vocab_size\": 9, " LLAMA,
      "shared.weight 96 32\nencoder.embed_tokens.weight 9 9\n2*encoder.block.#.x 1\n1*decoder.block.#.x "
      "1\nlm_head.weight 9 32\n",
      NULL },
    { "two stacks, rows lost", "\"decoder_layers\": 1, " LLAMA,
      "model.shared.weight 95 32\n1*model.decoder.layers.#.x 1\n", "model.shared.weight|95 rows" },
    /* what is no such number */
    { "other types",
      "\"vocab_size\": \"96\", \"hidden_size\": 32.5, \"num_hidden_layers\": {\"a\": 5}, \"x\": [{" LLAMA
      "}]",
      "model.embed_tokens.weight 1 1\nmodel.layers.0.x 1\n", NULL },
    { "odd numbers", "\"vocab_size\": -96, \"hidden_size\": 1e3, \"num_hidden_layers\": 1234567890123456789",
      "model.embed_tokens.weight 1 1\nmodel.layers.0.x 1\n", NULL },
    { "as Python writes it", "\"x\": NaN, \"y\": -Infinity, \"vocab\\u005fsize\": 2", "wte.weight 1 1\n",
      "wte.weight|" },
    { "names with NUL", "\"vocab_size\\u0000\": 2", "wte.weight 1 1\n", NULL },
    { "not JSON", "\"vocab_size\": 2,", "wte.weight 1 1\n", NULL },
    { "more text", "\"vocab_size\": 2}{", "wte.weight 1 1\n", NULL },
};

/* ---- the catalogue of a case ----------------------------------------------------------------- */

#define BOXES_MAX 64

static char names[BOXES_MAX][96];

/* One line for each number that stands for '#'. */
static size_t add_line(const char *line, size_t len, test_box *boxes, size_t n)
{
    unsigned long long dims[2];
    unsigned times = 1, ndim;
    char text[128], name[96];
    sw_dtype dtype = SW_BF16;
    char *at = text;

    snprintf(text, sizeof text, "%.*s", (int)len, line);
    if (at[1] == '*') {
        times = (unsigned)(at[0] - '0');
        at += 2;
    } else if (strncmp(at, "U8 ", 3) == 0 || strncmp(at, "F8 ", 3) == 0) {
        dtype = *at == 'U' ? SW_U8 : SW_F8_E4M3;
        at += 3;
    }
    ndim = (unsigned)sscanf(at, "%95s %llu %llu", name, &dims[0], &dims[1]) - 1;
    assert_in_range(ndim, 1, 2);
    for (unsigned i = 0; i < times; i++, n++) {
        char *hash = strchr(name, '#');

        assert_true(n < BOXES_MAX);
        strcpy(names[n], name);
        if (hash)
            names[n][hash - name] = (char)('0' + i);
        boxes[n] = (test_box){
            .name = names[n], .dtype = dtype, .ndim = ndim, .shape = { dims[0], ndim == 2 ? dims[1] : 0 }
        };
    }
    return n;
}

static void make_catalog(const char *lines, sw_catalog *c)
{
    sw_status st = SW_STATUS_INIT;
    test_box boxes[BOXES_MAX];
    size_t n = 0;

    for (; *lines; lines += strcspn(lines, "\n") + 1)
        n = add_line(lines, strcspn(lines, "\n"), boxes, n);
    if (test_catalog(boxes, n, 1, 1, c, &st))
        fail_msg("%s: %s", st.tensor, st.reason);
}

static sw_code check(const char *config, const char *tensors, sw_findings *findings, sw_status *st)
{
    sw_buf text = SW_BUF_INIT;
    sw_config_sizes sizes;
    sw_catalog c;

    make_catalog(tensors, &c);
    if (!sw_buf_addf(&text, st, "\xef\xbb\xbf {%s}\n", config) &&
        !sw_config_read_sizes(text.data, text.len, &sizes, st)) {
        sw_check_sizes(&c, &sizes, "config.json", findings, st);
        sw_config_sizes_release(&sizes);
    }
    sw_buf_release(&text);
    sw_catalog_release(&c);
    return st->code;
}

/* ---- tests ----------------------------------------------------------------------------------- */

TEST(cases)
{
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *says = cases[i].says, *bar = says ? strchr(says, '|') : NULL;
        sw_status st = SW_STATUS_INIT;
        sw_code code = check(cases[i].config, cases[i].tensors, NULL, &st);

        if (code != (says ? SW_EINPUT : SW_OK))
            fail_msg("%s: code %d: %s: %s", cases[i].about, code, st.tensor, st.reason);
        if (!says)
            continue;
        assert_string_equal(st.file, "config.json");
        if (strncmp(st.tensor, says, (size_t)(bar - says)) != 0 ||
            strlen(st.tensor) != (size_t)(bar - says) || !strstr(st.reason, bar + 1))
            fail_msg("%s: '%s', '%s' does not say '%s'", cases[i].about, st.tensor, st.reason, says);
    }
}

/* All that is wrong, but of the norms the first. */
TEST(findings)
{
    static const char *const want[] = { "", "lm_head.weight", "model.embed_tokens.weight",
                                        "model.embed_tokens.weight", "model.norm.weight" };
    sw_findings found = SW_FINDINGS_INIT;
    sw_status st = SW_STATUS_INIT;

    assert_int_equal(check("\"vocab_size\": 97, \"hidden_size\": 33, \"num_hidden_layers\": 3",
                           MODEL("96", "2", "model.") "lm_head.weight 96 32\n", &found, &st),
                     SW_OK);
    sw_findings_sort(&found);
    assert_int_equal(found.n, COUNT(want));
    for (size_t i = 0; i < found.n; i++) {
        assert_string_equal(found.items[i].file, "config.json");
        assert_string_equal(found.items[i].tensor, want[i]);
        assert_true(found.items[i].hint[0] != '\0');
    }
    sw_findings_release(&found);
}

/* A text that is no object, and one of nothing. */
TEST(no_object)
{
    static const char *const texts[] = { "", "[]", "{", "0", "null", "{\"vocab_size\": 1", "\xff" };
    sw_config_sizes sizes;

    for (size_t i = 0; i < COUNT(texts); i++) {
        sw_status st = SW_STATUS_INIT;

        assert_int_equal(sw_config_read_sizes(texts[i], strlen(texts[i]), &sizes, &st), SW_OK);
        for (size_t k = 0; k < SW_CONFIG_NSIZES; k++)
            assert_int_equal(sizes.said[k], 0);
        sw_config_sizes_release(&sizes);
    }
}
