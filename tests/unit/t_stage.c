/* SPDX-License-Identifier: MIT
 * t_stage.c: nothing that was promised is lost: failed commits, restarts, kills, full disks, write = back. */
#include "base/sqldb.h"
#include "tests/unit/stage_fixture.h"

#define RW (VFILE_READ | VFILE_WRITE)
#define NEW (VFILE_READ | VFILE_WRITE | VFILE_CREATE)
#define BROKEN "retries = 0\nfault = op=put,errno=EIO;op=patch,errno=EIO;op=upload_part,errno=EIO\n"
#define S3_LIKE (CAP_PATCH | CAP_RENAME_FILE | CAP_RENAME_DIR)

/* close() reports it; it is listed; the next process stores it. */
static void test_failed_commit_survives(void)
{
    struct vx x = vx_new();
    x.mask = S3_LIKE;
    vx_open_local(&x, "");
    vx_write(&x, "old", "old content");
    CHECK_INT(vx_close(&x), 0);
    vx_open_local(&x, BROKEN);
    struct vfile *f = vx_fopen(&x, "new", NEW, 0);
    vx_pwrite(&x, f, "precious", 8, 0);
    CHECK_INT(vfile_flush(f, &x.op), -EIO);
    CHECK(strstr(x.op.err.text, "stays staged in") != NULL);
    CHECK(strstr(x.op.err.text, "lake: new") != NULL);
    CHECK_INT(vfile_fsync(f, &x.op), -EIO); /* again, until it is stored */
    struct attr change = {.known = ATTR_HAS_MODE, .mode = 0601};
    CHECK_INT(vfile_set_attr(f, &x.op, &change), 0);
    vfile_release(f);
    f = vx_fopen(&x, "old", RW, 0);
    vx_pwrite(&x, f, "OLD", 3, 0);
    CHECK_INT(vx_fclose(&x, f), -EIO);
    CHECK_STR(vx_foreign_get(&x, "old"), "old content");
    CHECK_STR(vx_read(&x, "old"), "OLD content"); /* here it is what was written */
    CHECK_STR(vx_read(&x, "new"), "precious");
    struct staged_info *list = NULL;
    size_t n = 0;
    CHECK_INT(volume_staged(x.v, &list, &n), 0);
    CHECK_INT(n, 2);
    CHECK(list[0].attempts >= 1 && list[0].last_error[0]);
    staged_list_free(list, n);
    CHECK_INT(vx_close_ms(&x, 200), 2);
    vx_open_local(&x, "");
    wait_stored(&x);
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    CHECK_STR(vx_foreign_get(&x, "new"), "precious");
    CHECK_STR(vx_foreign_get(&x, "old"), "OLD content");
    CHECK_INT(vx_stat(&x, "new", &a), 0);
    CHECK_INT(a.mode, 0601);
    check_no_files(&x);
    vx_done(&x);
}

/* The store comes back while we run: retried without being asked. */
static void test_retried(void)
{
    struct vx x = vx_new();
    vx_open(&x, "backend = memory\nretries = 0\nfault = op=put,nth=1,errno=EIO");
    CHECK_INT(vx_write_n(&x, "f", "data", 4), -EIO);
    CHECK(vx_foreign_get(&x, "f") == NULL);
    wait_stored(&x);
    CHECK_STR(vx_foreign_get(&x, "f"), "data");
    check_no_files(&x);
    vx_done(&x);
}

static void work_failed(struct vx *x)
{
    CHECK_INT(vx_write_n(x, "promised", "abcdef", 6), -EIO);
    struct vfile *f = vx_fopen(x, "unflushed", NEW, 0);
    vx_pwrite(x, f, "nobody was told", 15, 0);
    CHECK_INT(stage_files(x), 0); /* small */
    vx_pwrite(x, f, "it grows", 8, 100);
    CHECK_INT(stage_files(x), 1);
    char head[16];
    CHECK_INT(vx_pread(f, head, 15, 0), 15);
    CHECK(memcmp(head, "nobody was told", 15) == 0);
    f = vx_fopen(x, "base", RW, 0);
    vx_pwrite(x, f, "XX", 2, 2);
    CHECK_INT(vfile_flush(f, &x->op), -EIO);
    CHECK_INT(vfile_truncate(f, &x->op, 6), 0);
    CHECK_INT(vfile_flush(f, &x->op), -EIO); /* said again, and promised as it is now */
}

