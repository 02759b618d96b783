/* What each tensor will be in the output; see values.h. */
#include "plan/values.h"

#include <string.h>

/* The dtype of one tensor after the mapping. */
static sw_code decide(sw_tensor *t, const sw_map_item *item, const char *map_file, uint64_t *kept,
                      sw_status *st)
{
    sw_dtype mapped;

    if (!sw_dtype_parse_any(item->text, strlen(item->text), &mapped))
        return sw_fail(st, SW_EINPUT, map_file, t->name, "'%s' is not a dtype", item->text);
    if (mapped == t->dtype)
        return SW_OK;
    if (!sw_dtype_is_floating(mapped)) {
        (*kept)++;
        return SW_OK;
    }
    if (!sw_dtype_is_floating((sw_dtype)t->dtype))
        return SW_OK;
    return sw_fail(st, SW_EUSAGE, map_file, t->name,
                   "names %s but the shards hold %s: converting is not supported", sw_dtype_name(mapped),
                   sw_dtype_name((sw_dtype)t->dtype));
}

sw_code sw_values_decide(sw_catalog *c, const sw_map *map, const char *map_file, uint64_t *kept,
                         sw_status *st)
{
    *kept = 0;
    for (uint32_t i = 0; i < c->ntensors && !st->code; i++) {
        sw_tensor *t = &c->tensors[i];
        const sw_map_item *item = map ? sw_map_find(map, t->name) : NULL;

        t->out_dtype = t->dtype;
        if (item)
            decide(t, item, map_file, kept, st);
    }
    return st->code;
}
