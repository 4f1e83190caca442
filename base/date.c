/* SPDX-License-Identifier: MIT
 * date.c: protocol dates.
 * Invariants: (1) no locale and no time zone of the host has an effect; (2) a date that does not
 * exist (30 February, hour 25) is refused; second 60 counts as the next minute's first. */
#include "base/date.h"

#include <stdio.h>
#include <string.h>

static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
static const char days[] = "SunMonTueWedThuFriSat";

/* Reads exactly n digits. */
static bool digits(const char **s, int n, int *ret)
{
    int v = 0;
    for (int i = 0; i < n; i++) {
        char c = (*s)[i];
        if (c < '0' || c > '9')
            return false;
        v = v * 10 + (c - '0');
    }
    *s += n;
    *ret = v;
    return true;
}

static bool literal(const char **s, const char *want)
{
    size_t n = strlen(want);
    if (strncmp(*s, want, n) != 0)
        return false;
    *s += n;
    return true;
}

static bool word3(const char **s, const char *table, int *ret)
{
    for (int i = 0; table[3 * i]; i++) {
        if (strncmp(*s, table + 3 * i, 3) == 0) {
            *s += 3;
            *ret = i;
            return true;
        }
    }
    return false;
}

static bool is_real(const struct tm *tm)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year = tm->tm_year + 1900;
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (tm->tm_mon < 0 || tm->tm_mon > 11 || tm->tm_mday < 1)
        return false;
    if (tm->tm_mday > lengths[tm->tm_mon] + (tm->tm_mon == 1 && leap))
        return false;
    return tm->tm_hour < 24 && tm->tm_min < 60 && tm->tm_sec <= 60;
}

static bool clock_part(const char **s, struct tm *tm)
{
    return digits(s, 2, &tm->tm_hour) && literal(s, ":") && digits(s, 2, &tm->tm_min) &&
           literal(s, ":") && digits(s, 2, &tm->tm_sec);
}

bool date_parse_http(const char *s, time_t *ret)
{
    struct tm tm = {0};
    int day;
    if (!word3(&s, days, &day) || !literal(&s, ", ") || !digits(&s, 2, &tm.tm_mday) ||
        !literal(&s, " ") || !word3(&s, months, &tm.tm_mon) || !literal(&s, " ") ||
        !digits(&s, 4, &tm.tm_year) || !literal(&s, " ") || !clock_part(&s, &tm) ||
        !literal(&s, " GMT") || *s)
        return false;
    tm.tm_year -= 1900;
    if (!is_real(&tm))
        return false;
    *ret = timegm(&tm);
    return true;
}

/* Values outside the year range 0..9999 cannot be written in these formats; they become its end. */
static struct tm split(time_t t)
{
    struct tm tm = {0};
    if (t < -62167219200LL)
        t = (time_t)-62167219200LL;
    if (t > 253402300799LL)
        t = (time_t)253402300799LL;
    gmtime_r(&t, &tm);
    return tm;
}

void date_format_http(time_t t, char out[30])
{
    struct tm tm = split(t);
    snprintf(out, 30, "%.3s, %02u %.3s %04u %02u:%02u:%02u GMT", days + 3 * tm.tm_wday,
             (unsigned)tm.tm_mday % 100, months + 3 * tm.tm_mon,
             (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)tm.tm_hour % 100,
             (unsigned)tm.tm_min % 100, (unsigned)tm.tm_sec % 100);
}

/* ".123", any number of digits, those past the ninth ignored; also nothing. */
static bool fraction(const char **s, long *ret_ns)
{
    long ns = 0, unit = 100000000;
    *ret_ns = 0;
    if (**s != '.' && **s != ',')
        return true;
    const char *p = *s + 1;
    if (*p < '0' || *p > '9')
        return false;
    for (; *p >= '0' && *p <= '9'; p++) {
        ns += (*p - '0') * unit;
        unit /= 10;
    }
    *s = p;
    *ret_ns = ns;
    return true;
}

/* "", "Z", "+02:00", "+0200", "+02" */
static bool zone(const char **s, long *ret_seconds)
{
    int hours = 0, minutes = 0;
    *ret_seconds = 0;
    if (!**s)
        return true;
    if (literal(s, "Z") || literal(s, "z"))
        return true;
    int sign = **s == '-' ? -1 : 1;
    if (**s != '+' && **s != '-')
        return false;
    (*s)++;
    if (!digits(s, 2, &hours))
        return false;
    (void)literal(s, ":");
    if (**s && !digits(s, 2, &minutes))
        return false;
    if (hours > 23 || minutes > 59)
        return false;
    *ret_seconds = sign * (hours * 3600L + minutes * 60L);
    return true;
}

bool date_parse_iso(const char *s, struct timespec *ret)
{
    struct tm tm = {0};
    long ns = 0, offset = 0;
    if (!digits(&s, 4, &tm.tm_year) || !literal(&s, "-") || !digits(&s, 2, &tm.tm_mon) ||
        !literal(&s, "-") || !digits(&s, 2, &tm.tm_mday))
        return false;
    if (*s) {
        if (*s != 'T' && *s != 't' && *s != ' ')
            return false;
        s++;
        if (!clock_part(&s, &tm) || !fraction(&s, &ns) || !zone(&s, &offset) || *s)
            return false;
    }
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    if (!is_real(&tm))
        return false;
    ret->tv_sec = timegm(&tm) - offset;
    ret->tv_nsec = ns;
    return true;
}

void date_format_iso(struct timespec t, char out[32])
{
    struct tm tm = split(t.tv_sec);
    snprintf(out, 32, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", (unsigned)(tm.tm_year + 1900) % 10000,
             (unsigned)(tm.tm_mon + 1) % 100, (unsigned)tm.tm_mday % 100,
             (unsigned)tm.tm_hour % 100, (unsigned)tm.tm_min % 100, (unsigned)tm.tm_sec % 100,
             (unsigned)(t.tv_nsec / 1000000) % 1000);
}

void date_format_amz(time_t t, char out[17])
{
    struct tm tm = split(t);
    snprintf(out, 17, "%04u%02u%02uT%02u%02u%02uZ", (unsigned)(tm.tm_year + 1900) % 10000,
             (unsigned)(tm.tm_mon + 1) % 100, (unsigned)tm.tm_mday % 100,
             (unsigned)tm.tm_hour % 100, (unsigned)tm.tm_min % 100, (unsigned)tm.tm_sec % 100);
}

bool date_parse_unix(const char *s, struct timespec *ret)
{
    bool negative = *s == '-';
    s += negative;
    long long v = 0;
    long ns = 0;
    if (*s < '0' || *s > '9')
        return false;
    for (; *s >= '0' && *s <= '9'; s++) {
        if (v > 99999999999LL) /* year 5138 */
            return false;
        v = v * 10 + (*s - '0');
    }
    if (!fraction(&s, &ns) || *s)
        return false;
    if (negative && ns) { /* -1.25 is second -2 and 0.75 */
        v++;
        ns = 1000000000L - ns;
    }
    ret->tv_sec = (time_t)(negative ? -v : v);
    ret->tv_nsec = ns;
    return true;
}

void date_format_unix(struct timespec t, char out[40])
{
    long long s = t.tv_sec;
    long ns = t.tv_nsec;
    const char *sign = "";
    if (s < 0) {
        sign = "-";
        if (ns) {
            s++;
            ns = 1000000000L - ns;
        }
        s = -s;
    }
    snprintf(out, 40, "%s%lld.%09ld", sign, s, ns);
}