static void test_killed_after_error(void)
{
    struct vx x = vx_new();
    x.mask = S3_LIKE;
    x.policy.stage_memory = 64;
    vx_open_local(&x, "");
    vx_write(&x, "base", "0123456789");
    CHECK_INT(vx_close(&x), 0);
    killed(&x, BROKEN, work_failed);
    CHECK_INT(stage_files(&x), 1); /* of "unflushed"; the others are in their rows */
    vx_open_local(&x, "");
    wait_stored(&x);
    CHECK_STR(vx_foreign_get(&x, "promised"), "abcdef");
    CHECK_STR(vx_foreign_get(&x, "base"), "01XX45");
    CHECK(vx_foreign_get(&x, "unflushed") == NULL);
    check_no_files(&x); /* what was not promised is swept */
    vx_done(&x);
}

static void work_back(struct vx *x)
{
    for (int i = 0; i < 20; i++) {
        char path[16], text[32];
        snprintf(path, sizeof(path), "f%d", i);
        snprintf(text, sizeof(text), "content %d", i);
        CHECK_INT(vx_write_n(x, path, text, strlen(text)), 0); /* close() says yes */
    }
}

static void test_back_killed(void)
{
    struct vx x = vx_new();
    x.policy.stage_memory = STAGE_MEMORY_MAX;
    x.policy.write = VOLUME_BACK;
    killed(&x, "retries = 0\nfault = op=put,errno=EHOSTUNREACH,latency=5ms\n", work_back);
    vx_open_local(&x, "");
    wait_stored(&x);
    for (int i = 0; i < 20; i++) {
        char path[16], text[32];
        snprintf(path, sizeof(path), "f%d", i);
        snprintf(text, sizeof(text), "content %d", i);
        CHECK_STR(vx_foreign_get(&x, path), text);
    }
    check_no_files(&x);
    vx_done(&x);
}

/* More than may be in memory: the rows have them, and give them back to readers, writers and uploads. */
static void test_back_many(void)
{
    struct vx x = vx_new();
    enum { FILES = 2 * STAGE_MEMORY_FILES };
    struct vfile *open[FILES];
    x.policy.stage_memory = STAGE_MEMORY_MAX;
    x.policy.write = VOLUME_BACK;
    vx_open_local(&x, "retries = 0\nfault = op=put,errno=EHOSTUNREACH\n");
    for (int i = 0; i < FILES; i++) {
        CLEANUP_FREE char *path = xasprintf("f%d", i);
        vx_write(&x, path, path);
    }
    check_no_files(&x);
    for (int i = 0; i < FILES; i++) {
        CLEANUP_FREE char *path = xasprintf("f%d", i);
        open[i] = vx_fopen(&x, path, RW, 0);
        vx_pwrite(&x, open[i], "F", 1, 0);
    }
    for (int i = 0; i < FILES; i++) {
        CLEANUP_FREE char *path = xasprintf("f%d", i), *want = xasprintf("F%d", i);
        CHECK_STR(vx_read(&x, path), want);
        if (i % 2)
            CHECK_INT(vfile_flush(open[i], &x.op), 0);
        vfile_release(open[i]);
    }
    CHECK_INT(vx_close_ms(&x, 200), FILES);
    check_no_files(&x);
    vx_open_local(&x, "");
    wait_stored(&x);
    for (int i = 0; i < FILES; i++) {
        CLEANUP_FREE char *path = xasprintf("f%d", i), *want = xasprintf("F%d", i);
        CHECK_STR(vx_foreign_get(&x, path), want);
    }
    vx_done(&x);
}

