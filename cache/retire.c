/* SPDX-License-Identifier: MIT
 * retire.c: a volume whose key is about to go away or to mean another store.
 *
 * From volume_retire() on nothing new is staged: a file cannot be opened for writing any more. So what
 * the journal has of this key is another volume's. Handles that read go on until they are closed. */
#include "cache/volume_int.h"

#include "base/cleanup.h"

#define NAMED_MAX 3
#define TRIES 3

/* What is in the way, "" when nothing is. */
static void obstacles_locked(struct volume *v, struct buf *b)
{
    size_t n = 0;
    lock_assert_held(&v->s.lock);
    STRMAP_EACH(&v->s.nodes, it)
    {
        const struct vnode *x = it->value;
        if (!x->writers && !x->dirty)
            continue;
        if (n++ < NAMED_MAX)
            buf_addf(b, "%s%s (%s)", b->len ? ", " : "", x->path,
                     x->writers ? "open for writing" : "not stored yet");
    }
    if (n > NAMED_MAX)
        buf_addf(b, " and %zu more", n - NAMED_MAX);
    if (v->s.renames)
        buf_addf(b, "%sa directory is being renamed", b->len ? "; " : "");
    if (!b->len && v->s.dirty)
        buf_addf(b, "%zu files are not stored yet", v->s.dirty);
}

int volume_retire(struct volume *v, struct op *op)
{
    CLEANUP_BUF struct buf why = BUF_INIT;
    for (int i = 0; i < TRIES; i++) {
        int r = volume_sync(v, op);
        if (r < 0)
            return err_prefix(&op->err, "%s: not everything is stored", v->key);
        buf_reset(&why);
        lock_acquire(&v->s.lock);
        obstacles_locked(v, &why);
        v->s.retired = why.len == 0;
        lock_release(&v->s.lock);
        if (why.len == 0) {
            volume_settle(v, NULL); /* rows of what is stored are not the next volume's */
            return 0;
        }
    }
    return err_set(&op->err, EBUSY, "%s is in use: %s", v->key, buf_str(&why));
}

void volume_unretire(struct volume *v)
{
    LOCK_SCOPE(&v->s.lock);
    v->s.retired = false;
}
