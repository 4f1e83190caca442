/* SPDX-License-Identifier: MIT
 * sftp_ahead.c: who writes small files into one directory, one after the other, has the temporary file of the next one
 * opened together with the rename of the last (struct ahead in sftp_conn.h): a round trip less for each.
 *
 * A directory gets one with the AHEAD_AFTER-th file within AHEAD_NS of each other on a connection. It is one of the
 * temporary files that listings do not show; the store removes it when it is not used within AHEAD_NS (the keeper),
 * when the directory is removed or renamed here, and at the end. One that a lost connection had is an orphan.
 * What a connection in use has there is then noted to be removed under the new name (sftp_follow_temps).
 * Another client that renames the directory, or removes what is in it, takes it away: the put is made without. */
#include "backends/sftp/sftp_int.h"

#define AHEAD_AFTER 4
#define AHEAD_NS (300 * NS_PER_MS)
#define DROP_MS 2000

bool sftp_ahead_is_old(const struct conn *c)
{
    return c->ahead.temp && clock_now_ns() - c->ahead.asked_ns > AHEAD_NS;
}

char *sftp_ahead_take(struct sftp *s, struct conn *c, const char *dir, bool hidden)
{
    const struct ahead *a = &c->ahead;
    if (!a->temp)
        return NULL;
    if (strcmp(a->dir, dir) == 0 && a->hidden == hidden && !sftp_ahead_is_old(c))
        return xstrdup(a->temp);
    sftp_ahead_drop(s, c);
    return NULL;
}

bool sftp_ahead_wanted(struct conn *c, const char *dir)
{
    uint64_t now = clock_now_ns();
    bool same = c->row.dir && strcmp(c->row.dir, dir) == 0 && now - c->row.last_ns < AHEAD_NS;
    if (!same) {
        free(c->row.dir);
        c->row.dir = xstrdup(dir);
        c->row.n = 0;
    }
    c->row.n++;
    c->row.last_ns = now;
    return c->row.n >= AHEAD_AFTER && !c->shell;
}

void sftp_ahead_drop(struct sftp *s, struct conn *c)
{
    struct ahead a = c->ahead;
    struct handle file = {0}, dir = {0};
    struct op op;
    if (!a.temp)
        return;
    op_init(&op, "remove", DROP_MS);
    int r = conn_expect_handle(c, &op, a.open, "open", a.temp, &file);
    bool made = r == 0;
    if (!c->broken)
        (void)conn_expect_handle(c, &op, a.open_dir, "open", a.dir, &dir);
    conn_close_handle(c, &file);
    conn_close_handle(c, &dir);
    if (made)
        r = far_remove(c, &op, a.temp, a.temp);
    if (c->broken || r == -EINTR || (made && r < 0 && r != -ENOENT))
        sftp_orphan(s, a.temp);
    conn_ahead_clear(c);
}