/* What a row has promised stays as it was until more is promised, whatever is written meanwhile. */
static void work_grown(struct vx *x)
{
    const char *names[] = {"cut", "grown", "both", "kept"};
    char big[100], other[100];
    memset(big, 'b', sizeof(big));
    memset(other, 'o', sizeof(other));
    CHECK_INT(vx_write_n(x, "big", big, 100), 0);
    CHECK_INT(vx_write_n(x, "rewritten", big, 100), 0);
    for (int i = 0; i < 4; i++)
        CHECK_INT(vx_write_n(x, names[i], "promised", 8), 0);
    struct vfile *f = vx_fopen(x, "cut", RW | VFILE_TRUNC, 0);
    vx_pwrite(x, f, "x", 1, 0);
    f = vx_fopen(x, "grown", RW, 0);
    vx_pwrite(x, f, "more", 4, 100);
    CHECK_INT(stage_files(x), 3); /* 64 is what may be in a row */
    f = vx_fopen(x, "both", RW, 0);
    vx_pwrite(x, f, "more", 4, 100);
    CHECK_INT(vfile_fsync(f, &x->op), 0);
    CHECK_INT(vfile_truncate(f, &x->op, 4), 0);
    CHECK_INT(vfile_fsync(f, &x->op), 0);
    CHECK_INT(stage_files(x), 3);
    f = vx_fopen(x, "big", RW | VFILE_TRUNC, 0);
    vx_pwrite(x, f, other, 90, 0); /* nobody was told */
    f = vx_fopen(x, "rewritten", RW | VFILE_TRUNC, 0);
    vx_pwrite(x, f, other, 100, 0);
    CHECK_INT(vfile_fsync(f, &x->op), 0);
    CHECK_INT(stage_files(x), 4);
    struct attr change = {.known = ATTR_HAS_MODE, .mode = 0601};
    f = vx_fopen(x, "kept", RW, 0);
    CHECK_INT(vfile_set_attr(f, &x->op, &change), 0);
}

static void test_rows_keep_promises(void)
{
    struct vx x = vx_new();
    x.policy.write = VOLUME_BACK;
    x.policy.stage_memory = 64;
    killed(&x, "retries = 0\nfault = op=put,errno=EHOSTUNREACH\n", work_grown);
    vx_open_local(&x, "");
    wait_stored(&x);
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    CHECK_INT(strspn(vx_foreign_get(&x, "big"), "b"), 100);
    CHECK_INT(strspn(vx_foreign_get(&x, "rewritten"), "o"), 100);
    CHECK_STR(vx_foreign_ls(&x, ""), "big both cut grown kept rewritten");
    CHECK_STR(vx_foreign_get(&x, "cut"), "promised");
    CHECK_STR(vx_foreign_get(&x, "grown"), "promised");
    CHECK_STR(vx_foreign_get(&x, "both"), "prom");
    CHECK_STR(vx_foreign_get(&x, "kept"), "promised");
    CHECK_INT(vx_stat(&x, "kept", &a), 0);
    CHECK_INT(a.mode, 0601);
    check_no_files(&x);
    vx_done(&x);
}

/* Stored, and the row not gone yet: no second copy; and what is removed or renamed then does not come back. */
static void work_stored(struct vx *x)
{
    const char *names[] = {"left", "removed", "moved", "stamped"};
    struct attr change = {.known = ATTR_HAS_MTIME, .mtime = {.tv_sec = 1000}}, a = ATTR_INIT;
    for (int i = 0; i < 4; i++)
        CHECK_INT(vx_write_n(x, names[i], names[i], strlen(names[i])), 0);
    CHECK_INT(volume_sync(x->v, &x->op), 0);
    CHECK_INT(volume_unlink(x->v, &x->op, "removed"), 0);
    CHECK_INT(volume_rename(x->v, &x->op, "moved", "there", 0, NULL), 0);
    CHECK_INT(volume_set_attr(x->v, &x->op, "stamped", &change, &a), 0);
}

