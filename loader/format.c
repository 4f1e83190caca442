/* SPDX-License-Identifier: MIT
 * format.c: see format.h. */
#include "loader/format.h"

#include "base/cleanup.h"

#include <errno.h>
#include <strings.h>

static const struct {
    const char *suffix;
    enum job_format type;
} suffixes[] = {{".csv", JOB_FORMAT_CSV},
                {".tsv", JOB_FORMAT_TSV},
                {".tab", JOB_FORMAT_TSV},
                {".jsonl", JOB_FORMAT_JSONL},
                {".ndjson", JOB_FORMAT_JSONL}};

static bool ends_with(const char *s, size_t len, const char *suffix)
{
    size_t n = strlen(suffix);

    return len > n && strncasecmp(s + len - n, suffix, n) == 0;
}

enum job_compress format_compress_of_content(const void *data, size_t len)
{
    if (len >= 2 && memcmp(data, "\x1F\x8B", 2) == 0)
        return JOB_COMPRESS_GZIP;
    if (len >= 4 && memcmp(data, "\x28\xB5\x2F\xFD", 4) == 0)
        return JOB_COMPRESS_ZSTD;
    const unsigned char *p = data; /* a skippable frame may come first */
    if (len >= 4 && (p[0] & 0xF0) == 0x50 && memcmp(p + 1, "\x2A\x4D\x18", 3) == 0)
        return JOB_COMPRESS_ZSTD;
    return JOB_COMPRESS_NONE;
}

enum job_compress format_compress_of_name(const char *path)
{
    size_t len = strlen(path);

    if (ends_with(path, len, ".gz") || ends_with(path, len, ".gzip"))
        return JOB_COMPRESS_GZIP;
    if (ends_with(path, len, ".zst") || ends_with(path, len, ".zstd"))
        return JOB_COMPRESS_ZSTD;
    return JOB_COMPRESS_NONE;
}

/* Length of the name without .bad, then without a compression ending. */
static size_t stem_length(const char *path)
{
    static const char *const endings[] = {".bad", ".gz", ".gzip", ".zst", ".zstd"};
    size_t len = strlen(path);

    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
            if (ends_with(path, len, endings[i])) {
                len -= strlen(endings[i]);
                break;
            }
        }
    }
    return len;
}

enum job_format format_of_name(const char *path)
{
    size_t len = stem_length(path);

    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        if (ends_with(path, len, suffixes[i].suffix))
            return suffixes[i].type;
    }
    return JOB_FORMAT_AUTO;
}

/* Control bytes do not occur in text; its beginning is enough to tell. */
static bool is_binary(const char *p, size_t len)
{
    for (size_t i = 0; i < len && i < 4096; i++) {
        if ((unsigned char)p[i] < 0x20 && !strchr("\t\n\r\f\033", p[i]))
            return true;
        if (p[i] == '\0')
            return true;
    }
    return false;
}

enum job_format format_of_content(const void *data, size_t len)
{
    const char *p = data;
    size_t i = len >= 3 && memcmp(p, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;

    while (i < len && (p[i] == ' ' || p[i] == '\n' || p[i] == '\r'))
        i++;
    if (i == len || is_binary(p, len) || (len >= 4 && memcmp(p, "PAR1", 4) == 0) || p[i] == '[')
        return JOB_FORMAT_AUTO;
    if (p[i] == '{')
        return JOB_FORMAT_JSONL;
    const char *lf = memchr(p + i, '\n', len - i);
    size_t line = lf ? (size_t)(lf - p) - i : len - i;
    bool tab = memchr(p + i, '\t', line), comma = memchr(p + i, ',', line);
    return tab && !comma ? JOB_FORMAT_TSV : JOB_FORMAT_CSV;
}

int format_resolve(const struct job_format_options *o, const char *path, const void *data,
                   size_t len, struct err *err, enum job_format *ret)
{
    size_t stem = stem_length(path);
    bool parquet = ends_with(path, stem, ".parquet") || (len >= 4 && memcmp(data, "PAR1", 4) == 0);
    enum job_format type = o->type;

    if (type == JOB_FORMAT_AUTO && parquet)
        return err_set(err, EINVAL,
                       "%s: Parquet is not read by this version: convert it to csv or jsonl", path);
    if (type == JOB_FORMAT_AUTO)
        type = format_of_name(path);
    if (type == JOB_FORMAT_AUTO && len == 0)
        type = ends_with(path, stem, ".json") ? JOB_FORMAT_JSONL : JOB_FORMAT_CSV;
    if (type == JOB_FORMAT_AUTO)
        type = format_of_content(data, len);
    if (type == JOB_FORMAT_AUTO)
        return err_set(
            err, EINVAL,
            "%s: neither its name nor its content tells the format: set type = csv, tsv or "
            "jsonl in [format]%s",
            path,
            ends_with(path, stem, ".json") ? " (jsonl is one object a line, not an array)" : "");
    *ret = type;
    return 0;
}

char format_delimiter(const struct job_format_options *o, enum job_format type)
{
    if (o->delimiter)
        return o->delimiter;
    return type == JOB_FORMAT_TSV ? '\t' : ',';
}

const char *format_name(enum job_format type)
{
    static const char *const names[] = {"auto", "csv", "tsv", "jsonl"};

    return names[type];
}

const char *format_compress_name(enum job_compress c)
{
    static const char *const names[] = {"auto", "none", "gzip", "zstd"};

    return names[c];
}
