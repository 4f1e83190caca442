/* SPDX-License-Identifier: MIT
 * t_volume_faults.c: what is promised of files whose uploads, or journal, fail in more than one way. */
#include "base/sqldb.h"
#include "tests/unit/stage_fixture.h"

#include <pthread.h>

#define RW (VFILE_READ | VFILE_WRITE)
#define NEW (VFILE_READ | VFILE_WRITE | VFILE_CREATE)
#define REFUSED "op=put,errno=EHOSTUNREACH,retry=safe"

/* The journal refuses ("INSERT", "UPDATE", "DELETE"), or does not any more (NULL). */
static void refuse_rows(struct vx *x, const char *what)
{
    struct err err = ERR_INIT;
    struct sqldb *db = NULL;
    CLEANUP_FREE char *path = xasprintf("%s/cache/journal.db", x->dir);
    CLEANUP_FREE char *sql =
        what ? xasprintf("CREATE TRIGGER refuse BEFORE %s ON staged BEGIN SELECT RAISE(ABORT, 'no'); END", what)
             : xstrdup("DROP TRIGGER refuse");
    CHECK_INT(sqldb_open(path, SQLDB_WAL_FULL, &err, &db), 0);
    CHECK_INT(sqldb_exec(db, &err, sql), 0);
    sqldb_close(db);
}

/* Story: the store had the file, its answer was lost, and a later try was refused by a store that was away: which told
 * the unlink that nothing could be at the store. The file was back when the cache had forgotten it. */
static void test_removed_after_a_lost_answer_and_a_refusal(void)
{
    struct vx x = vx_new();
    vx_open(&x, "backend = memory\nretries = 0\n"
                "fault = op=put,nth=1,errno=EIO,lost=yes;op=put,after=1,errno=EIO,retry=safe;op=stat,nth=2,errno=EIO");
    struct vfile *f = vx_fopen(&x, "f", NEW, 0);
    vx_pwrite(&x, f, "content", 7, 0);
    CHECK_INT(vfile_flush(f, &x.op), -EIO);
    CHECK_STR(vx_foreign_get(&x, "f"), "content");
    CHECK_INT(vx_fclose(&x, f), -EIO);
    CHECK_INT(volume_unlink(x.v, &x.op, "f"), 0);
    CHECK(vx_foreign_get(&x, "f") == NULL);
    vx_done(&x);
}

/* The same where the process that had sent it has ended. */
static void test_removed_after_a_restart_and_a_refusal(void)
{
    struct vx x = vx_new();
    vx_open_local(&x, "retries = 0\nfault = op=put,errno=EIO,lost=yes;op=stat,after=1,errno=EIO");
    CHECK_INT(vx_write_n(&x, "f", "content", 7), -EIO);
    CHECK_STR(vx_foreign_get(&x, "f"), "content");
    CHECK_INT(vx_close(&x), 1);
    vx_open_local(&x, "retries = 0\nfault = " REFUSED);
    wait_refused(&x);
    CHECK_INT(volume_unlink(x.v, &x.op, "f"), 0);
    CHECK(vx_foreign_get(&x, "f") == NULL);
    vx_done(&x);
}

/* Story: the journal could not remove the row of a removed file (its disk had failed for a moment); the next start stored
 * the file again. */
static void test_removed_while_the_journal_fails(void)
{
    struct vx x = vx_new();
    x.policy.stage_memory = 64 * KIB; /* the row has the content */
    vx_open_local(&x, "retries = 0\nfault = " REFUSED);
    CHECK_INT(vx_write_n(&x, "f", "content", 7), -EHOSTUNREACH);
    refuse_rows(&x, "DELETE");
    CHECK_INT(volume_unlink(x.v, &x.op, "f"), 0);
    refuse_rows(&x, NULL);
    CHECK_INT(vx_close(&x), 0);
    vx_open_local(&x, "");
    wait_stored(&x);
    CHECK(vx_foreign_get(&x, "f") == NULL);
    vx_done(&x);
}

/* ---- what close has promised with write = back ---- */

static void close_what_a_sync_could_not_journal(struct vx *x)
{
    struct vfile *f = vx_fopen(x, "f", NEW, 0);
    vx_pwrite(x, f, "first", 5, 0);
    CHECK_INT(vfile_flush(f, &x->op), 0);
    vx_pwrite(x, f, "later", 5, 0);
    refuse_rows(x, "INSERT");
    CHECK_INT(volume_sync(x->v, &x->op), -EHOSTUNREACH);
    CHECK(vfile_flush(f, &x->op) < 0);
    refuse_rows(x, NULL);
    CHECK_INT(vx_fclose(x, f), 0);
}

/* Story: a sync of the mount met a file being written, its upload failed, and so did the journal. The close that followed took
 * the row of what had been closed before for its own: it returned 0, and a kill brought the older content back. */
