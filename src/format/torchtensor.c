/* What data.pkl says of a tensor; see torchtensor.h. */
#include "format/torchtensor.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "base/utf8.h"

/* Storages that know their dtype; of the others (UntypedStorage) the tensor tells it. */
static const struct {
    const char *name;
    sw_dtype dtype;
} storages[] = {
    { "DoubleStorage", SW_F64 },       { "FloatStorage", SW_F32 }, { "HalfStorage", SW_F16 },
    { "BFloat16Storage", SW_BF16 },    { "LongStorage", SW_I64 },  { "IntStorage", SW_I32 },
    { "ShortStorage", SW_I16 },        { "CharStorage", SW_I8 },   { "ByteStorage", SW_U8 },
    { "ComplexFloatStorage", SW_C64 }, { "BoolStorage", SW_BOOL },
};

void sw_torch_words(const sw_pickle *p, sw_value v, char text[128])
{
    static const char *const kinds[] = {
        [SW_KIND_NONE] = "None",       [SW_KIND_BOOL] = "a bool",       [SW_KIND_INT] = "an int",
        [SW_KIND_FLOAT] = "a float",   [SW_KIND_TEXT] = "a str",        [SW_KIND_BYTES] = "bytes",
        [SW_KIND_GLOBAL] = "a name",   [SW_KIND_TUPLE] = "a tuple",     [SW_KIND_LIST] = "a list",
        [SW_KIND_DICT] = "a dict",     [SW_KIND_SET] = "a set",         [SW_KIND_OBJECT] = "an object",
        [SW_KIND_PERSISTENT] = "data", [SW_KIND_HUGE] = "a huge number"
    };
    sw_kind kind = sw_value_kind(p, v);
    sw_global g;

    if (sw_value_global(p, kind == SW_KIND_OBJECT ? sw_object_class(p, v) : v, &g))
        snprintf(text, 128, "%.*s.%.*s", (int)sw_min(g.module_len, 80), g.module, (int)sw_min(g.name_len, 40),
                 g.name);
    else
        snprintf(text, 128, "%s", kinds[kind]);
}

sw_code sw_torch_dtype(const sw_pickle *p, sw_value v, const char *file, const char *tensor, sw_dtype *out,
                       sw_status *st)
{
    char words[128];
    sw_global g;

    if (sw_value_global(p, v, &g) && sw_text_is(g.module, g.module_len, "torch") &&
        sw_dtype_parse_any(g.name, g.name_len, out) && sw_dtype_bits(*out) >= 8)
        return SW_OK;
    sw_torch_words(p, v, words);
    return sw_fail(st, SW_EINPUT, file, tensor, "its dtype is %s, which safetensors does not have", words);
}

/* What is being understood. */
typedef struct reading {
    const sw_pickle *p;
    const char *file, *tensor;
    sw_torch_tensor *out;
} reading;

static sw_code odd(const reading *r, const char *what, sw_status *st)
{
    return sw_fail(st, SW_EINPUT, r->file, r->tensor, "its data.pkl %s", what);
}

/* Item i of a tuple, which must be there. */
static sw_value item(const reading *r, sw_value tuple, uint64_t i, sw_status *st)
{
    sw_value v = 0;

    if (!sw_value_item(r->p, tuple, i, &v))
        odd(r, "is not that of a tensor: too few arguments", st);
    return v;
}

static sw_code take_size(const reading *r, sw_value v, uint64_t *out, sw_status *st)
{
    return sw_value_size(r->p, v, out) ? SW_OK : odd(r, "has no size where one should be", st);
}

/* A tuple of ndim sizes; *ndim is set by the first. */
static sw_code take_sizes(const reading *r, sw_value tuple, bool first, uint64_t sizes[SW_MAX_DIMS],
                          sw_status *st)
{
    sw_items items;
    sw_value v;
    uint64_t n = sw_items_begin(r->p, tuple, &items);

    if (sw_value_kind(r->p, tuple) != SW_KIND_TUPLE)
        return odd(r, "has no sizes where some should be", st);
    if (n > SW_MAX_DIMS)
        return odd(r, "has more than 32 dimensions", st);
    if (first)
        r->out->ndim = (unsigned)n;
    else if (n != r->out->ndim)
        return odd(r, "has another number of strides than of sizes", st);
    for (unsigned d = 0; sw_items_next(&items, &v) && !st->code; d++)
        take_size(r, v, &sizes[d], st);
    return st->code;
}

/* ("storage", class, key, location, number of elements) */
static sw_code take_storage(const reading *r, sw_value v, bool *typed, sw_status *st)
{
    sw_value tuple = sw_object_args(r->p, v), class = item(r, tuple, 1, st);
    sw_torch_tensor *t = r->out;
    char words[128];
    uint64_t n = 0;
    size_t len;
    const char *key;

    if (st->code || sw_value_kind(r->p, v) != SW_KIND_PERSISTENT ||
        !sw_value_is_text(r->p, item(r, tuple, 0, st), "storage"))
        return odd(r, "is not that of a tensor: it has no storage", st);
    key = sw_value_text(r->p, item(r, tuple, 2, st), &len);
    if (take_size(r, item(r, tuple, 4, st), &n, st))
        return st->code;
    if (!key || len == 0 || len > sizeof t->member - sizeof "data/" || strspn(key, "0123456789") < len)
        return odd(r, "names no member of the archive", st);
    snprintf(t->member, sizeof t->member, "data/%.*s", (int)len, key);
    *typed = true;
    for (size_t i = 0; i < sizeof storages / sizeof *storages; i++)
        if (sw_value_is_a(r->p, class, "torch", storages[i].name)) {
            t->dtype = storages[i].dtype;
            if (!sw_mul(n, sw_dtype_bits(t->dtype) / 8, &t->storage_size))
                odd(r, "has a storage that is too large", st);
            return st->code;
        }
    *typed = false;
    t->storage_size = n;
    if (sw_value_is_a(r->p, class, "torch.storage", "UntypedStorage") ||
        sw_value_is_a(r->p, class, "torch", "UntypedStorage"))
        return SW_OK;
    sw_torch_words(r->p, class, words);
    return sw_fail(st, SW_EINPUT, r->file, r->tensor, "its storage is a %s, which safetensors does not have",
                   words);
}

