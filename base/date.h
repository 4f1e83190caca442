/* SPDX-License-Identifier: MIT
 * date.h: the date formats of the protocols, in UTC, without locale. Pure. Threads: any. */
#ifndef QUAY_BASE_DATE_H
#define QUAY_BASE_DATE_H

#include <stdbool.h>
#include <time.h>

/* RFC 9110 IMF-fixdate "Sun, 06 Nov 1994 08:49:37 GMT". */
bool date_parse_http(const char *s, time_t *ret);
void date_format_http(time_t t, char out[30]);
/* ISO 8601 "2026-11-21T15:04:05.123Z" (fraction and offset optional). */
bool date_parse_iso(const char *s, struct timespec *ret);
void date_format_iso(struct timespec t, char out[32]);   /* with milliseconds and Z */
void date_format_amz(time_t t, char out[17]);            /* 20130524T000000Z */
/* "1234567890.123456789", the form of s3fs and rclone metadata; also without fraction. */
bool date_parse_unix(const char *s, struct timespec *ret);
void date_format_unix(struct timespec t, char out[40]);

#endif
