/* config.json edited as text: what is not changed stays byte for byte; and read for the sizes that
 * it tells of.
 *
 * Configurations are JSON as Python writes it: with bare Infinity and NaN, numbers of any length,
 * keys in an order that people chose. No JSON library gives that back, so only the bytes of the
 * values in question are exchanged. */
#ifndef SW_FORMAT_CONFIG_H
#define SW_FORMAT_CONFIG_H

#include "base/buf.h"
#include "format/dtype.h"

/* What to change, in the object that the text is and in the objects that are its members
 * `*_config`, theirs, and so on. */
typedef struct sw_config_rule {
    /* the members torch_dtype and dtype, where they are strings that name a floating dtype or
     * "auto", become this one (F64 F32 BF16 F16); SW_NDTYPES = they stay */
    sw_dtype dtype;
    bool no_quantization; /* the member quantization_config goes, with its comma */
} sw_config_rule;

/* Why a text was not edited. */
typedef struct sw_config_fault {
    const char *what; /* static; NULL = nothing is wrong */
    uint64_t line;    /* where, from 1 */
} sw_config_fault;

/* Local. The edited text into out (emptied first). A member that is not there is not added; one
 * that is there twice is treated twice; the value becomes torch's name without "torch.", which not
 * every loader knows. The text is taken as Python's json takes it, with a byte order mark too;
 * nested at most 500 deep.
 *   fault  filled, with SW_OK, for a text that is not JSON: then out is the text as it was
 * Errors: SW_ENOMEM. O(len). */
sw_code sw_config_edit(const char *text, size_t len, const sw_config_rule *rule, sw_buf *out,
                       sw_config_fault *fault, sw_status *st);

/* What a number of a configuration may be the size of. */
typedef enum sw_config_size {
    SW_CONFIG_VOCAB,  /* rows of an embedding or of a head */
    SW_CONFIG_WIDTH,  /* of what goes from layer to layer, or of an embedding */
    SW_CONFIG_LAYERS, /* how many there are */
    SW_CONFIG_NSIZES
} sw_config_size;

typedef struct sw_config_other {
    sw_config_size size;
    uint64_t value;
} sw_config_other;

/* The sizes of a text model. */
typedef struct sw_config_sizes {
    /* whose they are: "" (the configuration itself) or "text_config." and the like; static */
    const char *scope;
    /* vocab_size, hidden_size, num_hidden_layers; 0 = it does not say */
    uint64_t said[SW_CONFIG_NSIZES];
    bool two_stacks; /* an encoder and a decoder, each with layers of its own */
    bool uneven;     /* layers differ, and may have nothing in them */
    /* all numbers, of this scope and of others, whose names tell of such a size: a tower's, a
     * second vocabulary's, ... */
    sw_config_other *others;
    size_t nothers, cap;
} sw_config_sizes;

/* Local. The sizes that the text tells of: those of its member text_config (llm_config,
 * language_config) if it has one, else its own. A text that is no JSON object, as above, tells of
 * none.
 *   out  release with sw_config_sizes_release()
 * Errors: SW_ENOMEM. O(len). */
sw_code sw_config_read_sizes(const char *text, size_t len, sw_config_sizes *out, sw_status *st);

/* Local. Does the configuration tell of this very size anywhere? */
bool sw_config_has_size(const sw_config_sizes *s, sw_config_size size, uint64_t value);

/* Local. The name of the member that tells of it. */
const char *sw_config_size_name(sw_config_size size);

void sw_config_sizes_release(sw_config_sizes *s);

/* Local. How large the blocks are that scales of quantized weights stand for:
 * quantization_config.weight_block_size, rows and columns, of the object that the text is or of its
 * members `*_config`. False when it does not say. The text is changed. O(len). */
bool sw_config_block_size(char *text, size_t len, uint64_t block[2]);

#endif