/* Does each element lie within the storage? */
static sw_code check_extent(const reading *r, sw_status *st)
{
    const sw_torch_tensor *t = r->out;
    uint64_t last = t->first, step, bytes;
    bool empty = false;

    for (unsigned d = 0; d < t->ndim; d++)
        empty = empty || t->shape[d] == 0;
    for (unsigned d = 0; d < t->ndim && !empty; d++)
        if (!sw_mul(t->shape[d] - 1, t->strides[d], &step) || !sw_add(last, step, &last))
            return odd(r, "has strides that are too large", st);
    if (!empty && (!sw_add(last, 1, &last) || !sw_mul(last, sw_dtype_bits(t->dtype) / 8, &bytes) ||
                   bytes > t->storage_size))
        return odd(r, "has elements outside of its storage", st);
    return SW_OK;
}

/* A dict behind the other arguments: elements that are to be conjugated or negated by who reads
 * them. */
static sw_code check_bits(const reading *r, sw_value args, uint64_t i, sw_status *st)
{
    sw_items ignored;
    sw_value bits;

    if (!sw_value_item(r->p, args, i, &bits) || sw_items_begin(r->p, bits, &ignored) == 0)
        return SW_OK;
    return odd(r, "has elements that are still to be conjugated or negated (resolve_conj(), resolve_neg())",
               st);
}

/* _rebuild_tensor_v2(storage, first, sizes, strides, requires_grad, hooks[, metadata]); _v3 has the
 * dtype behind the hooks. */
static sw_code take_tensor(const reading *r, sw_value object, sw_status *st)
{
    bool v3 = sw_value_is_a(r->p, object, "torch._utils", "_rebuild_tensor_v3"), typed = false;
    sw_value args = sw_object_args(r->p, object);
    sw_torch_tensor *t = r->out;
    char words[128];

    if (!v3 && !sw_value_is_a(r->p, object, "torch._utils", "_rebuild_tensor_v2")) {
        sw_torch_words(r->p, object, words);
        return sw_fail(st, SW_EINPUT, r->file, r->tensor, "its data.pkl is no tensor but %s", words);
    }
    if (take_storage(r, item(r, args, 0, st), &typed, st) ||
        take_size(r, item(r, args, 1, st), &t->first, st) ||
        take_sizes(r, item(r, args, 2, st), true, t->shape, st) ||
        take_sizes(r, item(r, args, 3, st), false, t->strides, st) || check_bits(r, args, v3 ? 7 : 6, st))
        return st->code;
    if (v3 && sw_torch_dtype(r->p, item(r, args, 6, st), r->file, r->tensor, &t->dtype, st))
        return st->code;
    if (!v3 && !typed)
        return odd(r, "has no dtype", st);
    return check_extent(r, st);
}

/* The tensor that a DTensor wraps: _rebuild_from_type_v2(function, class, arguments, state), where
 * the state is that of its dict and of its slots, or of one of them. */
static bool unwrap(const sw_pickle *p, sw_value v, sw_value *inner)
{
    sw_value args = sw_object_args(p, v), function, state;

    return sw_value_is_a(p, v, "torch._tensor", "_rebuild_from_type_v2") &&
           sw_value_item(p, args, 0, &function) &&
           sw_value_is_a(p, function, "torch._utils", "_rebuild_wrapper_subclass") &&
           sw_value_item(p, args, 3, &state) &&
           (sw_value_member(p, state, "_local_tensor", inner) ||
            (sw_value_item(p, state, 1, &state) && sw_value_member(p, state, "_local_tensor", inner)));
}

sw_code sw_torch_tensor_take(const sw_pickle *p, sw_value v, const char *file, const char *tensor,
                             sw_torch_tensor *out, sw_status *st)
{
    const reading r = { p, file, tensor, out };
    sw_value inner;

    memset(out, 0, sizeof *out);
    /* A parameter is a tensor with a flag. */
    if (sw_value_is_a(p, v, "torch._utils", "_rebuild_parameter") &&
        sw_value_item(p, sw_object_args(p, v), 0, &inner))
        v = inner;
    if (unwrap(p, v, &inner))
        v = inner;
    return take_tensor(&r, v, st);
}

sw_code sw_torch_tensor_parse(const void *pickle, size_t n, const char *file, const char *tensor,
                              sw_torch_tensor *out, sw_status *st)
{
    sw_pickle p;

    memset(out, 0, sizeof *out);
    if (!sw_pickle_parse(pickle, n, file, tensor, &p, st)) {
        sw_torch_tensor_take(&p, p.root, file, tensor, out, st);
        sw_pickle_release(&p);
    }
    return st->code;
}
