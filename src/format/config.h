/* config.json edited as text: what is not changed stays byte for byte.
 *
 * Configurations are JSON as Python writes it: with bare Infinity and NaN, numbers of any length, keys in an order
 * that people chose. No JSON library gives that back, so only the bytes of the values in question are exchanged. */
#ifndef SW_FORMAT_CONFIG_H
#define SW_FORMAT_CONFIG_H

#include "base/buf.h"
#include "format/dtype.h"

/* What to change, in the object that the text is and in the objects that are its members `*_config`, theirs, and so on. */
typedef struct sw_config_rule {
    sw_dtype dtype; /* the members torch_dtype and dtype, where they are strings that name a floating dtype or
                             "auto", become this one (F64 F32 BF16 F16); SW_NDTYPES = they stay */
    bool no_quantization; /* the member quantization_config goes, with its comma */
} sw_config_rule;

/* Why a text was not edited. */
typedef struct sw_config_fault {
    const char *what; /* static; NULL = nothing is wrong */
    uint64_t line;    /* where, from 1 */
} sw_config_fault;

/* Local. The edited text into out (emptied first). A member that is not there is not added; one that is there twice is
 * treated twice; the value becomes torch's name without "torch.", which not every loader knows. The text is taken
 * as Python's json takes it, with a byte order mark too; nested at most 500 deep.
 *   fault  filled, with SW_OK, for a text that is not JSON: then out is the text as it was
 * Errors: SW_ENOMEM. O(len). */
sw_code sw_config_edit(const char *text, size_t len, const sw_config_rule *rule, sw_buf *out,
                       sw_config_fault *fault, sw_status *st);

#endif