static void test_forgotten_rows(void)
{
    struct vx x = vx_new();
    x.mask = S3_LIKE;
    x.policy.stage_memory = STAGE_MEMORY_MAX;
    x.policy.write = VOLUME_BACK;
    killed(&x, "", work_stored);
    vx_open_local(&x, "");
    wait_stored(&x);
    CHECK_STR(vx_foreign_ls(&x, ""), "left stamped there");
    CHECK_STR(vx_foreign_get(&x, "left"), "left");
    vx_done(&x);
}

/* Killed between the store's yes and the journal's: no conflict, no second copy. */
static void work_lost(struct vx *x)
{
    CHECK_INT(vx_write_n(x, "f", "second", 6), -EIO);
}

static void test_stored_before_kill(void)
{
    struct vx x = vx_new();
    x.mask = S3_LIKE;
    vx_open_local(&x, "");
    vx_write(&x, "f", "first");
    CHECK_INT(vx_close(&x), 0);
    killed(&x, "retries = 0\nfault = op=put,errno=EIO,lost=yes,retry=never\n", work_lost);
    vx_open_local(&x, "");
    wait_stored(&x);
    CHECK_STR(vx_foreign_get(&x, "f"), "second");
    CHECK_STR(vx_foreign_ls(&x, ""), "f");
    vx_done(&x);
}

/* Another client changed the file between the crash and the recovery: both are kept. */
static void test_conflict_at_recovery(void)
{
    struct vx x = vx_new();
    x.mask = S3_LIKE;
    vx_open_local(&x, "");
    vx_write(&x, "f", "first");
    CHECK_INT(vx_close(&x), 0);
    vx_open_local(&x, BROKEN);
    CHECK_INT(vx_write_n(&x, "f", "ours", 4), -EIO);
    CHECK_INT(vx_close_ms(&x, 100), 1);
    CLEANUP_FREE char *path = xasprintf("%s/root/f", x.dir);
    FILE *out = fopen(path, "w");
    CHECK(out && fputs("theirs", out) >= 0 && fclose(out) == 0);
    vx_open_local(&x, "");
    wait_stored(&x);
    CHECK_STR(vx_foreign_get(&x, "f"), "theirs");
    CLEANUP_FREE char *all = xstrdup(vx_foreign_ls(&x, ""));
    char *copy = strstr(all, "f.conflict-");
    CHECK(copy != NULL);
    CHECK_STR(vx_foreign_get(&x, copy), "ours");
    vx_done(&x);
}

/* A failed commit of a removed file is not brought back. */
static void test_unlinked_is_gone(void)
{
    struct vx x = vx_new();
    vx_open_local(&x, BROKEN);
    CHECK_INT(vx_write_n(&x, "f", "data", 4), -EIO);
    CHECK_INT(volume_unlink(x.v, &x.op, "f"), 0);
    CHECK_INT(staged(&x), 0);
    check_no_files(&x);
    CHECK_INT(vx_close(&x), 0);
    vx_open_local(&x, "");
    CHECK_STR(vx_ls(&x, ""), "");
    vx_done(&x);
}

static void test_disk_full(void)
{
    struct vx x = vx_new();
    x.mask = S3_LIKE | CAP_UPLOAD; /* else it would leave while it is written */
    vx_open(&x, "backend = memory");
    vx_write(&x, "f", "good content");
    CLEANUP_FREE char *big = xcalloc(1, 8 * MIB);
    struct vfile *f = vx_fopen(&x, "f", RW, 0);
    struct vfile *g = vx_fopen(&x, "g", NEW, 0);
    uint64_t off = 0;
    ssize_t n;
    while ((n = vfile_write(g, &x.op, off, big, 8 * MIB)) > 0) /* sparse on disk, but reserved */
        off += (uint64_t)n;
    CHECK_INT(n, -ENOSPC);
    CHECK_INT(vfile_write(f, &x.op, 0, "bad", 3), -ENOSPC);
    CHECK_INT(vx_fclose(&x, f), 0);
    CHECK_STR(vx_foreign_get(&x, "f"), "good content");
    CHECK_INT(vfile_truncate(g, &x.op, 8 * MIB), 0); /* gives the room back */
    CHECK_INT(vx_fclose(&x, g), 0);
    f = vx_fopen(&x, "f", RW, 0);
    vx_pwrite(&x, f, "GOOD", 4, 0);
    CHECK_INT(vx_fclose(&x, f), 0);
    CHECK_STR(vx_foreign_get(&x, "f"), "GOOD content");
    struct cache_usage u;
    cache_get_usage(x.c, NULL, &u);
    CHECK_INT(u.dirty_bytes, 0);
    vx_done(&x);
}

