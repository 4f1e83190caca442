/* SPDX-License-Identifier: MIT
 * blob_sql.c: the statements, once for all databases, and what their rows mean.
 * Parameters are '?', each once and in order; names are {}, {_content}, ...; see blob_sql_expand. */
#include "backends/blob/blob_int.h"

#include "base/clock.h"

#include <errno.h>
#include <string.h>

#define COLUMNS "path, kind, size, etag, content, meta"

static const char *const texts[SQL_COUNT] = {
    [SQL_GET_META] = "SELECT value FROM {_meta} WHERE name = ?",
    [SQL_SET_META] = "INSERT INTO {_meta} (name, value) VALUES (?, ?)",
    [SQL_FIND] = "SELECT " COLUMNS " FROM {} WHERE path = ?",
    [SQL_FIND_LOCK] = "SELECT " COLUMNS " FROM {} WHERE path = ?{lock}",
    [SQL_STAT] = "SELECT " COLUMNS " FROM {} WHERE path = ? UNION ALL SELECT * FROM"
                 " (SELECT " COLUMNS " FROM {} WHERE path >= ? AND path < ?"
                 " ORDER BY path LIMIT 1) d",
    [SQL_LIST] = "SELECT " COLUMNS " FROM {} WHERE path >= ? AND path < ? ORDER BY path LIMIT ?",
    /* The conditions on pos and start are what the indexes are for; not ordered: see blob_read.c. */
    [SQL_READ] = "SELECT f.path, f.kind, f.size, f.etag, f.content, f.meta, p.start + c.pos, {slice}"
                 " FROM {} f LEFT JOIN {_part} p ON p.content = f.content"
                 " AND p.start < ? AND p.start > ? AND p.start + p.size > ?"
                 " {chunks} WHERE f.path = ?",
    [SQL_INSERT] = "INSERT INTO {} (path, kind, size, mtime, etag, content, meta)"
                   " VALUES (?, ?, ?, ?, ?, ?, ?)",
    [SQL_UPDATE] = "UPDATE {} SET kind = ?, size = ?, mtime = ?, etag = ?, content = ?, meta = ?"
                   " WHERE path = ?",
    [SQL_DELETE] = "DELETE FROM {} WHERE path = ?",
    [SQL_MOVE] = "UPDATE {} SET path = ? WHERE path = ?",
    [SQL_MOVE_TREE] = "UPDATE {} SET path = {move} WHERE path >= ? AND path < ?",
    [SQL_CONTENT_NEW] = "INSERT INTO {_content} (id, refs, state, path, meta, touched)"
                        " VALUES (?, ?, ?, ?, ?, ?)",
    [SQL_CONTENT_REFS] = "SELECT refs FROM {_content} WHERE id = ?{lock}",
    [SQL_CONTENT_TOUCH] = "UPDATE {_content} SET touched = ? WHERE id = ? AND path = ? AND state = 0",
    [SQL_CONTENT_STAGED] = "SELECT meta FROM {_content} WHERE id = ? AND path = ? AND state = 0{lock}",
    [SQL_CONTENT_REF] = "UPDATE {_content} SET refs = refs + 1, state = 1 WHERE id = ? AND state < 2",
    /* state first: MySQL assigns from left to right, with what is already new */
    [SQL_CONTENT_UNREF] = "UPDATE {_content} SET state = CASE WHEN refs <= 1 THEN 2 ELSE state END,"
                          " refs = refs - 1, touched = ? WHERE id = ?",
    [SQL_CONTENT_EXPIRE] = "UPDATE {_content} SET state = 2 WHERE id = ? AND state <> 1 AND touched <= ?",
    [SQL_CONTENT_DELETE] = "DELETE FROM {_content} WHERE id = ? AND state = 2",
    [SQL_CONTENT_SWEEP] = "SELECT id FROM {_content} WHERE (state = 2 AND touched < ?)"
                          " OR (state = 0 AND touched < ?) LIMIT 100",
    [SQL_PARTS] = "SELECT number, start, size, etag FROM {_part} WHERE content = ? ORDER BY number",
    [SQL_PART_NEW] = "INSERT INTO {_part} (content, number, start, size, etag) VALUES (?, ?, ?, ?, ?)",
    [SQL_PART_SET] = "UPDATE {_part} SET size = ?, etag = ? WHERE content = ? AND number = ?",
    [SQL_PART_START] = "UPDATE {_part} SET start = ? WHERE content = ? AND number = ?",
    [SQL_PART_DELETE] = "DELETE FROM {_part} WHERE content = ? AND number = ?",
    [SQL_PARTS_DELETE] = "DELETE FROM {_part} WHERE content = ?",
    [SQL_PARTS_CLONE] = "INSERT INTO {_part} (content, number, start, size, etag)"
                        " SELECT ?, number, start, size, etag FROM {_part} WHERE content = ?",
    [SQL_CHUNK_GET] = "SELECT data FROM {_chunk} WHERE content = ? AND part = ? AND pos = ?",
    [SQL_CHUNK_NEW] = "INSERT INTO {_chunk} (content, part, pos, data) VALUES (?, ?, ?, ?)",
    [SQL_CHUNK_SET] = "UPDATE {_chunk} SET data = ? WHERE content = ? AND part = ? AND pos = ?",
    [SQL_CHUNKS_DELETE] = "DELETE FROM {_chunk} WHERE content = ?",
    [SQL_CHUNKS_DELETE_FROM] = "DELETE FROM {_chunk} WHERE content = ? AND part = ? AND pos >= ?",
    [SQL_CHUNKS_CLONE] = "INSERT INTO {_chunk} (content, part, pos, data)"
                         " SELECT ?, part, pos, data FROM {_chunk} WHERE content = ?",
};

