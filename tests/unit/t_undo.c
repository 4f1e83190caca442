/* SPDX-License-Identifier: MIT
 * t_undo.c: a file that waits, too large for a row, is edited in place: until there is another promise, a kill
 * brings back what was promised. */
#include "tests/unit/stage_fixture.h"

#include <linux/falloc.h>

#define RW (VFILE_READ | VFILE_WRITE)
#define NEW (VFILE_READ | VFILE_WRITE | VFILE_CREATE)
#define AWAY "retries = 0\nfault = op=put,errno=EHOSTUNREACH;op=patch,errno=EHOSTUNREACH\n"
#define LARGE (300 * KIB)

enum { MODEL_MAX = 1500 * 1024 };

/* All that the store has of it. */
static size_t foreign_get(struct vx *x, const char *key, char *to)
{
    struct read_req req = {.key = key, .iov = {.iov_base = to, .iov_len = MODEL_MAX}};
    struct read_res res = READ_RES_INIT;
    CHECK_INT(store_read(x->store, &x->op, &req, &res), 0);
    size_t n = res.length;
    read_res_done(&res);
    return n;
}

static void fill(char *to, size_t n, char c)
{
    memset(to, c, n);
}

static size_t undo_files(struct vx *x)
{
    CLEANUP_FREE char *dir = xasprintf("%s/cache/stage", x->dir);
    DIR *d = opendir(dir);
    size_t n = 0;
    for (struct dirent *e; d && (e = readdir(d));)
        n += strstr(e->d_name, ".undo") != NULL;
    if (d)
        closedir(d);
    return n;
}

/* Opens what was closed with LARGE times 'p'. */
static struct vfile *large(struct vx *x, const char *path)
{
    CLEANUP_FREE char *p = malloc(LARGE);
    fill(p, LARGE, 'p');
    CHECK_INT(vx_write_n(x, path, p, LARGE), 0);
    return vx_fopen(x, path, RW, 0);
}

static void work_edits(struct vx *x)
{
    struct attr change = {.known = ATTR_HAS_MODE, .mode = 0601};
    struct vfile *f = large(x, "appended");
    vx_pwrite(x, f, "more", 4, LARGE);
    CHECK_INT(undo_files(x), 0); /* nothing that was promised has changed */
    f = large(x, "edited");
    vx_pwrite(x, f, "new", 3, 1000);
    CHECK_INT(undo_files(x), 1);
    vx_pwrite(x, f, "new", 3, LARGE - 2);
    f = large(x, "cut");
    CHECK_INT(vfile_truncate(f, &x->op, LARGE - 10), 0);
    vx_pwrite(x, f, "new", 3, LARGE - 20);
    CHECK_INT(vfile_truncate(f, &x->op, LARGE + 10), 0);
    f = large(x, "short");
    vx_pwrite(x, f, "new", 3, 0);
    CHECK_INT(vfile_truncate(f, &x->op, 100), 0);
    vx_pwrite(x, f, "new", 3, 50);
    f = large(x, "punched");
    CHECK_INT(vfile_fallocate(f, &x->op, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, LARGE), 0);
    f = large(x, "stamped");
    vx_pwrite(x, f, "new", 3, 7);
    CHECK_INT(vfile_set_attr(f, &x->op, &change), 0); /* promises no content */
    f = large(x, "twice");
    vx_pwrite(x, f, "new", 3, 0);
    CHECK_INT(vfile_fsync(f, &x->op), 0);
    vx_pwrite(x, f, "other", 5, 0);
    f = vx_fopen(x, "base", RW, 0);
    vx_pwrite(x, f, "one", 3, 0);
    CHECK_INT(vfile_fsync(f, &x->op), 0);
    size_t undone = undo_files(x);
    vx_pwrite(x, f, "two", 3, 100 * KIB);
    CHECK_INT(undo_files(x), undone); /* the store has those bytes */
    vx_pwrite(x, f, "two", 3, 0);
    f = vx_fopen(x, "holes", NEW, 0);
    vx_pwrite(x, f, "end", 3, LARGE - 3);
    CHECK_INT(vfile_fsync(f, &x->op), 0);
    vx_pwrite(x, f, "new", 3, 5);
}

static void check_large(struct vx *x, const char *path, const char *head, size_t at, char fill_with)
{
    CLEANUP_FREE char *want = malloc(LARGE);
    fill(want, LARGE, fill_with);
    memcpy(want + at, head, strlen(head));
    CLEANUP_FREE char *got = malloc(MODEL_MAX);
    CHECK_INT(foreign_get(x, path, got), LARGE);
    if (memcmp(got, want, LARGE) != 0)
        fprintf(stderr, "%s: other bytes than those that were closed\n", path);
    CHECK(memcmp(got, want, LARGE) == 0);
}

/* LARGE bytes are stored as `base`; then `work` runs with write = back and a store that is away, and is killed. */
static struct vx left_by(const char *base, void (*work)(struct vx *x))
{
    struct vx x = vx_new();
    x.policy.stage_memory = 64;
    if (base) {
        vx_open_local(&x, "");
        vfile_release(large(&x, base));
        CHECK_INT(vx_close(&x), 0);
    }
    x.policy.write = VOLUME_BACK;
    killed(&x, AWAY, work);
    return x;
}

static void test_edits_keep_promises(void)
{
    static const char *const names[] = {"appended", "edited", "cut", "short", "punched", "stamped"};
    struct vx x = left_by("base", work_edits);
    vx_open_local(&x, "");
    wait_stored(&x);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        check_large(&x, names[i], "", 0, 'p');
    check_large(&x, "twice", "new", 0, 'p');
    check_large(&x, "base", "one", 0, 'p');
    check_large(&x, "holes", "end", LARGE - 3, '\0');
    check_no_files(&x);
    vx_done(&x);
}