/* While the store is away, a writer does not wait for the attempts in the background. */
static void test_writer_cancels_upload(void)
{
    struct vx x = vx_new();
    x.policy.write = VOLUME_BACK;
    vx_open(&x, "backend = memory\nretries = 0\nfault = op=put,latency=20s");
    vx_write(&x, "f", "one");
    clock_sleep_ms(100); /* the upload hangs now */
    uint64_t begin = clock_now_ns();
    struct vfile *f = vx_fopen(&x, "f", RW, 0);
    vx_pwrite(&x, f, "two", 3, 0);
    CHECK_INT(vx_fclose(&x, f), 0);
    CHECK(clock_now_ns() - begin < 15 * NS_PER_S);
    CHECK_STR(vx_read(&x, "f"), "two");
    CHECK_INT(vx_close_ms(&x, 100), 1);
    vx_done(&x);
}

static void test_metadata_survives(void)
{
    struct vx x = vx_new();
    x.policy.offline_serve = true;
    vx_open_local(&x, "");
    vx_write(&x, "d", "x");
    CHECK_STR(vx_ls(&x, ""), "d");
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    CHECK_INT(vx_stat(&x, "d", &a), 0);
    CHECK_INT(vx_close(&x), 0);
    vx_open_local(&x, "retries = 0\nfault = op=stat,errno=EHOSTUNREACH;op=list,errno=EHOSTUNREACH\n");
    CHECK_INT(vx_stat(&x, "d", &a), 0);
    CHECK_INT(a.size, 1);
    CHECK_STR(vx_ls(&x, ""), "d");
    CHECK_INT(vx_stat(&x, "never-seen", &a), -EHOSTUNREACH);
    CHECK_INT(vx_close(&x), 0);
    x.policy.offline_serve = false;
    vx_open_local(&x, "retries = 0\nfault = op=stat,errno=EHOSTUNREACH;op=list,errno=EHOSTUNREACH\n");
    CHECK_INT(vx_stat(&x, "d", &a), -EHOSTUNREACH);
    CHECK_STR(vx_ls(&x, ""), "error 113");
    vx_done(&x);
}

static void test_bad_journal(void)
{
    struct vx x = vx_new();
    vx_open_local(&x, BROKEN);
    CHECK_INT(vx_write_n(&x, "f", "data", 4), -EIO);
    CHECK_INT(vx_close_ms(&x, 100), 1);
    CLEANUP_FREE char *db = xasprintf("%s/cache/journal.db", x.dir);
    int fd = open(db, O_WRONLY);
    CHECK(fd >= 0 && write(fd, "this is not a database", 22) == 22);
    close(fd);
    log_set_level(LOG_LEVEL_ERROR);
    vx_open_local(&x, "");
    CLEANUP_FREE char *lost = xasprintf("%s/cache/stage/lost", x.dir);
    DIR *d = opendir(lost);
    CHECK(d != NULL);
    size_t n = 0;
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    CHECK_INT(n, 1); /* somebody must look at it */
    vx_done(&x);
}