struct blob_value blob_i64(int64_t v)
{
    return (struct blob_value){.type = BLOB_INT, .i = v};
}

struct blob_value blob_text(const char *s)
{
    return (struct blob_value){.type = BLOB_TEXT, .p = s, .n = strlen(s)};
}

struct blob_value blob_bytes(const void *p, size_t n)
{
    return (struct blob_value){.type = BLOB_BYTES, .p = n ? p : "", .n = n};
}

struct blob_value blob_path(const char *key)
{
    return blob_bytes(key, strlen(key));
}

/* ---- texts ---- */

static void add_named(struct buf *b, const struct blob_driver *d, const char *table, const char *text);

static void add_word(struct buf *b, const struct blob_driver *d, const char *table,
                     const char *word, size_t len)
{
    static const char chunks[] = "LEFT JOIN {_chunk} c ON c.content = p.content AND c.part = p.number"
                                 " AND c.pos < ? - p.start AND c.pos > ? - p.start";
    const struct {
        const char *name, *text;
    } words[] = {{"lock", d->lock},
                 {"move", d->move},
                 {"slice", d->slice},
                 {"chunks", d->chunks ? d->chunks : chunks}};
    if (len == 0 || word[0] == '_') {
        buf_addf(b, "%s%s%.*s%s", d->quote, table, (int)len, word, d->quote);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strlen(words[i].name) == len && strncmp(words[i].name, word, len) == 0)
            add_named(b, d, table, words[i].text);
}

static void add_named(struct buf *b, const struct blob_driver *d, const char *table, const char *text)
{
    for (const char *open; (open = strchr(text, '{')) != NULL;) {
        const char *close = strchr(open, '}');
        buf_add(b, text, (size_t)(open - text));
        add_word(b, d, table, open + 1, (size_t)(close - open - 1));
        text = close + 1;
    }
    buf_adds(b, text);
}

/* What is between the names: PostgreSQL numbers its parameters. */
static void add_text(struct buf *b, const struct blob_driver *d, const char *text, size_t len,
                     unsigned *params)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '?' && d->numbered)
            buf_addf(b, "$%u", ++*params);
        else
            buf_addc(b, text[i]);
    }
}

char *blob_sql_expand(const struct blob_driver *d, const char *table, const char *text)
{
    CLEANUP_BUF struct buf named = BUF_INIT;
    struct buf b = BUF_INIT;
    unsigned params = 0;
    add_named(&named, d, table, text);
    add_text(&b, d, named.data, named.len, &params);
    return buf_take(&b);
}

void blob_sql_prepare(struct blob *b)
{
    for (size_t i = 1; i < SQL_COUNT; i++)
        b->sql[i] = blob_sql_expand(b->d, b->table, i == SQL_HAS_TABLE ? b->d->has_table : texts[i]);
}

