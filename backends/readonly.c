/* SPDX-License-Identifier: MIT
 * readonly.c: a store that refuses every change with -EROFS, whatever the store below could do.
 * It only takes capabilities away: the gate does the refusing, before a slot is called. */
#include "backends/registry.h"
#include "backends/wrap.h"

#define WRITE_CAPS                                                                                 \
    (CAP_WRITE | CAP_IF_MATCH | CAP_RENAME_FILE | CAP_RENAME_DIR | CAP_COPY | CAP_PATCH |          \
     CAP_UPLOAD | CAP_COPY_PART | CAP_SET_META | CAP_EXCHANGE)

static int readonly_around(struct wrapper *w, struct op *op, struct call *c)
{
    return call_forward(w->base.next, op, c);
}

static const struct store_class readonly_class = {
    .abi = STORE_ABI,
    .name = "readonly",
    .summary = "refuses changes",
    WRAP_SLOTS,
};

struct store *store_wrap_readonly(struct store *next)
{
    struct wrapper *w = xcalloc(1, sizeof(*w));
    wrapper_init(w, &readonly_class, next, readonly_around);
    w->base.caps &= ~(uint32_t)WRITE_CAPS;
    return &w->base;
}