/* What a newer program has left waits for that program. */
static void test_newer_journal(void)
{
    struct vx x = vx_new();
    struct err err = ERR_INIT;
    struct stage *s = NULL;
    x.policy.stage_memory = 64;
    vx_open_local(&x, BROKEN);
    char big[100] = "";
    CHECK_INT(vx_write_n(&x, "f", big, 100), -EIO);
    CHECK_INT(vx_close_ms(&x, 100), 1);
    CLEANUP_FREE char *cache = xasprintf("%s/cache", x.dir), *path = xasprintf("%s/journal.db", cache);
    struct sqldb *db = NULL;
    CHECK_INT(sqldb_open(path, SQLDB_WAL_FULL, &err, &db), 0);
    CHECK_INT(sqldb_exec(db, &err, "PRAGMA user_version = 77"), 0);
    CHECK_INT(stage_open(cache, "lake", &err, &s), -ENOTSUP);
    CHECK(strstr(err.text, path) && strstr(err.text, "form 77") && strstr(err.text, "Start that quayfs again"));
    CHECK_INT(stage_files(&x), 1);
    CHECK_INT(sqldb_exec(db, &err, "PRAGMA user_version = 0"), 0); /* as from before there were forms */
    sqldb_close(db);
    vx_open_local(&x, "");
    wait_stored(&x);
    vx_done(&x);
}

/* Rows of many threads share commits: each is there when its call returned, and no other's failure is its own. */
#define ROW_THREADS 8
#define ROWS_EACH 12

static struct stage *rows_stage;

static void *put_rows(void *arg)
{
    const char *who = arg;
    for (int i = 0; i < ROWS_EACH; i++) {
        struct err err = ERR_INIT;
        struct stage_file *f = NULL;
        struct stage_row row = {.attr = {.kind = ATTR_FILE, .known = ATTR_META}};
        CHECK_INT(stage_file_new(rows_stage, &err, &f, &row.file), 0);
        row.path = xasprintf("%s-%d", who, i);
        CHECK_INT(stage_row_put(rows_stage, &row, &err), 0);
        if (i % 3 == 0) {
            CHECK_INT(stage_row_remove(rows_stage, row.file, &err), 0);
            stage_file_remove(rows_stage, row.file);
        }
        stage_file_put(f);
        stage_row_done(&row);
    }
    return NULL;
}

static void count_row(void *arg, struct stage_row *row, struct stage_file *f)
{
    ++*(int *)arg;
    stage_row_done(row);
    stage_file_put(f);
}

static void test_shared_commits(void)
{
    static char names[ROW_THREADS][2];
    struct vx x = vx_new();
    struct err err = ERR_INIT;
    pthread_t ids[ROW_THREADS];
    int found = 0;
    CHECK_INT(stage_open(x.dir, "lake", &err, &rows_stage), 0);
    for (int i = 0; i < ROW_THREADS; i++) {
        names[i][0] = (char)('a' + i);
        CHECK_INT(pthread_create(&ids[i], NULL, put_rows, names[i]), 0);
    }
    for (int i = 0; i < ROW_THREADS; i++)
        pthread_join(ids[i], NULL);
    stage_close(rows_stage);
    CHECK_INT(stage_open(x.dir, "lake", &err, &rows_stage), 0);
    CHECK_INT(stage_recover(rows_stage, count_row, &found, &err), 0);
    CHECK_INT(found, ROW_THREADS * ROWS_EACH * 2 / 3);
    stage_close(rows_stage);
    vx_done(&x);
}

int main(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    RUN(test_failed_commit_survives);
    RUN(test_retried);
    RUN(test_killed_after_error);
    RUN(test_back_killed);
    RUN(test_back_many);
    RUN(test_rows_keep_promises);
    RUN(test_forgotten_rows);
    RUN(test_stored_before_kill);
    RUN(test_conflict_at_recovery);
    RUN(test_unlinked_is_gone);
    RUN(test_disk_full);
    RUN(test_writer_cancels_upload);
    RUN(test_metadata_survives);
    RUN(test_bad_journal);
    RUN(test_newer_journal);
    RUN(test_shared_commits);
    return t_done();
}