static void closed_after_the_journal_has_failed(bool small)
{
    struct vx x = vx_new();
    x.policy.write = VOLUME_BACK;
    x.policy.stage_memory = small ? 64 * KIB : 0;
    killed(&x, "retries = 0\nfault = " REFUSED, close_what_a_sync_could_not_journal);
    vx_open_local(&x, "");
    wait_stored(&x);
    CHECK_STR(vx_foreign_get(&x, "f"), "later");
    vx_done(&x);
}

static void test_closed_after_the_journal_has_failed_with_a_row(void)
{
    closed_after_the_journal_has_failed(true);
}

static void test_closed_after_the_journal_has_failed_with_a_file(void)
{
    closed_after_the_journal_has_failed(false);
}

/* ---- a version that is found to be gone while the file is first written ---- */

#define LONG_WRITE (64 * MIB) /* longer than the reader's request takes */

static void *read_meanwhile(void *arg)
{
    char buf[16];
    (void)vx_pread(arg, buf, sizeof(buf), 0);
    return NULL;
}

static void write_while_a_reader_finds_it_gone(struct vx *x, const char *path, const void *data)
{
    pthread_t reader;
    vx_foreign_put(x, path, "first");
    struct vfile *r = vx_fopen(x, path, VFILE_READ, 0), *w = vx_fopen(x, path, RW, 0);
    vx_foreign_put(x, path, "theirs");
    CHECK_INT(pthread_create(&reader, NULL, read_meanwhile, r), 0);
    ssize_t wrote = vfile_write(w, &x->op, 0, data, LONG_WRITE);
    pthread_join(reader, NULL);
    CHECK(wrote == (ssize_t)LONG_WRITE || wrote == -ESTALE);
    CHECK_INT(vx_fclose(x, w), wrote > 0 ? -ESTALE : 0);
    vfile_release(r);
    CLEANUP_FREE char *ours = xasprintf("%s.conflict-", path);
    CHECK((strstr(vx_foreign_ls(x, path), ours) != NULL) == (wrote > 0));
    CHECK_STR(vx_read(x, path), "theirs");
    CHECK_INT(staged(x), 0);
}

/* Story: a reader was told that the version is gone at the store, between a writer's look and the end of its first write. The
 * write succeeded, but the file could then be neither stored, nor kept as a conflict copy, nor opened again. */
static void test_gone_during_the_first_write(void)
{
    struct vx x = vx_new();
    CLEANUP_FREE char *data = xmalloc(LONG_WRITE);
    memset(data, 'x', LONG_WRITE);
    vx_open(&x, "backend = memory\nfault = op=read,latency=4ms");
    write_while_a_reader_finds_it_gone(&x, "a", data);
    write_while_a_reader_finds_it_gone(&x, "b", data);
    write_while_a_reader_finds_it_gone(&x, "c", data);
    vx_done(&x);
}

/* ---- conflict copies that the store does not take yet ---- */

#define COPY_REFUSED "op=put,key=*.conflict-*,errno=EHOSTUNREACH,retry=safe"

static char *copy_of(struct vx *x, const char *path)
{
    CLEANUP_FREE char *begin = xasprintf("%s.conflict-", path);
    const char *at = strstr(vx_ls(x, ""), begin);
    return at ? xasprintf("%.*s", (int)strcspn(at, " "), at) : NULL;
}

/* Another client was first; the copy's name, as it is listed. */
static char *lose(struct vx *x, const char *path, struct vfile *f, int code)
{
    bool back = x->policy.write == VOLUME_BACK;
    vx_pwrite(x, f, "what was written here", 21, 0);
    vx_foreign_put(x, path, "theirs");
    CHECK_INT(vfile_flush(f, &x->op), back ? 0 : code);
    char *name = copy_of(x, path);
    for (int i = 0; i < 3000 && !name; i++) {
        clock_sleep_ms(10);
        name = copy_of(x, path);
    }
    CHECK(name != NULL);
    return name;
}

/* All that a handle of the old name gets. */
static void check_stale(struct vx *x, struct vfile *f, int code)
{
    char buf[32];
    const struct attr mode = {.known = ATTR_HAS_MODE, .mode = 0600};
    CHECK_INT(vx_pread(f, buf, sizeof(buf), 0), -ESTALE);
    CHECK_INT(vfile_write(f, &x->op, 0, "late", 4), -ESTALE);
    CHECK_INT(vfile_try_write(f, 0, "late", 4), -EAGAIN);
    CHECK_INT(vfile_truncate(f, &x->op, 0), -ESTALE);
    CHECK_INT(vfile_fallocate(f, &x->op, 0, 0, 100), -ESTALE);
    CHECK_INT(vfile_set_attr(f, &x->op, &mode), -ESTALE);
    CHECK_INT(vfile_flush(f, &x->op), code);
    CHECK_INT(vfile_fsync(f, &x->op), code);
}

