/* SPDX-License-Identifier: MIT
 * rejects.c: see rejects.h. Three files are written under hidden names and appear when published.
 */
#include "loader/rejects.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/crypto.h"
#include "base/name.h"
#include "base/sys.h"
#include "loader/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <strings.h>
#include <sys/file.h>

#define VALUE_MAX 200
#define FLUSH_AT 65536
#define ERRORS_HEADER "file\tline\tbyte_off\tcol_no\tcol_name\tcode\tsqlstate\tmessage\tvalue\n"

enum { BAD = 0, REASONS, ERRORS, N_FILES };

struct reject_file {
    char *partial; /* path while it is written */
    int fd;
    uint64_t size;
    struct buf text; /* not yet written */
};

struct rejects {
    char *run_dir, *path;
    char *header;
    size_t header_len;
    bool open;
    struct reject_file files[N_FILES];
};

struct rejects *rejects_new(const char *run_dir, const char *path, const void *header,
                            size_t header_len)
{
    struct rejects *j = xcalloc(1, sizeof(*j));

    j->run_dir = xstrdup(run_dir);
    j->path = xstrdup(path);
    j->header = xmalloc(header_len + 1);
    if (header_len)
        memcpy(j->header, header, header_len);
    j->header_len = header_len;
    for (int i = 0; i < N_FILES; i++)
        j->files[i].fd = -1;
    return j;
}

static int disk_error(struct err *err, int r, const char *what)
{
    return err_set(err, -r, "rejects: %s: %s", what, strerror(-r));
}

static int flush(struct reject_file *f)
{
    ssize_t r = f->text.len ? sys_pwrite(f->fd, f->text.data, f->text.len, f->size) : 0;

    if (r < 0)
        return (int)r;
    f->size += f->text.len;
    buf_reset(&f->text);
    return 0;
}

static int open_files(struct rejects *j, struct err *err)
{
    static const char *const kinds[] = {"bad", "err", "errors"};
    CLEANUP_FREE char *dir = path_join(j->run_dir, "rejects");
    char hex[65];
    int r = sys_mkdirs(dir, 0700);

    sha256_hex(j->path, strlen(j->path), hex);
    for (int i = 0; r == 0 && i < N_FILES; i++) {
        j->files[i].partial = xasprintf("%s/.partial-%.16s.%s", dir, hex, kinds[i]);
        int fd = sys_openat(AT_FDCWD, j->files[i].partial, O_RDWR | O_CREAT | O_TRUNC, 0600);
        if (fd < 0)
            r = fd;
        j->files[i].fd = fd;
    }
    if (r < 0)
        return disk_error(err, r, dir);
    j->open = true;
    buf_add(&j->files[BAD].text, j->header, j->header_len);
    if (j->header_len && j->header[j->header_len - 1] != '\n')
        buf_addc(&j->files[BAD].text, '\n');
    buf_addf(&j->files[REASONS].text, "# %s\n", j->path);
    return 0;
}

/* Text for a TSV cell: controls, backslashes and what is not UTF-8 escaped, at most `max` bytes of
 * it. */
static void add_escaped(struct buf *b, const char *p, size_t len, size_t max)
{
    if (len > max)
        len = max;
    for (size_t i = 0; i < len;) {
        unsigned char c = (unsigned char)p[i];
        bool cut = false;
        size_t good = 1;
        if (c >= 0x80) {
            size_t left = len - i < 4 ? len - i : 4;
            good = utf8_valid_prefix(p + i, left, &cut);
            for (size_t n = left; good == 0 && n-- > 1;)
                good = utf8_valid_prefix(p + i, n, NULL);
        }
        if (c == '\t')
            buf_adds(b, "\\t");
        else if (c == '\n')
            buf_adds(b, "\\n");
        else if (c == '\r')
            buf_adds(b, "\\r");
        else if (c == '\\')
            buf_adds(b, "\\\\");
        else if (c < 0x20 || c == 0x7F || good == 0)
            buf_addf(b, "\\x%02X", c);
        else
            buf_add(b, p + i, good);
        i += good ? good : 1;
    }
}

static void add_text(struct buf *b, const char *s, char end)
{
    add_escaped(b, s ? s : "", s ? strlen(s) : 0, 2000);
    buf_addc(b, end);
}

int rejects_add(struct rejects *j, const struct bad_row *bad, const void *raw, size_t len,
                struct err *err)
{
    int r = j->open ? 0 : open_files(j, err);
    const char *bytes = raw;

    if (r < 0)
        return r;
    struct buf *b = &j->files[ERRORS].text;
    add_text(b, j->path, '\t');
    buf_addf(b, "%llu\t%llu\t%llu\t", (unsigned long long)bad->line,
             (unsigned long long)bad->offset, (unsigned long long)bad->column_number);
    add_text(b, bad->column, '\t');
    add_text(b, bad->code, '\t');
    add_text(b, bad->sqlstate, '\t');
    add_text(b, bad->message, '\t');
    add_escaped(b, bad->value ? bad->value : "", bad->value_len, VALUE_MAX);
    buf_addc(b, '\n');
    buf_add(&j->files[BAD].text, raw, len);
    if (len == 0 || bytes[len - 1] != '\n')
        buf_addc(&j->files[BAD].text, '\n');
    b = &j->files[REASONS].text;
    buf_addf(b, "%llu\t", (unsigned long long)bad->line);
    add_text(b, bad->code, '\t');
    add_text(b, bad->message, '\n');
    for (int i = 0; i < N_FILES && r == 0; i++) {
        if (j->files[i].text.len >= FLUSH_AT)
            r = flush(&j->files[i]);
    }
    return r < 0 ? disk_error(err, r, j->run_dir) : 0;
}