/* What was appended to a promised file and lost is not seen again when the file grows. */
static void test_recovered_tail(void)
{
    struct vx x = left_by("base", work_edits);
    vx_open_local(&x, AWAY);
    struct vfile *f = vx_fopen(&x, "appended", RW, 0);
    char got[8] = "";
    CHECK_INT(vfile_truncate(f, &x.op, LARGE + 8), 0);
    CHECK_INT(vx_pread(f, got, 8, LARGE), 8);
    CHECK(memcmp(got, "\0\0\0\0\0\0\0\0", 8) == 0);
    CHECK_INT(vx_fclose(&x, f), 0);
    CHECK_INT(vx_close_ms(&x, 200), 9);
    vx_done(&x);
}

/* No room for what was promised: the edit fails, and neither version is harmed. */
static void work_full(struct vx *x)
{
    char got[8] = "";
    struct vfile *f = large(x, "f");
    wait_refused(x); /* else its upload takes the faults for itself; the next is a second away */
    CHECK_INT(vfile_fallocate(f, &x->op, FALLOC_FL_KEEP_SIZE, 0, 1), 0); /* when it has ended */
    CLEANUP_FREE char *dir = xasprintf("%s/cache/stage", x->dir);
    for (int i = 1; i <= 3; i++) {
        CHECK(sys_set_faults(i == 1 ? "pwrite:28@1" : i == 2 ? "fdatasync:28@1" : "openat:28@1", dir));
        CHECK_INT(vfile_write(f, &x->op, 10, "new", 3), -ENOSPC);
        CHECK(strstr(x->op.err.text, "lake: f: ") != NULL);
        CHECK(sys_set_faults(NULL, NULL));
        CHECK_INT(undo_files(x), 0);
        CHECK_INT(vx_pread(f, got, 8, 8), 8);
        CHECK(memcmp(got, "pppppppp", 8) == 0);
    }
    vx_pwrite(x, f, "new", 3, 10);
    CHECK_INT(undo_files(x), 1);
    CHECK(sys_set_faults("pwrite:28@1", dir)); /* the next window */
    CHECK_INT(vfile_write(f, &x->op, LARGE - 3, "new", 3), -ENOSPC);
    CHECK(sys_set_faults(NULL, NULL));
    CHECK_INT(vx_pread(f, got, 8, 8), 8);
    CHECK(memcmp(got, "ppnewppp", 8) == 0);
    f = large(x, "closed");
    vx_pwrite(x, f, "new", 3, 10);
    CHECK_INT(vfile_flush(f, &x->op), 0); /* promises the edit */
    CHECK_INT(undo_files(x), 1);
}

static void test_edit_with_a_full_disk(void)
{
    struct vx x = left_by(NULL, work_full);
    vx_open_local(&x, "");
    wait_stored(&x);
    check_large(&x, "f", "", 0, 'p');
    check_large(&x, "closed", "new", 10, 'p');
    check_no_files(&x);
    vx_done(&x);
}

/* Random changes of one file; `model` beside the cache has what the last fsync has promised. */
static void note_promise(struct vx *x, const char *content, uint64_t size)
{
    CLEANUP_FREE char *path = xasprintf("%s/model", x->dir);
    FILE *out = fopen(path, "w");
    CHECK(out && fwrite(content, 1, size, out) == size && fclose(out) == 0);
}

static void random_change(struct vx *x, struct vfile *f, char *content, uint64_t *size)
{
    uint64_t off = random_below((uint32_t)*size + 1000), len = 1 + random_below(random_below(2) ? 100 : 200000);
    switch (random_below(5)) {
    case 0:
        CHECK_INT(vfile_truncate(f, &x->op, off), 0);
        *size = off;
        memset(content + off, 0, MODEL_MAX - off);
        return;
    case 1:
        CHECK_INT(vfile_fallocate(f, &x->op, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len), 0);
        if (off < *size)
            memset(content + off, 0, len < *size - off ? len : *size - off);
        return;
    default:
        if (off + len > MODEL_MAX)
            return;
        memset(content + off, 'a' + (int)random_below(26), len);
        vx_pwrite(x, f, content + off, len, off);
        *size = off + len > *size ? off + len : *size;
    }
}

static void work_random(struct vx *x)
{
    CLEANUP_FREE char *content = xcalloc(1, MODEL_MAX);
    uint64_t size = LARGE;
    struct vfile *f = vx_fopen(x, "f", RW, 0);
    fill(content, LARGE, 'p');
    for (int i = 0; i < 40; i++) {
        random_change(x, f, content, &size);
        if (i == 0 || random_below(6) == 0) {
            CHECK_INT(vfile_fsync(f, &x->op), 0);
            note_promise(x, content, size);
        }
    }
}

static void test_random_edits(void)
{
    for (int round = 0; round < 12; round++) {
        struct vx x = left_by("f", work_random);
        vx_open_local(&x, "");
        wait_stored(&x);
        CLEANUP_FREE char *model = xasprintf("%s/model", x.dir), *want = malloc(MODEL_MAX);
        FILE *in = fopen(model, "r");
        CHECK(in != NULL);
        size_t len = fread(want, 1, MODEL_MAX, in);
        fclose(in);
        CLEANUP_FREE char *got = malloc(MODEL_MAX);
        CHECK_INT(foreign_get(&x, "f", got), len);
        CHECK(memcmp(got, want, len) == 0);
        check_no_files(&x);
        vx_done(&x);
    }
}

int main(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    RUN(test_edits_keep_promises);
    RUN(test_recovered_tail);
    RUN(test_edit_with_a_full_disk);
    RUN(test_random_edits);
    return t_done();
}
