/* SPDX-License-Identifier: MIT
 * report.h: the daemon's state as JSON, for .quay/ and for quayctl. New references; never NULL. */
#ifndef QUAY_FS_REPORT_H
#define QUAY_FS_REPORT_H

#include "fs/fs.h"

/* A string; text from elsewhere that is not UTF-8 is shown as ASCII with '?'. */
json_t *report_text(const char *s);

/* {"size_mb":..,"file_count":..,"bytes":..,..., "keys":{..}} of all keys, or of one. */
json_t *report_cache_stats(struct fs *fs, const char *key);
/* {"ok":true,"keys":{"lake":{"state":"ok","last_error":..}}} */
json_t *report_health(struct fs *fs);
/* [{"key":..,"path":..,"bytes":..,"attempts":..,"last_error":..}] */
json_t *report_staged(struct fs *fs);
json_t *report_renames(struct fs *fs); /* of directories, object by object, going on now */
/* [{"name":..,"backend":..,"base_uri":..,"state":..}] */
json_t *report_keys(struct fs *fs);
/* {"version":..,"pid":..,"mountpoint":..,"config":..,"cache_dir":..,"keys":[..],"staged":[..],"renames":[..]} */
json_t *report_status(struct fs *fs);

/* One snapshot of all counters, for `quayctl top`: {"time_ns","started","uptime_s","bounds_s":[..],
 * "memory":{"used","limit"},"cache":{..},"keys":[{"name","state","read_bytes",..,"ops":{"read":
 * {"seconds","buckets":[..]}}}]} */
json_t *report_top(struct fs *fs);

#endif