int blob_run(struct blob_conn *c, struct op *op, enum blob_sql id, const struct blob_value *params,
             size_t n, blob_row_fn *row, void *arg, int64_t *ret_changes)
{
    int64_t changes = 0;
    int r = op_check(op);
    if (r == 0)
        r = c->b->d->run(c, op, id, NULL, params, n, row, arg, &changes);
    if (r == 0)
        op_moved(op);
    if (r == 0 && ret_changes)
        *ret_changes = changes;
    return r;
}

/* ---- rows ---- */

void blob_file_done(struct blob_file *f)
{
    free(f->path);
    attr_done(&f->attr);
    *f = BLOB_FILE_INIT;
}

int blob_file_take(struct op *op, const struct blob_value *row, struct blob_file *ret)
{
    CLEANUP_FREE char *path = xstrndup(row[0].p, row[0].n), *meta = xstrndup(row[5].p, row[5].n);
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    if (strlen(path) != row[0].n || !attr_from_json(meta, &a) || row[1].i < ATTR_FILE ||
        row[1].i > ATTR_SYMLINK || row[2].i < 0 || row[3].n >= sizeof(a.version))
        return err_set(&op->err, EIO, "%s: its row in the table makes no sense: was it changed by hand?",
                       path);
    a.kind = (enum attr_kind)row[1].i;
    a.size = (uint64_t)row[2].i;
    a.known |= ATTR_META;
    memset(a.version, 0, sizeof(a.version));
    memcpy(a.version, row[3].p, row[3].n);
    blob_file_done(ret);
    ret->found = true;
    ret->path = take_ptr(&path);
    ret->content = row[4].i;
    attr_move(&ret->attr, &a);
    return 0;
}

int blob_file_row(void *arg, struct op *op, const struct blob_value *row)
{
    return blob_file_take(op, row, arg);
}

int blob_int_row(void *arg, struct op *op, const struct blob_value *row)
{
    (void)op;
    *(int64_t *)arg = row[0].i;
    return 0;
}

int blob_find(struct blob_conn *c, struct op *op, const char *path, bool lock, struct blob_file *ret)
{
    return BLOB_RUN(c, op, lock ? SQL_FIND_LOCK : SQL_FIND, blob_file_row, ret, NULL, blob_path(path));
}

/* For people who look into the table: we read it from meta. */
static int64_t mtime_ns(const struct attr *a)
{
    const int64_t most = INT64_MAX / (int64_t)NS_PER_S - 1;
    int64_t sec = a->mtime.tv_sec;
    sec = sec > most ? most : sec < -most ? -most : sec;
    return sec * (int64_t)NS_PER_S + a->mtime.tv_nsec;
}

int blob_insert(struct blob_conn *c, struct op *op, const char *path, const struct attr *a,
                int64_t content)
{
    CLEANUP_FREE char *meta = attr_to_json(a);
    return BLOB_RUN(c, op, SQL_INSERT, NULL, NULL, NULL, blob_path(path), blob_i64(a->kind),
                    blob_i64((int64_t)a->size), blob_i64(mtime_ns(a)), blob_text(a->version),
                    blob_i64(content), blob_text(meta));
}

int blob_update(struct blob_conn *c, struct op *op, const char *path, const struct attr *a,
                int64_t content)
{
    CLEANUP_FREE char *meta = attr_to_json(a);
    return BLOB_RUN(c, op, SQL_UPDATE, NULL, NULL, NULL, blob_i64(a->kind),
                    blob_i64((int64_t)a->size), blob_i64(mtime_ns(a)), blob_text(a->version),
                    blob_i64(content), blob_text(meta), blob_path(path));
}

char *blob_prefix_end(const char *prefix, size_t *ret_len)
{
    char *end = xstrdup(prefix);
    size_t n = strlen(end);
    while (n > 0 && (unsigned char)end[n - 1] == 0xff)
        n--;
    if (n > 0) {
        end[n - 1] = (char)((unsigned char)end[n - 1] + 1);
        end[n] = '\0';
        *ret_len = n;
        return end;
    }
    free(end); /* all keys: longer than any key of these bytes */
    end = xmalloc(8192);
    memset(end, 0xff, 8192);
    *ret_len = 4097;
    return end;
}

int blob_first_in(struct blob_conn *c, struct op *op, const char *from, const char *end,
                  size_t end_len, struct blob_file *ret)
{
    return BLOB_RUN(c, op, SQL_LIST, blob_file_row, ret, NULL, blob_path(from),
                    blob_bytes(end, end_len), blob_i64(1));
}