/* The first line of an earlier .bad.err tells whose it is; free or ours: true. */
static bool is_ours(const struct rejects *j, const char *reasons)
{
    CLEANUP_FREE char *want = xasprintf("# %s\n", j->path);
    CLEANUP_FREE char *have = xcalloc(1, strlen(want) + 1);
    CLEANUP_FD int fd = sys_openat(AT_FDCWD, reasons, O_RDONLY, 0);

    if (fd < 0)
        return true;
    return sys_pread(fd, have, strlen(want), 0) >= 0 && strcmp(have, want) == 0;
}

/* "in/a.csv.gz" -> "a.csv" */
static char *base_name(const char *path)
{
    static const char *const endings[] = {".gz", ".gzip", ".zst", ".zstd"};
    size_t parent, len;
    const char *base = path_base(path, &parent);

    len = strlen(base);
    for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
        size_t n = strlen(endings[i]);
        if (len > n && strncasecmp(base + len - n, endings[i], n) == 0)
            return xstrndup(base, len - n);
    }
    return xstrdup(base);
}

static char *final_name(const struct rejects *j, const char *base)
{
    char hex[65];
    char *name = xasprintf("%s/rejects/%s.bad", j->run_dir, base);
    CLEANUP_FREE char *reasons = xasprintf("%s.err", name);

    if (is_ours(j, reasons))
        return name;
    free(name);
    sha256_hex(j->path, strlen(j->path), hex);
    return xasprintf("%s/rejects/%s-%.8s.bad", j->run_dir, base, hex);
}

/* Appends our lines to errors.tsv, which several transfers of a run share. */
static int append_errors(struct rejects *j)
{
    CLEANUP_FREE char *path = path_join(j->run_dir, "errors.tsv");
    CLEANUP_FREE char *block = xmalloc(FLUSH_AT);
    CLEANUP_FD int fd = sys_openat(AT_FDCWD, path, O_RDWR | O_CREAT, 0600);
    struct stat st;
    ssize_t n = 0;

    if (fd < 0)
        return fd;
    if (flock(fd, LOCK_EX) < 0 || fstat(fd, &st) < 0)
        return -errno;
    uint64_t end = (uint64_t)st.st_size;
    if (end == 0) {
        n = sys_pwrite(fd, ERRORS_HEADER, strlen(ERRORS_HEADER), 0);
        end = strlen(ERRORS_HEADER);
    }
    for (uint64_t at = 0; n >= 0 && at < j->files[ERRORS].size; at += (uint64_t)n) {
        n = sys_pread(j->files[ERRORS].fd, block, FLUSH_AT, at);
        if (n > 0)
            n = sys_pwrite(fd, block, (size_t)n, end + at) < 0 ? -EIO : n;
        if (n == 0)
            break;
    }
    return n < 0 ? (int)n : 0;
}

int rejects_flush(struct rejects *j, struct err *err)
{
    int r = 0;

    for (int i = 0; r == 0 && j->open && i < N_FILES; i++)
        r = flush(&j->files[i]);
    return r < 0 ? disk_error(err, r, j->run_dir) : 0;
}

int rejects_publish(struct rejects *j, struct err *err)
{
    int r = 0;

    if (!j->open)
        return 0;
    CLEANUP_FREE char *base = base_name(j->path);
    CLEANUP_FREE char *bad = final_name(j, base);
    CLEANUP_FREE char *reasons = xasprintf("%s.err", bad);
    j->open = false;
    for (int i = 0; r == 0 && i < N_FILES; i++)
        r = flush(&j->files[i]);
    if (r == 0)
        r = append_errors(j);
    if (r == 0)
        r = sys_renameat(AT_FDCWD, j->files[REASONS].partial, AT_FDCWD, reasons, 0);
    if (r == 0)
        r = sys_renameat(AT_FDCWD, j->files[BAD].partial, AT_FDCWD, bad, 0);
    if (r < 0)
        return disk_error(err, r, j->run_dir);
    (void)sys_unlinkat(AT_FDCWD, j->files[ERRORS].partial, 0);
    return 0;
}

void rejects_free(struct rejects *j)
{
    if (!j)
        return;
    for (int i = 0; i < N_FILES; i++) {
        if (j->open && j->files[i].partial)
            (void)sys_unlinkat(AT_FDCWD, j->files[i].partial, 0);
        if (j->files[i].fd >= 0)
            (void)close(j->files[i].fd);
        free(j->files[i].partial);
        buf_done(&j->files[i].text);
    }
    free(j->run_dir);
    free(j->path);
    free(j->header);
    free(j);
}