/* Who has it open by its own name goes on when it is stored. */
static void test_a_waiting_copy_that_is_stored_while_it_is_open(void)
{
    struct vx x = vx_new();
    char buf[64] = "";
    vx_open(&x, "backend = memory\nretries = 0\nfault = " COPY_REFUSED ",nth=1");
    struct vfile *old = vx_fopen(&x, "f", NEW | VFILE_EXCL, 0);
    CLEANUP_FREE char *name = lose(&x, "f", old, -EEXIST);
    struct vfile *f = vx_fopen(&x, name, RW, 0);
    CHECK_INT(vx_pread(f, buf, sizeof(buf), 0), 21);
    CHECK_STR(buf, "what was written here");
    check_stale(&x, old, -EEXIST);
    (void)volume_sync(x.v, &x.op); /* unless it is stored already */
    wait_stored(&x);
    CHECK_STR(vx_foreign_get(&x, name), "what was written here");
    CHECK_INT(vx_pread(f, buf, sizeof(buf), 0), 21);
    vx_pwrite(&x, f, "WHAT", 4, 0);
    CHECK_INT(vx_fclose(&x, f), 0);
    CHECK_STR(vx_foreign_get(&x, name), "WHAT was written here");
    check_stale(&x, old, -EEXIST);
    CHECK_INT(vx_fclose(&x, old), -EEXIST);
    CHECK_STR(vx_foreign_get(&x, "f"), "theirs");
    vx_done(&x);
}

static void edit_and_remove_waiting_copies(struct vx *x)
{
    vx_foreign_put(x, "f", "base");
    vx_foreign_put(x, "g", "base");
    struct vfile *old[] = {vx_fopen(x, "f", RW, 0), vx_fopen(x, "g", RW, 0)};
    CLEANUP_FREE char *name = lose(x, "f", old[0], -ESTALE), *other = lose(x, "g", old[1], -ESTALE);
    struct vfile *f = vx_fopen(x, name, RW, 0);
    vx_pwrite(x, f, "WHAT", 4, 0);
    CHECK_STR(vx_read(x, name), "WHAT was written here");
    CHECK_INT(vx_fclose(x, f), x->policy.write == VOLUME_BACK ? 0 : -EHOSTUNREACH);
    CHECK_INT(volume_unlink(x->v, &x->op, other), 0);
    CHECK_INT(staged(x), 1);
    check_stale(x, old[0], -ESTALE);
    check_stale(x, old[1], -ESTALE);
}

/* What was edited by its own name is what the next process has, and stores. */
static void a_waiting_copy_after_a_kill(enum volume_write write, bool small)
{
    struct vx x = vx_new();
    x.policy.write = write;
    x.policy.stage_memory = small ? 64 * KIB : 0;
    killed(&x, "retries = 0\nfault = " COPY_REFUSED, edit_and_remove_waiting_copies);
    vx_open_local(&x, "retries = 0\nfault = " COPY_REFUSED);
    CLEANUP_FREE char *all = xstrdup(vx_ls(&x, ""));
    CLEANUP_FREE char *name = xasprintf("%.*s", (int)strcspn(all + 2, " "), all + 2);
    CHECK(strncmp(all, "f f.conflict-", 13) == 0 && strcmp(all + strlen(all) - 2, " g") == 0);
    CHECK_STR(vx_read(&x, name), "WHAT was written here");
    CHECK_INT(vx_close(&x), 1);
    vx_open_local(&x, "");
    wait_stored(&x);
    CHECK_STR(vx_foreign_get(&x, name), "WHAT was written here");
    CHECK_STR(vx_foreign_ls(&x, ""), all);
    vx_done(&x);
}

static void test_a_waiting_copy_after_a_kill(void)
{
    for (int small = 0; small < 2; small++) {
        a_waiting_copy_after_a_kill(VOLUME_BACK, small);
        a_waiting_copy_after_a_kill(VOLUME_THROUGH, small);
    }
}

/* Story: two copies of one second have one name, and where the store ignores conditions the second replaced the first. */
static void test_two_conflicts_within_a_second_without_conditions(void)
{
    struct vx x = vx_new();
    x.mask = CAP_IF_MATCH;
    vx_open(&x, "backend = memory");
    for (int i = 0; i < 2; i++) { /* or the second is over in between: as good */
        vx_foreign_put(&x, "f", "base");
        struct vfile *f = vx_fopen(&x, "f", RW, 0);
        vx_pwrite(&x, f, i ? "second" : "first", i ? 6 : 5, 0);
        vx_foreign_put(&x, "f", "theirs");
        CHECK_INT(vx_fclose(&x, f), -ESTALE);
    }
    const char *first = strstr(vx_foreign_ls(&x, ""), "f.conflict-");
    CHECK(first && strstr(first + 1, "f.conflict-"));
    vx_done(&x);
}

int main(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    RUN(test_removed_after_a_lost_answer_and_a_refusal);
    RUN(test_removed_after_a_restart_and_a_refusal);
    RUN(test_removed_while_the_journal_fails);
    RUN(test_closed_after_the_journal_has_failed_with_a_row);
    RUN(test_closed_after_the_journal_has_failed_with_a_file);
    RUN(test_gone_during_the_first_write);
    RUN(test_a_waiting_copy_that_is_stored_while_it_is_open);
    RUN(test_a_waiting_copy_after_a_kill);
    RUN(test_two_conflicts_within_a_second_without_conditions);
    return t_done();
}
